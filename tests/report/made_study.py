"""Studies that nobody trained: scores by table and row, without records and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from facedistill.config.groups import READINGS
from facedistill.report.statistics import Result
from facedistill.report.study import Entry, FilledTable, Study
from facedistill.report.tables import Row, Table, tables
from facedistill.runs.record import Record

Key = tuple[str, str]  # of a row: the table's file name and the row's label
TABLES = tables(["synthetic", "synthetic_large"])
USUAL = [table for table in TABLES if table.reading == READINGS[0]]


@dataclass(frozen=True)
class Made(FilledTable):
    """A table whose rows have the scores that they are given, by seed."""

    scores: Mapping[Key, Mapping[int, float]] = field(default_factory=dict)

    def records_of(self, row: Row) -> list[Record]:
        return [None for _ in self.results(row)]  # type: ignore[misc]

    def results(self, row: Row) -> dict[int, Result]:
        given = self.scores.get((self.table.file_name, row.label), {})
        return {seed: Result(score) for seed, score in given.items()}

    def entry(self, row: Row, metric: str) -> Entry:
        return Entry(row.paper.get(metric), [result.value for result in self.results(row).values()])


def made_study(scores: Mapping[Key, Mapping[int, float]], of: Sequence[Table] = USUAL) -> Study:
    filled = [Made(table, [], [], [0], lambda _: None, scores) for table in of]
    return Study(Path("runs"), [], filled, {}, [])


def with_score(score: float, seeds: Sequence[int], of: Sequence[Table] = USUAL) -> dict[Key, dict[int, float]]:
    """Every row at one score."""
    return {(table.file_name, row.label): dict.fromkeys(seeds, score) for table in of for row in table.rows}
