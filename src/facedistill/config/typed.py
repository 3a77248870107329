"""Values of a JSON document as typed objects; nothing that the document says is believed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import MISSING as NO_VALUE


def typed(kind: Any, value: Any, path: str = "") -> Any:
    """``value`` as ``kind``: a dataclass, a list, a mapping, a union, or a plain type. Unknown keys are passed over.

    Raises:
        ValueError: names the path of keys that is missing or of another type.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if is_dataclass(kind):
        assert isinstance(kind, type)
        return _object(kind, value, path)
    if origin in (Union, UnionType):
        for option in arguments:
            try:
                return typed(option, value, path)
            except ValueError:
                continue
    elif origin in (list, Sequence) and isinstance(value, list):
        return [typed(arguments[0], item, f"{path}[{i}]") for i, item in enumerate(value)]
    elif origin in (dict, Mapping) and isinstance(value, dict):
        return {key: typed(arguments[1], item, f"{path}.{key}") for key, item in value.items()}
    elif kind is NoneType and value is None:
        return None
    elif (kind is float and type(value) in (int, float) and _is_finite(value)) or (
        kind in (str, int, bool) and type(value) is kind
    ):
        return value
    raise ValueError(f"{path} is not {getattr(kind, '__name__', kind)}")


def _object(kind: type[Any], value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{path or kind.__name__} is not an object")
    hints: dict[str, Any] = _hints(kind)
    found = {}
    for field in fields(kind):
        where = f"{path}.{field.name}" if path else field.name
        if field.name in value:
            found[field.name] = typed(hints[field.name], value[field.name], where)
        elif field.default in (MISSING, NO_VALUE) and field.default_factory is MISSING:
            raise ValueError(f"{where} is missing")
    return kind(**found)


_HINTS: dict[type[Any], dict[str, Any]] = {}  # finding them takes longer than all else here


def _hints(kind: type[Any]) -> dict[str, Any]:
    if kind not in _HINTS:
        _HINTS[kind] = get_type_hints(kind)
    return _HINTS[kind]


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
