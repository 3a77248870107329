"""Weights as files. Ours are safetensors; a .pt from elsewhere is read without running what it may contain."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from facedistill.errors import WeightsError
from facedistill.model_files.file_kinds import check_kind, is_zip
from facedistill.system.files import write_aside

_REFERENCE = "reference."  # in the names of tensors that are no weights
_AXES = "teacher_axes"  # of a tensor that is none, either
_DEPTH = 3  # of mappings in mappings
_SHOWN = 3


class Reference(NamedTuple):
    """What a network answered for a few images when it was published, so that whoever loads it can check it.

    Attributes:
        images: uint8 [n, 3, height, width].
        embedding: K, float32 [n, width].
    """

    images: Tensor
    embedding: Tensor


class Weights(NamedTuple):
    """Tensors by name, what the file says of itself (nothing, where it is not ours), and its reference.

    ``axes``: [D, E], on which an embedding of E values is that of the teacher of D values, where it imitates fewer.
    """

    tensors: dict[str, Tensor]
    about: dict[str, Any]
    reference: Reference | None = None
    axes: Tensor | None = None


def save_weights(
    path: Path,
    module: nn.Module,
    about: dict[str, Any],
    reference: Reference | None = None,
    axes: Tensor | None = None,
) -> None:
    """Write a module's state as safetensors, whole or not at all; ``axes``: see ``Weights``."""
    parts = module.state_dict()
    if reference is not None:
        parts |= {f"{_REFERENCE}{name}": tensor for name, tensor in reference._asdict().items()}
    if axes is not None:
        parts |= {_AXES: axes}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in parts.items()}
    with write_aside(path) as part:
        part.write_bytes(save(tensors, metadata={"facedistill": json.dumps(about, sort_keys=True)}))


def read_weights(path: Path) -> Weights:
    """Read safetensors, or any file that ``torch.load(weights_only=True)`` takes, whatever its suffix.

    A mapping of tensors may lie in others, beside numbers of epochs and the like. Where several do, they are one, whose
    names begin with theirs: ``model.conv1.weight``, ``ema.conv1.weight``.

    Raises:
        WeightsError: missing, truncated, not a file of weights, or a pickle with code in it (which is not run).
    """
    check_kind(path)
    with path.open("rb") as file:
        head = file.read(9)
        is_torch = is_zip(head) or head.startswith(b"\x80")
        if head[8:] == b"{" or (path.suffix == ".safetensors" and not is_torch):
            return _read_safetensors(path)
        file.seek(0)
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # a stranger's pickle: whatever it makes the unpickler raise
            raise WeightsError(f"{path} {_why_unreadable(str(error) or type(error).__name__)}") from error
    found = dict(_mappings(content, "", _DEPTH))
    if not found:
        raise WeightsError(f"{path} is not a state_dict: a mapping from names to tensors is expected")
    prefixes = found if len(found) > 1 else [""]
    tensors = {
        f"{prefix}{name}": tensor
        for prefix, mapping in zip(prefixes, found.values(), strict=True)
        for name, tensor in mapping.items()
    }
    for name, tensor in tensors.items():
        if not _is_plain(tensor):
            raise WeightsError(f"{path}: {name} is no plain tensor (quantized, sparse, or larger than what is stored)")
    return Weights(tensors, {})


def _why_unreadable(error: str) -> str:
    """What torch's unpickler says, which is meant for programmers, in a line."""
    reason = error.partition("WeightsUnpickler error:")[2] or error
    code = re.search(r"GLOBAL (\S+)|Unsupported operand 1[3-9]\d", reason)  # an operand that is no letter
    if not code:
        return f"is truncated or no file of weights: {reason.strip().splitlines()[0][:200]}"
    held = f" ({code[1]})" if code[1] else ""
    return (
        f"holds more than weights{held}, which could run code: nothing of it was run. Where it was made, save the "
        "state_dict alone: torch.save(model.state_dict(), 'weights.pt')"
    )


def _read_safetensors(path: Path) -> Weights:
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("facedistill", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if not isinstance(about, dict) or not isinstance(about.get("image", {}), dict):
                raise ValueError("what it says of itself is not of ours")
    except Exception as error:  # a stranger's header: whatever is wrong with it
        raise WeightsError(f"{path} is not a whole safetensors file: {error}") from error
    stored = [tensors.pop(f"{_REFERENCE}{name}", None) for name in Reference._fields]
    return Weights(tensors, about, _reference(path, *stored), _axes(path, tensors.pop(_AXES, None)))


def _mappings(content: Any, prefix: str, depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The mappings from names to tensors in a checkpoint, each with what leads to it, as ``model.``."""
    if not isinstance(content, dict) or not content or not all(isinstance(name, str) for name in content):
        return
    if all(isinstance(value, Tensor) for value in content.values()):
        yield prefix, content
    elif depth:
        for name, value in content.items():
            yield from _mappings(value, f"{prefix}{name}.", depth - 1)


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor's values are all stored: a file may announce a shape of any size that has a single value."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        return False
    return tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()


def _reference(path: Path, images: Tensor | None, embedding: Tensor | None) -> Reference | None:
    if images is None or embedding is None:
        return None
    is_image = images.ndim == 4 and images.shape[1] == 3 and images.numel() > 0
    if not (is_image and images.dtype == torch.uint8 and embedding.ndim == 2 and len(images) == len(embedding) > 0):
        raise WeightsError(f"{path} has reference images or embeddings of another shape than it was published with")
    return Reference(images, embedding)


def _axes(path: Path, axes: Tensor | None) -> Tensor | None:
    if axes is None:
        return None
    if axes.ndim != 2 or axes.dtype != torch.float32 or not axes.isfinite().all():
        raise WeightsError(f"{path} has axes of a teacher of another shape than it was published with")
    return axes


def load_into(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Give a module exactly these weights.

    Raises:
        WeightsError: another number of identities, or another architecture, and where they differ; or a value that is
            not finite.
    """
    own = module.state_dict()
    rows = [tensors[name].shape[0] for name in ("classifier.weight",) if name in tensors and name in own]
    if rows and rows[0] != own["classifier.weight"].shape[0]:
        raise WeightsError(
            f"{path} has a classifier of {rows[0]} identities, this data has {own['classifier.weight'].shape[0]}. "
            "To start from its backbone alone: teacher.backbone="
        )
    if differences := differences_of(own, tensors):
        raise WeightsError(f"{path} is of another architecture: {differences}")
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            count = int((~tensor.isfinite()).sum())
            raise WeightsError(
                f"{path}: {count} of the {tensor.numel()} weights of {name} are NaN or infinite: its training had "
                "diverged; take an earlier checkpoint"
            )
    module.load_state_dict(tensors)


def differences_of(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    """Where weights differ from a network's own, for people; empty: they fit."""
    lacking, spare = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if not own.keys() & tensors.keys():
        names, expected = (", ".join([*parts][:_SHOWN]) or "nothing" for parts in (tensors, own))
        which = "no name of the file is one of the network in teacher.model, or model"
        return f"{which}. It holds {names} …; missing are {expected} …"
    other = [name for name in own.keys() & tensors.keys() if not of_one_form(own[name], tensors[name])]
    faults = [f"{len(lacking)} tensors are missing (first {lacking[0]})"] if lacking else []
    faults += [f"{len(spare)} are unknown (first {spare[0]})"] if spare else []
    if other:
        first = min(other)
        file, network = (f"{list(part[first].shape)}" for part in (tensors, own))
        if file == network:
            file, network = (f"{part[first].dtype}" for part in (tensors, own))
        faults.append(f"{len(other)} have another shape or type (first {first}: file {file}, network {network})")
    return "; ".join(faults)


def of_one_form(one: Tensor, other: Tensor) -> bool:
    """Whether one can be given the values of the other."""
    return one.shape == other.shape and one.is_floating_point() == other.is_floating_point()
