"""The cells of an experiment, in the very words that a sweep gives them."""

from functools import cache
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins

from facedistill.config.choices import CONFIG_DIR


def grids_of(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((CONFIG_DIR / "experiments" / f"{name}.yaml").read_text())
    grids: dict[str, Any] = content["hydra"]["sweeper"]["grids"]
    return grids


@cache
def cells_of(name: str) -> list[list[str]]:
    unions = grids_of(name)
    grids = {group: [{k: str(v) for k, v in grid.items()} for grid in union] for group, union in unions.items()}
    overrides = OverridesParser.create().parse_overrides([f"experiments={name}"])
    Plugins.instance()  # loads our module anew, so it is imported after that
    from hydra_plugins.facedistill_hydra.sweeper import GridsSweeper

    (cells,) = GridsSweeper(None, None, grids).split_arguments(overrides, None)
    return cells
