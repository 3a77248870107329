"""ONNX files: what a graph takes and gives is read, and what may not be run is refused with the reason."""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facedistill.errors import WeightsError
from facedistill.model_files.onnx_file import OnnxGraph, read_onnx
from facedistill.model_files.onnx_trial import check_runs
from facedistill.model_files.protobuf import MOST_PARTS
from fuzz import RUNS, damaged
from onnx_files import FLOAT, SIDE, UINT8, WIDTH, changed, onnx, recognizer, saved

make = onnx.helper.make_node
info = onnx.helper.make_tensor_value_info


def refused(path: Path, judge: Callable[[Path], Any] = read_onnx) -> str:
    with pytest.raises(WeightsError) as refusal:
        judge(path)
    line = str(refusal.value)
    assert line.startswith(str(path))
    assert len(line.splitlines()) == 1
    assert len(line) < len(str(path)) + 400
    return line.removeprefix(str(path))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("pixel", [FLOAT, UINT8])
@pytest.mark.parametrize("batch", ["n", 1])
@pytest.mark.parametrize("columns", [None, 6])
def test_what_a_graph_takes_and_gives_is_read(
    tmp_path: Path, channels_last: bool, pixel: int, batch: int | str, columns: int | None
) -> None:
    path = saved(tmp_path / "w.onnx", recognizer(channels_last, pixel, batch, columns=columns))
    kind = "uint8" if pixel == UINT8 else "float32"
    expected = OnnxGraph("image", "embedding", SIDE, columns, WIDTH, channels_last, kind, batch == 1, ())
    assert read_onnx(path) == expected
    assert check_runs(path) == expected


def test_an_embedding_whose_batch_is_said_to_be_one_is_taken(tmp_path: Path) -> None:
    """As InsightFace's files have it: any number of images, [1, 512] values."""
    model = recognizer()
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    assert not check_runs(saved(tmp_path / "w.onnx", model)).one_by_one


def test_one_embedding_beside_other_outputs_is_found(tmp_path: Path) -> None:
    model = recognizer()
    model.graph.output.append(info("maps", FLOAT, ["n", 4, SIDE - 2, SIDE - 2]))
    assert read_onnx(saved(tmp_path / "w.onnx", model)).output == "embedding"


def test_weights_that_are_also_named_as_inputs_are_no_images(tmp_path: Path) -> None:
    """As graphs before IR version 4 have to."""
    model = recognizer()
    model.graph.input.append(info("kernel", FLOAT, [4, 3, 3, 3]))
    assert read_onnx(saved(tmp_path / "w.onnx", model)).input == "image"


def test_weights_beside_it_are_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.onnx", recognizer(), external=True)
    assert check_runs(path).files == (tmp_path / "w.onnx.data",)


def node(model: Any, kind: str) -> Any:
    return next(each for each in model.graph.node if each.op_type == kind)


def second_input(model: Any) -> None:
    model.graph.input.append(info("mask", FLOAT, [1]))
    model.graph.node.append(make("Identity", ["mask"], ["unused"]))


def weights_as_input(model: Any) -> None:
    del model.graph.input[:]


def classifier(model: Any) -> None:
    node(model, "Gemm").output[0] = "scores"
    model.graph.node.append(make("Softmax", ["scores"], ["embedding"]))


def softmax_behind_an_identity(model: Any) -> None:
    node(model, "Gemm").output[0] = "scores"
    model.graph.node.append(make("Softmax", ["scores"], ["chances"]))
    model.graph.node.append(make("Identity", ["chances"], ["embedding"]))


def two_embeddings(model: Any) -> None:
    model.graph.output.append(info("flat", FLOAT, ["n", 4]))


def no_embedding(model: Any) -> None:
    del model.graph.output[:]
    model.graph.output.append(info("maps", FLOAT, ["n", 4, 6, 6]))


def output_from_nowhere(model: Any) -> None:
    model.graph.output[0].name = "nowhere"


def circle(model: Any) -> None:
    node(model, "Relu").input[0] = "means"


def from_nowhere(model: Any) -> None:
    node(model, "Relu").input[0] = "nowhere\n\x1b[31m" + "x" * 1000


def made_twice(model: Any) -> None:
    model.graph.node.append(make("Relu", ["maps"], ["positive"]))


def custom_domain(model: Any) -> None:
    node(model, "Relu").domain = "com.example"


def unknown_operator(model: Any) -> None:
    node(model, "Relu").op_type = "Frobnicate"


def own_function(model: Any) -> None:
    body = [make("Relu", ["x"], ["y"])]
    opset = [onnx.helper.make_opsetid("", 17)]
    model.functions.append(onnx.helper.make_function("mine", "F", ["x"], ["y"], body, opset))


def branch(model: Any) -> None:
    inner = onnx.helper.make_graph([make("Relu", ["maps"], ["one"])], "g", [], [info("one", FLOAT, None)])
    index = [each.op_type for each in model.graph.node].index("Relu")
    del model.graph.node[index]
    yes = onnx.numpy_helper.from_array(np.array(True), "yes")
    model.graph.initializer.append(yes)
    model.graph.node.append(make("If", ["yes"], ["positive"], then_branch=inner, else_branch=inner))


def sparse(model: Any) -> None:
    model.graph.sparse_initializer.add()


def absurd_weights(model: Any) -> None:
    model.graph.initializer[0].dims[0] = 2**60


def negative_weights(model: Any) -> None:
    model.graph.initializer[0].dims[0] = -4


def text_weights(model: Any) -> None:
    model.graph.initializer[0].data_type = onnx.TensorProto.STRING


def no_weights(model: Any) -> None:
    model.graph.initializer[0].data_type = 99


def long_story(model: Any) -> None:
    model.graph.node[0].attribute[0].strings.extend([b""] * (MOST_PARTS + 1))


def empty(model: Any) -> None:
    model.Clear()


def external(**place: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)

    return change


def external_often(model: Any) -> None:
    for number in range(4):
        tensor = onnx.numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float32), f"more{number}")
        model.graph.initializer.append(tensor)
        tensor = model.graph.initializer[-1]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="there.data")


BAD: dict[str, tuple[Callable[[Any], None], str]] = {
    "two inputs": (second_input, "has 2 inputs (image, mask): a recognizer takes one"),
    "no input": (weights_as_input, "which its Conv takes"),
    "a softmax": (classifier, "scores of a classifier, no embedding (embedding: it ends in Softmax)"),
    "a softmax behind": (softmax_behind_an_identity, "ends in Softmax"),
    "two embeddings": (two_embeddings, "gives embedding [?, 6], flat [?, 4]: which is the embedding?"),
    "no embedding": (no_embedding, "gives maps [?, 4, 6, 6]: no embedding [N, values]"),
    "no such output": (output_from_nowhere, "does not make its output nowhere"),
    "a circle": (circle, "stands in a circle"),
    "a value from nowhere": (from_nowhere, r"has no value nowhere\n\x1b[31mxxx"),
    "a value twice": (made_twice, "makes the value positive twice"),
    "a custom operator": (custom_domain, "has the operator com.example.Relu, which is none of ONNX's own"),
    "an unknown operator": (unknown_operator, "has the operator Frobnicate, which is none of ONNX's own"),
    "a function": (own_function, "onnx.inliner.inline_local_functions"),
    "a branch": (branch, "has a graph within its graph (If)"),
    "sparse weights": (sparse, "has sparse weights"),
    "absurd weights": (absurd_weights, f"kernel announces {2**60 * 27:,} values and has 108"),
    "negative weights": (negative_weights, "weights of a negative size: kernel"),
    "weights of text": (text_weights, "weights that are no numbers: kernel"),
    "weights of an unknown type": (no_weights, "weights that are no numbers: kernel"),
    "too many parts": (long_story, f"more than {MOST_PARTS:,} parts"),
    "nothing": (empty, "has no graph"),
    "weights that are missing": (external(location="gone.data"), "copy gone.data into its folder"),
    "weights of another folder": (external(location="../w.data"), "outside of its folder, in ../w.data"),
    "weights of the system": (external(location="/etc/passwd"), "outside of its folder, in /etc/passwd"),
    "weights in memory": (external(location="*/_ORT_MEM_ADDR_/*", offset="4096"), "outside of its folder"),
    "weights on windows": (external(location="..\\w.data"), "outside of its folder"),
    "weights of a folder": (external(location="."), "outside of its folder"),
    "weights nowhere": (external(), "outside of its folder"),
    "weights by a link": (external(location="link.data"), "by the link link.data"),
    "weights beyond the end": (external(location="there.data", offset="400"), "kernel is not whole there"),
    "weights before the start": (external(location="there.data", offset="-4"), "kernel is not whole there"),
    "weights of another length": (external(location="there.data", length="4"), "kernel is not whole there"),
    "weights at no number": (external(location="there.data", offset="x"), "says not where in there.data"),
    "weights that are used often": (external_often, "takes more weights from there.data than are in it"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_graph_that_is_no_recognizer_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    change, said = BAD[name]
    folder = tmp_path / "files"
    folder.mkdir()
    (tmp_path / "w.data").write_bytes(bytes(432))
    (folder / "there.data").write_bytes(bytes(432 + 100))
    (folder / "link.data").symlink_to(tmp_path / "w.data")
    (folder / "w.onnx").write_bytes(changed(recognizer(), change).SerializeToString())
    assert said in refused(folder / "w.onnx")


FORMS: list[tuple[dict[str, Any], str]] = [
    ({"side": "s"}, "takes images of any size, [?, 3, ?, ?] (image)"),
    ({"batch": 8}, "takes batches of 8 images (image)"),
    ({"pixel": 10}, "takes values of type float16 (image)"),
    ({"pixel": 7}, "takes values of type int64 (image)"),
    ({"side": 4096}, "takes images of 4096 rows and 4096 columns"),
    ({"width": 1000}, "it has 1000 values, as many as ImageNet has classes"),
    ({"width": 85742}, "it has 85,742 values"),
    ({"width": 1}, "it has 1 values"),
]


@pytest.mark.parametrize(("form", "said"), FORMS, ids=str)
def test_a_graph_of_another_form_is_refused_with_it(tmp_path: Path, form: dict[str, Any], said: str) -> None:
    assert said in refused(saved(tmp_path / "w.onnx", recognizer(**form)))


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (["n", 1, 8, 8], "takes [?, 1, 8, 8] (image), which is no image"),
        (["n", 3, 8], "takes [?, 3, 8] (image), which is no image"),
        ([8, 3], "which is no image"),
        (["n", 3, 8, 12], "takes images of 8 rows and 12 columns (image): faces are square or higher than wide"),
        (["n", 8, 12, 3], "takes images of 8 rows and 12 columns"),
        (["n", "c", 8, 8], "which is no image"),
        (None, "takes no tensor of a known shape"),
        ([1] * 100_000, "takes [1, 1, 1, 1, 1, 1, 1, 1, …]"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_image_of_a_face_is_refused(tmp_path: Path, form: list[Any] | None, said: str) -> None:
    model = recognizer()
    model.graph.input[0].CopyFrom(info("image", FLOAT, form))
    (tmp_path / "w.onnx").write_bytes(model.SerializeToString())
    assert said in refused(tmp_path / "w.onnx")


@pytest.mark.parametrize(
    "content",
    [b"", b"whatever", b"\x08", b"\x08\x08\x12\x07pytorch", b"\x3a\xff\xff\xff\xff\x0f", b"\x0b\x0c" * 50, b"\x3a\x00"],
)
def test_what_is_not_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.onnx").write_bytes(content)
    said = refused(tmp_path / "w.onnx")
    assert "no ONNX file" in said


def test_a_file_that_is_missing_or_a_folder_is_refused(tmp_path: Path) -> None:
    assert "can't be read" in refused(tmp_path / "gone.onnx")
    (tmp_path / "w.onnx").mkdir()
    assert "can't be read" in refused(tmp_path / "w.onnx")


def test_a_file_that_no_protobuf_can_be_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "w.onnx").open("wb") as file:
        file.truncate(2**31)  # it has holes, and takes no room
    assert "has 2,147,483,648 bytes, more than an ONNX file can" in refused(tmp_path / "w.onnx")


def test_graphs_within_graphs_are_counted_without_being_parsed(tmp_path: Path) -> None:
    """A protobuf that is all beginnings: its parts are thousands deep."""
    content = b""
    for _ in range(5000):
        size = len(content)
        length = bytearray()
        while size > 127:
            length.append(size & 127 | 128)
            size >>= 7
        content = b"\x32" + bytes([*length, size]) + content  # an attribute's graph, or a node's
    (tmp_path / "w.onnx").write_bytes(b"\x08\x08" + content)
    refused(tmp_path / "w.onnx")


def crash(model: Any) -> None:
    """Its values take 2**42 bytes, as only running it tells."""
    shape = onnx.numpy_helper.from_array(np.array([2**20, 2**20], np.int64), "shape")
    model.graph.initializer.append(shape)
    model.graph.node.extend(
        [
            make("Expand", ["bias_of_one", "shape"], ["huge"]),
            make("ReduceMean", ["huge"], ["mean"], keepdims=0),
            make("Add", ["linear_out", "mean"], ["embedding"]),
            make("Slice", ["bias", "zero", "one"], ["bias_of_one"]),
        ]
    )
    for name, value in (("zero", 0), ("one", 1)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([value], np.int64), name))
    node(model, "Gemm").output[0] = "linear_out"


def dice(model: Any) -> None:
    node(model, "Gemm").output[0] = "linear_out"
    model.graph.node.append(make("RandomNormalLike", ["linear_out"], ["noise"]))
    model.graph.node.append(make("Add", ["linear_out", "noise"], ["embedding"]))


def no_numbers(model: Any) -> None:
    node(model, "Gemm").output[0] = "linear_out"
    model.graph.node.append(make("Sub", ["linear_out", "linear_out"], ["nothing"]))
    model.graph.node.append(make("Div", ["nothing", "nothing"], ["embedding"]))


def wrong_kernel(model: Any) -> None:
    model.graph.initializer[0].dims[:] = [4, 1, 3, 9]


def other_width(model: Any) -> None:
    """One that is only announced: behind a shape that nobody knows before."""
    node(model, "Gemm").output[0] = "linear_out"
    model.graph.node.append(make("Shape", ["linear_out"], ["form"]))
    model.graph.node.append(make("Slice", ["form", "start", "end"], ["batch"]))
    model.graph.node.append(make("Concat", ["batch", "rest"], ["wanted"], axis=0))
    model.graph.node.append(make("Reshape", ["linear_out", "wanted"], ["embedding"]))
    for name, value in (("start", [0]), ("end", [1]), ("rest", [2, 3])):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.int64), name))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (crash, "can't be run|crashes onnxruntime, or takes more than 4 GiB"),
        (dice, "says something else of the same image each time"),
        (no_numbers, "NaN"),
        (wrong_kernel, "can't be run: "),
        (other_width, "can't be run: |announces an embedding of 6 values and gives"),
    ],
)
def test_what_only_running_it_tells_is_found_in_a_process_of_its_own(
    tmp_path: Path, change: Callable[[Any], None], said: str
) -> None:
    path = tmp_path / "w.onnx"
    path.write_bytes(changed(recognizer(), change).SerializeToString())
    read_onnx(path)
    line = refused(path, check_runs)
    assert any(part in line for part in said.split("|")), line


def test_a_file_that_has_changed_is_judged_again(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.onnx", recognizer())
    check_runs(path)
    path.write_bytes(changed(recognizer(), classifier).SerializeToString())
    assert "Softmax" in refused(path, check_runs)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_the_package_it_says_what_to_install(tmp_path: Path, package: str) -> None:
    path = saved(tmp_path / "w.onnx", recognizer())
    code = (
        f"import sys; sys.modules['{package}'] = None\n"
        "from pathlib import Path\n"
        "from facedistill.errors import WeightsError\n"
        "from facedistill.model_files.onnx_trial import check_runs\n"
        f"try: check_runs(Path({str(path)!r}))\n"
        "except WeightsError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert "pip install 'facedistill[onnx]'" in done.stdout


@pytest.mark.parametrize(("count", "seed"), RUNS)
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, count: int, seed: int) -> None:
    whole = recognizer().SerializeToString()
    words = [b"image", b"embedding", b"kernel", b"\x3a", b"\x0a\x02", b"\x10\x01"]
    refusals, tried = 0, 0
    for number in range(count):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(damaged(whole, random.Random(f"{seed} {number}"), words))
        try:
            assert isinstance(read_onnx(path), OnnxGraph)
        except WeightsError:
            refused(path)
            refusals += 1
        else:
            if tried < 20:  # a process each
                tried += 1
                with suppress(WeightsError):
                    check_runs(path)
        path.unlink()
    assert count // 4 < refusals < count
