"""What the report reads: the finished runs of a folder, and those of each table of the paper."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facedistill.report.statistics import Result
from facedistill.report.tables import Record, Row, Table, of_one_setting, of_row, tables
from facedistill.runs.folders import COMPLETE, find_runs
from facedistill.runs.sample_scores import SampleScores
from facedistill.runs.verify import improper

# What tables and figures ask of a record.
_PARTS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("config.task.name", "config.task.metric", "config.init.name", "config.target.name"), str),
    **dict.fromkeys(("config.data.name", "config.model.name"), str),
    **dict.fromkeys(("config.rate", "config.seed", "recipe.version", "recipe.threads"), int),
    **dict.fromkeys(("config.schedule", "config.learning_rates", "config.batch_sizes", "config.teacher.model"), dict),
    **dict.fromkeys(("recipe.target", "recipe.task", "recipe.data", "recipe.image", "recipe.optimizer"), dict),
    **dict.fromkeys(("recipe.learning_rates",), list),
    **dict.fromkeys(("recipe.precision",), str),
}


@dataclass(frozen=True)
class Filled:
    """A table of the paper, and the runs that stand in it.

    Attributes:
        records: one setting's.
        left_out: how many runs of its cells are of other settings.
        runs_dir: where the runs are.
        seeds: those that every row should have: of all its records or, where there is none, of the study's.
    """

    table: Table
    records: Sequence[Record]
    left_out: int
    runs_dir: Path
    seeds: Sequence[int]
    _sample_scores: dict[str, SampleScores | None] = field(default_factory=dict, repr=False)

    def sample_scores(self, name: str) -> SampleScores | None:
        """What a run said of every test sample and pair, where it kept it."""
        if name not in self._sample_scores:
            self._sample_scores[name] = SampleScores.read(self.runs_dir / name)
        return self._sample_scores[name]

    def of(self, row: Row) -> list[Record]:
        """The records of a row that have the table's metric, by seed."""
        return of_row(self.records, row, self.table.metric)

    def results(self, row: Row) -> dict[int, Result]:
        """The scores of a row's runs in the table's metric, by seed."""
        found = {}
        for record in self.of(row):
            kept = self.sample_scores(record["name"])
            value = float(record["metrics"][self.table.metric])
            found[record["config"]["seed"]] = Result(record["name"], value, None if kept is None else kept.score)
        return found

    @property
    def missing(self) -> list[str]:
        """The rows without a run, and those that lack one at some of the seeds, with these."""
        found = []
        for row in self.table.rows:
            there = seeds_of(self.of(row))
            lacking = [seed for seed in self.seeds if seed not in there]
            if lacking:
                found.append(row.label + (f" (seed {', '.join(map(str, lacking))})" if there else ""))
        return found

    @property
    def command(self) -> str:
        """Makes what is missing."""
        return self.table.command + ("" if self.seeds == [0] else f" seed={','.join(map(str, self.seeds))}")


@dataclass(frozen=True)
class Study:
    """The finished runs of a folder.

    Attributes:
        records: of all runs that are whole, FitNet's first stages included.
        tables: those of the paper, filled.
        faults: records that can't be read, with the reason, by the name of the run.
        unfinished: names of runs that are being made, or were cut.
    """

    runs_dir: Path
    records: Sequence[Record]
    tables: Sequence[Filled]
    faults: Mapping[str, str]
    unfinished: Sequence[str]

    @classmethod
    def of(cls, runs_dir: Path, data: Sequence[str], alignment: str) -> Study:
        """Read a folder of runs; one that is not there has none.

        Args:
            data: what takes the place of CASIA-WebFace and, where there is a second, of MS-Celeb-1M.
            alignment: what takes the place of CelebA.
        """
        runs = find_runs(runs_dir) if runs_dir.is_dir() else []
        records, faults = [], {}
        for run in runs:
            if run.record is None:
                if (run.directory / "record.json").exists():
                    faults[run.name] = "record.json is no whole JSON object"
            elif bad := improper(run.record) or _lacking(run.record):
                faults[run.name] = f"record.json has no proper {', '.join(bad)}"
            else:
                records.append({**run.record, "name": run.name})
        unfinished = [run.name for run in runs if run.state != COMPLETE]
        filled = []
        for table in tables(data, alignment):
            ours, left_out = of_one_setting(table.of(records), table.data)
            filled.append(Filled(table, ours, left_out, runs_dir, seeds_of(ours) or seeds_of(records) or [0]))
        return cls(runs_dir, records, filled, faults, unfinished)

    @property
    def hours(self) -> dict[str, float]:
        """Of training, by task and rate."""
        hours: dict[tuple[str, int], float] = defaultdict(float)
        for record in self.records:
            config = record["config"]
            hours[config["task"]["name"], config["rate"]] += record["seconds"] / 3600
        return {f"{task} /{rate}" if rate > 1 else task: hours[task, rate] for task, rate in sorted(hours)}


def seeds_of(records: Sequence[Record]) -> list[int]:
    """Every seed, once."""
    return sorted({record["config"]["seed"] for record in records})


def _lacking(record: Record) -> list[str]:
    """The parts that a record lacks, or that are of a wrong type."""
    metrics = {f"metrics.{name}": value for name, value in record["metrics"].items() if value is not None}
    parts = [path for path, kind in _PARTS.items() if not isinstance(_at(record, path), kind)]
    return [*parts, *(path for path, value in metrics.items() if not isinstance(value, int | float))]


def _at(record: Record, path: str) -> Any:
    """The value at a path of keys; None where there is none."""
    found: Any = record
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found
