"""Uncertainty of a number: spread over seeds, paired differences and their intervals."""

from collections.abc import Mapping, Sequence
from statistics import NormalDist, mean, stdev
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

DRAWS = 2_000
LEVEL = 0.95
_CHUNK = 2**22  # random numbers drawn at a time: 32 MB
_COUNT_COST = 16  # of drawing a count, as a multiple of drawing an index


class Result(NamedTuple):
    """The score of a run, and those of its test samples [N], whose mean it is; None: they were not kept."""

    value: float
    sample_scores: NDArray[np.float32] | None = None


class Difference(NamedTuple):
    """A mean paired difference and its interval (95 %).

    Attributes:
        by_seed: the difference at every seed.
        low, high: None: there is nothing to resample.
        resampled: ``seeds and test samples``, ``seeds``, ``test samples``, or nothing.
    """

    mean: float
    by_seed: Mapping[int, float]
    low: float | None = None
    high: float | None = None
    resampled: str = ""


def mean_and_spread(numbers: Sequence[float], digits: int = 2) -> str:
    """Mean ± standard deviation; one number alone has no spread, and no number is a dash."""
    if not numbers:
        return "—"
    spread = f" ± {stdev(numbers):.{digits}f}" if len(numbers) > 1 else ""
    return f"{mean(numbers):.{digits}f}{spread}"


def difference(first: Mapping[int, Result], second: Mapping[int, Result]) -> Difference | None:
    """``first`` − ``second`` over the seeds that both have, with a bootstrap interval; None: they share no seed.

    The bootstrap is crossed (Owen 2007): it draws seeds, and test samples, the same ones for all seeds since all are
    scored on one test split. A percentile of three seeds is far too narrow (Hesterberg 2015), so the deviations due to
    the drawn seeds are widened to Student's t for their number. With one seed it draws test samples alone: such an
    interval does not include what another seed would change.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    by_seed = {seed: first[seed].value - second[seed].value for seed in seeds}
    means = np.array(list(by_seed.values()))
    samples = _by_sample([(first[seed].sample_scores, second[seed].sample_scores) for seed in seeds])
    resampled = " and ".join(["seeds"] * (len(seeds) > 1) + ["test samples"] * (samples is not None))
    center = float(means.mean())
    if not resampled:
        return Difference(center, by_seed)
    draw = np.random.default_rng(0)
    deviations = np.zeros(DRAWS)
    if len(seeds) > 1:
        drawn = means[draw.integers(0, len(seeds), (DRAWS, len(seeds)))].mean(1)
        deviations += t_widening(len(seeds)) * (drawn - center)
    if samples is not None:
        deviations += resampled_means(samples, draw) - samples.mean()
    low, high = np.quantile(deviations, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Difference(center, by_seed, center + float(low), center + float(high), resampled)


def t_widening(seeds: int) -> float:
    """Factor that makes the bootstrap of a mean of few seeds as wide as Student's t: √(n/(n−1)) · t / z; 1 for many."""
    t = float(stdtrit(seeds - 1, (1 + LEVEL) / 2))
    return float((seeds / (seeds - 1)) ** 0.5 * t / NormalDist().inv_cdf((1 + LEVEL) / 2))


def resampled_means(values: NDArray[np.float64], draw: np.random.Generator) -> NDArray[np.float64]:
    """The means [DRAWS] of N values that are drawn with replacement from ``values`` [N].

    Differences of right and wrong have few distinct values, however many samples: it draws counts of them instead.
    """
    distinct, counts = np.unique(values, return_counts=True)
    count, few = len(values), len(distinct) < len(values) / _COUNT_COST
    chunk = max(1, _CHUNK // (len(distinct) if few else count))
    sizes = [min(chunk, DRAWS - start) for start in range(0, DRAWS, chunk)]
    if few:
        return np.concatenate([draw.multinomial(count, counts / count, size) @ distinct / count for size in sizes])
    return np.concatenate([values[draw.integers(0, count, (size, count))].mean(1) for size in sizes])


def _by_sample(
    pairs: Sequence[tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]],
) -> NDArray[np.float64] | None:
    """Paired differences by test sample [N], averaged over seeds; None: some run has none, or of another split."""
    found = [(one, other) for one, other in pairs if one is not None and other is not None]
    sizes = {len(part) for pair in found for part in pair}
    if len(found) < len(pairs) or len(sizes) != 1 or 0 in sizes:
        return None
    over_seeds: NDArray[np.float64] = np.mean([one.astype(np.float64) - other for one, other in found], axis=0)
    return over_seeds
