"""Model files in onnxruntime: what they answer, and which are refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facedistill.errors import ConfigError, WeightsError
from facedistill.predict.faces import Face, as_taken
from facedistill.predict.session import Session
from facedistill.runs.exported import Exported
from made_exports import SIDE, graph, made_export, means, onnx


def opened(folder: Path, wanted: str | None = None) -> Session:
    return Session.open(folder, Exported.read(folder), wanted, 1)


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def taken(images: np.ndarray, folder: Path) -> Any:
    faces = [Face("a", image, np.eye(2, 3)) for image in images]
    return as_taken(faces, Exported.read(folder).input)


@pytest.mark.parametrize("pixel", ["float32", "uint8"])
@pytest.mark.parametrize("count", [1, 3, 9])
def test_answers_are_those_of_the_graph(pixel: str, count: int, tmp_path: Path) -> None:
    folder, images = made_export(tmp_path / "made", pixel=pixel), pixels(count)
    answers = opened(folder)(taken(images, folder))
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers, [means(image, pixel) for image in images], rtol=1e-4, atol=1e-4)


def test_a_graph_for_one_image_is_asked_one_by_one(tmp_path: Path) -> None:
    folder, images = made_export(tmp_path / "made", model=graph("embedding", batch=1)), pixels(9)
    np.testing.assert_allclose(
        opened(folder)(taken(images, folder)), [means(image) for image in images], rtol=1e-4, atol=1e-4
    )


def test_a_graph_that_mixes_the_images_of_a_batch_is_asked_one_by_one(tmp_path: Path) -> None:
    model = graph("embedding")
    model.graph.node[-1].output[0] = "apart"
    make = onnx.helper.make_node
    model.graph.node.append(make("ReduceMax", ["apart"], ["largest"], keepdims=1))  # of the whole batch
    model.graph.node.append(make("Div", ["apart", "largest"], ["answer"]))
    folder, images = made_export(tmp_path / "made", model=model), pixels(9)
    images[0] //= 2
    expected = [means(image) / means(image).max() for image in images]
    np.testing.assert_allclose(opened(folder)(taken(images, folder)), expected, rtol=1e-3, atol=1e-4)


def test_landmarks_are_five_points(tmp_path: Path) -> None:
    folder = made_export(tmp_path / "made", kind="landmarks")
    assert opened(folder)(taken(pixels(2), folder)).shape == (2, 5, 2)


def test_the_format_is_onnx_where_there_is_one(tmp_path: Path) -> None:
    both = made_export(tmp_path / "both", formats=("onnx-int8", "onnx"))
    assert opened(both).model.format == "onnx"
    assert opened(both, "onnx-int8").model.format == "onnx-int8"
    assert opened(made_export(tmp_path / "small", formats=("onnx-int8",))).model.format == "onnx-int8"
    with pytest.raises(ConfigError, match="format=onnx-int9: choices are onnx-int8, onnx"):
        opened(both, "onnx-int9")


def test_an_export_without_an_onnx_file_says_what_makes_one(tmp_path: Path) -> None:
    folder = made_export(tmp_path / "made", formats=("torchscript", "other"))
    with pytest.raises(WeightsError, match=r"holds torchscript, other.*facedistill export run=RUN format=onnx"):
        opened(folder)


def test_a_file_that_was_changed_since_is_refused(tmp_path: Path) -> None:
    folder = made_export(tmp_path / "made")
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes() + b"\0")
    with pytest.raises(WeightsError, match=r"model\.onnx was changed after it was proven"):
        opened(folder)


def rewritten(folder: Path, **changes: Any) -> Path:
    replace(Exported.read(folder), **changes).write(folder)
    return folder


def another_input(model: Any) -> None:
    model.graph.input[0].name = model.graph.node[0].input[0] = "picture"


def not_a_number(model: Any) -> None:
    values = np.full(48, np.nan, np.float32)
    model.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(values, "bias"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (another_input, "does not take one float32 image: export it again"),
        (not_a_number, r"no numbers \(NaN, or infinite\)"),
        (lambda model: model.graph.node[-1].input.__setitem__(0, "nothing"), "can't be run: "),
        (lambda model: model.graph.node[1].__setattr__("op_type", "NoSuchThing"), "can't be run: "),
    ],
)
def test_a_graph_that_can_not_be_used_is_one_line(change: Any, said: str, tmp_path: Path) -> None:
    model = graph("embedding")
    change(model)
    folder = made_export(tmp_path / "made", model=model)
    with pytest.raises(WeightsError, match=said) as caught:
        opened(folder)(taken(pixels(1), folder))
    assert "\n" not in str(caught.value)
    assert "model.onnx" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 47}, r"gives \[1, 48\] of float32 for 1 images, not 47 values each"),
        ({"kind": "landmarks"}, "not 10 values each"),
        ({"output": "elsewhere"}, "has no output elsewhere"),
    ],
)
def test_a_contract_that_says_otherwise_than_its_graph_is_refused(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    folder = rewritten(made_export(tmp_path / "made"), **changes)
    with pytest.raises(WeightsError, match=said):
        opened(folder)(taken(pixels(1), folder))


def test_without_onnxruntime_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"pip install 'facedistill\[onnx\]'"):
        opened(made_export(tmp_path / "made"))
