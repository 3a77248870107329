"""format=onnx-int8: what each way of making it leaves in its file, counted there, and what the file answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facedistill.export.formats import onnx_int8
from facedistill.export.formats.onnx_int8 import ENDS, LAYERS, MIXED, WEIGHTS, WHOLE, OnnxInt8
from facedistill.export.network import Deployed
from facedistill.runs.student_size import int8_bytes

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
SIDE = 24
VARIANTS = {"whole": WHOLE, "ends": ENDS, "mixed": MIXED, "weights": WEIGHTS}
FULL, SEVEN = 127, 64  # the largest of an int8, and of one of which two products with bytes fit into 16 bits


def smooth(count: int, seed: int) -> np.ndarray:
    """Images as faces are: bright and dark areas, not noise; float32 [count, 3, 24, 24], −1 … 1."""
    draw = np.random.default_rng(seed)
    coarse = draw.uniform(-1, 1, (count, 3, 4, 4)).repeat(6, 2).repeat(6, 3)
    return (0.8 * coarse + draw.uniform(-0.2, 0.2, coarse.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def files(deployed: Deployed, graph: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    def copied(network: Deployed) -> Any:
        assert network is deployed
        copy = onnx.ModelProto()
        copy.CopyFrom(graph)
        return copy

    folder = tmp_path_factory.mktemp("int8")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_int8, "graph_of", copied)
        for name, variant in VARIANTS.items():
            found[name] = folder / f"{name}.onnx"
            OnnxInt8().write(deployed, found[name], smooth(24, 0), variant)
    return found


class Layer:
    """A layer of a quantized file: its weights as stored, their scales, and whether it is given bytes."""

    def __init__(self, model: Any, node: Any) -> None:
        constants = {tensor.name: tensor for tensor in model.graph.initializer}
        makers = {name: maker for maker in model.graph.node for name in maker.output}
        weight, data = makers.get(node.input[1]), makers.get(node.input[0])
        self.given_bytes = data is not None and data.op_type == "DequantizeLinear" and data.input[0] not in constants
        self.outputs = 0
        if weight is None:
            self.stored, self.scales = onnx.numpy_helper.to_array(constants[node.input[1]]), None
            return
        assert weight.op_type == "DequantizeLinear"
        self.stored, self.scales = (onnx.numpy_helper.to_array(constants[name]) for name in weight.input[:2])
        axis = next((part.i for part in weight.attribute if part.name == "axis"), 1)
        transposed = any(part.name == "transB" and part.i for part in node.attribute)
        self.outputs = self.stored.shape[0 if node.op_type == "Conv" or transposed else -1]
        assert self.stored.shape[axis] == self.outputs, "the scales are of another axis than that of the outputs"
        if len(weight.input) > 2:
            assert not onnx.numpy_helper.to_array(constants[weight.input[2]]).any(), "weights are symmetric"
        shape = [1] * self.stored.ndim
        shape[axis] = -1
        self.values = self.stored.astype(np.float32) * self.scales.reshape(shape)


def layers_of(model: Any) -> list[Layer]:
    return [Layer(model, node) for node in model.graph.node if node.op_type in LAYERS]


@pytest.mark.parametrize("name", VARIANTS)
def test_it_answers_nearly_as_the_network(files: dict[str, Path], deployed: Deployed, name: str) -> None:
    images = smooth(32, 1)
    session = OnnxInt8().load(files[name], threads=1)
    found = session(images).astype(np.float64)
    expected = deployed(torch.from_numpy(images)).double().numpy()
    assert found.shape == expected.shape
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.mean() > {"whole": 0.98, "ends": 0.98, "mixed": 0.985, "weights": 0.999}[name]
    assert np.abs(found - expected).max() > 1e-6, "this is the network in float32"
    np.testing.assert_allclose(session(images[:1]), found[:1], atol=1e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_weights_are_bytes_with_a_scale_for_each_output(files: dict[str, Path], graph: Any, name: str) -> None:
    model = onnx.load(files[name])
    onnx.checker.check_model(model, full_check=True)
    layers = layers_of(model)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    weights = [constants[node.input[1]] for node in graph.graph.node if node.op_type in LAYERS]
    assert len(layers) == len(weights) > 10
    stays = [0, len(weights) - 1] if name == "ends" else []
    if name in ("mixed", "weights"):
        stays = [at for at, weight in enumerate(weights) if weight.size < 512]  # scales would be most of it
    found = set()
    for layer in layers:  # in an order of the quantizer's own
        stored = layer.values if layer.scales is not None else layer.stored
        like = {at: np.abs(weight - stored).max() for at, weight in enumerate(weights) if weight.shape == stored.shape}
        at = min(like, key=lambda number: like[number])
        found.add(at)
        if at in stays:
            assert layer.stored.dtype == np.float32
            assert like[at] == 0
            continue
        assert layer.stored.dtype == np.int8
        assert layer.scales is not None
        assert layer.scales.shape == (layer.outputs,)
        assert len(np.unique(layer.scales)) > 1
        most = np.abs(layer.stored.astype(int)).max()
        assert most <= (SEVEN if layer.given_bytes else FULL)
        assert most > (SEVEN if name == "weights" else 60), "half of the bits are not used"
        assert like[at] < np.abs(weights[at]).max() / 100
    assert found == set(range(len(weights)))


def test_activations_are_bytes_where_that_is_asked(files: dict[str, Path]) -> None:
    given = {name: [layer.given_bytes for layer in layers_of(onnx.load(file))] for name, file in files.items()}
    assert all(given["whole"])
    assert sum(given["ends"]) >= len(given["ends"]) - 2
    assert any(given["mixed"])
    assert not any(given["weights"])


@pytest.mark.parametrize("name", ["whole", "mixed"])
def test_no_sum_of_two_products_leaves_sixteen_bits(files: dict[str, Path], name: str) -> None:
    """Processors without VNNI add pairs of byte × weight up in int16, and saturate without a word."""
    for layer in layers_of(onnx.load(files[name])):
        if layer.given_bytes and layer.stored.dtype == np.int8:
            assert 2 * 255 * np.abs(layer.stored.astype(int)).max() <= 2**15 - 1


@pytest.mark.parametrize("name", VARIANTS)
def test_it_is_a_third_of_the_network_and_its_names_are_short(
    files: dict[str, Path], deployed: Deployed, name: str
) -> None:
    weights = 4 * sum(part.numel() for part in deployed.parameters())
    assert weights > 400_000
    assert files[name].stat().st_size < weights / (3 if name != "ends" else 2.9)
    model = onnx.load(files[name])
    (image,), (answer,) = model.graph.input, model.graph.output
    assert [image.name, answer.name] == ["image", "embedding"]
    inside = {value for node in model.graph.node for value in (*node.input, *node.output)} - {image.name, answer.name}
    assert max(map(len, inside)) <= 3
    assert len({tensor.name for tensor in model.graph.initializer}) == len(model.graph.initializer)
    assert not any(node.name or node.doc_string for node in model.graph.node)
    assert [value.type.tensor_type.shape.dim[0].dim_param for value in (image, answer)] == ["batch", "batch"]


def test_few_faces_and_faces_that_are_all_the_same_can_calibrate(
    deployed: Deployed, graph: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Black ones, too, of which layers that follow a ReLU may see nothing but zeros."""
    monkeypatch.setattr(onnx_int8, "graph_of", lambda network: onnx.ModelProto.FromString(graph.SerializeToString()))
    for faces in (smooth(1, 0), np.zeros((3, 3, SIDE, SIDE), np.float32), np.full((2, 3, SIDE, SIDE), -1, np.float32)):
        for variant in (WHOLE, MIXED):
            OnnxInt8().write(deployed, tmp_path / "q.onnx", faces, variant)
            assert np.isfinite(OnnxInt8().load(tmp_path / "q.onnx", 1)(smooth(2, 1))).all()


@pytest.mark.parametrize("name", ["mixed", "weights"])
def test_a_file_is_as_large_as_the_size_by_which_a_student_is_chosen(files: dict[str, Path], name: str) -> None:
    expected = int8_bytes({"type": "resnet", "block": "basic", "layers": [1, 1, 1, 1], "width": 16, "features": 32})
    assert 0.9 * expected <= files[name].stat().st_size <= expected
