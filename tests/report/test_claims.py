"""What the claims compare, in which direction, which comparisons are void, and what is said of the answers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from made_study import TABLES, USUAL, Key, made_study, with_score

from facedistill.report.claims import Assessment, assess, expected_wrong
from facedistill.report.comparisons import CLAIMS
from facedistill.report.rule import Answer

REPRODUCED, CONTRADICTED, UNDECIDED, VOID, NOT_RUN = Answer
PARTS = {
    **{"C1": [1, 1], "C2": [6, 1], "C3": [1], "C4": [2, 2], "C5": [3, 9, 9], "C6": [6, 3, 3], "C7": [6, 6, 1]},
    **{"K1": [3], "K2": [6], "K3": [3], "K4": [3, 9, 9], "K5": [1, 3, 3]},
}


def assessed(changes: Mapping[tuple[int, str], float], seeds: int = 3, teachers: float = 90.0) -> dict[str, Assessment]:
    """Every student at 50 but for some, by table and label; every teacher far better."""
    scores: dict[Key, dict[int, float]] = {}
    for place, table in enumerate(USUAL):
        for number, row in enumerate(table.rows):
            score = changes.get((table.number, row.label), 50.0)
            if row.is_teacher and (table.number, row.label) not in changes:
                score = 100 - teachers if table.lower_is_better else teachers
            noise = np.random.default_rng([place, number]).normal(0, 0.05, seeds)
            scores[table.file_name, row.label] = {seed: score + float(one) for seed, one in enumerate(noise)}
    return {claim.name: claim for claim in assess(made_study(scores))}


def test_every_claim_has_its_comparisons_each_once() -> None:
    found = assessed({})
    assert {name: [len(part.findings) for part in claim.parts] for name, claim in found.items()} == PARTS
    for claim in found.values():
        compared = [(f.comparison.table.data, f.comparison.table.number, f.comparison.label) for f in claim.findings]
        assert len(set(compared)) == len(compared)


FULL = {(2, f"/{rate} full"): 60.0 for rate in (2, 4, 8)} | {(1, "full, soft"): 60.0}
RATES = ((3, (8,)), (4, (2, 4, 8)), (5, (2, 4, 8)))
TARGETS = ("none", "hidden", "soft")
DISTILL = {
    (number, f"/{rate} Distill, {target}"): 45.0 if number == 3 else 60.0
    for number, rates in RATES
    for rate in rates
    for target in TARGETS
}
UNDISTILLED = {
    (number, f"/{rate} from W_S0, none (control)"): 45.0 if number == 3 else 60.0
    for number, rates in RATES
    for rate in rates
}
ALIGNED = {
    (3, f"/8 {init}, {target}"): value
    for init in ("Pretrain", "Distill")
    for target, value in (("hidden", 45.0), ("none", 50.0), ("soft", 55.0))
}
TRIPLET = {
    (4, f"/{rate} {init}, {target}"): value
    for rate in (2, 4, 8)
    for init, target, value in (("Pretrain", "hidden", 40.0), ("Distill", "hidden", 40.0), ("Pretrain", "soft", 60.0))
}
JOINT = {(5, f"/{rate} {init}, soft"): 60.0 for rate in (2, 4, 8) for init in ("Pretrain", "Distill")}
WHOLE = {(2, f"/{rate} alone, W_S0, whole schedule (control)"): 60.0 for rate in (2, 4, 8)}


@pytest.mark.parametrize(
    ("scores", "name"),
    [
        ({(1, "Scratch, soft"): 55.0}, "C1"),
        (FULL, "C2"),
        ({(2, "/2 full"): 95.0}, "C3"),
        (ALIGNED, "C4"),
        (DISTILL, "C5"),
        (TRIPLET, "C6"),
        ({**JOINT, (5, "/2 Distill, soft"): 95.0}, "C7"),
        (FULL, "K1"),
        (FULL, "K2"),
        (WHOLE, "K3"),
        (DISTILL, "K4"),
        (UNDISTILLED, "K5"),
    ],
)
def test_a_claim_is_reproduced_where_the_cells_are_as_it_says(
    scores: Mapping[tuple[int, str], float], name: str
) -> None:
    claim = assessed(scores)[name]
    assert (claim.answer, claim.scope) == (REPRODUCED, "everywhere"), [
        (f.comparison.label, f.effect, f.answer) for f in claim.findings
    ]
    assert claim.p is not None
    assert claim.p < 0.05
    turned = {cell: 100.0 - value for cell, value in scores.items()}
    found = assessed(turned)[name]
    assert found.answer is CONTRADICTED
    assert found.effect is not None
    assert found.effect.high is not None
    assert found.effect.high < 0


def test_where_all_cells_are_equal_nothing_is_answered_but_sameness() -> None:
    for claim in assessed({}).values():
        if claim.name != "C3":
            for part in claim.parts:
                if part.text != "/2 beats the teacher":
                    assert part.answer is (REPRODUCED if part.same else UNDECIDED), (claim.name, part.text)
                    assert part.detectable is not None
                    assert part.detectable > 0


def test_a_scope_says_how_far_an_answer_goes() -> None:
    some = {(2, f"/{rate} full"): 60.0 for rate in (2, 4)} | {(1, "full, soft"): 60.0}
    claim = assessed(some)["C2"]
    assert (claim.answer, claim.scope) == (REPRODUCED, "in every part")
    assert claim.tally == "5 reproduced, 2 undecided"
    average = {**FULL, (1, "full, soft"): 50.0}
    claim = assessed(average)["C2"]
    assert (claim.answer, claim.scope) == (REPRODUCED, "on average; alone, full beats FitNet: undecided")
    worse = {**FULL, (2, "/4 full"): 30.0}
    claim = assessed(worse)["C2"]
    assert claim.answer is CONTRADICTED
    assert claim.scope == "by /4 full > /4 Scratch (CASIA-WebFace); /4 full > /4 Scratch (MS-Celeb-1M)"


def test_one_seed_decides_nothing() -> None:
    found = assessed({(1, "Scratch, soft"): 90.0}, seeds=1)
    assert {claim.answer for claim in found.values()} == {UNDECIDED}
    assert found["C1"].tally == "2 undecided"
    assert {claim.p for claim in found.values()} == {None}
    assert {claim.survives for claim in found.values()} == {False}


def test_without_runs_claims_are_not_run() -> None:
    found = assess(made_study({}))
    assert {claim.answer for claim in found} == {NOT_RUN}
    assert {part.answer for claim in found for part in claim.parts} == {NOT_RUN}
    assert expected_wrong(found) == 0


def without(scores: dict[Key, dict[int, float]], *labels: str) -> dict[Key, dict[int, float]]:
    return {key: score for key, score in scores.items() if key[1] not in labels}


def claim_of(scores: Mapping[Key, Mapping[int, float]], name: str) -> Assessment:
    return next(claim for claim in assess(made_study(scores)) if claim.name == name)


def test_a_part_is_answered_by_the_comparisons_that_were_run() -> None:
    scores = with_score(50.0, range(3))
    for table in USUAL:
        for rate in (2, 4, 8):
            scores[table.file_name, f"/{rate} full"] = {0: 60.0, 1: 60.5, 2: 61.0}
        scores[table.file_name, "full, soft"] = {0: 60.0, 1: 60.5, 2: 61.0}
    found = claim_of(without(scores, "/4 Scratch", "/2 full"), "C2")
    assert found.answer is REPRODUCED
    assert [part.tally for part in found.parts] == ["2 of 6 comparisons", "1 of 1 comparisons"]
    assert found.tally == "3 reproduced, 4 not run"
    found = claim_of(without(scores, "FitNet, soft"), "C2")
    assert (found.answer, found.scope) == (UNDECIDED, "full beats FitNet: not run"), (
        "what wasn't tried isn't reproduced"
    )
    scores["table1-casia-webface", "FitNet, soft"] = {2: 50.0}
    assert claim_of(scores, "C2").parts[1].answer is UNDECIDED, "one seed"


def test_of_one_statement_in_several_tables_those_that_were_run_answer_it() -> None:
    table4 = {key: score for key, score in with_score(50.0, range(3)).items() if key[0].startswith("table4")}
    for key in table4:
        table4[key] = {0: 60.0, 1: 61.0, 2: 60.5} if "Distill" in key[1] else table4[key]
    table4["table4-casia-webface", "teacher"] = {0: 90.0}
    found = claim_of(table4, "C5")
    assert (found.answer, found.parts[1].tally) == (REPRODUCED, "9 of 9 comparisons")
    assert found.scope == (
        "everywhere; alignment (table 3): not run; verification, triplet and softmax loss (table 5): not run"
    )


@pytest.mark.parametrize(
    ("row", "score", "void"),
    [
        ((1, "teacher"), 49.0, {"C1": 2}),
        ((2, "teacher"), 49.0, {"K2": 3, "C4": 2, "C5": 4, "C6": 6, "K4": 21}),
        ((3, "teacher"), 51.0, {"C4": 2, "C5": 1, "K4": 1}),
        ((4, "teacher"), 49.0, {"C5": 3, "C6": 6, "K4": 3}),
        ((5, "teacher"), 49.0, {"C5": 6, "C7": 12, "K4": 6}),
        ((4, "/8 Pretrain, none"), 95.0, {"C5": 1, "C6": 2, "K4": 1}),
        ((4, "/8 task loss alone (control)"), 95.0, {"C5": 1, "C6": 2, "K4": 1}),
        ((2, "/8 alone, W_S0, whole schedule (control)"), 95.0, {"C4": 2, "C5": 2, "C6": 2, "K2": 1, "K4": 9}),
    ],
)
def test_a_comparison_about_targets_is_void_where_the_teacher_does_not_beat_the_student_alone(
    row: tuple[int, str], score: float, void: Mapping[str, int]
) -> None:
    found = assessed({row: score})
    counted = {name: sum(f.answer is VOID for f in claim.findings) for name, claim in found.items()}
    assert {name: count for name, count in counted.items() if count} == void


def test_a_void_claim_says_why_and_what_would_mend_it() -> None:
    found = assessed({(3, "teacher"): 52.0})["C4"]
    assert found.answer is UNDECIDED, "of the recognizer's answers one can still learn"
    assert [part.answer for part in found.parts] == [VOID, UNDECIDED]
    assert found.scope == "hidden helps: void"
    reason = found.parts[0].why_void
    assert reason.startswith("the teacher of table 3 has 52.0")
    assert "(NRMSE %), the student alone (/8 " in reason
    assert reason.endswith("Train the teacher longer (schedule.epochs=…) or on more images")
    found = assessed({(1, "teacher"): 40.0, (1, "Scratch, soft"): 99.0})["C1"]
    assert (found.answer, found.p, found.effect, found.tally) == (VOID, None, None, "2 void")
    assert found.scope.startswith("the teacher of table 1 has 40.0")


def test_a_void_comparison_leaves_the_average() -> None:
    better = {**JOINT, (5, "/2 Distill, soft"): 95.0, (5, "/8 Pretrain, soft"): 10.0, (5, "/8 Pretrain, none"): 99.0}
    claim = assessed(better)["C7"]
    assert claim.parts[0].tally == "4 of 6 comparisons, 2 void"
    assert claim.answer is REPRODUCED


def test_students_share_a_teacher_that_was_trained_once() -> None:
    scores = with_score(50.0, range(3))
    key = ("table2-casia-webface", "teacher")
    scores["table2-casia-webface", "/2 full"] = {0: 60.0, 1: 61.0, 2: 62.0}
    scores[key] = {0: 55.0}
    found = claim_of(scores, "C3")
    assert found.effect is not None
    assert found.effect.by_seed == {0: 5.0, 1: 6.0, 2: 7.0}
    scores[key] = {0: 55.0, 2: 50.0}  # a student at a seed is compared with the teacher of that seed if there is one
    found = claim_of(scores, "C3")
    assert found.effect is not None
    assert found.effect.by_seed == {0: 5.0, 1: 6.0, 2: 12.0}


def test_claims_of_tables_with_different_metrics_speak_of_percent() -> None:
    scores = with_score(50.0, range(3))
    for table in USUAL:
        for row in table.rows:
            if row.is_teacher:
                scores[table.file_name, row.label] = dict.fromkeys(range(3), 3.0 if table.lower_is_better else 90.0)
            elif table.lower_is_better:
                scores[table.file_name, row.label] = dict.fromkeys(range(3), 4.0)
    for target in TARGETS:
        scores["table3-celeba", f"/8 Distill, {target}"] = {0: 3.8, 1: 3.6, 2: 3.4}
    found = claim_of(scores, "C5")
    assert found.unit == "%"
    assert [part.effect.mean for part in found.parts if part.effect] == pytest.approx([10.0, 0.0, 0.0])
    assert found.effect is not None
    assert found.effect.mean == pytest.approx(10 / 3)
    assert found.effect.by_seed[2] == pytest.approx(5.0)
    papers = [100 * (3.36 - 3.29) / 3.36, 100 * (3.24 - 3.21) / 3.24, 100 * (3.60 - 3.54) / 3.60]
    assert found.parts[0].paper == pytest.approx(sum(papers) / 3)
    assert claim_of(scores, "C4").unit == "points"


def test_the_effect_of_the_paper_is_turned_as_ours() -> None:
    found = assessed({})
    assert found["C4"].parts[0].paper == pytest.approx((0.12 + 0.08) / 2)
    assert [finding.paper for finding in found["C4"].parts[1].findings] == pytest.approx([0.24, 0.25])
    assert found["C3"].paper == pytest.approx(2.4)
    assert found["C6"].paper == pytest.approx((11.87 / 6 + (2.52 + 0.90 + 0.73) / 3) / 2)
    assert {found[name].paper for name in ("K1", "K2", "K3", "K4", "K5")} == {None}


def test_claims_are_answered_under_each_reading_that_was_run() -> None:
    usual = with_score(50.0, range(3))
    assert {claim.reading for claim in assess(made_study(usual))} == {"both_rates"}
    scores = with_score(50.0, range(3), TABLES)
    for rate in (2, 4, 8):
        scores["table2-casia-webface-one-rate", f"/{rate} full"] = {0: 60.0, 1: 61.0, 2: 62.0}
        scores["table2-ms-celeb-1m-one-rate", f"/{rate} full"] = {0: 60.0, 1: 61.0, 2: 62.0}
    scores["table1-casia-webface-one-rate", "full, soft"] = {0: 60.0, 1: 61.0, 2: 62.0}
    found = {claim.title: claim for claim in assess(made_study(scores, TABLES))}
    assert [title for title in found if "one_rate" in title] == [f"{claim.name} (one_rate)" for claim in CLAIMS]
    assert found["C2"].answer is UNDECIDED
    assert found["C2 (one_rate)"].answer is REPRODUCED
    only = {key: score for key, score in scores.items() if key[0] == "table2-casia-webface-one-rate"}
    found = {claim.title: claim for claim in assess(made_study(only, [t for t in TABLES if t.reading == "one_rate"]))}
    assert len(found) == len(CLAIMS), "of the only reading that was run all claims are listed"


def test_the_p_of_a_contradiction_is_not_that_of_the_opposite_answer() -> None:
    """Soft is best by far, but /2 is behind its teacher."""
    better = {**JOINT, (5, "/2 Distill, soft"): 89.0, (5, "teacher"): 90.0}
    claim = assessed(better)["C7"]
    assert claim.answer is CONTRADICTED
    assert claim.effect is not None
    assert claim.effect.mean > 1
    assert claim.p is not None
    against = claim.parts[2].effect
    assert against is not None
    assert against.estimate is not None
    looks = 2 + 12 + 1  # parts of several comparisons, and comparisons
    assert claim.p == pytest.approx(0.05 * float(against.estimate.p_below()) / (0.0125 / looks))


def test_answers_are_counted_and_corrected_over_all_claims() -> None:
    found = list(assessed({**FULL, (1, "Scratch, soft"): 50.1}).values())
    tested = [claim for claim in found if claim.p is not None]
    assert expected_wrong(found) == pytest.approx(0.05 * len(tested))
    by_p = sorted(tested, key=lambda claim: claim.p or 0)
    kept = [claim.survives for claim in by_p if claim.is_answered]
    assert kept == sorted(kept, reverse=True)
    c1, c2 = (next(claim for claim in found if claim.name == name) for name in ("C1", "C2"))
    assert c2.survives
    assert c1.p is not None
    assert not c1.survives or c1.p * sum(claim.p >= c1.p for claim in tested if claim.p is not None) <= 0.05
