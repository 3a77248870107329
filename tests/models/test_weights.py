"""Files of weights: read back whole, refused by name, and never run."""

import io
import os
import pickle
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
    tensors, said, _ = read_weights(tmp_path / "new" / "w.safetensors")
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
    tensors, about, _ = read_weights(tmp_path / "w.pt")
    assert about == {}
    assert_same(tensors, dict(module.state_dict()))


@pytest.mark.parametrize("about", ["[1]", "3", '"x"', '{"image": [16]}', "{"])
def test_metadata_that_is_not_ours_is_refused(tmp_path: Path, about: str) -> None:
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors", metadata={"facedistill": about})
    with pytest.raises(WeightsError, match=r"w\.safetensors is not a whole safetensors file"):
        read_weights(tmp_path / "w.safetensors")


def test_a_foreign_safetensors_says_nothing_of_itself(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "w.safetensors")
    tensors, about, _ = read_weights(tmp_path / "w.safetensors")
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
    assert "safetensors" in said
    assert not marker.exists()
    torch.load(path, weights_only=False) if how != "pickle" else pickle.loads(path.read_bytes())
    assert marker.exists()  # the payload was sharp


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "w.pt")
    assert "state_dict" in refused(tmp_path / "w.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    "text", ["hello\n", "<html>not found</html>" * 100, "version https://git-lfs.github.com/spec/v1\n"]
)
def test_a_text_file_is_no_weights_and_no_attack(tmp_path: Path, suffix: str, text: str) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_text(text)
    assert "would run code" not in refused(path)


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
