"""Weights of others in our names: under a prefix, with an old output layer, beside other networks."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from facedistill.errors import WeightsError
from facedistill.models.backbone import Backbone
from facedistill.models.weights import differences_of, of_one_form

_OUTPUTS = [f"{layer}.{kind}" for layer in ("classifier", "regressor") for kind in ("weight", "bias")]
_HEAD = re.compile(
    r"(^|\.)(fc\w*|arc|kernel|\w*(head|classifier|regressor|logits|margin|arcface|cosface|metric|softmax|loss)\w*)(\.|$)"
)
_PREFERRED = ("state_dict.", "model.")  # of several that fit
_COUNTER = "num_batches_tracked"  # nothing is computed from it, and files of other programs lack it
_EMBEDDINGS = (64, 128, 256, 512, 1024, 2048)  # usual widths, and unusual numbers of identities
_SHOWN = 3

Tensors = Mapping[str, Tensor]


class Renamed(NamedTuple):
    """The weights of a ``Network`` in its names, and what was changed or left out, for people."""

    tensors: dict[str, Tensor]
    notes: list[str]


def in_our_names(
    backbone: Backbone, tensors: Tensors, path: Path, features: str | None = None, identities: int | None = None
) -> Renamed:
    """Weights of a network of ours, whole or its backbone, or of the network within (timm's names), in our names.

    Their names may have a prefix in common. Other networks beside them and old output layers are left out. A linear
    layer behind the embedding is the classifier, if it has as many outputs as there are identities.

    Args:
        features: the key for the width of the embedding, where the architecture has one, for messages.
        identities: how many the data has; None: any number may be right.

    Raises:
        WeightsError: another architecture, and where it differs; or several networks fit.
    """
    own, net = _states(backbone)
    ours = bool(prefixes := _prefixes(own, tensors))
    if not ours:
        prefixes = [prefix for prefix in _prefixes(net, tensors) if not _has_input(tensors, prefix)]
    if not prefixes:
        raise WeightsError(f"{path} is of another architecture: {_misfit(backbone, tensors, features, identities)}")
    prefix = _chosen(prefixes, path)
    inside, network = ("", own) if ours else ("net.", net)
    taken = {f"backbone.{inside}{name}": f"{prefix}{name}" for name in network if f"{prefix}{name}" in tensors}
    outer = prefix.removesuffix("backbone.") if ours else prefix
    if ours:
        taken |= {name: f"{outer}{name}" for name in _OUTPUTS if f"{outer}{name}" in tensors}
    rest = tensors.keys() - taken.values()
    last = "" if ours else _last_layer(tensors, rest, backbone.width)
    if last:
        count = len(tensors[f"{last}.weight"])
        if identities in (None, count):
            taken |= {f"classifier.{kind}": f"{last}.{kind}" for kind in ("weight", "bias")}
        elif features and not backbone.net.num_classes and count in _EMBEDDINGS:
            raise WeightsError(
                f"{path} ends in a layer of {count} values, {last}, which are not the identities of this data. If "
                f"they are its embedding: {features}={count}"
            )
    left = [name for name in tensors if name not in taken.values()]
    for name in left:
        is_bare = name.removeprefix(prefix) == "weight"  # of a margin that was saved beside the network
        if name.startswith(prefix) and not (is_bare or _HEAD.search(name) or (last and name.startswith(f"{last}."))):
            raise WeightsError(f"{path} is of another architecture: {name} is unknown, {list(tensors[name].shape)}")
    notes = [f"the prefix {outer} was taken off its names"] if outer else []
    if left:
        shown = ", ".join(f"{name} {list(tensors[name].shape)}" for name in left[:_SHOWN])
        notes.append(f"left out {shown}" + (f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""))
    if not ours and isinstance(backbone.input, nn.BatchNorm2d):
        notes.append(
            "nothing normalizes its pixels, 0 … 255: give the mean and std that it was trained with, contract=…"
        )
    found = {f"backbone.{name}": value for name, value in own.items()}
    return Renamed(found | {name: tensors[there] for name, there in taken.items()}, notes)


def _states(backbone: Backbone) -> tuple[Tensors, Tensors]:
    """That of a backbone, and that of the network in it."""
    own = backbone.state_dict()
    return own, {name.removeprefix("net."): value for name, value in own.items() if name.startswith("net.")}


def _prefixes(network: Tensors, tensors: Tensors) -> list[str]:
    """What stands before the names of a network of this form, wherever there is one in a file."""
    first = next(name for name in network if not name.endswith(_COUNTER))
    found = [name.removesuffix(first) for name in tensors if name == first or name.endswith(f".{first}")]
    return [
        prefix for prefix in found if all(_fits(name, network[name], tensors.get(prefix + name)) for name in network)
    ]


def _fits(name: str, own: Tensor, other: Tensor | None) -> bool:
    return name.endswith(_COUNTER) if other is None else of_one_form(own, other)


def _has_input(tensors: Tensors, prefix: str) -> bool:
    """Whether this is the network in a backbone of ours that normalizes its pixels in another way."""
    beside = prefix.removesuffix("net.") + "input."
    return prefix.endswith("net.") and any(name.startswith(beside) for name in tensors)


def _chosen(prefixes: Sequence[str], path: Path) -> str:
    preferred = [prefix for prefix in _PREFERRED if prefix in prefixes]
    if len(prefixes) > 1 and not preferred:
        names = ", ".join(prefix.rstrip(".") or "the top" for prefix in prefixes)
        raise WeightsError(f"{path} holds several networks of this architecture, {names}: save one of them alone")
    return [*preferred, *prefixes][0]


def _last_layer(tensors: Tensors, names: Sequence[str] | set[str], width: int) -> str:
    """The one linear layer among ``names`` that takes an embedding of this width; empty: there is none, or several."""
    layers = [
        name.removesuffix(".weight")
        for name in names
        if name.endswith(".weight")
        and tensors[name].shape[1:] == (width,)
        and f"{name.removesuffix('weight')}bias" in names
    ]
    return layers[0] if len(layers) == 1 else ""


def _misfit(backbone: Backbone, tensors: Tensors, features: str | None, identities: int | None) -> str:
    """Where the likeliest network in a file differs from a backbone; with the width to type, if that is all."""
    own, net = _states(backbone)
    hits: Counter[tuple[bool, str]] = Counter()
    for name in tensors:
        parts = name.split(".")
        for i in range(len(parts)):
            for ours, network in ((True, own), (False, net)):
                if ".".join(parts[i:]) in network:
                    hits[ours, "".join(f"{part}." for part in parts[:i])] += 1
    if not hits:
        return differences_of(net, tensors)
    ours, prefix = hits.most_common(1)[0][0]
    network = own if ours else net
    there = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    there = {name: value for name, value in there.items() if name in network or not _HEAD.search(name)}
    said = differences_of(network, there)
    head = getattr(backbone.net, "get_classifier", lambda: None)()
    last = next((name for name, layer in backbone.net.named_modules() if layer is head), None)
    if features and last:
        last = f"net.{last}." if ours else f"{last}."
        body, known = ({n: v for n, v in part.items() if not n.startswith(last)} for part in (network, there))
        if all(_fits(name, value, known.get(name)) for name, value in body.items()):
            weight = there.get(f"{last}weight")
            count = 0 if weight is None else len(weight)
            what = f"It ends in a layer of {count} values" if count else "It has no last layer"
            return f"{said}. {what}: {features}={0 if count == identities else count}"
    return said
