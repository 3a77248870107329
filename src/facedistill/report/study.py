"""The finished runs of a folder, and those that stand in each table of the paper."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from statistics import mean, stdev
from typing import Self

from facedistill.config.schema import Cell
from facedistill.report.statistics import Result, mean_and_spread
from facedistill.report.tables import Row, Table, one_setting, tables
from facedistill.runs.folders import COMPLETE, find_runs
from facedistill.runs.record import Record
from facedistill.runs.sample_scores import SampleScores


@dataclass(frozen=True)
class Entry:
    """A metric in a row of a table: the number that the paper prints, and those of our runs."""

    paper: float | None
    ours: Sequence[float]

    @property
    def text(self) -> str:
        return mean_and_spread(self.ours)

    @property
    def mean(self) -> float | None:
        return mean(self.ours) if self.ours else None

    @property
    def deviation(self) -> float | None:
        return stdev(self.ours) if len(self.ours) > 1 else None

    @property
    def difference(self) -> float | None:
        return None if self.paper is None or not self.ours else mean(self.ours) - self.paper


@dataclass(frozen=True)
class FilledTable:
    """A table of the paper with our runs.

    Attributes:
        records: of one setting.
        left_out: how many runs of its cells have other settings.
        seeds: those that every row should have: of all its records or, where there are none, of the study's.
        sample_scores: reads those of a run by its name; None: it has none.
    """

    table: Table
    records: Sequence[Record]
    left_out: int
    seeds: Sequence[int]
    sample_scores: Callable[[str], SampleScores | None]

    @cached_property
    def _by_cell(self) -> Mapping[Cell, list[Record]]:
        found = defaultdict(list)
        for record in sorted(self.records, key=lambda record: (record.seed, record.name)):
            if record.metrics.get(self.table.metric) is not None:
                found[record.cell].append(record)
        return found

    def records_of(self, row: Row) -> list[Record]:
        """The records of a row that have the table's metric, by seed."""
        return self._by_cell.get(row.cell, [])

    def entry(self, row: Row, metric: str) -> Entry:
        scores = [record.scores for record in self.records_of(row)]
        return Entry(row.paper.get(metric), [score[metric] for score in scores if metric in score])

    def results(self, row: Row) -> dict[int, Result]:
        """What the runs of a row score in the table's metric, by seed."""
        found = {}
        for record in self.records_of(row):
            kept = self.sample_scores(record.name)
            found[record.seed] = Result(record.scores[self.table.metric], None if kept is None else kept.score)
        return found

    @property
    def rows(self) -> list[Row]:
        """The rows that have runs."""
        return [row for row in self.table.rows if self.records_of(row)]

    @property
    def students(self) -> list[Row]:
        """The rows of students that have runs."""
        return [row for row in self.rows if not row.is_teacher]

    @property
    def missing(self) -> list[str]:
        """The rows without a run, and those that lack one at some of the seeds, with these."""
        found = []
        for row in self.table.rows:
            present = seeds_of(self.records_of(row))
            lacking = [str(seed) for seed in self.seeds if seed not in present]
            if lacking:
                found.append(row.label + (f" (seed {', '.join(lacking)})" if present else ""))
        return found

    @property
    def command(self) -> str:
        """Trains what is missing."""
        return self.table.command + ("" if self.seeds == [0] else f" seed={','.join(map(str, self.seeds))}")


@dataclass(frozen=True)
class Study:
    """The runs of a folder.

    Attributes:
        records: of all finished runs, FitNet's first stages included.
        unreadable: why a run is left out: its record can't be read, or it is a copy; by its name.
        unfinished: names of runs that are running, or were interrupted.
    """

    runs_dir: Path
    records: Sequence[Record]
    tables: Sequence[FilledTable]
    unreadable: Mapping[str, str]
    unfinished: Sequence[str]

    @classmethod
    def read(cls, runs_dir: Path, data: Sequence[str], alignment: str) -> Self:
        """Read a folder of runs; one that does not exist is empty.

        Args:
            data: what stands for CASIA-WebFace and, where there is a second, for MS-Celeb-1M.
            alignment: what stands for CelebA.
        """
        runs = find_runs(runs_dir) if runs_dir.is_dir() else []
        unreadable = {run.name: run.damage for run in runs if run.damage}
        found: dict[str, Record] = {}
        for run in sorted(runs, key=lambda run: run.record is not None and run.name != run.record.name):
            if run.record is not None:
                record = replace(run.record, name=run.name)  # it may be renamed
                if found.setdefault(record.identity, record) is not record:
                    unreadable[run.name] = f"it is a copy of {found[record.identity].name}"
        records = list(found.values())
        sample_scores = cache(lambda name: SampleScores.read(runs_dir / name))
        filled = []
        for table in tables(data, alignment):
            cells = {row.cell for row in table.rows}
            ours, left_out = one_setting([record for record in records if record.cell in cells], table.data)
            filled.append(FilledTable(table, ours, left_out, seeds_of(ours) or seeds_of(records) or [0], sample_scores))
        unfinished = [run.name for run in runs if run.state != COMPLETE and not run.damage]
        return cls(runs_dir, records, filled, unreadable, unfinished)

    @property
    def hours(self) -> dict[str, float]:
        """Of training, by task and rate."""
        hours: dict[tuple[str, int], float] = defaultdict(float)
        for record in self.records:
            hours[record.cell.task, record.cell.rate] += record.seconds / 3600
        return {f"{task} /{rate}" if rate > 1 else task: hours[task, rate] for task, rate in sorted(hours)}


def seeds_of(records: Sequence[Record]) -> list[int]:
    """Every seed, once."""
    return sorted({record.seed for record in records})
