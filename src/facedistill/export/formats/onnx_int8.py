"""ONNX in int8: weights in a byte, and activations where that is possible; for onnxruntime.

Products of bytes are added up in 16 bits by processors without VNNI, where 8-bit weights overflow: where activations
are int8, weights have 7 bits, which no processor gets wrong.
"""

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from facedistill.export.format import Format, Images, Session
from facedistill.export.formats.onnx import graph_of, session
from facedistill.export.network import Deployed
from facedistill.runs.student_size import SMALLEST
from facedistill.system.progress import progress_bar

WHOLE = "every operator in int8"
ENDS = "every operator in int8, but the first and the last layer"
MIXED = "weights in int8, activations in int8 where that changes the embedding least"
WEIGHTS = "weights in int8, activations in float"
LAYERS = ("Conv", "Gemm", "MatMul")
BITS = {True: 7, False: 8}  # of weights, by whether they meet int8 activations
FEW = 16  # faces on which the activations of each layer are judged
COST = 0.01  # of mean cosine, that all int8 activations together may change


class OnnxInt8(Format):
    """Static quantization by onnxruntime, of weights per channel; what a network does not bear stays in float."""

    file = "model-int8.onnx"
    modules: ClassVar[tuple[str, ...]] = ("onnx", "onnxscript", "onnxruntime", "threadpoolctl")
    install = "pip install 'facedistill[export]'"
    exact = False
    calibrates = True
    variants = (WHOLE, ENDS, MIXED, WEIGHTS)

    def write(self, network: Deployed, path: Path, faces: Images, variant: str) -> None:
        import onnx

        graph = graph_of(network)
        if variant in (WHOLE, ENDS):
            model = _by_onnxruntime(graph, network.taken.name, faces, variant == ENDS)
        else:
            model = _by_layer(graph, faces, network.taken.name, variant == MIXED)
        _short_names(model)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)

    def load(self, path: Path, threads: int) -> Session:
        return session(path, threads)


def _by_onnxruntime(model: Any, name: str, faces: Images, without_ends: bool) -> Any:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left: Iterator[Images] = iter(faces[:, None])

        def get_next(self) -> dict[str, Images] | None:
            image = next(self.left, None)
            return None if image is None else {name: image}

    with TemporaryDirectory() as folder, _quietly():
        whole, ready, made = (str(Path(folder) / part) for part in ("whole.onnx", "ready.onnx", "made.onnx"))
        onnx.save(model, whole)
        quant_pre_process(whole, ready, skip_symbolic_shape=True)
        nodes = list(onnx.load(ready).graph.node)
        layers = [number for number, node in enumerate(nodes) if node.op_type in LAYERS]
        ends = nodes[: layers[0] + 1] + nodes[layers[-1] :]  # with what normalizes before and after
        quantize_static(
            ready,
            made,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            nodes_to_exclude=[node.name for node in ends] if without_ends else [],
        )
        return onnx.load(made)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the warnings of onnxruntime's quantizer about what it leaves as it is."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _by_layer(model: Any, faces: Images, name: str, with_activations: bool) -> Any:
    """Weights and large constants in int8; and the activations that go into the layers that bear it."""
    chosen: Collection[str] = ()
    if with_activations:
        ranges = _ranges(model, faces, name)
        chosen = _bearing(model, ranges, faces[:FEW])
        _quantize_activations(model, chosen, ranges)
    _quantize_weights(model, chosen)
    return model


def _ranges(model: Any, faces: Images, name: str) -> dict[str, tuple[float, float]]:
    """The smallest and the largest value that goes into a layer, of those that are no weights; 0 lies between."""
    import onnx

    weights = {tensor.name for tensor in model.graph.initializer}
    wanted = dict.fromkeys(
        value for node in model.graph.node if node.op_type in LAYERS for value in node.input[:2] if value not in weights
    )
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    shown = [value for value in wanted if value != name and value not in {output.name for output in model.graph.output}]
    del probe.graph.output[:]
    for value in shown:
        probe.graph.output.append(onnx.helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, None))
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the same ranges on any machine of its kind
    run = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    low, high = np.zeros(len(shown)), np.zeros(len(shown))
    for image in faces[:, None]:
        values = run.run(shown, {name: image})
        low = np.minimum(low, [value.min() for value in values])
        high = np.maximum(high, [value.max() for value in values])
    found = dict(zip(shown, zip(low.tolist(), high.tolist(), strict=True), strict=True))
    if name in wanted and faces.dtype == np.float32:
        found[name] = (float(min(0, faces.min())), float(max(0, faces.max())))
    return found


def _bearing(model: Any, ranges: dict[str, tuple[float, float]], faces: Images) -> list[str]:
    """Layers whose activations in int8 change the answers least, as many as change them by ``COST`` together."""
    import onnx

    def answers(changed: Any) -> NDArray[np.float64]:
        found = session(changed.SerializeToString(), 1)(faces).reshape(len(faces), -1).astype(np.float64)
        lengths: NDArray[np.float64] = np.linalg.norm(found, axis=1, keepdims=True)
        return found / lengths

    before, cost = answers(model), {}
    layers = [
        node for node in model.graph.node if node.op_type in LAYERS and any(value in ranges for value in node.input[:2])
    ]
    with progress_bar() as bar:
        for node in bar.track(layers, description="layers in int8, one by one"):
            changed = onnx.ModelProto()
            changed.CopyFrom(model)
            _quantize_activations(changed, [node.name], ranges)
            cost[node.name] = float(1 - (answers(changed) * before).sum(1).mean())
    order = sorted(cost, key=lambda layer: cost[layer])
    whole = np.cumsum([cost[layer] for layer in order])
    return [layer for layer, together in zip(order, whole.tolist(), strict=True) if together <= COST]


def _quantize_activations(model: Any, layers: Collection[str], ranges: dict[str, tuple[float, float]]) -> None:
    import onnx

    graph, made, nodes = model.graph, set(), []
    for node in graph.node:
        if node.name in layers:
            for place, value in enumerate(node.input[:2]):
                if value not in ranges:
                    continue
                if value not in made:
                    made.add(value)
                    low, high = ranges[value]
                    scale = np.float32(max(high - low, 1e-12) / 255)
                    zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
                    for part, constant in (("scale", scale), ("zero", zero)):
                        graph.initializer.append(onnx.numpy_helper.from_array(np.array(constant), f"{value}_{part}"))
                    how = [f"{value}_scale", f"{value}_zero"]
                    nodes.append(onnx.helper.make_node("QuantizeLinear", [value, *how], [f"{value}_byte"]))
                    nodes.append(onnx.helper.make_node("DequantizeLinear", [f"{value}_byte", *how], [f"{value}_back"]))
                node.input[place] = f"{value}_back"
        nodes.append(node)
    ordered = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(ordered)


def _quantize_weights(model: Any, with_bytes: Collection[str]) -> None:
    """Weights of layers per channel, other large constants as one; ``with_bytes``: layers with int8 activations."""
    import onnx

    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    dequantized: dict[str, str] = {}
    nodes = []
    for node in graph.node:
        for place, name in enumerate(node.input):
            tensor = constants.get(name)
            if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST:
                continue
            if name not in dequantized:
                values = onnx.numpy_helper.to_array(tensor)
                axis = _channels(node, values.ndim) if node.op_type in LAYERS and place == 1 else None
                whole = 2 ** (BITS[node.name in with_bytes] - 1) - 1
                others = tuple(number for number in range(values.ndim) if number != axis)
                scale = np.maximum(np.abs(values).max(axis=others, keepdims=True), 1e-12) / whole
                integers = np.clip(np.rint(values / scale), -whole, whole).astype(np.int8)
                flat = scale.astype(np.float32).reshape(-1 if axis is not None else ())
                graph.initializer.append(onnx.numpy_helper.from_array(integers, f"{name}_byte"))
                graph.initializer.append(onnx.numpy_helper.from_array(flat, f"{name}_scale"))
                inputs, form = [f"{name}_byte", f"{name}_scale"], {} if axis is None else {"axis": axis}
                nodes.append(onnx.helper.make_node("DequantizeLinear", inputs, [f"{name}_back"], **form))
                dequantized[name] = f"{name}_back"
            node.input[place] = dequantized[name]
    nodes += [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    kept = [tensor for tensor in graph.initializer if tensor.name not in dequantized]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _channels(node: Any, axes: int) -> int:
    """The axis of the outputs of a layer in its weights."""
    if node.op_type == "Conv" or any(part.name == "transB" and part.i for part in node.attribute):
        return 0
    return axes - 1


def _short_names(model: Any) -> None:
    """Number what is inside: in a small network the names of values take as much as a tenth of the weights."""
    graph = model.graph
    del graph.value_info[:]
    del model.metadata_props[:]
    kept = {value.name for value in (*graph.input, *graph.output)}
    names: dict[str, str] = {}

    def short(name: str) -> str:
        return name if name in kept or not name else names.setdefault(name, f"{len(names):x}")

    for tensor in graph.initializer:
        tensor.name = short(tensor.name)
    for node in graph.node:
        node.name = ""
        for values in (node.input, node.output):
            values[:] = [short(name) for name in values]
    model.producer_name = "facedistill"
