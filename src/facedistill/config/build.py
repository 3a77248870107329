"""The only place that calls what a ``_target_`` names."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

from facedistill.errors import ConfigError

BUILDABLE = ("facedistill.data.", "facedistill.models.", "facedistill.distill.", "facedistill.tasks.")
DESCRIPTIVE = ("name", "rates", "gives", "compares", "published")  # keys that are for us, not for what a node names


def build(node: Mapping[str, Any], **arguments: Any) -> Any:
    """Call what ``_target_`` names with the node's other keys and ``arguments``; the only place that does.

    Keys that only describe (``DESCRIPTIVE``) are passed where the callee takes them.

    Raises:
        ConfigError: a target outside of the packages in ``BUILDABLE``, an unknown or missing argument.
    """
    factory = find_target(node)
    return factory(**_arguments(factory, node, arguments))


def find_target(node: Mapping[str, Any]) -> Callable[..., Any]:
    """What ``_target_`` names, if it may be called."""
    target = str(node.get("_target_"))
    module_name, _, attribute = target.rpartition(".")
    if not target.startswith(BUILDABLE):
        raise ConfigError(f"_target_: {target} is not allowed; it must start with one of {', '.join(BUILDABLE)}")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"_target_: {target} does not exist ({error})") from error
    # facedistill.data.sources.source.os.system would otherwise be reached through a module's own imports
    if not callable(found) or not str(found.__module__).startswith(BUILDABLE):
        raise ConfigError(f"_target_: {target} is not a class or function of this package")
    return cast(Callable[..., Any], found)


def check_target(node: Mapping[str, Any], **arguments: Any) -> None:
    """Raise ``ConfigError`` where ``build`` would, without building."""
    _arguments(find_target(node), node, arguments)


def _arguments(factory: Callable[..., Any], node: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    signature = inspect.signature(factory)
    given = {key: value for key, value in node.items() if key != "_target_"}
    for described in DESCRIPTIVE:
        if described not in signature.parameters:
            given.pop(described, None)
    try:
        signature.bind(**{**given, **more})
    except TypeError as error:
        known = ", ".join(signature.parameters)
        raise ConfigError(f"{node['_target_']}: {error}; it takes {known}") from error
    return {**given, **more}
