"""ONNX files of a small recognizer, whole and with what no recognizer has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

FLOAT, UINT8, SIDE, WIDTH = 1, 2, 8, 6
Change = Callable[[Any], Any]


def weights(seed: int = 0, width: int = WIDTH) -> dict[str, np.ndarray]:
    """Of a convolution to 4 channels and a linear embedding of their means, float32."""
    draw = np.random.default_rng(seed)
    shapes = {"kernel": (4, 3, 3, 3), "linear": (4, width), "bias": (width,)}
    return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def recognizer(
    channels_last: bool = False,
    pixel: int = FLOAT,
    batch: int | str = "n",
    side: Any = SIDE,
    width: int = WIDTH,
    columns: int | None = None,
) -> Any:
    """Images [batch, 3, side, columns or side] → relu(convolution) → mean → linear, [batch, width]."""
    make = onnx.helper.make_node
    nodes, image = [], "image"
    if pixel != FLOAT:
        nodes.append(make("Cast", [image], ["cast"], to=FLOAT))
        image = "cast"
    if channels_last:
        nodes.append(make("Transpose", [image], ["turned"], perm=[0, 3, 1, 2]))
        image = "turned"
    nodes += [
        make("Conv", [image, "kernel"], ["maps"], kernel_shape=[3, 3]),
        make("Relu", ["maps"], ["positive"]),
        make("GlobalAveragePool", ["positive"], ["means"]),
        make("Flatten", ["means"], ["flat"]),
        make("Gemm", ["flat", "linear", "bias"], ["embedding"]),
    ]
    columns = columns or side
    form = [batch, side, columns, 3] if channels_last else [batch, 3, side, columns]
    graph = onnx.helper.make_graph(
        nodes,
        "recognizer",
        [onnx.helper.make_tensor_value_info("image", pixel, form)],
        [onnx.helper.make_tensor_value_info("embedding", FLOAT, [batch, width])],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights(width=width).items()],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)


def answer(images: np.ndarray) -> np.ndarray:
    """What the recognizer says of [B, 3, S, S], in float64."""
    kernel, linear, bias = (value.astype(np.float64) for value in weights().values())
    windows = np.lib.stride_tricks.sliding_window_view(images.astype(np.float64), (3, 3), axis=(2, 3))
    maps = np.einsum("bchwij,ocij->bohw", windows, kernel)
    means: np.ndarray = np.maximum(maps, 0).mean((2, 3))
    return means @ linear + bias


def saved(path: Path, model: Any, external: bool = False) -> Path:
    """``external``: its weights lie in ``PATH.data`` beside it."""
    options = {"save_as_external_data": True, "location": f"{path.name}.data", "size_threshold": 0} if external else {}
    onnx.save(model, path, **options)
    return path


def changed(model: Any, change: Change) -> Any:
    change(model)
    return model
