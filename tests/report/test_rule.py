"""The rule for claims in thousands of simulated studies, and its parts against SciPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from made_study import USUAL, Key, made_study
from numpy.typing import NDArray
from scipy import stats

from facedistill.report.claims import assess
from facedistill.report.comparisons import CLAIMS, Comparison, Statement
from facedistill.report.rule import Answer, Look, Part, detectable, judge, survives
from facedistill.report.statistics import Estimate
from facedistill.report.tables import Row, Table

Cells = Mapping[Key, NDArray[np.float64]]  # the scores of a row [study, seed]
CASIA = next(table for table in USUAL if table.number == 2)


class Outcome(NamedTuple):
    reproduced: NDArray[np.bool_]
    contradicted: NDArray[np.bool_]

    @property
    def rates(self) -> tuple[float, float]:
        return float(self.reproduced.mean()), float(self.contradicted.mean())


def estimate(by_seed: NDArray[np.float64]) -> Estimate:
    """Of studies [study, seed]; NaN where a study has none."""
    seeds = by_seed.shape[-1]
    return Estimate(by_seed.mean(-1), by_seed.var(-1, ddof=1) / seeds, seeds - 1)


def lead(cells: Cells, table: Table, better: Row, than: Row) -> NDArray[np.float64]:
    sign = -1 if table.lower_is_better else 1
    return sign * (cells[table.file_name, better.label] - cells[table.file_name, than.label])


def knows_more(cells: Cells, table: Table, rate: int) -> NDArray[np.bool_]:
    """Whether the interval of the teacher's lead over the better student alone is above 0, by study."""
    by_start = {row.init: row for row in table.rows if row.rate == rate and row.target == "none" and not row.is_teacher}
    if table.number < 3:
        leads = lead(cells, table, table.teacher, by_start.get("scratch_whole", by_start["scratch"]))
    else:
        both = [lead(cells, table, table.teacher, by_start[init]) for init in ("pretrain", "scratch")]
        leads = np.where((both[0].mean(1) < both[1].mean(1))[:, None], *both)
    test = stats.ttest_1samp(leads, 0, axis=1)
    return np.asarray((test.statistic > 0) & (test.pvalue < 0.05))


def is_valid(cells: Cells, statement: Statement, comparison: Comparison) -> NDArray[np.bool_]:
    valid = np.ones(len(next(iter(cells.values()))), bool)
    starts = {row.init for row in comparison.table.rows if row.target == "none"}
    if comparison.table.number < 3 and comparison.than.target == "none" and "scratch_whole" not in starts:
        return valid  # the student alone is what it is compared with
    if (comparison.better.init, comparison.than.init) == ("distill", "undistilled"):
        valid &= knows_more(cells, CASIA, comparison.better.rate)
    for row in (comparison.better, comparison.than) if statement.about_targets else ():
        if row.target == "soft" and comparison.table.number in (3, 4):
            valid &= knows_more(cells, CASIA, row.rate)
        elif row.target != "none":
            valid &= knows_more(cells, comparison.table, row.rate)
    return valid


def answers(cells: Cells, all_valid: bool = False) -> dict[str, Outcome]:
    """Every claim in every study, computed for all studies at once; ``all_valid``: nothing is void."""
    found = {}
    for claim in CLAIMS:
        parts, averages, complete = [], [], np.True_
        for statement in claim.statements:
            comparisons = [one for table in USUAL for one in statement.comparisons(table)]
            differences = []
            for one in comparisons:
                than = cells[one.table.file_name, one.than.label].mean(1)[:, None, None]
                by_seed = lead(cells, one.table, one.better, one.than)[..., None]
                by_seed = by_seed / than * 100 if claim.across_tables else by_seed
                valid = np.True_ if all_valid else is_valid(cells, statement, one)[:, None, None]
                differences.append(np.where(valid, by_seed, np.nan)[..., 0])
            counted = np.sum([~np.isnan(one) for one in differences], 0)
            with np.errstate(invalid="ignore"):
                average = np.nansum(differences, 0) / np.where(counted, counted, np.nan)
            looks = [Look(estimate(one), statement.same) for one in differences]
            parts.append(Part(Look(estimate(average), statement.same), looks))
            if not statement.same:
                averages.append(average)
                complete = complete & ((counted > 0).all(1) | claim.across_tables)
        counted = np.sum([~np.isnan(one) for one in averages], 0)
        whole = np.nansum(averages, 0) / np.where(counted, counted, np.nan)
        judged = judge(estimate(whole), parts)
        found[claim.name] = Outcome(judged.reproduced & complete, judged.contradicted)
    return found


def studies(
    truth: Callable[[Table, Row], float], deviation: float, seeds: int, count: int, of_a_teacher: float = 0.0
) -> dict[Key, NDArray[np.float64]]:
    """Scores that vary independently by ``deviation`` (points, or % of an error), and teachers that are fixed."""
    draw = np.random.default_rng(seeds)
    cells = {}
    for table in USUAL:
        for row in table.rows:
            mean = truth(table, row)
            unit = mean / 100 if table.lower_is_better else 1
            noise = draw.normal(0, deviation * unit, (count, seeds))
            if row.is_teacher:
                noise = np.repeat(draw.normal(0, of_a_teacher * unit, (count, 1)), seeds, axis=1)
            cells[table.file_name, row.label] = mean + noise
    return cells


def paper(table: Table, row: Row) -> float:
    """What the paper prints, and for our controls what lets its teachers know more."""
    if table.metric in row.paper:
        return row.paper[table.metric]
    if table.number == 1 and row.is_teacher:
        return 88.61
    if table.number < 3:
        return table.row(row.rate, "scratch", "soft").paper["top1"] - 3
    return table.row(row.rate, "pretrain", "none").paper[table.metric] * (1.03 if table.lower_is_better else 0.97)


@cache
def of_the_paper() -> dict[str, Outcome]:
    return answers(studies(paper, deviation=3.0, seeds=5, count=4_000))


@pytest.mark.parametrize("deviation", [1.5, 3.0])
@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_without_any_effect_a_claim_is_answered_in_at_most_one_of_twenty_studies(seeds: int, deviation: float) -> None:
    count = 2_000
    most = stats.binom.ppf(0.9999, count, 0.05) / count
    # how far the teachers are from their students decides what is void; apart from them C3 and C7 have an effect
    for apart, all_valid in ((0.0, True), (0.0, False), (1.5, False)):
        cells = studies(lambda *_: 50.0, deviation, seeds, count)
        for table in USUAL:
            better = -apart if table.lower_is_better else apart
            cells[table.file_name, "teacher"] = cells[table.file_name, "teacher"] + better
        for name, found in answers(cells, all_valid).items():
            if apart == 0 or name not in ("C3", "C7"):
                assert sum(found.rates) <= most, (name, apart, found.rates)


def test_with_the_papers_tables_as_the_truth_it_is_reproduced_and_hardly_ever_contradicted() -> None:
    """A run's deviation of 3 points (3 % of the NRMSE), five seeds: too few for C1 and C3."""
    found = of_the_paper()
    for name in ("C1", "C2", "C3", "C4", "C5", "C6", "C7"):
        assert found[name].rates[1] <= 0.01, (name, found[name].rates)
    for name in ("C2", "C4", "C5", "C6", "C7"):
        assert found[name].rates[0] >= 0.6, (name, found[name].rates)


def test_more_seeds_decide_more_and_a_turned_paper_is_contradicted() -> None:
    more = answers(studies(paper, deviation=3.0, seeds=12, count=500))
    for name in ("C1", "C3", "C6"):
        assert more[name].rates[0] > of_the_paper()[name].rates[0] + 0.1, name
    turned = answers(studies(lambda table, row: 100 - paper(table, row), deviation=1.0, seeds=5, count=500))
    for name in ("C2", "C3", "C5"):
        assert turned[name].rates[1] > 0.95, (name, turned[name].rates)


@pytest.mark.slow
def test_studies_one_by_one_have_the_answers_of_all_at_once() -> None:
    """The same scores through the tables, the validity of teachers and the page's own way."""
    draws = (
        studies(paper, 3.0, 5, 12),
        studies(paper, 6.0, 3, 12, of_a_teacher=6.0),
        studies(lambda *_: 50.0, 3.0, 5, 12, of_a_teacher=5.0),
    )
    for cells in draws:
        expected, voids = answers(cells), 0
        for study in range(12):
            scores = {key: dict(enumerate(map(float, by_seed[study]))) for key, by_seed in cells.items()}
            for claim in assess(made_study(scores)):
                outcome = expected[claim.name]
                found = (claim.answer is Answer.REPRODUCED, claim.answer is Answer.CONTRADICTED)
                assert found == (outcome.reproduced[study], outcome.contradicted[study]), (claim.name, study)
                voids += sum(finding.answer is Answer.VOID for finding in claim.findings)
        assert voids > 0


def test_without_noise_the_papers_tables_contradict_nothing() -> None:
    cells = studies(paper, deviation=0.0, seeds=2, count=1)
    scores = {key: dict(enumerate(map(float, by_seed[0]))) for key, by_seed in cells.items()}
    found = {claim.name: claim for claim in assess(made_study(scores))}
    for name in ("C1", "C2", "C3", "C4", "C5", "C6", "C7"):
        assert found[name].answer is Answer.REPRODUCED, (name, found[name].scope)
        assert found[name].effect is not None
        assert found[name].paper == pytest.approx(found[name].effect.mean, rel=1e-6), name


def one(mean: float, error: float = 1.0, freedom: float = 4.0) -> Estimate:
    return Estimate(mean, error**2, freedom)


@pytest.mark.parametrize("seeds", [2, 3, 5, 8])
def test_p_values_and_intervals_are_students(seeds: int) -> None:
    values = np.random.default_rng(seeds).normal(1, 2, (6, seeds))
    found = estimate(values)
    for row, p_above, p_below, low, high in zip(
        values, found.p_above(0.5), found.p_below(0.5), *found.interval(), strict=True
    ):
        assert p_above == pytest.approx(stats.ttest_1samp(row, 0.5, alternative="greater").pvalue)
        assert p_below == pytest.approx(stats.ttest_1samp(row, 0.5, alternative="less").pvalue)
        reference = stats.ttest_1samp(row, 0).confidence_interval(0.95)
        assert (low, high) == pytest.approx((reference.low, reference.high))


def test_without_spread_the_sign_decides() -> None:
    assert [float(one(mean, 0.0).p_above()) for mean in (-1.0, 0.0, 1.0)] == [1.0, 1.0, 0.0]
    assert np.isnan(one(np.nan, np.nan).p_above())


@pytest.mark.parametrize("freedom", [1.0, 2.0, 4.0, 7.0, 30.0])
def test_the_detectable_effect_is_seen_in_four_of_five_studies(freedom: float) -> None:
    effect = detectable(one(0.0, 2.0, freedom))
    critical = stats.t.ppf(0.975, freedom)
    assert stats.nct.sf(critical, freedom, effect / 2.0) == pytest.approx(0.8, abs=1e-6)


def test_all_looks_share_one_end_of_the_interval() -> None:
    single = judge(one(-2.8), [Part(Look(one(-2.8)), [Look(one(-2.8))])])
    assert float(single.p_contradicted) == pytest.approx(2 * stats.t.sf(2.8, 4))
    assert float(single.claim_level) == pytest.approx(0.025)
    # two parts, one of three comparisons and one of a single: five looks beside the claim's, less one that is twice
    parts = [Part(Look(one(1.0)), [Look(one(x)) for x in (1.0, 1.0, -9.0)]), Part(Look(one(1.0)), [Look(one(1.0))])]
    found = judge(one(1.0), parts)
    assert float(found.look_level) == pytest.approx(0.0125 / 5)
    assert float(found.p_contradicted) == pytest.approx(0.05 * stats.t.sf(9.0, 4) / (0.0125 / 5))
    assert bool(found.contradicted)
    assert not bool(judge(one(1.0), [parts[0]._replace(comparisons=parts[0].comparisons[:2]), parts[1]]).contradicted)


def test_a_claim_is_not_reproduced_where_a_part_points_the_other_way() -> None:
    strong, weak = Look(one(20.0)), Look(one(-0.1))
    found = judge(one(9.95), [Part(strong, [strong]), Part(weak, [weak])])
    assert float(found.p_reproduced) < 0.001
    assert not bool(found.reproduced)
    assert bool(judge(one(9.95), [Part(strong, [strong]), Part(weak._replace(same=True), [weak])]).reproduced)


@pytest.mark.parametrize(
    ("mean", "shown", "contradicted"),
    [(0.0, True, False), (0.6, False, False), (2.0, False, True), (-2.0, False, True)],
)
def test_same_is_an_interval_within_a_point(mean: float, shown: bool, contradicted: bool) -> None:
    look = Look(one(mean, 0.2), same=True)
    assert bool(look.is_shown) is shown
    assert bool(look.p_contradicted <= 0.05) is contradicted


def test_holms_correction_against_one_step_by_step() -> None:
    p_values = [0.04, 0.001, 0.012, 0.3, 0.011]
    assert survives(p_values) == [False, True, True, False, True]  # 0.001·5, 0.011·4, 0.012·3; 0.04·2 is too much
    assert survives([]) == []
    assert survives([0.02, 0.02, 0.02]) == [False] * 3
