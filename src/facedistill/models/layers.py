"""Weights for a network from another of its family that has more blocks: it keeps some of these, as they are."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from facedistill.errors import WeightsError
from facedistill.models.weights import differences_of, of_one_form

Tree = dict[str, Any]  # of the parts of a network by name, with tensors as leaves


def kept_layers(own: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values for all weights of a network, by name, from those of one with as many blocks in every list, or more.

    Of N blocks the network keeps as many as it has, n: the first, the last and others at equal distances, each the
    nearest there that has the same weights as its own block. A single one is the last.

    Raises:
        WeightsError: the other is no network of its family, or has fewer blocks.
    """
    kept = dict(_leaves(_kept(_tree(own), _tree(others))))
    if differences := differences_of(own, kept):
        raise WeightsError(f"it is no network of the same family with as many blocks or more: {differences}")
    return kept


def _kept(own: Tree, other: Tree) -> Tree:
    kept: Tree = {}
    blocks = [name for name in other if name.isdigit() and isinstance(other[name], dict)]
    count = sum(name.isdigit() for name in own)
    for name, part in own.items():
        source: str | None = name
        if name.isdigit() and count < len(blocks):
            place = int(name) / (count - 1) * (len(blocks) - 1) if count > 1 else len(blocks) - 1
            alike = [block for block in blocks if _of_one_form(part, other[block])]
            source = min(alike, key=lambda block: abs(int(block) - place), default=None)
        if source not in other:
            continue
        found = other[source]
        both = isinstance(part, dict) and isinstance(found, dict)
        kept[name] = _kept(part, found) if both else found
    return kept


def _of_one_form(part: Any, other: Any) -> bool:
    one, two = dict(_leaves({"": part})), dict(_leaves({"": other}))
    return one.keys() == two.keys() and all(of_one_form(one[name], two[name]) for name in one)


def _tree(tensors: Mapping[str, Tensor]) -> Tree:
    tree: Tree = {}
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        part = tree
        for step in path:
            part = part.setdefault(step, {})
        part[last] = tensor
    return tree


def _leaves(tree: Tree) -> list[tuple[str, Tensor]]:
    leaves = []
    for name, part in tree.items():
        if isinstance(part, dict):
            leaves += [(f"{name}.{path}", tensor) for path, tensor in _leaves(part)]
        else:
            leaves.append((name, part))
    return leaves
