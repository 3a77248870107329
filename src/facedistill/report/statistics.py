"""How sure a number is: spread over seeds, paired differences and their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist, mean, stdev
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

DRAWS = 2_000
LEVEL = 0.95
_AT_A_TIME = 2**22  # random numbers of a chunk of draws: 32 MB
_A_COUNT_COSTS = 16  # times as much to draw as an index


class Result(NamedTuple):
    """One run's score, and what it is the mean of, sample by sample [N]; None: not kept."""

    run: str
    value: float
    sample_scores: NDArray[np.float32] | None = None


class Difference(NamedTuple):
    """A mean paired difference and its interval (95 %).

    Attributes:
        each: the difference of every seed, by seed.
        low, high: None: there is nothing to resample.
        over: what was resampled: ``seeds and test samples``, ``seeds``, ``test samples``, or nothing.
    """

    mean: float
    each: Mapping[int, float]
    low: float | None = None
    high: float | None = None
    over: str = ""

    @property
    def is_one(self) -> bool:
        """Whether it may be called a difference: it has more than one seed, and its interval leaves out 0."""
        return len(self.each) > 1 and self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def shown(numbers: Sequence[float], digits: int = 2) -> str:
    """Mean ± standard deviation; without a spread where there is one number, a dash where there is none."""
    if not numbers:
        return "—"
    if len(numbers) == 1:
        return f"{numbers[0]:.{digits}f}"
    return f"{mean(numbers):.{digits}f} ± {stdev(numbers):.{digits}f}"


def difference(first: Mapping[int, Result], second: Mapping[int, Result]) -> Difference | None:
    """``first`` − ``second`` over the seeds that both have, with a bootstrap interval; None: they share no seed.

    The bootstrap is crossed (Owen 2007): seeds are drawn, and test samples, the same ones for all seeds since all are
    scored on one test split. A percentile of three seeds is far too narrow (Hesterberg 2015), so the deviations that
    come of the drawn seeds are stretched to the width of Student's t for their number. With one seed only the test
    samples are drawn: such an interval says nothing of what another seed would have given.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    each = {seed: first[seed].value - second[seed].value for seed in seeds}
    means = np.array(list(each.values()))
    samples = _by_sample([(first[seed].sample_scores, second[seed].sample_scores) for seed in seeds])
    over = " and ".join(["seeds"] * (len(seeds) > 1) + ["test samples"] * (samples is not None))
    middle = float(means.mean())
    if not over:
        return Difference(middle, each)
    draw = np.random.default_rng(0)
    deviations = np.zeros(DRAWS)
    if len(seeds) > 1:
        drawn = means[draw.integers(0, len(seeds), (DRAWS, len(seeds)))].mean(1)
        deviations += stretch(len(seeds)) * (drawn - middle)
    if samples is not None:
        deviations += resampled_means(samples, draw) - samples.mean()
    low, high = np.quantile(deviations, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Difference(middle, each, middle + float(low), middle + float(high), over)


def stretch(seeds: int) -> float:
    """What makes the bootstrap of a mean of so few as wide as Student's t: √(n/(n−1)) · t / z; 1 for many."""
    t = float(stdtrit(seeds - 1, (1 + LEVEL) / 2))
    return float((seeds / (seeds - 1)) ** 0.5 * t / NormalDist().inv_cdf((1 + LEVEL) / 2))


def resampled_means(values: NDArray[np.float64], draw: np.random.Generator) -> NDArray[np.float64]:
    """The means [DRAWS] of as many values, drawn with replacement from ``values`` [N].

    Differences of right and wrong have few distinct values, however many samples: then by how often each is drawn.
    """
    distinct, counts = np.unique(values, return_counts=True)
    count, few = len(values), len(distinct) < len(values) / _A_COUNT_COSTS
    chunk = max(1, _AT_A_TIME // (len(distinct) if few else count))
    sizes = [min(chunk, DRAWS - start) for start in range(0, DRAWS, chunk)]
    if few:
        return np.concatenate([draw.multinomial(count, counts / count, size) @ distinct / count for size in sizes])
    return np.concatenate([values[draw.integers(0, count, (size, count))].mean(1) for size in sizes])


def _by_sample(
    pairs: Sequence[tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]],
) -> NDArray[np.float64] | None:
    """Paired differences by test sample [N], averaged over seeds; None: not every run has them, of one split."""
    found = [(one, other) for one, other in pairs if one is not None and other is not None]
    sizes = {len(part) for pair in found for part in pair}
    if len(found) < len(pairs) or len(sizes) != 1 or 0 in sizes:
        return None
    over_seeds: NDArray[np.float64] = np.mean([one.astype(np.float64) - other for one, other in found], axis=0)
    return over_seeds
