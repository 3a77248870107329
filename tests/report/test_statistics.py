"""Paired differences and their intervals, against SciPy and by counting how often they cover the truth."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from facedistill.report.statistics import Difference, Result, difference, mean_and_spread, resampled_means, t_widening

Scores = NDArray[np.float32]


def results(values: list[float], sample_scores: list[Scores] | None = None) -> dict[int, Result]:
    return {
        seed: Result(value, None if sample_scores is None else sample_scores[seed]) for seed, value in enumerate(values)
    }


def right(draw: np.random.Generator, share: float, count: int = 400) -> Scores:
    """100 or 0 a sample."""
    return np.where(draw.random(count) < share, np.float32(100), np.float32(0))


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([], "—"),
        ([50.0], "50.00"),
        ([50.0, 54.0], "52.00 ± 2.83"),
        ([1.0, 2.0, 4.5], "2.50 ± 1.80"),
        ([3.0, 3.0], "3.00 ± 0.00"),
    ],
)
def test_a_spread_is_shown_from_two_runs_on(numbers: list[float], text: str) -> None:
    assert mean_and_spread(numbers) == text


def test_only_seeds_that_both_have_are_compared() -> None:
    first = {0: Result(50.0), 2: Result(60.0), 3: Result(90.0)}
    second = {1: Result(10.0), 2: Result(55.0), 3: Result(80.0)}
    found = difference(first, second)
    assert found is not None
    assert found.by_seed == {2: 5.0, 3: 10.0}
    assert found.mean == 7.5
    assert difference({0: Result(1.0)}, {1: Result(1.0)}) is None


def test_one_run_without_samples_has_no_interval() -> None:
    found = difference(results([60.0]), results([50.0]))
    assert found == Difference(10.0, {0: 10.0})


def test_one_seed_has_the_interval_of_its_test_samples() -> None:
    draw = np.random.default_rng(1)
    one, other = right(draw, 0.8), right(draw, 0.5)
    found = difference(results([float(one.mean())], [one]), results([float(other.mean())], [other]))
    assert found is not None
    assert found.resampled == "test samples"
    reference = stats.bootstrap(
        (one - other,), np.mean, confidence_level=0.95, method="percentile", n_resamples=5000, rng=2
    ).confidence_interval
    assert found.low == pytest.approx(reference.low, abs=0.7)
    assert found.high == pytest.approx(reference.high, abs=0.7)
    assert found.low is not None
    assert found.low > 0


def test_pairing_takes_out_what_samples_have_in_common() -> None:
    draw = np.random.default_rng(3)
    base = right(draw, 0.5)
    better = base.copy()
    better[np.flatnonzero(base == 0)[:8]] = 100  # 2 points
    found = difference(results([float(better.mean())], [better]), results([float(base.mean())], [base]))
    assert found is not None
    assert found.mean == pytest.approx(2.0)
    assert found.low is not None
    assert found.low > 0  # two independent proportions of 400 would be within ±7 points


def test_of_several_seeds_without_samples_the_interval_is_about_as_wide_as_students_t() -> None:
    values = [3.0, 5.5, 4.0, 7.0, 5.0, 6.5, 2.0, 4.5, 5.2, 3.8, 6.1, 4.9]
    found = difference(results(values), results([0.0] * len(values)))
    reference = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found is not None
    assert found.resampled == "seeds"
    assert found.low == pytest.approx(reference.low, abs=0.15)
    assert found.high == pytest.approx(reference.high, abs=0.15)


@pytest.mark.parametrize("seeds", [2, 3, 4, 10, 1000])
def test_few_seeds_widen_the_bootstrap(seeds: int) -> None:
    expected = (seeds / (seeds - 1)) ** 0.5 * stats.t.ppf(0.975, seeds - 1) / stats.norm.ppf(0.975)
    assert t_widening(seeds) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("seeds", "between"), [(3, 3.0), (5, 3.0), (3, 0.0), (8, 1.0)])
def test_an_interval_covers_the_truth_about_as_often_as_its_level(seeds: int, between: float) -> None:
    draw, covered, times = np.random.default_rng(7), 0, 200
    for _ in range(times):
        # the score of a sample is common to all seeds, as on one test split; a seed shifts all of them
        common = draw.normal(5.0, 20.0, 100).astype(np.float32)
        sample_scores = [(common + draw.normal(0, between)).astype(np.float32) for _ in range(seeds)]
        found = difference(
            results([float(part.mean()) for part in sample_scores], sample_scores),
            results([0.0] * seeds, [np.zeros(100, np.float32)] * seeds),
        )
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 5.0 <= found.high
    assert 0.90 <= covered / times <= 0.995


def test_without_widening_three_seeds_would_cover_the_truth_far_too_rarely() -> None:
    """The plain percentile interval of three values."""
    draw, covered = np.random.default_rng(8), 0
    for _ in range(300):
        values = draw.normal(0, 1, 3)
        means = values[draw.integers(0, 3, (500, 3))].mean(1)
        covered += np.quantile(means, 0.025) <= 0 <= np.quantile(means, 0.975)
    assert covered / 300 < 0.85


@pytest.mark.parametrize(
    "values", [np.repeat([-100.0, 0.0, 50.0], [7, 80, 13]), np.random.default_rng(4).normal(3, 20, 3_000)]
)
def test_few_distinct_values_and_many_are_drawn_with_replacement(values: NDArray[np.float64]) -> None:
    means = resampled_means(values, np.random.default_rng(5))
    error = values.std() / len(values) ** 0.5
    assert len(means) == 2_000
    assert means.mean() == pytest.approx(values.mean(), abs=5 * error / 2_000**0.5)
    assert means.std() == pytest.approx(error, rel=0.06)


def test_sample_scores_of_another_split_or_of_some_runs_only_are_not_resampled() -> None:
    draw = np.random.default_rng(6)
    whole, short = [right(draw, 0.5) for _ in range(2)], [right(draw, 0.5, 10) for _ in range(2)]
    empty = [np.zeros(0, np.float32)] * 2
    for other in (short, empty, None):
        found = difference(results([50.0, 52.0], whole), results([40.0, 41.0], other))
        assert found is not None
        assert found.resampled == "seeds"


def test_the_same_results_give_the_same_interval() -> None:
    draw = np.random.default_rng(9)
    one, other = [[right(draw, share) for _ in range(3)] for share in (0.7, 0.6)]
    found = [
        difference(results([float(a.mean()) for a in one], one), results([float(a.mean()) for a in other], other))
        for _ in range(2)
    ]
    assert found[0] == found[1]
