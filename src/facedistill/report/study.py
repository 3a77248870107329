"""The finished runs of a folder, and those that stand in each table of the paper."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from statistics import mean, stdev
from typing import Self

from facedistill.config.groups import READINGS
from facedistill.report import statistics
from facedistill.report.neighbours import EXPERIMENTS
from facedistill.report.on_device import OnDevice
from facedistill.report.statistics import Effect, Result, mean_and_spread
from facedistill.report.tables import NOT_OF_SAMPLES, Row, Table, one_setting, tables
from facedistill.report.variants import words_of_difference
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


@dataclass(frozen=True)
class Variant:
    """A row's cell trained in another setting.

    Attributes:
        words: in which it differs from the row's own runs.
        effect: of the variant over the row's own runs, in the table's metric turned so that more is better.
    """

    row: Row
    words: Sequence[str]
    records: Sequence[Record]
    entry: Entry
    effect: Effect | None


@dataclass(frozen=True)
class FilledTable:
    """A table of the paper with our runs.

    Attributes:
        records: of one setting.
        left_out: runs of its cells with other settings.
        seeds: those that every row should have: of all its records or, where there are none, of the study's.
        sample_scores: reads those of a run by its name; None: it has none.
    """

    table: Table
    records: Sequence[Record]
    left_out: Sequence[Record]
    seeds: Sequence[int]
    sample_scores: Callable[[str], SampleScores | None]

    @cached_property
    def _by_seed(self) -> list[Record]:
        return self._scored(self.records)

    def _scored(self, records: Sequence[Record]) -> list[Record]:
        """Those that have the table's metric, by seed."""
        found = [record for record in records if record.metrics.get(self.table.metric) is not None]
        return sorted(found, key=lambda record: (record.seed, record.name))

    def records_of(self, row: Row) -> list[Record]:
        """The records of a row that have the table's metric, by seed."""
        return [record for record in self._by_seed if row.holds(record)]

    def entry(self, row: Row, metric: str) -> Entry:
        return _entry(row, metric, self.records_of(row))

    def weights(self, row: Row) -> str:
        """What the gradient of each term of the row's target was multiplied by, mean over runs; empty: it has none."""
        found: dict[str, list[float]] = defaultdict(list)
        for record in self.records_of(row):
            for term, weight in record.target_weights.items():
                found[term].append(weight)
        return ", ".join(f"{mean(weights):.3g}" for _, weights in sorted(found.items()))

    def results(self, row: Row) -> dict[int, Result]:
        """What the runs of a row score in the table's metric, by seed."""
        return self._results(self.records_of(row))

    def _results(self, records: Sequence[Record]) -> dict[int, Result]:
        found = {}
        for record in records:
            kept = None if self.table.metric in NOT_OF_SAMPLES else self.sample_scores(record.name)
            value = record.scores[self.table.metric]
            found[record.seed] = Result(value, *((kept.score, kept.identity, self.table.data) if kept else ()))
        return found

    def difference(self, better: Row, than: Row) -> Effect | None:
        """How much better a row is than another, paired by seed; None: they have no seed in common.

        Students share a teacher: it is compared at a seed at which it was not trained, too.
        """
        first, second = self.results(better), self.results(than)
        for row, own, others in ((better, first, second), (than, second, first)):
            if row.is_teacher and own:
                shared = own[min(own)]
                own |= {seed: shared for seed in others if seed not in own}
        return self._better(first, second)

    def _better(self, first: Mapping[int, Result], second: Mapping[int, Result]) -> Effect | None:
        return statistics.difference(*((second, first) if self.table.lower_is_better else (first, second)))

    @cached_property
    def variants(self) -> list[Variant]:
        """The rows' cells in other settings than the table's, where there are runs in its own; by row."""
        found = []
        for row in self.rows:
            own = {record.seed: record for record in reversed(self.records_of(row))}
            first = next(reversed(own.values()))
            groups: dict[tuple[str, ...], list[Record]] = defaultdict(list)
            for record in self._scored(self.left_out):
                if record.cell == row.cell and record.version == first.version:
                    same_seed = own.get(record.seed, first)
                    groups[words_of_difference(record.config, same_seed.config)].append(record)
            for words, records in sorted(groups.items()):
                if words:  # without, only a run that it stands on has another setting
                    effect = self._better(self._results(records), self.results(row))
                    found.append(Variant(row, words, records, _entry(row, self.table.metric, records), effect))
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
            if lacking and not (row.is_teacher and present):  # students share a teacher
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
        neighbours: the experiments of other papers that there are runs of.
        device: the model files that were made of the runs.
    """

    runs_dir: Path
    records: Sequence[Record]
    tables: Sequence[FilledTable]
    unreadable: Mapping[str, str]
    unfinished: Sequence[str]
    neighbours: Sequence[FilledTable] = ()
    device: OnDevice = field(default_factory=OnDevice)

    @classmethod
    def read(cls, runs_dir: Path, data: Sequence[str], alignment: str, judged_by: str = "top1") -> Self:
        """Read a folder of runs; one that does not exist is empty.

        Args:
            data: what stands for CASIA-WebFace and, where there is a second, for MS-Celeb-1M.
            alignment: what stands for CelebA.
            judged_by: ``top1``, or ``pairs``: the accuracy on pairs of strangers judges every table that top-1 would.
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
        readings = {record.config.schedule.reading for record in records}
        usual = next((reading for reading in READINGS if reading in readings), READINGS[0])
        filled = []
        for table in tables(data, alignment):
            if table.metric == "top1":
                table = replace(table, metric=judged_by)
            cells = {row.cell for row in table.rows}
            ours, left_out = one_setting([record for record in records if record.cell in cells], table)
            if ours or table.reading == usual:
                seeds = seeds_of([record for record in ours if not record.config.is_teacher])
                seeds = seeds or seeds_of(ours) or seeds_of(records) or [0]
                filled.append(FilledTable(table, ours, left_out, seeds, sample_scores))
        neighbours = []
        for experiment in EXPERIMENTS:
            ours, left_out = experiment.one_setting(records)
            if ours:
                neighbours.append(FilledTable(experiment, ours, left_out, seeds_of(ours), sample_scores))
        unfinished = [run.name for run in runs if run.state != COMPLETE and not run.damage]
        return cls(runs_dir, records, filled, unreadable, unfinished, neighbours)

    @property
    def hours(self) -> dict[str, float]:
        """Of training, by task and rate."""
        hours: dict[tuple[str, int], float] = defaultdict(float)
        for record in self.records:
            hours[record.cell.task, record.cell.rate] += record.seconds / 3600
        return {f"{task} /{rate}" if rate > 1 else task: hours[task, rate] for task, rate in sorted(hours)}


def _entry(row: Row, metric: str, records: Sequence[Record]) -> Entry:
    return Entry(row.paper.get(metric), [record.scores[metric] for record in records if metric in record.scores])


def seeds_of(records: Sequence[Record]) -> list[int]:
    """Every seed, once."""
    return sorted({record.seed for record in records})
