"""The frozen teacher: nothing of it moves, nothing of it is saved, and it has to show what it can."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import timm
import torch
from torch import Tensor, nn

from facedistill.config.build import build
from facedistill.config.schema import Config
from facedistill.data.faces import FaceSet
from facedistill.data.loading.datamodule import FaceData
from facedistill.distill.teacher import NetworkTeacher, Teacher, reference_of
from facedistill.errors import WeightsError
from facedistill.models.network import Network, build_network
from facedistill.models.weights import Reference, read_weights, save_weights
from facedistill.tasks.classify import Classify
from facedistill.tasks.hint import Hint
from tiny import MODULE as TINY

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
    widths = {"student_width": network.backbone.width, "teacher_width": teacher.width}
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
    about = {"probe": {"value": 37.5, "samples": 8}, "image": {"crop": 16}, "model": config.teacher.model, "rate": 1}
    save_weights(tmp_path / "w.safetensors", network, about)
    images = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        expected = network.eval()(images)
    for model in (config.teacher.model, {}):  # given, or as the file says
        teacher = NetworkTeacher.load(tmp_path / "w.safetensors", model)
        assert teacher.about == about
        assert (teacher.width, teacher.num_identities, teacher.input) == (128, 4, (16, None, None, "rgb", None))
        assert torch.equal(teacher(images).logits, expected.logits)
        assert torch.equal(teacher(images).embedding, expected.embedding)


def test_a_recognizer_without_a_classifier_is_a_teacher_as_it_is(tmp_path: Path) -> None:
    """Weights of timm under its own names, normalized as it was trained."""
    torch.manual_seed(0)
    net = timm.create_model("resnet18", num_classes=24)
    save_weights(tmp_path / "w.safetensors", net, {})
    model = {"type": "timm", "architecture": "resnet18", "features": 24, "mean": [127.5] * 3, "std": [128.0] * 3}
    teacher: Teacher = NetworkTeacher.load(tmp_path / "w.safetensors", model)
    assert (teacher.width, teacher.num_identities) == (24, 0)
    assert teacher.input == (None, [127.5] * 3, [128.0] * 3, "rgb", None)
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        expected = net.eval()((images - 127.5) / 128)
    output = teacher(images)
    torch.testing.assert_close(output.embedding, expected, rtol=1e-5, atol=1e-5)
    assert output.logits is None
    torch.testing.assert_close(teacher.from_embedding(expected).embedding, expected)
    with pytest.raises(WeightsError, match="does not say what network it is of"):
        NetworkTeacher.load(tmp_path / "w.safetensors", {})


def test_a_teacher_has_to_say_what_it_said_when_it_was_published(compose: Compose, tmp_path: Path) -> None:
    config, path = compose(*TINY), tmp_path / "w.safetensors"
    network = trained(config.teacher.model)
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    reference = reference_of(network, images)
    with torch.no_grad():
        assert torch.equal(reference.embedding, network.eval()(images).embedding)
    save_weights(path, network, {}, reference)
    weights = read_weights(path)
    assert weights.tensors.keys() == network.state_dict().keys()
    assert weights.reference is not None
    assert torch.equal(weights.reference.images, images)
    NetworkTeacher.load(path, config.teacher.model)
    for name in ("backbone.input.weight", "backbone.net.conv1.weight", "backbone.net.layer1.0.bn2.bias"):
        changed = {**weights.tensors, name: weights.tensors[name] + 1.5}
        other = build_network(config.teacher.model, 1, 4)
        other.load_state_dict(changed)
        save_weights(path, other, {}, reference)
        with pytest.raises(WeightsError, match=r"w\.safetensors says something else of the images"):
            NetworkTeacher.load(path, config.teacher.model)


@pytest.mark.parametrize(
    ("images", "embedding"),
    [
        (torch.zeros(2, 3, 0, 8, dtype=torch.uint8), torch.zeros(2, 4)),
        (torch.zeros(2, 3, 8, 8), torch.zeros(2, 4)),
        (torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, 4)),
        (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), torch.zeros(0, 4)),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2)),
    ],
)
def test_a_reference_of_another_shape_is_refused(tmp_path: Path, images: Tensor, embedding: Tensor) -> None:
    save_weights(tmp_path / "w.safetensors", nn.Linear(2, 2), {}, Reference(images, embedding))
    with pytest.raises(WeightsError, match="reference images or embeddings of another shape"):
        read_weights(tmp_path / "w.safetensors")


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
    ("write", "width"),
    [(whole, 8), (safetensors_cut, 16), (pt_cut, 16), (text, 16), (missing, 16)],
    ids=["another architecture", "safetensors cut", "pt cut", "text", "missing"],
)
def test_a_foreign_file_is_named(
    compose: Compose, tmp_path: Path, write: Callable[[Path, Network], Path], width: int
) -> None:
    path = write(tmp_path, trained(compose(*TINY, f"teacher.model.width={width}").teacher.model))
    with pytest.raises(WeightsError, match=str(path)):
        NetworkTeacher.load(path, compose(*TINY).teacher.model)
