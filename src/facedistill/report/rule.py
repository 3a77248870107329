"""The rule that answers a claim of the paper. It was fixed before any result; tests/report/test_rule.py simulates it.

A claim is made of parts, the statements in its words, and a part of comparisons: paired differences of two cells by
seed, turned so that more is what the paper says. A part is the average of its comparisons, the claim the average of its
parts, each statement counting as much as the other; every average is taken seed by seed, so that its interval (95 %,
Student's t; see ``statistics.Effect``) is right whatever its cells have in common. A claim is

*reproduced*
    if its interval lies above 0, every part's mean does, and nothing contradicts it.
*contradicted*
    if it, one of its parts or one of its comparisons lies below 0. All these looks share the 2.5 % that one end of an
    interval has: half is the claim's own, half is divided equally among parts and comparisons (Bonferroni).
*undecided*
    otherwise, and where a part with a direction is void or was not run, unless the parts are one statement in several
    tables: then those that were run answer it, and the answer names the others. ``detectable`` says how large an effect
    so many seeds would have found in four of five studies.

That two cells are the *same* is shown by an interval within ``MARGIN`` of 0 (two one-sided tests) and contradicted, as
one of the looks, where it lies beyond. Such a part is not in the average, since it has no direction.

*Reproduced* has three scopes: everywhere (every comparison's own interval lies above 0), in every part (every part's
own does), or on average. On average alone says nothing of a part by itself, which may have no effect at all, so the
answer names the parts that are undecided. To ask for every part at once would be a rule that the paper itself fails:
with its tables as the truth, a deviation of 3 points and five seeds it would reproduce C6 in 16 % of studies.

What is said of a teacher is said of the one that was trained: all seeds share it, so no interval has what another
teacher would change.

So where nothing has an effect a claim is answered wrongly in at most 5 % of studies: 2.5 % reproduced, 2.5 %
contradicted. It is as easy to speak against the paper as for it. With the paper's own numbers as the truth a single
comparison that goes the other way by some hundredths, of which its tables have several, contradicts nothing.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import nctdtrinc, stdtrit

from facedistill.report.statistics import LEVEL, Estimate

WRONG = 1 - LEVEL  # the share of studies in which a claim without any effect may be answered
MARGIN = 1.0  # points of top-1, or of pairs, within which two cells are the same
LEAST_SEEDS = 2
POWER = 0.8  # of the effect that could have been seen


class Answer(StrEnum):
    """What a study says of a claim, of one of its parts or of a comparison."""

    REPRODUCED = "reproduced"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    VOID = "void"
    NOT_RUN = "not run"


class Look(NamedTuple):
    """A part or a comparison that may contradict a claim; ``same``: what it says is that there is no effect."""

    estimate: Estimate
    same: bool = False

    @property
    def p_contradicted(self) -> NDArray[np.float64]:
        """One-sided, or of both sides where ``same``, before any correction."""
        if self.same:
            beyond = np.minimum(self.estimate.p_above(MARGIN), self.estimate.p_below(-MARGIN))
            return np.asarray(np.minimum(1.0, 2 * beyond))
        return self.estimate.p_below()

    @property
    def is_shown(self) -> NDArray[np.bool_]:
        """Whether its own interval shows what the paper says."""
        low, high = self.estimate.interval()
        return np.asarray((low > -MARGIN) & (high < MARGIN) if self.same else low > 0)


class Judgement(NamedTuple):
    """Of a claim, with two-sided p values: it may be answered where one is at most ``WRONG``.

    Attributes:
        agrees: the mean of every part that has a direction is above 0.
        claim_level, look_level: at which p value the claim as a whole, and each of the looks, contradicts.
    """

    p_reproduced: NDArray[np.float64]
    p_contradicted: NDArray[np.float64]
    agrees: NDArray[np.bool_]
    claim_level: NDArray[np.float64]
    look_level: NDArray[np.float64]

    @property
    def contradicted(self) -> NDArray[np.bool_]:
        return self.p_contradicted <= WRONG

    @property
    def reproduced(self) -> NDArray[np.bool_]:
        return (self.p_reproduced <= WRONG) & self.agrees & ~self.contradicted


class Part(NamedTuple):
    """A statement: the average of its comparisons, and these."""

    look: Look
    comparisons: Sequence[Look]


def judge(claim: Estimate, parts: Sequence[Part]) -> Judgement:
    """Judge a claim, or many studies of it at once: then estimates hold arrays, with NaN where one was not looked at.

    ``claim``: the average of the parts that have a direction. What is the same number is one look: a part with a
    single comparison, and the only part of a claim.
    """
    looks = [part.look for part in parts if len(part.comparisons) > 1] if len(parts) > 1 else []
    comparisons = [look for part in parts for look in part.comparisons]
    looks += comparisons if len(comparisons) > 1 else []
    alone = claim.p_below()
    found = np.stack(np.broadcast_arrays(alone, *(look.p_contradicted for look in looks)))[1:]
    count = (~np.isnan(found)).sum(0)
    claim_level = np.where(count > 0, WRONG / 4, WRONG / 2)
    look_level = np.where(count > 0, WRONG / 4 / np.maximum(count, 1), WRONG / 2)
    least = np.where(np.isnan(found), 1.0, found).min(0, initial=1.0)
    p_contradicted = WRONG * np.minimum(alone / claim_level, least / look_level)
    means = [part.look.estimate.mean for part in parts if not part.look.same]
    agrees = np.logical_not(np.logical_or.reduce([np.asarray(mean) <= 0 for mean in means]))
    p_reproduced = np.minimum(1.0, 2 * claim.p_above())
    return Judgement(p_reproduced, np.minimum(1.0, p_contradicted), agrees, claim_level, look_level)


def detectable(estimate: Estimate) -> float:
    """The effect that such a study would have shown above 0 with a probability of ``POWER``."""

    def errors(freedom: ArrayLike) -> ArrayLike:
        critical = stdtrit(freedom, (1 + LEVEL) / 2)
        return np.asarray(nctdtrinc(freedom, 1 - POWER, critical))  # the noncentrality of t

    return float(estimate.error * estimate.weighted(errors))


def survives(p_values: Sequence[float]) -> list[bool]:
    """Which answers remain if not one of all of them may be wrong in more than ``WRONG`` of studies (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    kept = np.zeros(len(p_values), bool)
    for rank, index in enumerate(order):
        if p_values[index] * (len(p_values) - rank) > WRONG:
            break
        kept[index] = True
    return [bool(one) for one in kept]
