"""The frozen teacher: nothing of it moves, nothing of it is saved, and it has to show what it can."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from facedistill.config.build import build
from facedistill.config.schema import Config
from facedistill.data.faces import FaceSet
from facedistill.data.loading.datamodule import FaceData
from facedistill.distill.teacher import NetworkTeacher, Probe
from facedistill.errors import WeightsError
from facedistill.models.network import Network, build_network
from facedistill.models.weights import save_weights
from facedistill.tasks.classify import Classify
from facedistill.tasks.hint import Hint

TINY = ["image.resize=24", "image.crop=16", "model.width=8", "teacher.model.width=16", "task.batch_size=8", "rate=2"]
Compose = Callable[..., Config]


def trained(model: dict[str, Any], identities: int = 4) -> Network:
    """A network whose BatchNorms have seen something."""
    network = build_network(model, 1, identities).train()
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        network(torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8, generator=generator))
    return network


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def fitted(module: pl.LightningModule, data: FaceData, tmp_path: Path) -> Path:
    """A real fit of two epochs; returns its checkpoint."""
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, data)
    assert trainer.global_step == 6
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def student_of(config: Config, teacher: NetworkTeacher) -> Classify:
    network = build_network(config.model, config.rate, 4)
    widths = {"student_width": network.backbone.width, "teacher_width": teacher.network.backbone.width}
    targets = {name: build("target", term, **widths) for name, term in config.target.active().items()}
    return Classify(config, network, {"teacher": teacher}, targets)


@pytest.mark.parametrize("words", [["target=soft"], ["target=soft", "target.beta=1"], ["target=logits"]], ids=str)
def test_a_fit_moves_nothing_of_the_teacher_and_saves_nothing_of_it(
    compose: Compose, faces: FaceSet, tmp_path: Path, words: list[str]
) -> None:
    config = compose(*TINY, *words)
    teacher = NetworkTeacher(trained(config.teacher.model), {})
    before = copied(teacher.network)
    assert any("running_mean" in name and tensor.abs().sum() > 0 for name, tensor in before.items())
    module = student_of(config, teacher)
    student = copied(module.network)
    checkpoint = fitted(module, FaceData(config, faces), tmp_path)
    assert all(torch.equal(tensor, teacher.network.state_dict()[name]) for name, tensor in before.items())
    assert not all(torch.equal(tensor, module.network.state_dict()[name]) for name, tensor in student.items())
    assert all(parameter.grad is None for parameter in teacher.network.parameters())

    module.train()  # what a Trainer does at every epoch
    assert not any(part.training for part in teacher.network.modules())
    own = {id(parameter) for parameter in module.parameters()} | {id(buffer) for buffer in module.buffers()}
    assert not own & {id(tensor) for tensor in [*teacher.network.parameters(), *teacher.network.buffers()]}
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert saved.keys() == module.state_dict().keys()
    assert {name.split(".")[0] for name in saved} <= {"network", "targets"}
    shapes = {tuple(tensor.shape) for name, tensor in saved.items() if name.startswith("network.backbone.net.layer4")}
    assert tuple(teacher.network.backbone.net.layer4[0].conv2.weight.shape) not in shapes


def test_the_first_stage_of_fitnet_moves_nothing_of_the_teacher(
    compose: Compose, faces: FaceSet, tmp_path: Path
) -> None:
    config = compose(*TINY, "task=hint")
    teacher = NetworkTeacher(trained(config.teacher.model), {})
    before = copied(teacher.network)
    module = Hint(config, build_network(config.model, config.rate, 4), {"teacher": teacher}, {})
    behind = {name: tensor for name, tensor in copied(module.network).items() if "layer4" in name}
    fitted(module, FaceData(config, faces), tmp_path)
    assert all(torch.equal(tensor, teacher.network.state_dict()[name]) for name, tensor in before.items())
    # and what lies behind the student's middle keeps its random weights
    assert all(torch.equal(tensor, module.network.state_dict()[name]) for name, tensor in behind.items())


def test_it_answers_in_eval_mode_without_a_gradient(compose: Compose) -> None:
    config = compose(*TINY)
    network = trained(config.teacher.model)
    teacher = NetworkTeacher(network.train(), {"x": 1})
    images = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    features, logits = teacher(images).embedding, teacher(images).logits
    assert not features.requires_grad
    assert not logits.requires_grad
    assert not teacher.middle(images).requires_grad
    assert not any(parameter.requires_grad for parameter in network.parameters())
    one_by_one = torch.cat([teacher(image[None]).logits for image in images])  # in train mode a batch would matter
    torch.testing.assert_close(logits, one_by_one, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(teacher.middle(images), network.backbone.eval().middle(images), rtol=0, atol=0)


def test_a_saved_network_is_loaded_and_answers_the_same(compose: Compose, tmp_path: Path) -> None:
    config = compose(*TINY)
    network = trained(config.teacher.model)
    about = {"probe": {"value": 37.5, "samples": 8}}
    save_weights(tmp_path / "w.safetensors", network, about)
    teacher = NetworkTeacher.load(tmp_path / "w.safetensors", build_network(config.teacher.model, 1, 4))
    assert teacher.about == about
    images = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        expected = network.eval()(images)
    assert torch.equal(teacher(images).logits, expected.logits)
    assert torch.equal(teacher(images).embedding, expected.embedding)


def safetensors_cut(path: Path, network: Network) -> Path:
    save_weights(path / "w.safetensors", network, {})
    whole = (path / "w.safetensors").read_bytes()
    (path / "w.safetensors").write_bytes(whole[: len(whole) // 2])
    return path / "w.safetensors"


def pt_cut(path: Path, network: Network) -> Path:
    torch.save(network.state_dict(), path / "w.pt")
    whole = (path / "w.pt").read_bytes()
    (path / "w.pt").write_bytes(whole[: len(whole) // 2])
    return path / "w.pt"


def text(path: Path, _: Network) -> Path:
    (path / "w.pt").write_text("not weights")
    return path / "w.pt"


def missing(path: Path, _: Network) -> Path:
    return path / "w.safetensors"


def whole(path: Path, network: Network) -> Path:
    save_weights(path / "w.safetensors", network, {})
    return path / "w.safetensors"


@pytest.mark.parametrize(
    ("write", "width", "identities"),
    [(whole, 8, 4), (whole, 16, 5), (safetensors_cut, 16, 4), (pt_cut, 16, 4), (text, 16, 4), (missing, 16, 4)],
    ids=["another architecture", "another number of identities", "safetensors cut", "pt cut", "text", "missing"],
)
def test_a_foreign_file_is_named(
    compose: Compose, tmp_path: Path, write: Callable[[Path, Network], Path], width: int, identities: int
) -> None:
    path = write(tmp_path, trained(compose(*TINY, f"teacher.model.width={width}").teacher.model, identities))
    with pytest.raises(WeightsError, match=str(path)):
        NetworkTeacher.load(path, build_network(compose(*TINY).teacher.model, 1, 4))


def teacher_that_says(compose: Compose, about: dict[str, Any], identities: int = 4) -> NetworkTeacher:
    return NetworkTeacher(build_network(compose(*TINY).teacher.model, 1, identities), about)


def top1(correct: int, samples: int = 400) -> Probe:
    return Probe("top1", 100 * correct / samples, samples, higher_is_better=True)


def test_a_score_that_was_recorded_has_to_be_met(compose: Compose) -> None:
    teacher, path = teacher_that_says(compose, {"probe": top1(300)._asdict()}), Path("w.safetensors")
    for correct in (300, 301, 400, 298):  # half a percent of the samples may differ on another machine
        teacher.check(top1(correct), path)
    for correct in (297, 100, 0):
        with pytest.raises(WeightsError, match=rf"w\.safetensors has top1 {correct / 4:.2f} on 400.*75\.00 on 400"):
            teacher.check(top1(correct), path)
    with pytest.raises(WeightsError, match=r"on 399 .*on 400"):  # other data, even where it scores better
        teacher.check(top1(399, 399), path)


def test_an_error_that_was_recorded_must_not_grow(compose: Compose) -> None:
    def nrmse(value: float) -> Probe:
        return Probe("nrmse", value, 400, higher_is_better=False)

    teacher, path = teacher_that_says(compose, {"probe": nrmse(3.0)._asdict()}), Path("w.safetensors")
    for value in (1.0, 3.0, 3.4):
        teacher.check(nrmse(value), path)
    for value in (3.6, 90.0, float("nan")):
        with pytest.raises(WeightsError, match="nrmse"):
            teacher.check(nrmse(value), path)


def test_a_foreign_teacher_has_to_beat_chance(compose: Compose) -> None:
    path = Path("foreign.pt")
    for identities, chance in ((4, 100), (100, 4)):
        teacher = teacher_that_says(compose, {}, identities)
        for correct in (0, chance, 2 * chance):
            with pytest.raises(WeightsError, match=rf"foreign\.pt is right on .*chance among {identities} identities"):
                teacher.check(top1(correct), path)
        teacher.check(top1(2 * chance + 1), path)


def test_a_perfect_foreign_teacher_of_two_identities_is_accepted(compose: Compose) -> None:
    teacher_that_says(compose, {}, 2).check(top1(400), Path("foreign.pt"))
