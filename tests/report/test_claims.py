"""The rule that decides the claims: what it compares, in which direction, and its verdict on given intervals."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from records import record_in

from facedistill.report.claims import CLAIMS, Assessment, Verdict, assess, overall, verdict
from facedistill.report.statistics import Difference
from facedistill.report.study import FilledTable, Study
from facedistill.report.tables import tables

HOLDS, FAILS, UNDECIDED, MISSING = Verdict
COUNTS = {"C1": 2, "C2": 7, "C3": 1, "C4": 4, "C5": 21, "C6": 12, "C7": 13, "K1": 3, "K2": 6}


def interval(low: float, mean: float, high: float, seeds: int = 3) -> Difference:
    return Difference(mean, dict.fromkeys(range(seeds), mean), low, high, "seeds")


@pytest.mark.parametrize(
    ("found", "same", "expected"),
    [
        (None, False, MISSING),
        (interval(0.1, 2.0, 4.0), False, HOLDS),
        (interval(0.1, 0.4, 0.7), False, UNDECIDED),  # above 0, but less than what counts
        (interval(-0.1, 2.0, 4.0), False, UNDECIDED),
        (interval(-3.0, -1.0, 0.4), False, FAILS),
        (interval(-3.0, -1.0, 0.6), False, UNDECIDED),
        (interval(0.1, 2.0, 4.0, seeds=1), False, UNDECIDED),
        (Difference(2.0, {0: 2.0, 1: 2.0}), False, UNDECIDED),
        (interval(-0.4, 0.0, 0.4), True, HOLDS),
        (interval(-0.6, 0.0, 0.4), True, UNDECIDED),
        (interval(0.6, 1.0, 1.4), True, FAILS),
        (interval(-1.4, -1.0, -0.6), True, FAILS),
        (interval(0.1, 1.0, 1.4), True, UNDECIDED),
    ],
)
def test_a_comparison_is_decided_by_effect_and_interval(
    found: Difference | None, same: bool, expected: Verdict
) -> None:
    assert verdict(found, 0.5, same) is expected


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([HOLDS, HOLDS], HOLDS),
        ([HOLDS, UNDECIDED], UNDECIDED),
        ([HOLDS, MISSING], UNDECIDED),
        ([HOLDS, UNDECIDED, FAILS], FAILS),
        ([MISSING, FAILS], FAILS),
        ([MISSING, MISSING], MISSING),
        ([], MISSING),
    ],
)
def test_a_claim_holds_where_all_of_it_does(verdicts: list[Verdict], expected: Verdict) -> None:
    assert overall(verdicts) is expected


def assessed(scores: Mapping[tuple[int, str], float], seeds: int = 3) -> dict[str, Assessment]:
    """Every cell at 50 but for some, by table and label, plus an offset that all cells of a seed share."""
    filled = []
    for table in tables(["synthetic", "synthetic_large"]):
        records = [
            record_in(table, row, seed, scores.get((table.number, row.label), 50.0) + seed / 10)
            for row in table.rows
            for seed in range(seeds)
        ]
        filled.append(FilledTable(table, records, 0, range(seeds), lambda _: None))
    return {claim.name: claim for claim in assess(Study(Path("runs"), [], filled, {}, []))}


def test_every_claim_has_its_comparisons_each_once() -> None:
    found = assessed({})
    assert {name: len(claim.findings) for name, claim in found.items()} == COUNTS
    assert found.keys() == CLAIMS.keys()
    for claim in found.values():
        compared = [(f.comparison.table.data, f.comparison.table.number, f.comparison.label) for f in claim.findings]
        assert len(set(compared)) == len(compared)


def test_where_all_cells_are_equal_only_sameness_holds() -> None:
    for claim in assessed({}).values():
        for finding in claim.findings:
            assert finding.verdict is (HOLDS if finding.comparison.same else FAILS), finding.comparison.label


def test_one_seed_decides_nothing() -> None:
    found = assessed({(1, "Scratch, soft"): 90.0}, seeds=1)
    assert {claim.verdict for claim in found.values()} == {UNDECIDED}
    assert found["C1"].tally == "2 undecided"


def test_without_runs_claims_are_missing() -> None:
    filled = [FilledTable(table, [], 0, [0], lambda _: None) for table in tables(["synthetic"])]
    found = assess(Study(Path("runs"), [], filled, {}, []))
    assert {claim.verdict for claim in found} == {MISSING}


FULL = {(2, f"/{rate} full"): 60.0 for rate in (2, 4, 8)} | {(1, "full, soft"): 60.0}
DISTILL = {
    (number, f"/{rate} Distill, {target}"): 45.0 if number == 3 else 60.0
    for number, rates in ((3, (8,)), (4, (2, 4, 8)), (5, (2, 4, 8)))
    for rate in rates
    for target in ("none", "hidden", "soft")
}
ALIGNED = {
    (3, f"/8 {init}, {target}"): value
    for init in ("Pretrain", "Distill")
    for target, value in (("hidden", 45.0), ("none", 50.0), ("soft", 55.0))
}
TRIPLET = {
    (4, f"/{rate} {init}, {target}"): value
    for rate in (2, 4, 8)
    for init, target, value in (
        ("Pretrain", "hidden", 40.0),
        ("Distill", "hidden", 40.0),
        ("Pretrain", "soft", 60.0),
    )
}
JOINT = {(5, f"/{rate} {init}, soft"): 60.0 for rate in (2, 4, 8) for init in ("Pretrain", "Distill")}


@pytest.mark.parametrize(
    ("scores", "name"),
    [
        ({(1, "Scratch, soft"): 55.0}, "C1"),
        (FULL, "C2"),
        ({(2, "/2 full"): 55.0}, "C3"),
        (ALIGNED, "C4"),
        (DISTILL, "C5"),
        (TRIPLET, "C6"),
        (JOINT, "C7"),
        (FULL, "K1"),
        (FULL, "K2"),
    ],
)
def test_a_claim_holds_where_the_cells_are_as_the_paper_says(
    scores: Mapping[tuple[int, str], float], name: str
) -> None:
    claim = assessed(scores)[name]
    assert claim.verdict is HOLDS, [(f.comparison.label, f.difference, f.verdict) for f in claim.findings]
    turned = {cell: 100.0 - value for cell, value in scores.items()}
    assert assessed(turned)[name].verdict is FAILS


def test_of_an_error_less_is_better_and_the_least_effect_is_a_share() -> None:
    slightly = {(3, f"/8 {init}, hidden"): 49.5 for init in ("Pretrain", "Distill")}  # 1 % of 50
    helped = [f for f in assessed(slightly)["C4"].findings if "hidden" in f.comparison.label]
    assert [round(f.difference.mean, 6) for f in helped if f.difference] == [0.5, 0.5]
    assert {f.verdict for f in helped} == {FAILS}  # there is an effect, and it is less than what counts
    clearly = {(3, f"/8 {init}, hidden"): 48.5 for init in ("Pretrain", "Distill")}
    found = [f.verdict for f in assessed(clearly)["C4"].findings if "hidden" in f.comparison.label]
    assert found == [HOLDS, HOLDS]
