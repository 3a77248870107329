"""Files of weights: read back whole, refused by name, and never run."""

import contextlib
import gzip
import io
import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from facedistill.errors import WeightsError
from facedistill.models.families.resnet import ResNetBackbone
from facedistill.models.network import Network
from facedistill.models.weights import load_into, read_weights, save_weights

ONE = torch.ones(1)


def network(identities: int = 4, width: int = 8, block: str = "basic") -> Network:
    return Network(ResNetBackbone(block, [1, 1, 1, 1], width), identities)


def refused(path: Path) -> str:
    with pytest.raises(WeightsError) as refusal:
        read_weights(path)
    assert str(path) in str(refusal.value)
    return str(refusal.value)


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name])


def test_weights_are_read_back_with_what_is_said_of_them(tmp_path: Path) -> None:
    module, about = network().to(memory_format=torch.channels_last), {"probe": {"correct": 3}, "rate": 8, "τ": None}
    save_weights(tmp_path / "new" / "w.safetensors", module, about)
    tensors, said, *_ = read_weights(tmp_path / "new" / "w.safetensors")
    assert said == about
    assert_same(tensors, module.state_dict())
    other = network()
    load_into(other, tensors, tmp_path / "w.safetensors")
    assert_same(other.state_dict(), module.state_dict())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["w.safetensors"]
    # readable by others, without us
    assert safetensors.torch.load_file(tmp_path / "new" / "w.safetensors").keys() == tensors.keys()


@pytest.mark.parametrize(
    "wrap", [dict, lambda state: {"state_dict": state, "epoch": 3}, lambda state: {"model": state}]
)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pt_is_read_bare_or_wrapped_new_or_old(tmp_path: Path, wrap: Callable[[Any], Any], zipped: bool) -> None:
    module = network()
    torch.save(wrap(module.state_dict()), tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    tensors, about, *_ = read_weights(tmp_path / "w.pt")
    assert about == {}
    assert_same(tensors, dict(module.state_dict()))


@pytest.mark.parametrize("about", ["[1]", "3", '"x"', '{"image": [16]}', "{"])
def test_metadata_that_is_not_ours_is_refused(tmp_path: Path, about: str) -> None:
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors", metadata={"facedistill": about})
    with pytest.raises(WeightsError, match=r"w\.safetensors is not a whole safetensors file"):
        read_weights(tmp_path / "w.safetensors")


def test_a_foreign_safetensors_says_nothing_of_itself(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "w.safetensors")
    tensors, about, *_ = read_weights(tmp_path / "w.safetensors")
    assert about == {}
    assert tensors["a"].tolist() == [1.0, 1.0]


def bytes_of(suffix: str, zipped: bool = True) -> bytes:
    state = nn.Linear(40, 30).state_dict()
    if suffix == "safetensors":
        return safetensors.torch.save(state)
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.mark.parametrize(("suffix", "zipped"), [("safetensors", True), ("pt", True), ("pt", False)])
def test_a_truncated_file_is_refused_wherever_it_is_cut(tmp_path: Path, suffix: str, zipped: bool) -> None:
    whole = bytes_of(suffix, zipped)
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(whole)
    assert read_weights(path).tensors["weight"].shape == (30, 40)
    for size in [0, 1, 7, 8, 9, *range(20, len(whole), len(whole) // 25), len(whole) - 1]:
        path.write_bytes(whole[:size])
        said = refused(path)
        assert "would run code" not in said, f"cut at {size}: {said}"


class Marker:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ""])
@pytest.mark.parametrize("how", ["torch", "old torch", "pickle"])
def test_a_file_with_code_is_refused_and_its_code_is_not_run(tmp_path: Path, suffix: str, how: str) -> None:
    marker, path = tmp_path / "marker", tmp_path / f"w{suffix}"
    content = {"weight": torch.zeros(2), "bad": Marker(marker)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
    said = refused(path)
    assert "code" in said
    assert "torch.save(model.state_dict(), 'weights.pt')" in said
    assert not marker.exists()
    torch.load(path, weights_only=False) if how != "pickle" else pickle.loads(path.read_bytes())
    assert marker.exists()  # the payload was sharp


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "w.pt")
    assert "state_dict" in refused(tmp_path / "w.pt")


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def torch_script() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), buffer)
    return buffer.getvalue()


KEYS = ("dtype", "shape", "data_offsets")


def header(**tensors: Any) -> bytes:
    """A file of safetensors without its values."""
    text = json.dumps({name: dict(zip(KEYS, what, strict=True)) for name, what in tensors.items()})
    return len(text).to_bytes(8, "little") + text.encode()


# the bytes of a file, what is said of it, and what is not
OTHER_KINDS: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (bytes, "is empty"),
    "a byte": (lambda: b"\x08", "no file of weights|not a whole safetensors"),
    "a text": (lambda: b"hello\n", "no(t a whole|) file of weights|not a whole safetensors"),
    "a page": (lambda: b"\n<!DOCTYPE html><html>not found</html>" * 100, "is a page of a web site"),
    "a pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    "onnx": (lambda: b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\x90", "is an ONNX file.*export the state_dict"),
    "keras": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file, as of Keras"),
    "new keras": (lambda: zipped({"config.json": b"{}", "model.weights.h5": b""}), "zip archive.*config.json"),
    "mxnet": (lambda: b"\x12\x01" + bytes(30), "is a file of MXNet"),
    "tflite": (lambda: b"\x1c\0\0\0TFL3" + bytes(30), "is a TensorFlow Lite file"),
    "npy": (lambda: b"\x93NUMPY\x01\0" + bytes(30), "is an array of NumPy"),
    "npz": (lambda: zipped({"arr_0.npy": bytes(30)}), "zip archive that torch.save did not write"),
    "gguf": (lambda: b"GGUF\x03\0\0\0" + bytes(30), "is a GGUF file"),
    "gzip": (lambda: gzip.compress(bytes(30)), "is an archive: unpack it"),
    "tar": (lambda: bytes(257) + b"ustar" + bytes(250), "is an archive: unpack it"),
    "a program": (torch_script, r"is a TorchScript archive.*torch\.jit\.load\(.*torch\.onnx\.export\("),
    "a zip bomb": (
        lambda: zipped({"w/data.pkl": b"\x80\x02}q\x00.", "w/data/0": bytes(1 << 20)}, zipfile.ZIP_DEFLATED),
        "announces more bytes than it has",
    ),
    "half a zip": (lambda: zipped({"w/data.pkl": b"\x80\x02}."})[:40], "is truncated or no file of weights"),
    "a huge shape": (lambda: header(weight=("F32", [1 << 40], [0, 1 << 42])), "not a whole safetensors file"),
    "an overflow": (lambda: header(weight=("F32", [1 << 40, 1 << 40], [0, 0])), "not a whole safetensors file"),
    "a long header": (lambda: (1 << 50).to_bytes(8, "little") + b"{}", "not a whole safetensors file"),
    "a deep header": (
        lambda: safetensors.torch.save({"a": ONE}, {"facedistill": "[" * 100_000}),
        "not a whole safetensors file",
    ),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_a_file_of_another_kind_is_named_in_a_line(tmp_path: Path, suffix: str, kind: str) -> None:
    content, expected = OTHER_KINDS[kind]
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content())
    said = refused(path)
    assert re.search(expected, said), said
    assert "\n" not in said
    assert "could run code" not in said


def test_an_exported_program_is_refused_since_torch_would_run_what_is_in_it(tmp_path: Path) -> None:
    program = torch.export.export(nn.Linear(2, 2).eval(), (torch.zeros(1, 2),))
    torch.export.save(program, tmp_path / "whole.pt2")
    with zipfile.ZipFile(tmp_path / "whole.pt2") as file:
        members = {name: file.read(name) for name in file.namelist()}
    blob = io.BytesIO()
    torch.save({"weight": Marker(tmp_path / "ran")}, blob)
    folder = "whole/data/weights"
    table = json.loads(members[f"{folder}/model_weights_config.json"])
    table["config"]["weight"]["use_pickle"] = True
    members[f"{folder}/model_weights_config.json"] = json.dumps(table).encode()
    members[f"{folder}/{table['config']['weight']['path_name']}"] = blob.getvalue()
    (tmp_path / "hostile.pt2").write_bytes(zipped(members))
    for name in ("whole.pt2", "hostile.pt2"):
        assert re.search(r"is an exported program.*torch\.onnx\.export\(", refused(tmp_path / name))
    assert not (tmp_path / "ran").exists()
    with contextlib.suppress(Exception):
        torch.export.load(tmp_path / "hostile.pt2")
    assert (tmp_path / "ran").exists(), "torch loads them safely now: they need no longer be refused"


def test_a_file_named_onnx_is_one(tmp_path: Path) -> None:
    (tmp_path / "w.onnx").write_bytes(b"whatever")
    assert "is an ONNX file" in refused(tmp_path / "w.onnx")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.pt")
    assert "is no file" in refused(tmp_path / "w.pt")


@pytest.mark.parametrize(("content", "suffix"), [("pt", ".safetensors"), ("safetensors", ".pt"), ("pt", ".pth.tar")])
def test_the_content_decides_and_not_the_suffix(tmp_path: Path, content: str, suffix: str) -> None:
    (tmp_path / f"w{suffix}").write_bytes(bytes_of(content))
    assert read_weights(tmp_path / f"w{suffix}").tensors["weight"].shape == (30, 40)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(1 << 40),
        torch.zeros(1, device="meta").expand(1 << 40),
        torch.eye(2).to_sparse(),
        torch.quantize_per_tensor(torch.eye(2), 0.1, 0, torch.qint8),
    ],
    ids=["stretched", "meta", "sparse", "quantized"],
)
def test_a_tensor_without_all_of_its_values_is_refused(tmp_path: Path, tensor: Tensor) -> None:
    torch.save({"fine": ONE, "odd": tensor}, tmp_path / "w.pt")
    assert "odd is no plain tensor" in refused(tmp_path / "w.pt")


@pytest.mark.parametrize(
    "wrapper",
    ["state_dict", "model", "net", "weights", "ema", "model_state_dict", "state_dict_backbone", "params", "anything"],
)
def test_a_single_mapping_is_taken_out_of_whatever_it_lies_in(tmp_path: Path, wrapper: str) -> None:
    state = nn.Linear(3, 2).state_dict()
    content = {
        "epoch": 3,
        "lr": 0.1,
        "best": ONE,
        wrapper: state,
        "optimizer": {"state": {0: {"m": ONE}}, "groups": []},
    }
    torch.save(content, tmp_path / "w.pt")
    assert_same(read_weights(tmp_path / "w.pt").tensors, dict(state))
    torch.save({"checkpoint": content}, tmp_path / "w.pt")
    assert_same(read_weights(tmp_path / "w.pt").tensors, dict(state))


@pytest.mark.parametrize(
    "content",
    [
        {"a": 1},
        {"a": torch.ones(1), "b": "text"},
        [torch.ones(1)],
        torch.ones(1),
        {"state_dict": 3},
        {0: torch.ones(1)},
    ],
)
def test_what_is_no_mapping_from_names_to_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pt")
    assert "state_dict" in refused(tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["gone.pt", "gone.safetensors"])
def test_a_missing_file_and_a_folder_are_named(tmp_path: Path, name: str) -> None:
    assert "does not exist" in refused(tmp_path / name)
    (tmp_path / name).mkdir()
    refused(tmp_path / name)


def test_another_number_of_identities_is_named_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"{tmp_path}.*\b9 identities.*\b4\b.*teacher\.backbone="):
        load_into(network(4), network(9).state_dict(), tmp_path / "w.pt")


def without_layer4(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if "layer4" not in name}


OTHERS: dict[str, tuple[Callable[[], dict[str, Tensor]], str]] = {
    "wider": (lambda: network(width=16).state_dict(), "another shape"),
    "bottleneck": (lambda: network(block="bottleneck").state_dict(), "unknown"),
    "shallower": (lambda: without_layer4(network().state_dict()), "missing .*layer4"),
    "empty": (dict, "missing"),
    "foreign": (lambda: torch.nn.Linear(2, 2).state_dict(), "missing"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_architecture_is_refused_with_where_they_differ(tmp_path: Path, kind: str) -> None:
    state, said = OTHERS[kind]
    own = network()
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    with pytest.raises(WeightsError, match=rf"{tmp_path}.*another architecture.*{said}"):
        load_into(own, state(), tmp_path / "w.pt")
    assert_same(own.state_dict(), before)  # nothing was loaded by half


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_told_as_such(tmp_path: Path, value: float) -> None:
    state = network().state_dict()
    state["backbone.net.layer2.0.conv1.weight"][0, 0, 0] = value
    said = r"w\.pt: 3 of the \d+ weights of backbone\.net\.layer2\.0\.conv1\.weight are NaN or infinite"
    with pytest.raises(WeightsError, match=said):
        load_into(network(), state, tmp_path / "w.pt")


def test_names_of_both_sides_are_shown_where_none_is_common(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"It holds stem\.a, stem\.b …; missing are backbone\.input\.weight, "):
        load_into(network(), {"stem.a": ONE, "stem.b": ONE}, tmp_path / "w.pt")


def test_integers_are_no_weights(tmp_path: Path) -> None:
    state = {name: tensor.to(torch.int8) for name, tensor in network().state_dict().items()}
    with pytest.raises(WeightsError, match=r"file torch\.int8, network torch\.float32"):
        load_into(network(), state, tmp_path / "w.pt")
