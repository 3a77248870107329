"""Paired differences and their intervals, against SciPy, a bootstrap by hand, and by counting what they cover."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from facedistill.report.statistics import Effect, Result, average, difference, mean_and_spread

Scores = NDArray[np.float32]


def results(
    values: list[float], sample_scores: list[Scores] | None = None, identity: NDArray[np.int64] | None = None
) -> dict[int, Result]:
    return {
        seed: Result(value, None if sample_scores is None else sample_scores[seed], identity, "faces")
        for seed, value in enumerate(values)
    }


def of_samples(sample_scores: list[Scores], identity: NDArray[np.int64] | None = None) -> dict[int, Result]:
    return results([float(one.mean()) for one in sample_scores], sample_scores, identity)


def ends(found: Effect | None) -> tuple[float, float]:
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


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
    assert found == Effect({0: 10.0})
    assert (found.low, found.high, found.error, found.estimate, found.resampled) == (None, None, None, None, "")


def test_one_seed_has_the_interval_of_its_test_samples() -> None:
    draw = np.random.default_rng(1)
    one, other = right(draw, 0.8), right(draw, 0.5)
    found = difference(of_samples([one]), of_samples([other]))
    assert found is not None
    assert found.resampled == "test identities"
    reference = stats.ttest_1samp(one.astype(float) - other, 0).confidence_interval(0.95)
    assert ends(found) == pytest.approx((reference.low, reference.high))


def test_pairing_takes_out_what_samples_have_in_common() -> None:
    draw = np.random.default_rng(3)
    base = right(draw, 0.5)
    better = base.copy()
    better[np.flatnonzero(base == 0)[:8]] = 100  # 2 points
    found = difference(of_samples([better]), of_samples([base]))
    assert found is not None
    assert found.mean == pytest.approx(2.0)
    assert ends(found)[0] > 0  # two independent proportions of 400 would be within ±7 points


def test_of_several_seeds_without_samples_the_interval_is_students_t() -> None:
    values = [3.0, 5.5, 4.0, 7.0, 5.0, 6.5]
    found = difference(results(values), results([0.5] * len(values)))
    assert found is not None
    assert found.resampled == "seeds"
    reference = stats.ttest_1samp(np.array(values) - 0.5, 0)
    interval = reference.confidence_interval(0.95)
    assert ends(found) == pytest.approx((interval.low, interval.high))
    assert found.estimate is not None
    assert 2 * float(found.estimate.p_above()) == pytest.approx(reference.pvalue)


def bootstrap_of_identities(differences: NDArray[np.float64], identity: NDArray[np.int64]) -> float:
    """The standard error over 4,000 draws of whole identities; ``differences``: [seed, sample]."""
    draw = np.random.default_rng(0)
    by_identity = [np.flatnonzero(identity == one) for one in np.unique(identity)]
    means = []
    for _ in range(4_000):
        drawn = np.concatenate([by_identity[one] for one in draw.integers(0, len(by_identity), len(by_identity))])
        means.append(differences[:, drawn].mean())
    return float(np.std(means))


@pytest.mark.parametrize("seeds", [1, 4])
def test_the_variance_over_identities_is_that_of_a_bootstrap(seeds: int) -> None:
    draw = np.random.default_rng(5)
    identity = draw.permutation(np.repeat(np.arange(60), draw.integers(3, 9, 60)))
    of_identity = draw.normal(3, 25, 60)
    first = [(50 + of_identity[identity] + draw.normal(0, 20, len(identity))).astype(np.float32) for _ in range(seeds)]
    second = [np.full(len(identity), 50, np.float32)] * seeds
    found = difference(of_samples(first, identity), of_samples(second, identity))
    assert found is not None
    assert found.error is not None
    over_seeds = np.var([one.mean() for one in first], ddof=1) / seeds if seeds > 1 else 0.0
    expected = bootstrap_of_identities(np.array(first, np.float64) - 50, identity)
    assert (found.error**2 - over_seeds) ** 0.5 == pytest.approx(expected, rel=0.06)
    ungrouped = difference(of_samples(first), of_samples(second))
    assert ungrouped is not None
    assert ungrouped.error is not None
    assert ungrouped.error < 0.75 * found.error, "samples of an identity are no independent ones"


def coverage(seeds: int, between: float, of_a_seed: float, clustered: bool, times: int = 1_000) -> float:
    """How often the interval of an average of two comparisons, which share a cell, covers the truth, 5.

    ``between``: deviation of a run; ``of_a_seed``: of what all cells of a seed have in common; ``clustered``: whether
    40 identities of five samples differ by 15 points in what the better cell gains.
    """
    draw, covered = np.random.default_rng(7), 0
    identity = np.repeat(np.arange(40), 5)
    for _ in range(times):
        gain = 5 + draw.normal(0, 15, 40)[identity] if clustered else np.full(200, 5.0)
        cells: list[list[Scores]] = [[], [], []]
        for _ in range(seeds):
            shared = draw.normal(0, of_a_seed) + draw.normal(50, 20, 200)
            for cell, scores in enumerate(cells):
                own = shared + draw.normal(0, between) + (gain if cell == 0 else 0.0)
                scores.append(own.astype(np.float32))
        found = [of_samples(cell, identity) for cell in cells]
        if not clustered:
            found = [results([one.value for one in cell.values()]) for cell in found]
        effects = [difference(found[0], found[1]), difference(found[0], found[2])]
        low, high = ends(average([effect for effect in effects if effect is not None]))
        covered += low <= 5.0 <= high
    return covered / times


@pytest.mark.parametrize(
    ("seeds", "between", "of_a_seed", "clustered"),
    [
        (2, 3.0, 0.0, True),
        (3, 3.0, 6.0, False),
        (5, 3.0, 6.0, False),
        (3, 3.0, 0.0, True),
        (5, 1.0, 6.0, True),
        (8, 3.0, 6.0, True),
    ],
)
def test_an_interval_covers_the_truth_as_often_as_its_level(
    seeds: int, between: float, of_a_seed: float, clustered: bool
) -> None:
    assert 0.935 <= coverage(seeds, between, of_a_seed, clustered) <= 0.985


def test_an_average_is_taken_seed_by_seed_and_sample_by_sample() -> None:
    draw = np.random.default_rng(11)
    identity = np.repeat(np.arange(50), 4)
    cells = [[right(draw, share, 200) for _ in range(3)] for share in (0.7, 0.6, 0.5)]
    one, other, last = (of_samples(cell, identity) for cell in cells)
    # the cell in between cancels, so this is half of the difference of the outer ones
    effects = [difference(one, other), difference(other, last)]
    found = average([effect for effect in effects if effect is not None])
    whole = difference(one, last)
    assert found is not None
    assert whole is not None
    assert found.by_seed == pytest.approx({seed: value / 2 for seed, value in whole.by_seed.items()})
    assert ends(found) == pytest.approx(ends(whole.times(0.5)))
    assert found.resampled == "seeds and test identities"


def test_of_two_test_splits_the_variances_are_added() -> None:
    draw = np.random.default_rng(12)
    one, other = right(draw, 0.8), right(draw, 0.5)
    effects = []
    for data in ("faces", "others"):
        first, second = (Result(float(x.mean()), x, None, data) for x in (one, other))
        effects.append(difference({0: first}, {0: second}))
    single = effects[0]
    found = average([effect for effect in effects if effect is not None])
    assert found is not None
    assert single is not None
    assert single.error is not None
    assert found.error == pytest.approx(single.error / 2**0.5)
    assert average([single, single]) == single


def test_an_average_has_the_seeds_that_all_have() -> None:
    found = average([Effect({0: 1.0, 1: 2.0, 2: 3.0}), Effect({1: 4.0, 2: 5.0, 3: 6.0})])
    assert found == Effect({1: 3.0, 2: 4.0})
    assert average([Effect({0: 1.0}), Effect({1: 1.0})]) is None
    assert average([]) is None


def test_sample_scores_of_another_split_or_of_some_runs_only_are_not_resampled() -> None:
    draw = np.random.default_rng(6)
    whole, short = [right(draw, 0.5) for _ in range(2)], [right(draw, 0.5, 10) for _ in range(2)]
    empty = [np.zeros(0, np.float32)] * 2
    for other in (short, empty, None):
        found = difference(results([50.0, 52.0], whole), results([40.0, 41.0], other))
        assert found is not None
        assert found.resampled == "seeds"
    people = np.arange(400) // 2
    found = difference(results([50.0, 52.0], whole, people), results([40.0, 41.0], whole, people[::-1]))
    assert found is not None
    assert found.resampled == "seeds", "other people"
    nobody_else = np.zeros(400, np.int64)
    found = difference(results([50.0, 52.0], whole, nobody_else), results([40.0, 41.0], whole, nobody_else))
    assert found is not None
    assert found.resampled == "seeds", "of one person nothing can be resampled"
    mixed = average([Effect({0: 1.0, 1: 2.0}), *(e for e in [difference(of_samples(whole), of_samples(whole))] if e)])
    assert mixed is not None
    assert mixed.resampled == "seeds"
