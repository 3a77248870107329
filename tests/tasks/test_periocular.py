"""Periocular recognition: the losses against formulas in float64, what is refused, and how bands are compared."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from facedistill.config.schema import Config
from facedistill.data.faces import FaceSet
from facedistill.data.loading.datamodule import FaceData
from facedistill.errors import ConfigError, DataError
from facedistill.models.network import NetworkOutput
from facedistill.models.two_branch import side_by_side
from facedistill.runs.plan import check_tree, plan
from facedistill.tasks.assemble import build_module, training_network
from facedistill.tasks.periocular import Periocular, consistency
from tiny import MODULE

Compose = Callable[..., Config]
Floats = NDArray[np.float64]
TINY = [*MODULE, "task=periocular", "rate=1"]
ALONE = ("task.options.face=false", "task.options.consistency=none")
TAU = 2.5


@pytest.fixture
def marked(faces: FaceSet) -> FaceSet:
    points = np.float32([[8, 10], [15, 10.5], [12, 14], [9, 17], [14, 17]])
    moved = np.random.default_rng(0).uniform(-1.5, 1.5, (32, 1, 2)).astype(np.float32)
    return dataclasses.replace(faces, landmarks=points + moved)


def module_of(config: Config) -> Periocular:
    torch.manual_seed(0)
    module = build_module(config, training_network(config, 4))
    assert isinstance(module, Periocular)
    return module


def softmax(logits: Floats, tau: float = 1.0) -> Floats:
    scores = np.exp((logits - logits.max(1, keepdims=True)) / tau)
    return np.asarray(scores / scores.sum(1, keepdims=True))


def entropy(logits: Floats, labels: list[int]) -> float:
    return float(-np.log(softmax(logits)[np.arange(len(labels)), labels]).mean())


def divergence(own: Floats, other: Floats, tau: float = TAU) -> float:
    """τ² KL(other ‖ own)."""
    p, q = softmax(other, tau), softmax(own, tau)
    return float(tau**2 * (p * np.log(p / q)).sum(1).mean())


DIRECTIONS = {
    "both": ("to_periocular", "to_face"),
    "to_periocular": ("to_periocular",),
    "to_face": ("to_face",),
    "none": (),
}


@pytest.mark.parametrize("batchnorm", ["shared", "separate"])
@pytest.mark.parametrize("which", DIRECTIONS)
def test_the_loss_is_both_entropies_and_the_divergences_of_its_directions(
    compose: Compose, marked: FaceSet, which: str, batchnorm: str
) -> None:
    module = module_of(compose(*TINY, f"task.options.consistency={which}", f"task.options.batchnorm={batchnorm}"))
    batch = FaceData(module.config, marked).first_batches(1)[0]
    twin = module_of(module.config).train()
    assert twin.face is not None
    with torch.no_grad():
        if batchnorm == "shared":
            outputs = side_by_side(twin.network, twin.face, batch.bands, batch.images)
        else:
            outputs = twin.network(batch.bands), twin.face(batch.images)
    periocular, face = (output.logits.double().numpy() for output in outputs)
    labels = batch.labels.tolist()
    expected = {
        "task": entropy(periocular, labels),
        "face": entropy(face, labels),
        "to_periocular": divergence(periocular, face),
        "to_face": divergence(face, periocular),
    }
    found = module.train().training_step(batch, 0)
    assert found.keys() == {"loss", "task", "face", *DIRECTIONS[which]}
    for name in found.keys() - {"loss"}:
        assert found[name].item() == pytest.approx(expected[name], rel=1e-4, abs=1e-6)
        assert not found[name].requires_grad
    total = sum(expected[name] for name in found.keys() - {"loss"})
    assert found["loss"].item() == pytest.approx(total, rel=1e-4)
    found["loss"].backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize("tau", [1.0, 2.5, 8.0])
def test_consistency_is_the_divergence_and_moves_its_own_logits_alone(tau: float) -> None:
    draw = np.random.default_rng(0)
    own, other = (torch.tensor(draw.normal(size=(7, 5)), requires_grad=True) for _ in range(2))
    nothing = torch.empty(7, 0)
    loss = consistency(NetworkOutput(nothing, own, nothing), NetworkOutput(nothing, other, nothing), tau)
    assert loss.item() == pytest.approx(divergence(own.detach().numpy(), other.detach().numpy(), tau))
    loss.backward()  # type: ignore[no-untyped-call]
    assert other.grad is None
    assert own.grad is not None
    expected = tau * (softmax(own.detach().numpy(), tau) - softmax(other.detach().numpy(), tau)) / 7
    np.testing.assert_allclose(own.grad.numpy(), expected, rtol=1e-10)
    itself = NetworkOutput(nothing, own, nothing)
    assert consistency(itself, itself, tau).item() == pytest.approx(0, abs=1e-12)


def test_the_bands_alone_have_one_loss_and_the_published_network_is_the_same(compose: Compose, marked: FaceSet) -> None:
    alone, joint = module_of(compose(*TINY, *ALONE)), module_of(compose(*TINY))
    assert alone.face is None
    batch = FaceData(alone.config, marked).first_batches(1)[0]
    with torch.no_grad():
        logits = module_of(alone.config).train().network(batch.bands).logits.double().numpy()
    found = alone.train().training_step(batch, 0)
    assert found.keys() == {"loss", "task"}
    assert found["loss"].item() == pytest.approx(entropy(logits, batch.labels.tolist()), rel=1e-5)
    start, other = module_of(alone.config).network.state_dict(), module_of(joint.config).network.state_dict()
    assert start.keys() == other.keys()
    assert all(torch.equal(start[name], other[name]) for name in start), "whatever is beside it starts after it"


def test_the_face_branch_is_in_the_checkpoint_once_and_no_part_of_the_network(compose: Compose) -> None:
    module = module_of(compose(*TINY))
    assert module.face is not None
    own = {id(part) for part in module.network.parameters()}
    beside = [part for part in module.face.parameters() if id(part) not in own]
    counted = sum(part.numel() for part in module.parameters())
    assert counted == sum(part.numel() for part in module.network.parameters()) + sum(p.numel() for p in beside)
    assert {id(part) for part in module.face.backbone.net.layer4.parameters()} <= {id(part) for part in beside}


def test_images_are_compared_as_they_are_and_mirrored(compose: Compose, marked: FaceSet) -> None:
    module = module_of(compose(*TINY, *ALONE)).eval()
    data = FaceData(module.config, marked)
    labels, sides = marked.labels[marked.test], ([], [])  # type: ignore[var-annotated]
    for batch in data.val_dataloader():
        module.measure(batch)
        with torch.no_grad():
            for side, bands in zip(sides, (batch.bands, batch.bands.flip(3)), strict=True):
                side.append(F.normalize(module.network(bands).embedding.double(), dim=1).numpy())
    plain, mirrored = (np.concatenate(side) for side in sides)
    similarity = (plain @ plain.T + mirrored @ mirrored.T) / 2
    right = []
    for i, j in itertools.groupby(range(len(labels)), key=lambda i: i):
        others = [k for k in range(len(labels)) if k != i]
        assert list(j) == [i]
        right.append(labels[max(others, key=lambda k: similarity[i, k])] == labels[i])
    assert module.evaluation.scores()["rank1"] == pytest.approx(100 * np.mean(right))
    np.testing.assert_array_equal(module.evaluation.per_sample(), 100 * np.float32(right))


def test_pictures_show_the_most_similar_band(compose: Compose, marked: FaceSet) -> None:
    module = module_of(compose(*TINY, *ALONE)).eval()
    pictures = module.evaluation.pictures(module.network, FaceData(module.config, marked))
    assert pictures.keys() == {"samples"}


def test_an_output_alone_can_t_be_counted(compose: Compose) -> None:
    module = module_of(compose(*TINY))
    nothing: Any = None
    with pytest.raises(TypeError, match="mirrored"):
        module.evaluation.update(nothing, nothing)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["task.options.consistency=all"],
            "task.options.consistency=all: choices are both, to_periocular, to_face, none",
        ),
        (["task.options.batchnorm=none"], "task.options.batchnorm=none: choices are shared, separate"),
        (["task.options.tau=0"], "task.options.tau=0 must be a number from 0.01 to 1000"),
        (["task.options.tau=true"], "task.options.tau=True must be a number from"),
        (["image.crop=1"], r"image\.crop=1 leaves no row of a band about the eyes"),
        (["task.options.face=1"], "task.options.face=1: choices are true, false"),
        (["task.options.face=false"], r"Add task\.options\.consistency=none"),
        (
            ["target=soft"],
            r"target=soft has a teacher in the place of the branch of faces: add task\.options\.face=false",
        ),
        (
            ["trainer=ddp", "trainer.split_classes=true"],
            r"the branch of faces has another: trainer\.split_classes=false",
        ),
        (["model=timm", "model.name=resnet18"], r"model=resnet18 has no stages that two branches could share"),
        (["+task.options.depth=3"], r"task\.options\.depth: type=periocular has face, consistency, batchnorm, tau"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_can_t_be_is_refused_by_the_plan(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_tree(plan(["task=periocular", "logger=csv", *words]))


def test_the_bands_alone_may_be_of_any_network_and_have_a_frozen_teacher_of_faces() -> None:
    check_tree(plan(["task=periocular", "logger=csv", "model=timm", "model.name=resnet18", *ALONE]))
    run = plan(["task=periocular", "logger=csv", "target=soft", *ALONE])
    check_tree(run)
    teacher = run.parents["teacher"]
    assert teacher.config is not None
    assert (teacher.config.task.name, teacher.config.task.bands, teacher.config.rate) == ("teacher", False, 1)
    assert not plan(["task=periocular", "logger=csv"]).parents


@pytest.mark.parametrize("data", ["casia_webface", "ms_celeb_1m", "identity_folders"])
def test_data_that_does_not_say_where_eyes_are_is_refused(compose: Compose, data: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        compose("task=periocular", f"data={data}", "data.root=/nowhere")
    said = f"data={data} does not say where they are. Choices: data=celeba, data=lfw, data=packed, data=synthetic, "
    assert said in str(refusal.value)


def test_pairs_of_whole_faces_are_refused(compose: Compose) -> None:
    with pytest.raises(ConfigError, match="the pairs of data@protocol=lfw are of whole faces: leave it out"):
        compose("task=periocular", "data@protocol=lfw", "protocol.root=/nowhere")


def test_data_without_identities_is_refused(compose: Compose) -> None:
    with pytest.raises(ConfigError, match="task=periocular needs identities, which data=mtfl does not give"):
        compose("task=periocular", "data=mtfl", "data.root=/nowhere")


def test_alignment_of_aligned_faces_stays_refused(compose: Compose) -> None:
    with pytest.raises(ConfigError, match="task=align needs landmarks, which data=lfw does not give"):
        compose("task=align", "data=lfw", "data.root=/nowhere")


def test_faces_that_nobody_marked_are_refused_before_they_are_cut(compose: Compose, faces: FaceSet) -> None:
    from facedistill.data.judgement import check

    with pytest.raises(DataError, match=r"it is not known here where they are\. data=lfw has it"):
        check(compose(*TINY), faces.samples)
    single = dataclasses.replace(faces.samples, has_eyes=True, is_test=np.arange(32) % 8 == 3)
    with pytest.raises(DataError, match="no two images of its test split are of one person"):
        check(compose(*TINY), single)
