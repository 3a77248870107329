"""Exports of models whose answers are known beforehand, written by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facedistill.data.files.alignment import ARCFACE_SIZE, ARCFACE_TEMPLATE
from facedistill.runs.exported import LABELS, Exported, Framing, ImageInput, Judged, ModelFile
from facedistill.system.files import sha256

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

FLOAT, UINT8, SIDE, CELLS = 1, 2, 32, 4
MEAN, STD = [120.0, 110.0, 100.0], [60.0, 50.0, 40.0]
POINTS = np.array([[-0.4, -0.3], [0.4, -0.35], [0.05, 0.0], [-0.3, 0.5], [0.3, 0.45]], np.float32)
COLOURS = ["red", "green", "blue"]
THRESHOLDS = {"0.01": 0.4, "0.001": 0.6}
VALUES = 3 * CELLS**2
TARGET = {"embedding": VALUES, "logits": 3, "landmarks": 10}


def graph(kind: str, side: int = SIDE, pixel: str = "float32", batch: int | str = "n", **changes: Any) -> Any:
    """Images [batch, 3, side, side] → means of 4 × 4 cells of each channel, [batch, 48] → what ``kind`` says.

    An embedding is these means; the logits are ten times the means of red, green and blue; landmarks are ``POINTS`` of
    any image. ``changes``: the ``output``'s values are multiplied, its name or its batch is another.
    """
    weight, bias = np.eye(VALUES, dtype=np.float32), np.zeros(TARGET[kind], np.float32)
    if kind == "logits":
        weight = np.repeat(np.eye(3, dtype=np.float32), CELLS**2, axis=0) * 10 / CELLS**2
    if kind == "landmarks":
        weight, bias = np.zeros((VALUES, 10), np.float32), POINTS.ravel()
    make, cell = onnx.helper.make_node, side // CELLS
    nodes = [make("Cast", ["image"], ["number"], to=FLOAT)]
    nodes.append(make("AveragePool", ["number"], ["means"], kernel_shape=[cell, cell], strides=[cell, cell]))
    nodes += [make("Flatten", ["means"], ["flat"]), make("Gemm", ["flat", "weight", "bias"], ["answer"])]
    shape: list[Any] = [batch, TARGET[kind]]
    if kind == "landmarks":
        nodes.append(make("Reshape", ["answer", "shape"], ["points"]))
        shape = [batch, 5, 2]
    values = {"weight": weight * np.float32(changes.get("times", 1)), "bias": bias, "shape": np.array([-1, 5, 2])}
    made = onnx.helper.make_graph(
        nodes,
        kind,
        [onnx.helper.make_tensor_value_info("image", FLOAT if pixel == "float32" else UINT8, [batch, 3, side, side])],
        [onnx.helper.make_tensor_value_info("points" if kind == "landmarks" else "answer", FLOAT, shape)],
        [onnx.numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)


def means(pixels: np.ndarray, pixel: str = "float32") -> np.ndarray:
    """What the graph says of an image uint8 [side, side, 3], in float64: [48]."""
    numbers = pixels.astype(np.float64)
    if pixel == "float32":
        numbers = (numbers - MEAN) / STD
    side = len(pixels) // CELLS
    cells: np.ndarray = numbers.reshape(CELLS, side, CELLS, side, 3).mean((1, 3))
    return cells.transpose(2, 0, 1).ravel()


def arcface(resize: int, crop: int) -> Framing:
    """Faces aligned to ArcFace's template at ``resize`` pixels, of which the model sees the centre."""
    places = (ARCFACE_TEMPLATE + 0.5) * (resize / ARCFACE_SIZE) - 0.5 - (resize - crop) // 2
    return Framing("template", resize, places.tolist())


def made_export(
    folder: Path,
    kind: str = "embedding",
    framing: Framing | None = None,
    side: int = SIDE,
    pixel: str = "float32",
    formats: tuple[str, ...] = ("onnx",),
    labels: list[str] | None = None,
    thresholds: dict[str, float] | None = None,
    model: Any = None,
    **changes: Any,
) -> Path:
    """An export of ``graph``; ``changes`` are of ``Exported``."""
    folder.mkdir(parents=True)
    files = []
    for number, name in enumerate(formats):
        path = folder / f"{'model' if name == 'onnx' else f'model-{name}'}.onnx"
        onnx.save(model or graph(kind, side, pixel, times=1 + number), path)
        files.append(ModelFile(name, path.name, path.stat().st_size, sha256(path), number == 0, 97.5))
    names = COLOURS if labels is None else labels
    digest = ""
    if kind == "logits":
        (folder / LABELS).write_text("".join(f"{name}\n" for name in names))
        digest = sha256(folder / LABELS)
    chosen = THRESHOLDS if thresholds is None else thresholds
    exported = Exported(
        name=folder.name,
        kind=kind,
        input=ImageInput(side, side, pixel, MEAN, STD),
        framing=framing or Framing("whole", side),
        width=TARGET[kind],
        normalized=False,
        files=files,
        judged=Judged("pairs", "made pairs", 600, 98, 97, 99, chosen, "600 made pairs", {"0.001": 91.25}),
        identity="0123456789ab",
        title="a model made by hand",
        command="facedistill export run=runs/made format=onnx",
        processor="a processor",
        threads=1,
        params=48,
        macs=480,
        data="made",
        licences=["none"],
        labels=digest,
    )
    replace(exported, **changes).write(folder)
    return folder
