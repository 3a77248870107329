"""The choices of every configuration group: the yaml files of this project and of packages that extend it."""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

_PACKAGE = Path(__file__).parents[1]
# In a wheel conf/ lies inside the package, in a checkout at its top; experiments/ is linked into it.
CONFIG_DIR = (_PACKAGE if (_PACKAGE / "conf").is_dir() else _PACKAGE.parents[1]) / "conf"


@cache
def config_dirs() -> tuple[Path, ...]:
    """``conf/`` of this project, then those that installed packages declare (entry points ``facedistill.conf``)."""
    specs = [find_spec(point.value) for point in entry_points(group="facedistill.conf")]
    added = [Path(folder) for spec in specs if spec for folder in spec.submodule_search_locations or ()]
    return CONFIG_DIR, *added


@cache
def nodes(group: str) -> dict[str, dict[str, Any]]:
    """The yaml of every choice of a group, with those of the same group that its defaults list names."""
    files = files_of(group)

    def read(name: str) -> dict[str, Any]:
        node: dict[str, Any] = yaml.safe_load(files[name].read_text()) or {}
        bases = [base for base in node.get("defaults", ()) if isinstance(base, str) and base in files]
        return {key: value for part in (*map(read, bases), node) for key, value in part.items()}

    return {name: read(name) for name in sorted(files)}


def files_of(group: str) -> dict[str, Path]:
    """The choices of a group by name."""
    return {file.stem: file for folder in config_dirs() for file in sorted((folder / group).glob("*.yaml"))}


def serves(data: Mapping[str, Any], needs: str) -> bool:
    """Whether a node of conf/data gives what a task needs.

    What has identities or landmarks has ``faces``, too, and what has landmarks has ``eyes``.
    """
    gives = data.get("gives", ())
    return needs in gives or (needs == "faces" and len(gives) > 0) or (needs == "eyes" and "landmarks" in gives)


def data_with(*what: str) -> list[str]:
    """The data sources that give all of these: ``identities``, ``landmarks``, ``eyes`` or ``faces``."""
    return [name for name, node in nodes("data").items() if all(serves(node, needs) for needs in what)]


def initializations_of(task: str) -> list[str]:
    """The initializations that may start a task."""
    return [name for name, node in nodes("init").items() if task in node["tasks"]]
