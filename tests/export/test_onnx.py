"""format=onnx: the graph is valid, of any batch, and right in onnxruntime, in OpenCV and as InsightFace reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits
from torch import nn

from facedistill.config.build import build
from facedistill.errors import WeightsError
from facedistill.export.formats import onnx as formats
from facedistill.export.formats.onnx import Onnx, graph_of
from facedistill.export.network import Deployed
from facedistill.models.backbone import Backbone
from facedistill.models.network import Network
from facedistill.runs.exported import ImageInput

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
NO_FACES = np.empty((0, 3, 24, 24), np.float32)


@pytest.fixture(scope="module")
def file(graph: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    onnx.save(graph, path)
    return path


def rgb(count: int, side: int = 24) -> np.ndarray:
    """Photographs uint8 [count, side, side, 3] whose channels differ, so that their order shows."""
    draw = np.random.default_rng(0)
    return (draw.integers(0, 256, (count, side, side, 3)) * [1.0, 0.6, 0.2]).astype(np.uint8)


def as_floats(images: np.ndarray) -> np.ndarray:
    numbers: np.ndarray = ((images.astype(np.float64) - 127.5) / 127.5).transpose(0, 3, 1, 2).astype(np.float32)
    return numbers


def in_onnxruntime(file: Path | bytes, images: np.ndarray) -> np.ndarray:
    run = ort.InferenceSession(file if isinstance(file, bytes) else str(file), providers=["CPUExecutionProvider"])
    answer: np.ndarray = run.run(None, {run.get_inputs()[0].name: images})[0]
    return answer


def test_the_graph_is_of_plain_onnx_and_takes_any_batch(file: Path, deployed: Deployed) -> None:
    onnx.checker.check_model(str(file), full_check=True)
    model = onnx.load(file)
    assert [opset.domain for opset in model.opset_import] == [""]
    assert 17 <= model.opset_import[0].version <= 21, "newer ones than most runtimes read"
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    (image,), (answer,) = model.graph.input, model.graph.output
    assert [image.name, answer.name] == ["image", "embedding"]
    for value, rest in ((image, [3, 24, 24]), (answer, [32])):
        batch, *sizes = value.type.tensor_type.shape.dim
        assert batch.dim_param
        assert not batch.dim_value
        assert [size.dim_value for size in sizes] == rest
    for count in (1, 3, 7):
        images = as_floats(rgb(count))
        expected = deployed(torch.from_numpy(images)).numpy()
        found = in_onnxruntime(file, images)
        assert found.shape == (count, 32)
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    read = Onnx().load(file, threads=1)(as_floats(rgb(3)))
    np.testing.assert_array_equal(read, in_onnxruntime(file, as_floats(rgb(3))))


def test_the_file_holds_the_weights_once_and_nothing_of_who_made_it(file: Path, deployed: Deployed) -> None:
    content = file.read_bytes()
    held = sum(4 * part.numel() for part in deployed.parameters())
    assert held < len(content) < 1.02 * held + 10_000
    for told in (b"pkg.torch", b"site-packages", b"/work", b"export/network.py", str(Path.home()).encode()):
        assert told not in content
    assert onnx.load(file).producer_name == "facedistill"


def test_insightface_reads_it_as_a_file_of_its_own(file: Path, deployed: Deployed) -> None:
    """Its recognizer takes raw pixels where a node among the first eight is named like MXNet's subtraction, and one
    like its product; else (x − 127.5) / 127.5. Photographs are BGR, which it swaps.
    """
    cv2 = pytest.importorskip("cv2")
    model = onnx.load(file)
    first = [node.name for node in model.graph.node][:8]
    of_mxnet = all(any(name.startswith(begins) for name in first) for begins in (("Sub", "_minus"), ("Mul", "_mul")))
    mean, std = (0.0, 1.0) if of_mxnet else (127.5, 127.5)
    side = tuple(size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim)[2:][::-1]
    photographs = [image[..., ::-1] for image in rgb(3)]
    blob = cv2.dnn.blobFromImages(photographs, 1.0 / std, side, (mean, mean, mean), swapRB=True)
    assert len(model.graph.input) == len(model.graph.output) == 1
    found = in_onnxruntime(file, blob).astype(np.float64)
    expected = deployed(torch.from_numpy(as_floats(rgb(3)))).double().numpy()
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() > 1 - 1e-3
    other = deployed(torch.from_numpy(as_floats(rgb(3)[..., ::-1].copy()))).double().numpy()
    cosine = (found * other).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(other, axis=1)
    assert cosine.max() < 1 - 1e-3, "the order of channels would not show"


def in_opencv(file: Path, images: np.ndarray) -> np.ndarray:
    cv2 = pytest.importorskip("cv2")
    net = cv2.dnn.readNetFromONNX(str(file))
    net.setInput(images)
    answer: np.ndarray = net.forward()
    return answer


@pytest.mark.parametrize("count", [1, 3])
def test_opencv_answers_as_the_network(file: Path, deployed: Deployed, count: int) -> None:
    images = as_floats(rgb(count))
    expected = deployed(torch.from_numpy(images)).numpy()
    assert np.abs(in_opencv(file, images) - expected).max() <= 1e-3 * np.abs(expected).max()


@pytest.mark.slow
def test_a_network_with_attention_is_right_in_both_runtimes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    node = {"type": "timm", "architecture": "edgenext_xx_small", "features": 64, "blocks": [1, 1, 1, 1]}
    node |= {"mean": [120.0] * 3, "std": [60.0] * 3}
    network = Network(build("model", node, rate=1)).eval().requires_grad_(False)
    deployed = Deployed(network, "embedding", ImageInput(64, 64, "float32", [127.5] * 3, [127.5] * 3), normalized=True)
    path = tmp_path / "model.onnx"
    Onnx().write(deployed, path, NO_FACES, "")
    images = as_floats(rgb(3, 64))
    expected = deployed(torch.from_numpy(images)).numpy()
    for count in (1, 3):
        np.testing.assert_allclose(in_onnxruntime(path, images[:count]), expected[:count], atol=1e-5)
    np.testing.assert_allclose(in_opencv(path, images[:1]), expected[:1], atol=1e-3)


class WithClassToken(nn.Module):
    """Tokens of patches behind one token of a class, expanded to the batch, of which the mean is taken with weights.

    A graph for one image has the expanded token as a constant, [1, 1, D]: there is none for every image of a batch.
    """

    num_classes = 5

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 6))
        self.mixed = nn.Linear(37, 37)
        self.last = nn.Linear(6, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(images.shape[0], -1, -1), tokens], 1)
        mixed = self.mixed(tokens.transpose(1, 2)).relu()
        return self.last(mixed[..., 0])  # type: ignore[no-any-return]


def of(net: nn.Module) -> Deployed:
    torch.manual_seed(0)
    network = Network(Backbone(net, [120.0] * 3, [60.0] * 3)).eval().requires_grad_(False)
    return Deployed(network, "embedding", ImageInput(24, 24, "uint8", [0.0] * 3, [1.0] * 3))


@pytest.mark.slow
def test_a_graph_whose_batch_cannot_be_opened_is_exported_for_any_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = []
    exported = formats._exported
    monkeypatch.setattr(formats, "_exported", lambda *words: batches.append(words[1]) or exported(*words))
    deployed = of(WithClassToken())
    images = torch.from_numpy(rgb(7).transpose(0, 3, 1, 2).copy())
    content = graph_of(deployed).SerializeToString()
    assert len(batches) == 2
    for count in (1, 3, 7):
        found = in_onnxruntime(content, images[:count].numpy())
        np.testing.assert_allclose(found, deployed(images[:count]).numpy(), atol=1e-5)


def test_a_network_that_torch_exports_for_one_batch_alone_is_refused(
    deployed: Deployed, graph: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where it counts its images by ``len``, which is no dimension of a graph but a number."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(graph)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    monkeypatch.setattr(formats, "_exported", lambda *words: fixed)
    monkeypatch.setattr(formats, "_opened", lambda model: model)
    formats._graph.cache_clear()
    with pytest.raises(WeightsError, match="batches of any size: leave format=onnx out"):
        graph_of(deployed)


@pytest.mark.slow
def test_constants_are_folded_by_one_thread(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the last bits of a file would tell how many cores the machine had that made it."""
    from onnxscript import optimizer

    def fold(*_: object, **__: object) -> None:
        found.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        raise InterruptedError

    found: list[int] = []
    monkeypatch.setattr(optimizer, "fold_constants", fold)
    with threadpool_limits(2, user_api="blas"), pytest.raises(InterruptedError):
        formats._exported(deployed, None)
    assert found
    assert set(found) == {1}
