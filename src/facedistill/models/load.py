"""A network with the weights in a file, of ours or of others."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from facedistill.config.build import build
from facedistill.errors import FacedistillError, WeightsError
from facedistill.models.backbone import Backbone
from facedistill.models.layers import kept_layers
from facedistill.models.network import Network
from facedistill.models.weight_names import in_our_names
from facedistill.models.weights import Reference, load_into, read_weights

SPARE = 2**28  # parameters that a network may have more than its file has bytes, and is built to say what differs


class LoadedNetwork(NamedTuple):
    """A network as a file has it, what the file says of itself, and what was changed or left out, for people."""

    network: Network
    about: dict[str, Any]
    reference: Reference | None
    notes: list[str]


def load_network(
    path: Path, model: Mapping[str, Any], rate: int = 1, key: str = "model", identities: int | None = None
) -> LoadedNetwork:
    """The network in a file of weights, with whatever output layers it has there.

    Args:
        model: the architecture, a ``conf/model`` node; where it is empty, what a file of ours says of itself.
        key: the key of ``model`` in a configuration, for messages.
        identities: see ``in_our_names``.

    Raises:
        WeightsError: the file is unreadable or of another architecture.
    """
    tensors, about, reference, *_ = read_weights(path)
    if not model and not {"model", "rate"} <= about.keys():
        plus = "+" if key.startswith("teachers.") else ""
        named = f"{plus}model@{key}=timm {key}.name=… {key}.features=…"
        raise WeightsError(f"{path} does not say what network it is of: name that, {named}")
    model, rate = (model, rate) if model else (about["model"], about["rate"])
    try:
        backbone = _built(tensors, model, rate, path)
        renamed = in_our_names(backbone, tensors, path, features_key(model, key), identities)
        classifier = renamed.tensors.get("classifier.weight")
        count = 0 if classifier is None else len(classifier)
        network = Network(backbone, count, landmarks="regressor.weight" in renamed.tensors)
        load_into(network, renamed.tensors, path)
    except FacedistillError:
        raise
    except Exception as error:  # the model may be the file's own, and it may say anything
        raise WeightsError(f"{path} is of no network that can be built: {error}") from error
    return LoadedNetwork(network, about, reference, renamed.notes)


def layers_from(
    path: Path, model: Mapping[str, Any], backbone: Backbone, axes: Tensor | None = None
) -> dict[str, Tensor]:
    """Weights for ``backbone``, all of them layers of the network in a file, see ``kept_layers``.

    Args:
        model: the architecture in the file, as ``load_network`` takes it.
        axes: [D, E], on which the embedding of ``backbone`` is that of the file: its last layer gives it there.

    Raises:
        WeightsError: it is unreadable, or of no network that has such layers.
    """
    whole = load_network(path, model).network.backbone
    try:
        if axes is not None:
            put_on_axes(whole, axes)
        return kept_layers(backbone.state_dict(), whole.state_dict())
    except WeightsError as error:
        raise WeightsError(f"{path} has no layers that the student could start from: {error}") from error


def put_on_axes(backbone: Backbone, axes: Tensor) -> None:
    """Have a network give its embedding on axes [D, E]: the last layer W x + b becomes Aᵀ W x + Aᵀ b.

    Raises ``WeightsError`` where that is no linear layer of D values.
    """
    head = backbone.net.get_classifier()
    if not isinstance(head, nn.Linear) or head.out_features != len(axes):
        raise WeightsError("it does not end in a linear layer, which could give an embedding of fewer values")
    with torch.no_grad():
        head.weight = nn.Parameter(axes.T @ head.weight)
        head.bias = None if head.bias is None else nn.Parameter(axes.T @ head.bias)


def _built(tensors: Mapping[str, Tensor], model: Mapping[str, Any], rate: int, path: Path) -> Backbone:
    """A backbone. Raises ``WeightsError``, before it takes memory, where it is far larger than these weights."""
    with torch.device("meta"):
        size = sum(part.numel() for part in build("model", model, rate=rate).parameters())
    if size > sum(tensor.untyped_storage().nbytes() for tensor in tensors.values()) + SPARE:
        raise WeightsError(f"{path} is of another architecture: that of the model has {size} parameters")
    backbone: Backbone = build("model", model, rate=rate)
    return backbone


def features_key(model: Mapping[str, Any], key: str) -> str | None:
    """The key for the width of the embedding, where an architecture has one."""
    return f"{key}.features" if "features" in model else None
