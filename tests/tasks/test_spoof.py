"""Anti-spoofing: what it refuses, what teachers see, and that the discriminator teaches nobody but itself."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from facedistill.config.schema import Config
from facedistill.data.faces import HELD_OUT, LIVE, FaceSet
from facedistill.data.loading.datamodule import FaceData
from facedistill.data.loading.views import FaceBatch
from facedistill.distill.teacher import NetworkTeacher
from facedistill.errors import ConfigError
from facedistill.models.network import build_network
from facedistill.tasks.assemble import build_module, build_targets, training_network
from facedistill.tasks.reconstruct import Reconstruct
from facedistill.tasks.spoof import Spoof, SpoofEvaluation
from kinds import Composer
from tiny import MODULE

SPOOF = [*MODULE, "task=spoof", "data=synthetic_spoof", "target=two_teachers", "target.views=live"]
ALIGNED = [*SPOOF, "task.options.alignment=5"]


@pytest.fixture(scope="module")
def spoofed() -> FaceSet:
    """48 random images, of which the last 16 are tested, half of these in the domain held out."""
    images = np.random.default_rng(0).integers(0, 256, (48, 24, 24, 3), dtype=np.uint8)
    index = np.arange(48)
    images[index, :, :, 0] = (index % 2 * 90)[:, None, None]
    domains = np.where(index >= 40, HELD_OUT, index % 3)
    return FaceSet(
        images,
        index % 2,
        index >= 32,
        ["attack", "live"],
        people=index // 4,
        domains=domains,
        domain_names=("a", "b", "c"),
    )


def module_of(config: Config) -> Spoof:
    torch.manual_seed(0)
    network = training_network(config, 2)
    teachers: dict[str, Any] = {
        role: NetworkTeacher(build_network(config.teacher.model, 1), {})
        for role in ("generative", "perceptual")
        if config.target.active()
    }
    module = build_module(config, network, teachers, build_targets(config, network, teachers))
    assert isinstance(module, Spoof)
    return module


def first_batch(config: Config, faces: FaceSet) -> FaceBatch:
    return next(iter(FaceData(config, faces).train_dataloader()))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["target=none"], r"task\.options\.alignment=5 moves what teachers see, and target=none has none\. Use 0"),
        (["target.views=all"], r"alignment=5 moves images in every step, which no bank can hold: target\.views=live"),
        (["target.views=2"], "no bank can hold"),
        (["task.options.alignment=-1"], r"alignment=-1 must be a number of pixel levels, 0 … 255; 0: none"),
        (["task.options.alignment=256"], r"alignment=256 must be a number of pixel levels, 0 … 255"),
        (["task.options.alignment=true"], "alignment=True must be a number"),
        (["task.options.alignment=much"], "alignment=much must be a number"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(compose: Composer, words: list[str], said: str) -> None:
    config = compose(*ALIGNED, *words)
    with pytest.raises(ConfigError, match=said):
        Spoof.options(config)


def test_teachers_see_the_moved_images_and_the_student_sees_them_as_they_are(
    compose: Composer, spoofed: FaceSet
) -> None:
    config = compose(*ALIGNED)
    module, batch = module_of(config), first_batch(config, spoofed)
    seen: dict[str, torch.Tensor] = {}

    def watch(name: str, backbone: torch.nn.Module) -> None:
        backbone.register_forward_pre_hook(lambda _, given: seen.update({name: given[0]}))

    watch("student", module.network.backbone)
    for role, teacher in module.teachers.items():
        assert isinstance(teacher, NetworkTeacher)
        watch(role, teacher.network.backbone)
    module.training_step(batch, 0)
    assert torch.equal(seen["student"], batch.images)
    assert torch.equal(seen["perceptual"], seen["generative"])
    delta = seen["perceptual"] - batch.images
    assert 0 < delta.abs().max() <= 5
    assert module.discriminator is not None
    before, after = (
        F.cross_entropy(module.discriminator(images), batch.domains) for images in (batch.images, seen["perceptual"])
    )
    assert after > before


def test_the_discriminator_has_a_gradient_of_its_own_loss_alone_and_gives_none(
    compose: Composer, spoofed: FaceSet
) -> None:
    config = compose(*ALIGNED)
    module, batch = module_of(config), first_batch(config, spoofed)
    losses = module.training_step(batch, 0)
    losses["loss"].backward()
    assert module.discriminator is not None
    alone = copy.deepcopy(module.discriminator)
    alone.zero_grad()
    own = F.cross_entropy(alone(batch.images), batch.domains)
    own.backward()
    assert float(losses["domains"]) == pytest.approx(own.item(), rel=1e-6)
    for mine, expected in zip(module.discriminator.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, expected.grad)
    terms = float(losses["task"] + losses["perceptual"] + losses["generative"])
    assert losses["loss"].item() == pytest.approx(terms + own.item(), rel=1e-5)

    other = module_of(config)
    with torch.no_grad():  # the same δ, but a discriminator whose loss is another
        assert other.discriminator is not None
        other.discriminator.layers[-1].bias += torch.tensor([0.5, 0.0, 0.0])
    other.for_teachers = module.for_teachers  # type: ignore[method-assign]
    other.training_step(batch, 0)["loss"].backward()
    for (name, one), (_, two) in zip(module.network.named_parameters(), other.network.named_parameters(), strict=True):
        assert one.grad is not None
        assert torch.equal(one.grad, two.grad), name


def test_without_alignment_there_is_no_discriminator_and_the_same_student_at_the_start(compose: Composer) -> None:
    plain, aligned = module_of(compose(*SPOOF)), module_of(compose(*ALIGNED))
    assert plain.discriminator is None
    own = aligned.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in plain.state_dict().items())
    assert {name.split(".")[0] for name in own.keys() - plain.state_dict().keys()} == {"discriminator"}


def test_its_evaluation_scores_the_domain_held_out(compose: Composer, spoofed: FaceSet) -> None:
    config = compose(*SPOOF, "target=none")
    data = FaceData(config, spoofed)
    module = module_of(config)
    evaluation = module.evaluation
    assert isinstance(evaluation, SpoofEvaluation)
    module.eval()
    said, batches = [], list(data.val_dataloader())
    for batch in batches:
        module.measure(batch)
        with torch.no_grad():
            attack, live = module.network(batch.images).logits.double().T
        said.append(live - attack)
    score, held = torch.cat(said).numpy(), spoofed.domains[spoofed.test] == HELD_OUT  # type: ignore[index]
    live = spoofed.labels[spoofed.test] == LIVE
    assert evaluation.of_samples(data).tolist() == list(range(40, 48))
    scores = evaluation.scores()
    better = [(one > other) + 0.5 * (one == other) for one in score[held & live] for other in score[held & ~live]]
    assert scores["auc"] == pytest.approx(100 * np.mean(better))
    right = evaluation.per_sample()
    assert right.shape == (8,)
    assert set(right.tolist()) <= {0.0, 100.0}
    errors = [100 - right[live[held]].mean(), 100 - right[~live[held]].mean()]
    assert scores["hter"] == pytest.approx(np.mean(errors), abs=1e-4)
    assert set(evaluation.pictures(module.network, data)) == {"samples"}


def test_a_reconstruction_is_of_live_faces_and_its_loss_and_psnr_are_those_of_their_formulas(
    compose: Composer, spoofed: FaceSet
) -> None:
    config = compose(*MODULE[:-1], "task=reconstruct", "data=synthetic_spoof")
    data = FaceData(config, spoofed)
    assert set(spoofed.labels[data.faces.train]) == set(spoofed.labels[data.faces.test]) == {LIVE}
    torch.manual_seed(0)
    module = build_module(config, training_network(config, 0))
    assert isinstance(module, Reconstruct)
    batch = next(iter(data.train_dataloader()))
    assert set(batch.labels.tolist()) == {LIVE}
    copied = copy.deepcopy(module)
    loss = module.training_step(batch, 0)["loss"]
    with torch.no_grad():
        drawn = copied.decoder(copied.network.backbone(batch.images)).double().numpy()
    assert drawn.shape == batch.images.shape
    assert 0 <= drawn.min() < drawn.max() <= 255
    expected = (((drawn - batch.images.double().numpy()) / 127.5) ** 2).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-5)

    module.eval()
    total, count = 0.0, 0
    for part in data.val_dataloader():
        module.measure(part)
        with torch.no_grad():
            drawn = module.decoder(module.network.backbone(part.images)).double().numpy()
        total, count = total + ((drawn - part.images.numpy()) ** 2).sum(), count + drawn.size
    assert module.evaluation.scores()["psnr"] == pytest.approx(10 * np.log10(255**2 / (total / count)), rel=1e-5)
    assert module.evaluation.metric.higher_is_better


@pytest.mark.parametrize("crop", [17, 20, 24])
def test_a_decoder_draws_the_size_it_is_asked_for(compose: Composer, crop: int) -> None:
    config = compose("task=reconstruct", "data=synthetic_spoof", "image.resize=32", f"image.crop={crop}")
    module = build_module(config, training_network(config, 0))
    assert isinstance(module, Reconstruct)
    pixels = torch.full((2, 3, crop, crop), 99, dtype=torch.uint8)
    assert module.decoder(module.network.backbone(pixels)).shape == pixels.shape
