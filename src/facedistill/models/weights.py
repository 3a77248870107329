"""Weights as files. Ours are safetensors; a .pt from elsewhere is read without running what it may contain."""

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

_REFERENCE = "reference."  # in the names of tensors that are no weights


class Reference(NamedTuple):
    """What a network answered for a few images when it was published, so that whoever loads it can check it.

    Attributes:
        images: uint8 [n, 3, S, S].
        embedding: K, float32 [n, width].
    """

    images: Tensor
    embedding: Tensor


class Weights(NamedTuple):
    """Tensors by name, what the file says of itself (nothing, where it is not ours), and its reference."""

    tensors: dict[str, Tensor]
    about: dict[str, Any]
    reference: Reference | None = None


def save_weights(path: Path, module: nn.Module, about: dict[str, Any], reference: Reference | None = None) -> None:
    """Write a module's state as safetensors, whole or not at all."""
    parts = module.state_dict()
    if reference is not None:
        parts |= {f"{_REFERENCE}{name}": tensor for name, tensor in reference._asdict().items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in parts.items()}
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
                about = json.loads((file.metadata() or {}).get("facedistill", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                if not isinstance(about, dict) or not isinstance(about.get("image", {}), dict):
                    raise ValueError("what it says of itself is not of ours")
        except (SafetensorError, OSError, ValueError, RecursionError) as error:
            raise WeightsError(f"{path} is not a whole safetensors file: {error}") from error
        stored = [tensors.pop(f"{_REFERENCE}{name}", None) for name in Reference._fields]
        return Weights(tensors, about, _reference(path, *stored))
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


def has_classifier(path: Path) -> bool:
    """Whether a file of weights has a classifier of identities under our name. Raises as ``read_weights``."""
    return "classifier.weight" in read_weights(path).tensors


def _reference(path: Path, images: Tensor | None, embedding: Tensor | None) -> Reference | None:
    if images is None or embedding is None:
        return None
    is_square = images.ndim == 4 and images.shape[1] == 3 and images.shape[2] == images.shape[3] > 0
    if not (is_square and images.dtype == torch.uint8 and embedding.ndim == 2 and len(images) == len(embedding) > 0):
        raise WeightsError(f"{path} has reference images or embeddings of another shape than it was published with")
    return Reference(images, embedding)


def load_into(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Give a module exactly these weights.

    Raises:
        WeightsError: another number of identities, or another architecture; says where they differ.
    """
    own = module.state_dict()
    rows = [tensors[name].shape[0] for name in ("classifier.weight",) if name in tensors and name in own]
    if rows and rows[0] != own["classifier.weight"].shape[0]:
        raise WeightsError(
            f"{path} has a classifier of {rows[0]} identities, this data has {own['classifier.weight'].shape[0]}. "
            "To start from its backbone alone: teacher.backbone="
        )
    lacking, spare = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    other = [name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape]
    if lacking or spare or other:
        faults = [f"{len(lacking)} tensors are missing (first {lacking[0]})"] if lacking else []
        faults += [f"{len(spare)} are unknown (first {spare[0]})"] if spare else []
        faults += (
            [
                f"{len(other)} have another shape (first {min(other)}: file {list(tensors[min(other)].shape)}, "
                f"network {list(own[min(other)].shape)})"
            ]
            if other
            else []
        )
        raise WeightsError(f"{path} is of another architecture: {'; '.join(faults)}")
    module.load_state_dict(tensors)


def load_network(network: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Give a ``Network`` the weights of one of ours or, where it has no output layers, those of a backbone.

    Raises:
        WeightsError: another architecture, or another number of identities.
    """
    if any(name.startswith("backbone.") for name in tensors):
        load_into(network, tensors, path)
    else:
        load_backbone(network.get_submodule("backbone"), tensors, path)


def load_backbone(backbone: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Give a ``Backbone`` the weights of a network of ours, whole or without output layers, or of a timm network.

    Raises:
        WeightsError: another architecture.
    """
    named = {name.removeprefix("backbone."): value for name, value in tensors.items()}
    kept = {name: value for name, value in named.items() if name.split(".")[0] not in ("classifier", "regressor")}
    ours = any(name.startswith("net.") for name in kept)
    load_into(backbone if ours else backbone.get_submodule("net"), kept if ours else tensors, path)
