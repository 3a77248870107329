"""Whether a comparison about targets means anything: whether their teachers are better than the student alone."""

from collections.abc import Sequence
from statistics import mean

from facedistill.report.comparisons import FIRST_SET, Comparison
from facedistill.report.rule import LEAST_SEEDS
from facedistill.report.study import FilledTable
from facedistill.report.tables import METRICS, Row


def why_void(tables: Sequence[FilledTable], filled: FilledTable, comparison: Comparison) -> str:
    """Why a comparison about targets is void, and what would mend it; empty: it isn't, or nobody can know.

    A teacher from which there is something to learn beats the student alone: its lead has an interval above 0.
    """
    if (comparison.better.init, comparison.than.init) == ("distill", "undistilled"):
        recognition = _recognition(tables, filled.table.reading)
        if recognition is not None and (reason := _lacks_a_lead(recognition, comparison.better.rate, comparison)):
            return reason
    for row in (comparison.better, comparison.than):
        if row.target == "none" or row.is_teacher:
            continue
        own = row.target != "soft" or filled.table.number not in (3, 4)  # else the recognizer teaches
        taught = filled if own else _recognition(tables, filled.table.reading)
        if taught is not None and (reason := _lacks_a_lead(taught, row.rate, comparison)):
            return reason
    return ""


def _recognition(tables: Sequence[FilledTable], reading: str) -> FilledTable | None:
    """Table 2 on the first set, whose teacher is the recognizer."""
    return next(
        (
            one
            for one in tables
            if (one.table.number, one.table.stands_for, one.table.reading) == (2, FIRST_SET, reading)
        ),
        None,
    )


def _lacks_a_lead(filled: FilledTable, rate: int, comparison: Comparison) -> str:
    table, teacher = filled.table, filled.table.teacher
    alone = _alone(filled, rate)
    if filled.table.number in (1, 2) and alone == comparison.than:
        return ""  # void wherever W_S0 happens to be good, and counted where it is bad, it would look like an effect
    lead = None if alone is None else filled.difference(teacher, alone)
    if alone is None or lead is None or lead.low is None or len(lead.by_seed) < LEAST_SEEDS or lead.low > 0:
        return ""
    scores = [mean(filled.entry(row, table.metric).ours) for row in (teacher, alone)]
    return (
        f"the teacher of table {table.number} has {scores[0]:.2f} ({METRICS[table.metric]}), the student alone "
        f"({alone.label}) {scores[1]:.2f}: it leads by {lead.mean:.2f} ({lead.low:.2f} to {lead.high:.2f}), so it is "
        "not shown to know more. Train the teacher longer (schedule.epochs=…) or on more images"
    )


def _alone(filled: FilledTable, rate: int) -> Row | None:
    """The student that learns from nobody, trained as well as we know how; None: there is no run of it."""
    rows = [row for row in filled.students if row.rate == rate and row.target == "none"]
    if filled.table.number in (1, 2):
        whole = [row for row in rows if row.init == "scratch_whole"]
        return next(iter(whole or rows), None)
    rows = [row for row in rows if row.init in ("pretrain", "scratch")]
    best = min if filled.table.lower_is_better else max
    return best(rows, key=lambda row: mean(filled.entry(row, filled.table.metric).ours), default=None)
