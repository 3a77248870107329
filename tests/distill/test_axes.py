"""The axes of a teacher's embedding that a narrower student imitates."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from facedistill.distill import axes as module
from facedistill.distill.axes import ReaderOnAxes, TeacherOnAxes, concatenated_on_axes, leading_axes, on_axes
from facedistill.distill.teacher import NetworkTeacher
from facedistill.errors import WeightsError
from facedistill.models.families.timm import TimmBackbone
from facedistill.models.load import put_on_axes
from facedistill.models.network import Network
from facedistill.models.weights import read_weights, save_weights

DRAW = np.random.default_rng(0)
EMBEDDING = (DRAW.normal(size=(40, 12)) * np.linspace(3, 0.1, 12) + 0.5).astype(np.float32)
UNITS = EMBEDDING / np.linalg.norm(EMBEDDING, axis=1, keepdims=True)


@pytest.mark.parametrize("chunk", [7, 2**14])
def test_they_are_the_leading_right_singular_vectors_of_the_directions(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    axes, kept = leading_axes(EMBEDDING, 5)
    _, singular, right = np.linalg.svd(UNITS.astype(np.float64), full_matrices=False)
    for axis, expected in zip(axes.T.numpy(), right[:5], strict=True):
        assert abs(axis @ expected) == pytest.approx(1, abs=1e-5)
        assert axis[np.abs(axis).argmax()] > 0
    assert kept == pytest.approx(100 * (singular[:5] ** 2).sum() / len(UNITS), rel=1e-6)
    np.testing.assert_allclose(((UNITS @ axes.numpy()) ** 2).sum(1).mean() * 100, kept, rtol=1e-5)


def test_lengths_of_embeddings_do_not_matter() -> None:
    scaled = EMBEDDING * DRAW.uniform(0.1, 10, (40, 1)).astype(np.float32)
    torch.testing.assert_close(leading_axes(scaled, 5).axes, leading_axes(EMBEDDING, 5).axes, rtol=1e-4, atol=1e-5)


def test_no_other_embedding_of_the_batch_changes_a_bit() -> None:
    wide = DRAW.normal(size=(64, 512)).astype(np.float16)
    axes = leading_axes(wide, 48).axes
    whole = on_axes(wide, axes)
    np.testing.assert_allclose(whole, wide.astype(np.float64) @ axes.double().numpy(), rtol=1e-4, atol=1e-4)
    for size in (1, 3, 32):
        assert np.array_equal(on_axes(wide[:size], axes), whole[:size])


def test_a_reader_and_a_teacher_give_the_embedding_there() -> None:
    axes = leading_axes(EMBEDDING, 5).axes
    reader = ReaderOnAxes(lambda keys, mirrored: EMBEDDING[[index for index, _ in keys]], axes)
    expected = EMBEDDING[[3, 1]] @ axes.numpy()
    np.testing.assert_allclose(reader([(3, 0), (1, 0)], np.zeros(2, bool)), expected, rtol=1e-5)
    network = Network(TimmBackbone("test_resnet", 12)).eval()
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    teacher = TeacherOnAxes(NetworkTeacher(network), axes)
    assert teacher.width == 5
    found = teacher(images)
    torch.testing.assert_close(found.embedding, network(images).embedding.detach() @ axes, rtol=1e-4, atol=1e-6)
    assert found.logits is None


def test_each_half_of_an_image_and_its_mirror_image_is_put_there() -> None:
    axes = leading_axes(EMBEDDING, 5).axes
    both = np.concatenate([EMBEDDING[:20], EMBEDDING[20:]], 1)
    found = concatenated_on_axes(both, axes)
    expected = np.concatenate([EMBEDDING[:20] @ axes.numpy(), EMBEDDING[20:] @ axes.numpy()], 1)
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("biased", [True, False])
def test_a_network_gives_its_embedding_there(biased: bool) -> None:
    backbone = TimmBackbone("test_resnet", 12).eval()
    head = backbone.net.get_classifier()
    head.bias = nn.Parameter(torch.linspace(-1, 1, 12)) if biased else None
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    axes = leading_axes(EMBEDDING, 5).axes
    expected = backbone(images) @ axes
    put_on_axes(backbone, axes)
    torch.testing.assert_close(backbone(images), expected, rtol=1e-4, atol=1e-5)


def test_one_that_does_not_end_in_an_embedding_can_t() -> None:
    with pytest.raises(WeightsError, match="does not end in a linear layer"):
        put_on_axes(TimmBackbone("test_resnet", 0), torch.eye(64, 5))


def test_weights_bring_them_along(tmp_path: Path) -> None:
    network, axes = Network(TimmBackbone("test_resnet", 5)), torch.eye(12, 5)
    save_weights(tmp_path / "w.safetensors", network, {}, axes=axes)
    found = read_weights(tmp_path / "w.safetensors")
    assert found.axes is not None
    assert torch.equal(found.axes, axes)
    assert found.tensors.keys() == network.state_dict().keys()
    save_weights(tmp_path / "w.safetensors", network, {})
    assert read_weights(tmp_path / "w.safetensors").axes is None


@pytest.mark.parametrize(
    "axes", [torch.zeros(12), torch.zeros(12, 5, dtype=torch.int64), torch.full((12, 5), torch.nan)]
)
def test_axes_that_can_t_be_are_refused(axes: torch.Tensor, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", nn.Linear(2, 2), {}, axes=axes)
    with pytest.raises(WeightsError, match=r"w\.safetensors has axes of a teacher of another shape"):
        read_weights(tmp_path / "w.safetensors")
