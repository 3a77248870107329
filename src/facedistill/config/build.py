"""The registry: a node of the configuration says its ``type``, a short name; what it names is found here and built.

The types of this package are found by their file: a target with ``type: soft`` is the one class in
``facedistill/distill/targets/soft.py``. An installed package adds types of its own by entry points of the group
``facedistill.KIND`` (docs/extending.md). Nothing else that a configuration names is ever imported or called.
"""

import inspect
import re
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Any, NamedTuple

from facedistill.errors import ConfigError


class _Kind(NamedTuple):
    """Where the types of a kind are, and the class that all of them are subclasses of."""

    package: str
    base_module: str
    base: str


KINDS = {
    "source": _Kind("facedistill.data.sources", "facedistill.data.sources.source", "Source"),
    "model": _Kind("facedistill.models.families", "facedistill.models.backbone", "Backbone"),
    "target": _Kind("facedistill.distill.targets", "facedistill.distill.target", "Target"),
    "format": _Kind("facedistill.export.formats", "facedistill.export.format", "Format"),
    "task": _Kind("facedistill.tasks", "facedistill.tasks.base", "ScheduledModule"),
}
# Keys that describe a node to people and to the plan; a type gets them only where it takes them.
DESCRIPTIVE = ("name", "rates", "gives", "published", "compares", "needs", "from")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


def build(kind: str, node: Mapping[str, Any], **arguments: Any) -> Any:
    """An instance of what a node names, from its other keys and ``arguments``. Raises as ``check_buildable``."""
    factory = find_type(kind, node)
    return factory(**_arguments(factory, node, arguments))


def build_on_meta(kind: str, node: Mapping[str, Any], **arguments: Any) -> Any:
    """As ``build``, without memory for weights: to see whether it can be built, and how large it is."""
    import torch  # seconds, and a plan of what is complete builds nothing

    with torch.device("meta"):
        return build(kind, node, **arguments)


def check_buildable(kind: str, node: Mapping[str, Any], **arguments: Any) -> None:
    """Raise ``ConfigError`` where there is no such type, or an argument is unknown or missing."""
    _arguments(find_type(kind, node), node, arguments)


def check_term(key: str, term: Mapping[str, Any], gets_labels: bool, **widths: int) -> None:
    """Raise ``ConfigError``, by its ``key``, for a term of a target that can't be built or gets what it does not take.

    ``gets_labels``: whether its ``forward`` is given those of the batch.
    """
    try:
        target = build_on_meta("target", term, **widths)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error
    takes_labels = "labels" in inspect.signature(target.forward).parameters
    if takes_labels and not gets_labels:
        raise ConfigError(f"{key} takes labels: +{key}.needs=labels")
    if gets_labels and not takes_labels:
        raise ConfigError(f"{key} takes no labels: leave out {key}.needs")


def find_type(kind: str, node: Mapping[str, Any]) -> type[Any]:
    """The class that a node names. Raises ``ConfigError`` where there is no such type, and says which there are."""
    if "_target_" in node:
        raise ConfigError(
            f"_target_={node['_target_']} is not called: a configuration names its {kind} by type=NAME. To add types "
            "of your own, see docs/extending.md"
        )
    name = str(node.get("type"))
    found = _of_package(kind, name) if _NAME.fullmatch(name) else None
    added = _entry_points(kind)
    if found is None and name not in added:
        names = [module.name for module in iter_modules(import_module(KINDS[kind].package).__path__)]
        choices = sorted([*(other for other in names if _of_package(kind, other)), *added])
        raise ConfigError(f"type={name} is not a registered {kind}. Choices: {', '.join(choices)}")
    if found is not None and name in added:
        raise ConfigError(f"type={name}: {added[name].value} takes the name of a {kind} of this package; rename it")
    if found is not None:
        return found
    try:
        loaded = added[name].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"type={name}: {added[name].value} can't be imported ({error})") from error
    if not (inspect.isclass(loaded) and issubclass(loaded, _base(kind))):
        raise ConfigError(f"type={name}: {added[name].value} is not a subclass of {KINDS[kind].base}")
    return loaded


@cache
def _entry_points(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"facedistill.{kind}")}


def _base(kind: str) -> type[Any]:
    base: type[Any] = getattr(import_module(KINDS[kind].base_module), KINDS[kind].base)
    return base


@cache
def _of_package(kind: str, name: str) -> type[Any] | None:
    module_name = f"{KINDS[kind].package}.{name}"
    if find_spec(module_name) is None:
        return None
    base = _base(kind)
    classes = [
        found
        for found in vars(import_module(module_name)).values()
        if inspect.isclass(found) and issubclass(found, base) and found.__module__ == module_name
    ]
    return classes[0] if len(classes) == 1 and classes[0] is not base and not inspect.isabstract(classes[0]) else None


def _arguments(factory: type[Any], node: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    signature = inspect.signature(factory)
    given = {
        key: value
        for key, value in node.items()
        if key != "type" and (key not in DESCRIPTIVE or key in signature.parameters)
    }
    try:
        signature.bind(**{**given, **more})
    except TypeError as error:
        raise ConfigError(f"type={node['type']}: {error}; it takes {', '.join(signature.parameters)}") from error
    return {**given, **more}
