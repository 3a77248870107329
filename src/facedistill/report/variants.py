"""In which words two settings differ."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from fnmatch import fnmatch
from typing import Any

from facedistill.config.schema import Config
from facedistill.runs.identity import EXCLUDED

_MISSING = object()
# Seeds are no settings, and what a row is makes no difference within it.
_NO_SETTING = {"seed", *EXCLUDED}


def words_of_difference(config: Config, other: Config) -> tuple[str, ...]:
    """What would have to be typed to have ``config`` where ``other`` stands; only what changes the result of a run."""
    ours, theirs = dict(_leaves(asdict(config))), dict(_leaves(asdict(other)))
    return tuple(
        f"{key}={_typed(value)}"
        for key, value in sorted(ours.items())
        if value != theirs.get(key, _MISSING) and not any(fnmatch(key, pattern) for pattern in _NO_SETTING)
    )


def leaf(config: Config, key: str) -> object:
    """The value at a dotted key; None where there is none."""
    node: object = asdict(config)
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _leaves(node: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by its dotted key."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _typed(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(_typed, value))}]"
    return str(value)
