"""The paper's claims C1 to C7 and two controls, and the rule that decides each; it was fixed before any result.

A claim is a list of comparisons of two cells. Each is decided by the paired difference over seeds and its 95 %
interval (see ``statistics.difference``), with the sign of errors reversed, so that more is better.

- *better* holds where the interval is above 0 and the mean is at least the least effect that counts: 0.5 points of
  top-1 (the paper calls less than one a gain), or 2 % of the error compared with. It does not hold where the whole
  interval is below that effect.
- *same* holds where the whole interval is within the least effect of 0. It does not hold where the whole interval is
  beyond it on one side.
- Everything else is undecided, and so is everything with fewer than two seeds, because training a cell again can move
  its score by more than the interval over test samples.

A claim holds where all of its comparisons do, does not hold where one does not, and is undecided otherwise.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from statistics import mean

from facedistill.report.statistics import Difference, Result, difference
from facedistill.report.study import FilledTable, Study
from facedistill.report.tables import INITS, RATES, TARGETS, Row, Table

LEAST_POINTS = 0.5  # of top-1
LEAST_SHARE = 0.02  # of an error
LEAST_SEEDS = 2


class Verdict(StrEnum):
    """The outcome of a comparison or of a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    UNDECIDED = "undecided"
    MISSING = "not run"


@dataclass(frozen=True)
class Comparison:
    """That ``better`` is better than ``than`` in a table's metric or, where ``same``, no different."""

    table: Table
    better: Row
    than: Row
    same: bool = False

    @property
    def label(self) -> str:
        return f"{self.better.label} {'=' if self.same else '>'} {self.than.label}"


@dataclass(frozen=True)
class Finding:
    """A comparison and its outcome: the difference in favour of ``better``."""

    comparison: Comparison
    difference: Difference | None
    verdict: Verdict


@dataclass(frozen=True)
class Assessment:
    """A claim and its outcome."""

    name: str
    claim: str
    verdict: Verdict
    findings: Sequence[Finding]

    @property
    def tally(self) -> str:
        """How many comparisons have which verdict, in words."""
        found = [finding.verdict for finding in self.findings]
        return ", ".join(f"{found.count(verdict)} {verdict}" for verdict in Verdict if verdict in found)


CLAIMS = {
    "C1": "From scratch, soft is the best target for classification (table 1)",
    "C2": "The full initialization beats Scratch and FitNet, at every rate (tables 1 and 2)",
    "C3": "A student can beat its teacher: /2 on CASIA-WebFace (table 2)",
    "C4": "For alignment the hidden target helps and the soft target hurts, from both initializations (table 3)",
    "C5": "Distill beats Pretrain everywhere (tables 3 to 5)",
    "C6": "With the triplet loss alone the hidden target hurts, and the soft target changes nothing from Distill and "
    "helps from Pretrain (table 4)",
    "C7": "With the softmax loss added soft is the best target, and /2 beats its teacher (table 5)",
    "K1": "Control: the full initialization beats Scratch on the same whole schedule (table 2)",
    "K2": "Control: a distilled student from full beats the student alone, W_S0, that it starts from (table 2)",
}


def assess(study: Study) -> list[Assessment]:
    """The outcome of every claim and control."""
    found = []
    for name, claim in CLAIMS.items():
        findings = [compare(filled, pair) for filled in study.tables for pair in _comparisons(name, filled.table)]
        found.append(Assessment(name, claim, overall([finding.verdict for finding in findings]), findings))
    return found


def compare(filled: FilledTable, comparison: Comparison) -> Finding:
    """Compare two cells of a table."""
    first, second = filled.results(comparison.better), filled.results(comparison.than)
    least = least_effect(second, comparison.table.lower_is_better)
    if comparison.table.lower_is_better:
        first, second = second, first
    found = difference(first, second)
    return Finding(comparison, found, verdict(found, least, comparison.same))


def least_effect(than: Mapping[int, Result], lower_is_better: bool) -> float:
    """The least effect that counts, in points of the metric."""
    if lower_is_better and than:
        return LEAST_SHARE * mean(result.value for result in than.values())
    return LEAST_POINTS


def verdict(found: Difference | None, least: float, same: bool = False) -> Verdict:
    """Of a difference in favour of what is claimed, by the rule above; ``least``: the least effect that counts."""
    if found is None:
        return Verdict.MISSING
    if len(found.by_seed) < LEAST_SEEDS or found.low is None or found.high is None:
        return Verdict.UNDECIDED
    if same:
        holds, fails = -least <= found.low and found.high <= least, found.low > least or found.high < -least
    else:
        holds, fails = found.low > 0 and found.mean >= least, found.high < least
    return Verdict.HOLDS if holds else Verdict.FAILS if fails else Verdict.UNDECIDED


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """Of a claim, from those of its comparisons."""
    found = set(verdicts)
    if Verdict.FAILS in found:
        return Verdict.FAILS
    if len(found) < 2:
        return next(iter(found), Verdict.MISSING)
    return Verdict.UNDECIDED


def _comparisons(name: str, table: Table) -> Iterator[Comparison]:
    """What a claim compares in a table."""
    row, first = table.row, table.stands_for == "CASIA-WebFace"
    match name, table.number:
        case "C1", 1:
            for target in ("hidden", "logits"):
                yield Comparison(table, row(8, "scratch", "soft"), row(8, "scratch", target))
        case "C2", 1:
            yield Comparison(table, row(8, "full", "soft"), row(8, "fitnet", "soft"))
        case "C2", 2:
            for rate in RATES:
                yield Comparison(table, row(rate, "full", "soft"), row(rate, "scratch", "soft"))
        case "C3", 2 if first:
            yield Comparison(table, row(2, "full", "soft"), table.teacher)
        case "C4", 3:
            for init in INITS:
                yield Comparison(table, row(8, init, "hidden"), row(8, init, "none"))
                yield Comparison(table, row(8, init, "none"), row(8, init, "soft"))
        case "C5", 3 | 4 | 5:
            for rate, target in product((8,) if table.number == 3 else RATES, TARGETS):
                yield Comparison(table, row(rate, "distill", target), row(rate, "pretrain", target))
        case "C6", 4:
            for rate in RATES:
                for init in INITS:
                    yield Comparison(table, row(rate, init, "none"), row(rate, init, "hidden"))
                yield Comparison(table, row(rate, "distill", "soft"), row(rate, "distill", "none"), same=True)
                yield Comparison(table, row(rate, "pretrain", "soft"), row(rate, "pretrain", "none"))
        case "C7", 5:
            for rate, init, target in product(RATES, INITS, ("none", "hidden")):
                yield Comparison(table, row(rate, init, "soft"), row(rate, init, target))
            yield Comparison(table, row(2, "distill", "soft"), table.teacher)
        case "K1", 2 if first:
            for rate in RATES:
                yield Comparison(table, row(rate, "full", "soft"), row(rate, "scratch_whole", "soft"))
        case "K2", 2:
            for rate in RATES:
                yield Comparison(table, row(rate, "full", "soft"), row(rate, "scratch", "none"))
