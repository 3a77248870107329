"""Uncertainty of a number: spread over seeds, paired differences and their intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from hashlib import sha256
from statistics import mean, stdev
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

LEVEL = 0.95  # of every interval that is shown


class Result(NamedTuple):
    """The score of a run, and those of its test samples [N], whose mean it is; None: they were not kept.

    ``identity``: the label [N] of every sample, None: each is of its own; ``data``: the name of the data set.
    """

    value: float
    sample_scores: NDArray[np.float32] | None = None
    identity: NDArray[np.int64] | None = None
    data: str = ""


class Estimate(NamedTuple):
    """Means with their variances: numbers, or arrays of one shape for many at once.

    The variance of a mean has two parts, of few and of many degrees of freedom. The critical value of their sum is the
    average of both of Student's, weighted by the variances (Cochran and Cox 1950): its level holds for two seeds, too,
    where degrees of freedom for the sum (Satterthwaite) would give intervals that cover 87 instead of 95 %.

    Attributes:
        over_seeds, over_identities: variances of the mean.
        freedom, freedom_of_identities: their degrees of freedom.
    """

    mean: ArrayLike
    over_seeds: ArrayLike
    freedom: ArrayLike
    over_identities: ArrayLike = 0.0
    freedom_of_identities: ArrayLike = 1.0

    @property
    def error(self) -> NDArray[np.float64]:
        return np.sqrt(np.add(self.over_seeds, self.over_identities))

    def weighted(self, of_freedom: Callable[[ArrayLike], ArrayLike]) -> NDArray[np.float64]:
        """The average of what both degrees of freedom give, weighted by the variances."""
        total = np.add(self.over_seeds, self.over_identities)
        share = np.divide(self.over_identities, np.where(total > 0, total, 1.0))
        return np.asarray((1 - share) * of_freedom(self.freedom) + share * of_freedom(self.freedom_of_identities))

    def interval(self, level: float = LEVEL) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        half = self.error * self.weighted(lambda freedom: stdtrit(freedom, (1 + level) / 2))
        return np.asarray(self.mean) - half, np.asarray(self.mean) + half

    def p_above(self, limit: float = 0.0) -> NDArray[np.float64]:
        """One-sided p values of "the truth is not above ``limit``"; without any spread it is known for certain."""
        above = np.subtract(self.mean, limit)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = self._tail(np.abs(above) / self.error)
        found = np.where(above < 0, 1 - found, found)
        certain = np.where(np.isnan(above), np.nan, np.where(above > 0, 0.0, 1.0))
        return np.where(self.error == 0, certain, found)

    def p_below(self, limit: float = 0.0) -> NDArray[np.float64]:
        """One-sided p values of "the truth is not below ``limit``"."""
        return self._replace(mean=np.negative(self.mean)).p_above(-limit)

    def _tail(self, errors: NDArray[np.float64]) -> NDArray[np.float64]:
        """At which one-sided level the critical value is so many standard errors: closed, or by bisection."""
        if not np.any(self.over_identities):
            return np.asarray(stdtr(self.freedom, -errors))
        low, high = np.full_like(errors, _SMALLEST), np.full_like(errors, np.log(0.5))
        for _ in range(60):
            middle = (low + high) / 2
            critical = -self.weighted(partial(_quantile, np.exp(middle)))
            low, high = np.where(critical > errors, middle, low), np.where(critical > errors, high, middle)
        return np.where(np.isnan(errors), np.nan, np.exp(high))


_SMALLEST = -200.0  # logarithm of a level


def _quantile(level: NDArray[np.float64], freedom: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(stdtrit(freedom, level))


@dataclass(frozen=True)
class Effect:
    """A mean paired difference, or the average of several, and its 95 % interval.

    Its variance has two parts. That of the mean over seeds is taken from the differences at the seeds, so whatever the
    cells of one seed have in common, a parent or the order of the images, is in it. To it is added what other test
    identities would change: the variance that a bootstrap of whole identities would have, the same ones at all seeds
    since all are scored on one test split (crossed as in Owen 2007, whose sum is rather too wide than too narrow). The
    bootstrap's variance is known in closed form, so nothing is drawn.

    Attributes:
        by_seed: the difference at every seed.
        influence: by seed and by test split what every identity there adds to the difference beyond its mean, [G];
            None: some run has not kept the scores of its test samples.
    """

    by_seed: Mapping[int, float]
    influence: Mapping[int, Mapping[str, NDArray[np.float64]]] | None = field(default=None, repr=False, compare=False)

    @property
    def mean(self) -> float:
        return mean(self.by_seed.values())

    @cached_property
    def estimate(self) -> Estimate | None:
        """None: there is nothing that a spread could be taken from."""
        seeds = len(self.by_seed)
        over_seeds = float(np.var(list(self.by_seed.values()), ddof=1)) / seeds if seeds > 1 else 0.0
        shares = [np.mean([one[split] for one in self._influences], axis=0) for split in self._splits]
        if seeds == 1 and not shares:
            return None
        over_identities = sum(float(np.square(share).sum()) * len(share) / (len(share) - 1) for share in shares)
        fewest = min((len(share) for share in shares), default=2)
        return Estimate(self.mean, over_seeds, max(seeds - 1, 1), over_identities, fewest - 1)

    @property
    def _influences(self) -> list[Mapping[str, NDArray[np.float64]]]:
        return [] if self.influence is None else [self.influence[seed] for seed in self.by_seed]

    @property
    def _splits(self) -> list[str]:
        """The test splits whose identities can be resampled."""
        return sorted(self._influences[0]) if self._influences else []

    @property
    def error(self) -> float | None:
        """Standard error."""
        return None if self.estimate is None else float(self.estimate.error)

    @cached_property
    def _interval(self) -> tuple[float, float] | None:
        if self.estimate is None:
            return None
        low, high = self.estimate.interval()
        return float(low), float(high)

    @property
    def low(self) -> float | None:
        return None if self._interval is None else self._interval[0]

    @property
    def high(self) -> float | None:
        return None if self._interval is None else self._interval[1]

    @property
    def resampled(self) -> str:
        """What the interval is over: ``seeds and test identities``, ``seeds``, ``test identities``, or nothing."""
        return " and ".join(["seeds"] * (len(self.by_seed) > 1) + ["test identities"] * bool(self._splits))

    def times(self, factor: float) -> "Effect":
        influence = self.influence and {
            seed: {split: factor * share for split, share in splits.items()} for seed, splits in self.influence.items()
        }
        return Effect({seed: factor * value for seed, value in self.by_seed.items()}, influence)


def difference(first: Mapping[int, Result], second: Mapping[int, Result]) -> Effect | None:
    """``first`` − ``second`` at the seeds that both have; None: they share no seed."""
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    influence = {seed: _influence(first[seed], second[seed]) for seed in seeds}
    splits = {tuple(found) for found in influence.values()}
    return Effect(
        {seed: first[seed].value - second[seed].value for seed in seeds},
        influence if len(splits) == 1 and splits != {()} else None,
    )


def average(effects: Sequence[Effect]) -> Effect | None:
    """Their mean at the seeds that all of them have; None: there are none."""
    seeds = sorted(set[int].intersection(*(set(effect.by_seed) for effect in effects))) if effects else []
    if not seeds:
        return None
    by_seed = {seed: mean(effect.by_seed[seed] for effect in effects) for seed in seeds}
    influence: dict[int, dict[str, NDArray[np.float64]]] = {seed: {} for seed in seeds}
    for effect in effects:
        for seed in seeds:
            if effect.influence is None:
                return Effect(by_seed)
            for split, share in effect.influence[seed].items():
                influence[seed][split] = influence[seed].get(split, 0) + share / len(effects)
    return Effect(by_seed, influence)


def _influence(first: Result, second: Result) -> dict[str, NDArray[np.float64]]:
    """What every identity [G] of the test split adds to the difference of two runs beyond the mean of all samples.

    Empty where a run has no samples, they are of another split, or all of them are of one identity.
    """
    one, other = first.sample_scores, second.sample_scores
    if one is None or other is None or len(one) != len(other) or not len(one):
        return {}
    identity = np.arange(len(one)) if first.identity is None else first.identity
    if second.identity is not None and not np.array_equal(identity, second.identity):
        return {}
    deviations = one.astype(np.float64) - other
    _, cluster = np.unique(identity, return_inverse=True)
    shares = np.bincount(cluster, deviations - deviations.mean()) / len(one)
    split = f"{first.data} {sha256(identity.tobytes()).hexdigest()}"
    return {split: shares} if len(shares) > 1 else {}


def mean_and_spread(numbers: Sequence[float], digits: int = 2) -> str:
    """Mean ± standard deviation; one number alone has no spread, and no number is a dash."""
    if not numbers:
        return "—"
    spread = f" ± {stdev(numbers):.{digits}f}" if len(numbers) > 1 else ""
    return f"{mean(numbers):.{digits}f}{spread}"
