"""What is said in words: answers, how many of them chance explains, and what a table cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_study import USUAL, made_study, with_score

from facedistill.report.__main__ import verdicts
from facedistill.report.claims import Assessment, assess
from facedistill.report.cost import hours_of, runs_behind
from facedistill.report.rule import Answer
from facedistill.report.statistics import Effect
from facedistill.report.study import FilledTable, Study
from facedistill.report.wording import correction, detectable, effect_in_words, power, verdict
from facedistill.runs.plan import plan
from facedistill.runs.record import Record
from made_records import record_of

EFFECT = Effect({0: 1.0, 1: 3.0, 2: 5.0})  # mean 3, deviation 2, Student's t of two degrees of freedom 4.3027

EVEN = with_score(50.0, [0, 1, 2])  # the teachers, too


def assessment(name: str, answer: Answer, **changes: object) -> Assessment:
    one = assess(made_study(with_score(50.0, [0, 1])))[0]
    values = {"name": name, "effect": EFFECT, "p": 0.2, "paper": 1.35, "detectable": 4.0, "scope": "", **changes}
    return replace(one, answer=answer, **values)  # type: ignore[arg-type]


def test_an_effect_has_its_interval_and_a_sign() -> None:
    half = 4.302653 * 2 / 3**0.5
    assert effect_in_words(EFFECT) == f"+3.00 (−{half - 3:.2f} to +{half + 3:.2f})"
    assert effect_in_words(Effect({0: -1.0})) == "−1.00"
    assert effect_in_words(None) == "—"


def test_a_verdict_says_what_is_known() -> None:
    undecided = verdict(assessment("C1", Answer.UNDECIDED))
    assert undecided == (
        "Undecided: ours +3.00 (−1.97 to +7.97) points over 3 seeds, the paper's +1.35. An effect of 4.00 points would "
        "have been seen in 80 % of such studies."
    )
    lost = verdict(assessment("C1", Answer.CONTRADICTED, scope="by full > W_S0", p=0.0312, paper=None))
    assert lost == (
        "Contradicted (by full > W_S0): ours +3.00 (−1.97 to +7.97) points over 3 seeds, the paper prints none of it. "
        "p = 0.031: the answer does not survive the correction over all claims."
    )
    assert verdict(assessment("C1", Answer.REPRODUCED, p=1e-5, survives=True)).endswith(
        "p < 0.001: the answer survives the correction over all claims."
    )
    assert verdict(assessment("C1", Answer.NOT_RUN, effect=None, p=None)) == "Not run."


def test_a_void_claim_says_why() -> None:
    better = {key: {seed: score + seed / 10 for seed, score in found.items()} for key, found in EVEN.items()}
    one = next(one for one in assess(made_study(better)) if one.name == "C1")
    assert one.answer is Answer.VOID
    assert verdict(one).startswith("Void: the teacher of table 1 has 50.10 (top-1 %), the student alone")
    assert verdict(one).endswith("or on more images.")


def test_how_many_wrong_answers_chance_gives_and_which_survive() -> None:
    found = [
        assessment("C1", Answer.REPRODUCED, p=0.001, survives=True),
        assessment("C2", Answer.CONTRADICTED, p=0.002, survives=True),
        assessment("C3", Answer.REPRODUCED, p=0.04),
        assessment("C4", Answer.UNDECIDED),
        assessment("C5", Answer.NOT_RUN, effect=None, p=None),
    ]
    text = correction(found)
    assert text.startswith("3 of 5 claims and controls are answered. 4 were tested")
    assert "up to 0.2 wrong answers" in text
    assert text.endswith("C1 and C2 survive; C3 does not.")
    assert correction(found[2:]).endswith("none survives.")
    assert correction(found[4:]).startswith("Nothing was tested yet")


def test_the_power_of_every_claim_is_said_and_where_the_papers_effect_is_too_small_for_it() -> None:
    found = [
        assessment("C1", Answer.UNDECIDED),
        assessment("C2", Answer.REPRODUCED, paper=9.0),
        assessment("C3", Answer.NOT_RUN, effect=None, detectable=None, p=None),
    ]
    first, second = power(found)
    assert first.startswith("Claims stand on 3 seeds.")
    assert "C1 4.00 points of top-1, C2 4.00 points of top-1." in first
    assert "in C1:" in second
    assert power(found[2:]) == []


def test_the_smallest_effect_is_said_where_nothing_is_shown() -> None:
    assert detectable(assessment("C1", Answer.UNDECIDED)) == 4.0
    assert detectable(assessment("C1", Answer.REPRODUCED)) is None


def test_a_line_is_printed_for_every_claim() -> None:
    found = [assessment("C1", Answer.CONTRADICTED, scope="by one"), assessment("K12", Answer.NOT_RUN, effect=None)]
    first, second = verdicts(found).splitlines()
    assert first.startswith("C1   contradicted  +3.00 (−1.97 to +7.97) points  paper +1.35  ")
    assert first.endswith("(by one)")
    assert second.startswith("K12  not run       —")
    assert first.index("paper") == second.index("paper")


def test_a_table_costs_its_runs_and_all_that_they_stand_on_each_once() -> None:
    runs = [plan(f"rate=8 init=full target=soft seed={seed}".split()) for seed in (0, 1)]
    found: dict[str, Record] = {}

    def add(run: object) -> None:
        record = record_of(run, seconds=3600.0)  # type: ignore[arg-type]
        found[record.identity] = record
        for parent in run.parents.values():  # type: ignore[attr-defined]
            if hasattr(parent, "parents"):
                add(parent)

    for run in runs:
        add(run)
    other = record_of(plan(["task=classify", "rate=2", "target=none"]), seconds=3600.0)
    students = [found[run.identity] for run in runs]
    filled = FilledTable(USUAL[0], students, [], [0, 1], lambda _: None)
    study = Study(Path("runs"), [*found.values(), other], [filled], {}, [])
    behind = runs_behind(study, filled)
    assert sorted(record.cell[0] + record.cell.init for record in behind) == [
        *["classifyfull"] * 2,
        *["classifyscratch"] * 2,  # W_S0 of each seed
        "teacherscratch",  # one for both
    ]
    assert hours_of(behind) == pytest.approx(5.0)
    assert hours_of(study.records) == pytest.approx(6.0)
