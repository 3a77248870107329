"""A sweeper whose sweep is a union of grids: a table of the paper is rarely one full grid."""

# No `from __future__ import annotations`: Hydra runs this file before it is in sys.modules, and the
# dataclass below could not resolve them.
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from facedistill.system.files import disk_of
from hydra_plugins.facedistill_hydra.launcher import LocalLauncher


@dataclass
class GridsSweeperConf:
    """``grids``: by the name of the group, each a mapping from key to sweep (``rate: 2,4,8``).

    None: one grid, the command line's.
    """

    _target_: str = "hydra_plugins.facedistill_hydra.sweeper.GridsSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None
    grids: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


class GridsSweeper(BasicSweeper):  # type: ignore[misc, unused-ignore]
    """Every grid times the sweep of the command line, whose words win over a grid's.

    Each cell once, in the first group that has it: several tables are one sweep.
    """

    def __init__(
        self,
        max_batch_size: int | None,
        params: dict[str, str] | None = None,
        grids: Mapping[str, Sequence[Mapping[str, Any]]] = MappingProxyType({}),
    ) -> None:
        super().__init__(max_batch_size, params)
        named = [{"group": group, **grid} for group, union in grids.items() for grid in union]
        self.grids: list[dict[str, Any]] = named or [{}]

    def split_arguments(  # type: ignore[override]
        self, overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """The cells as lists of words; every cell also learns how many there are."""
        from facedistill.errors import ConfigError  # late: see launcher.py

        parser = OverridesParser.create()
        cells: dict[tuple[str, ...], list[str]] = {}
        for grid in self.grids:
            words = parser.parse_overrides([f"{key}={value}" for key, value in grid.items()])
            for cell in BasicSweeper.split_arguments(words + overrides, None)[0]:
                cells.setdefault(tuple(sorted(word for word in cell if not word.startswith("group="))), cell)
        if not cells:
            raise ConfigError(
                "the sweep is empty: glob(…) is for groups, as init=glob(s*); else rate=2,4 or range(0,3)"
            )
        counted = [[*cell, f"cells={len(cells)}"] for cell in cells.values()]
        return list(self.split_overrides_to_chunks(counted, max_batch_size))

    def sweep(self, arguments: list[str]) -> Any:
        """Hydra writes ``multirun.yaml`` into the folder of the runs before it sweeps."""
        assert self.config is not None
        with disk_of("the runs", "runs_dir=FOLDER", Path(self.config.hydra.sweep.dir)):
            return super().sweep(arguments)

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose every cell before any is launched, unless the launcher does: it is a third of the time of a plan."""
        if not isinstance(self.launcher, LocalLauncher):
            super().validate_batch_is_legal(batch)


ConfigStore.instance().store(group="hydra/sweeper", name="grids", node=GridsSweeperConf, provider="facedistill")
