"""Weights as files. Ours are safetensors; a .pt from elsewhere is read without running what it may contain."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from facedistill.errors import WeightsError
from facedistill.system.files import write_aside


class Weights(NamedTuple):
    """Tensors by name, and what the file says of itself (nothing, where it is not ours)."""

    tensors: dict[str, Tensor]
    about: dict[str, Any]


def save_weights(path: Path, module: nn.Module, about: dict[str, Any]) -> None:
    """Write a module's state as safetensors, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    with write_aside(path) as part:
        part.write_bytes(save(tensors, metadata={"facedistill": json.dumps(about, sort_keys=True)}))


def read_weights(path: Path) -> Weights:
    """Read .safetensors, or any file that ``torch.load(weights_only=True)`` takes.

    Raises:
        WeightsError: missing, truncated, not a file of weights, or a pickle with code in it (which is not run).
    """
    if not path.is_file():
        raise WeightsError(f"{path} does not exist")
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                about = (file.metadata() or {}).get("facedistill", "{}")
                return Weights({name: file.get_tensor(name) for name in file.keys()}, json.loads(about))  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise WeightsError(f"{path} is no whole safetensors file: {error}") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is truncated, or holds more than weights, which could run code: nothing of it was run. "
            "Save the state_dict alone, best with safetensors.torch.save_file"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise WeightsError(f"{path} is truncated or no file of weights: {error}") from error
    for wrapper in ("state_dict", "model"):
        state = state.get(wrapper, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise WeightsError(f"{path} is not a state_dict: a mapping from names to tensors is expected")
    return Weights(state, {})


def load_into(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Give a module exactly these weights.

    Raises:
        WeightsError: another number of identities, or another architecture; says where they differ.
    """
    own = module.state_dict()
    rows = [tensors[name].shape[0] for name in ("classifier.weight",) if name in tensors and name in own]
    if rows and rows[0] != own["classifier.weight"].shape[0]:
        raise WeightsError(
            f"{path} tells {rows[0]} identities apart, this data has {own['classifier.weight'].shape[0]}. "
            "To start from its backbone alone: teacher.backbone="
        )
    lacking, spare = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    other = [name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape]
    if lacking or spare or other:
        said = [f"{len(lacking)} tensors are missing (first {lacking[0]})"] if lacking else []
        said += [f"{len(spare)} are unknown (first {spare[0]})"] if spare else []
        said += (
            [
                f"{len(other)} have another shape (first {min(other)}: file {list(tensors[min(other)].shape)}, "
                f"network {list(own[min(other)].shape)})"
            ]
            if other
            else []
        )
        raise WeightsError(f"{path} is of another architecture: {'; '.join(said)}")
    module.load_state_dict(tensors)


def load_backbone(backbone: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Give a ``Backbone`` the weights of a whole network of ours, of one without output layers, or of a timm network.

    Raises:
        WeightsError: another architecture.
    """
    named = {name.removeprefix("backbone."): value for name, value in tensors.items()}
    kept = {name: value for name, value in named.items() if name.split(".")[0] not in ("classifier", "regressor")}
    ours = any(name.startswith("net.") for name in kept)
    load_into(backbone if ours else backbone.get_submodule("net"), kept if ours else tensors, path)
