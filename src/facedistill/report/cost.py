"""What a table cost to train."""

from collections.abc import Sequence

from facedistill.report.study import FilledTable, Study
from facedistill.runs.record import Record


def runs_behind(study: Study, filled: FilledTable) -> Sequence[Record]:
    """The runs that stand in a table and all that they stand on, each once."""
    by_identity = {record.identity: record for record in study.records}
    found: dict[str, Record] = {}
    waiting = list(filled.records)
    while waiting:
        record = waiting.pop()
        if record.identity not in found:
            found[record.identity] = record
            parents: dict[str, str] = record.recipe["parents"]
            waiting += [by_identity[identity] for identity in parents.values() if identity in by_identity]
    return list(found.values())


def hours_of(records: Sequence[Record]) -> float:
    """Of training."""
    return sum(record.seconds for record in records) / 3600
