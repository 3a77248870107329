"""A sweeper whose sweep is a union of grids: a table of the paper is rarely one full grid."""

# No `from __future__ import annotations`: Hydra runs this file before it is in sys.modules, and the
# dataclass below could not resolve them.
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override


@dataclass
class GridsSweeperConf:
    """``grids``: each a mapping from key to sweep (``rate: 2,4,8``); none: one grid, the command line's."""

    _target_: str = "hydra_plugins.facedistill_hydra.sweeper.GridsSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None
    grids: list[dict[str, Any]] = field(default_factory=list)


class GridsSweeper(BasicSweeper):  # type: ignore[misc, unused-ignore]
    """Every grid times the sweep of the command line, whose words win over a grid's. Each cell once."""

    def __init__(
        self,
        max_batch_size: int | None,
        params: dict[str, str] | None = None,
        grids: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(max_batch_size, params)
        self.grids = list(grids) or [{}]

    def split_arguments(  # type: ignore[override]
        self, overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """The cells as lists of words; every cell also learns how many there are."""
        parser = OverridesParser.create()
        cells: dict[tuple[str, ...], list[str]] = {}
        for grid in self.grids:
            words = parser.parse_overrides([f"{key}={value}" for key, value in grid.items()])
            for cell in BasicSweeper.split_arguments(words + overrides, None)[0]:
                cells.setdefault(tuple(sorted(cell)), cell)
        counted = [[*cell, f"cells={len(cells)}"] for cell in cells.values()]
        return list(self.split_overrides_to_chunks(counted, max_batch_size))


ConfigStore.instance().store(group="hydra/sweeper", name="grids", node=GridsSweeperConf, provider="facedistill")
