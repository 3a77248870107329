"""Ten-fold pair verification against a search over every threshold, and the ROC against scikit-learn."""

from itertools import pairwise
from statistics import mean, stdev

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import brentq
from sklearn.metrics import roc_auc_score, roc_curve

from facedistill.metrics.pairs import (
    auc,
    best_threshold,
    equal_error_rate,
    errors_at,
    roc,
    similarity_metrics,
    tar_at_far,
    ten_fold_accuracy,
    threshold_at_far,
    verification_metrics,
)

Floats, Bools, Ints = NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]


def right_at(threshold: float, similarity: Floats, same: Bools) -> int:
    return sum((s >= threshold) == t for s, t in zip(similarity.tolist(), same.tolist(), strict=True))


def slow_threshold(similarity: Floats, same: Bools) -> float:
    """The lowest of the best cuts: in the middle between neighbouring values, or outside of all of them."""
    values = sorted(set(similarity.tolist()))
    cuts = [values[0] - 1, *((a + b) / 2 for a, b in pairwise(values)), values[-1] + 1]
    best, most = cuts[0], -1
    for cut in cuts:
        if right_at(cut, similarity, same) > most:
            best, most = cut, right_at(cut, similarity, same)
    return best


def slow_accuracy(similarity: Floats, same: Bools, fold: Ints) -> list[float]:
    accuracies = []
    for k in sorted(set(fold.tolist())):
        held, others = fold == k, fold != k
        cut = slow_threshold(similarity[others], same[others])
        accuracies.append(right_at(cut, similarity[held], same[held]) / held.sum())
    return accuracies


def drawn(seed: int, levels: int, gap: float) -> tuple[Floats, Bools, Ints]:
    draw = np.random.default_rng(seed)
    same, fold = draw.random(200) < 0.5, draw.permutation(np.repeat(np.arange(10), 20))
    return np.round((draw.normal(size=200) + gap * same) * levels) / levels, same, fold


@pytest.mark.parametrize("levels", [1, 4, 10**6])  # 1: many ties
@pytest.mark.parametrize("gap", [-1.0, 0.0, 0.7, 3.0])
def test_accuracy_is_that_of_a_search_over_all_thresholds(levels: int, gap: float) -> None:
    for seed in range(3):
        similarity, same, fold = drawn(seed, levels, gap)
        found = ten_fold_accuracy(similarity, same, fold)
        assert found.tolist() == pytest.approx(slow_accuracy(similarity, same, fold), abs=1e-12)


@pytest.mark.parametrize("levels", [1, 3, 10**6])
def test_no_threshold_is_right_more_often_than_the_best(levels: int) -> None:
    for seed in range(5):
        similarity, same, _ = drawn(seed, levels, 0.5)
        best = best_threshold(similarity, same)
        most = right_at(best, similarity, same)
        tried = [*similarity.tolist(), *(similarity + 1e-9).tolist(), *(similarity - 1e-9).tolist()]
        assert most == max(right_at(cut, similarity, same) for cut in tried)
        assert best == slow_threshold(similarity, same)


def test_pairs_that_can_be_told_apart_give_one() -> None:
    same = np.tile([True, False], 50)
    accuracy = ten_fold_accuracy(np.where(same, 0.9, 0.1), same, np.repeat(np.arange(10), 10))
    assert accuracy.tolist() == [1.0] * 10


def test_a_similarity_that_says_nothing_gives_chance() -> None:
    same = np.tile([True, False], 50)
    assert ten_fold_accuracy(np.zeros(100), same, np.repeat(np.arange(10), 10)).tolist() == [0.5] * 10


def test_a_fold_is_judged_by_the_threshold_of_the_others_alone() -> None:
    # fold 0 could be told apart perfectly, but with a threshold that the other folds do not suggest
    fold = np.repeat(np.arange(10), 4)
    same = np.tile([True, True, False, False], 10)
    similarity = np.tile([0.9, 0.8, 0.2, 0.1], 10)
    similarity[fold == 0] -= 10
    accuracy = ten_fold_accuracy(similarity, same, fold)
    assert accuracy[0] == 0.5
    assert accuracy[1:].tolist() == [1.0] * 9


def test_the_lowest_of_equally_good_thresholds_is_taken() -> None:
    # every cut is right once or twice; both 0.15 and 0.35 are right three times
    similarity, same = np.array([0.1, 0.2, 0.3, 0.4]), np.array([False, True, False, True])
    assert best_threshold(similarity, same) == pytest.approx(0.15)
    assert best_threshold(np.array([0.1, 0.2]), np.array([True, False])) == pytest.approx(0.1)


def test_the_order_of_pairs_and_the_numbers_of_folds_do_not_matter() -> None:
    similarity, same, fold = drawn(0, 4, 0.5)
    order = np.random.default_rng(1).permutation(len(same))
    shuffled = ten_fold_accuracy(similarity[order], same[order], fold[order] * 7 + 3)
    assert shuffled.tolist() == ten_fold_accuracy(similarity, same, fold).tolist()


def test_all_of_one_kind() -> None:
    similarity = np.array([0.1, 0.5, 0.5, 0.9])
    for kind in (True, False):
        same = np.full(4, kind)
        assert right_at(best_threshold(similarity, same), similarity, same) == 4


def test_the_threshold_separates_even_neighbouring_floats() -> None:
    for low in (1.0, float(np.nextafter(1.0, 2.0)), 0.1):
        similarity, same = np.array([low, np.nextafter(low, 2.0)]), np.array([False, True])
        assert right_at(best_threshold(similarity, same), similarity, same) == 2


@pytest.mark.parametrize("levels", [1, 4, 10**6])
@pytest.mark.parametrize("gap", [-1.0, 0.0, 0.7, 3.0])
def test_roc_and_its_area_are_those_of_scikit_learn(levels: int, gap: float) -> None:
    for seed in range(3):
        similarity, same, _ = drawn(seed, levels, gap)
        for mine, theirs in zip(
            roc(similarity, same), roc_curve(same, similarity, drop_intermediate=False), strict=True
        ):
            assert mine.tolist() == pytest.approx(theirs.tolist(), abs=1e-12)
        assert auc(similarity, same) == pytest.approx(roc_auc_score(same, similarity), abs=1e-12)


@pytest.mark.parametrize("levels", [1, 4, 10**6])
@pytest.mark.parametrize("gap", [-1.0, 0.0, 0.7])
def test_equal_error_rate_is_the_root_of_far_minus_frr(levels: int, gap: float) -> None:
    for seed in range(3):
        similarity, same, _ = drawn(seed, levels, gap)
        far, tar, _ = roc_curve(same, similarity)
        rate = brentq(lambda x: x - (1 - np.interp(x, far, tar)), 0, 1)  # noqa: B023
        assert equal_error_rate(similarity, same) == pytest.approx(rate, abs=1e-9)


def test_equal_error_rate_of_known_cases() -> None:
    same = np.array([True, True, False, False])
    assert equal_error_rate(np.array([4.0, 3.0, 2.0, 1.0]), same) == 0
    assert equal_error_rate(np.array([1.0, 2.0, 3.0, 4.0]), same) == 1
    assert equal_error_rate(np.zeros(4), same) == 0.5


@pytest.mark.parametrize("levels", [1, 4, 10**6])
@pytest.mark.parametrize("far", [0.5, 0.1, 0.03, 0.01])
def test_tar_at_far_is_the_best_of_all_thresholds(levels: int, far: float) -> None:
    for seed in range(5):
        similarity, same, _ = drawn(seed, levels, 0.7)
        cuts = [np.inf, *similarity.tolist()]
        allowed = [cut for cut in cuts if np.mean(similarity[~same] >= cut) <= far]
        best = max(np.mean(similarity[same] >= cut) for cut in allowed)
        expected = None if far * (~same).sum() < 1 else pytest.approx(best, abs=1e-12)
        assert tar_at_far(similarity, same, far) == expected


@pytest.mark.parametrize(("rate", "others"), [(1e-1, 10), (1e-2, 100), (1e-3, 1000), (1e-4, 10_000)])
def test_tar_at_far_needs_one_pair_that_may_be_accepted(rate: float, others: int) -> None:
    # the most similar pair is of two persons: none may be accepted → 0, one may → 1
    same = np.array([True] + [False] * others)
    similarity = np.array([1.0, 2.0] + [0.0] * (others - 1))
    assert tar_at_far(similarity, same, rate) == 1
    assert tar_at_far(similarity[:-1], same[:-1], rate) is None


@pytest.mark.parametrize("levels", [4, 10**6])
@pytest.mark.parametrize("far", [0.5, 0.1, 0.03])
def test_a_threshold_is_the_lowest_similarity_that_keeps_the_rate(levels: int, far: float) -> None:
    for seed in range(5):
        similarity, same, _ = drawn(seed, levels, 0.7)
        threshold = threshold_at_far(similarity, same, far)
        assert threshold is not None
        accepts, _, cuts = roc_curve(same, similarity, drop_intermediate=False)
        kept = cuts[accepts <= far]
        if np.isfinite(kept[-1]):
            assert threshold == kept[-1]
        lower = similarity[similarity < threshold]
        assert np.mean(similarity[~same] >= threshold) <= far < np.mean(similarity[~same] >= lower.max())


def test_where_the_most_similar_pairs_are_too_many_the_threshold_accepts_none() -> None:
    similarity, same = np.full(40, 0.7), np.arange(40) < 20
    threshold = threshold_at_far(similarity, same, 0.1)
    assert threshold is not None
    assert 0.7 < threshold < 0.7 + 1e-12
    assert tar_at_far(similarity, same, 0.1) == 0


def test_errors_at_a_threshold_are_counted() -> None:
    similarity, same = np.array([0.1, 0.5, 0.6, 0.2, 0.5]), np.array([True, True, True, False, False])
    assert errors_at(similarity, same, 0.5) == {"frr_at_0.5": pytest.approx(100 / 3), "far_at_0.5": 50}
    assert errors_at(similarity[same], same[same], 0.55) == {"frr_at_0.55": pytest.approx(200 / 3)}
    assert errors_at(similarity[~same], same[~same], 0.55) == {"far_at_0.55": 0}


def test_similarities_are_described_by_their_quantiles() -> None:
    found = similarity_metrics(np.random.default_rng(0).permutation(201) / 200)
    assert found == {
        "similarity_mean": pytest.approx(0.5),
        **{f"similarity_{level}%": pytest.approx(level / 100) for level in (1, 5, 25, 50, 75, 95, 99)},
    }


def test_all_metrics_in_percent_and_thresholds() -> None:
    similarity, same, fold = drawn(0, 10**6, 0.7)
    metrics = verification_metrics(similarity, same, fold)
    accuracies = slow_accuracy(similarity, same, fold)
    assert metrics == {
        "pairs": pytest.approx(100 * mean(accuracies)),
        "pairs_se": pytest.approx(100 * stdev(accuracies) / 10**0.5),
        "pairs_auc": pytest.approx(100 * roc_auc_score(same, similarity)),
        "pairs_eer": 100 * equal_error_rate(similarity, same),
        "tar_at_far_1e-1": 100 * (tar_at_far(similarity, same, 0.1) or 0),
        "tar_at_far_1e-2": 100 * (tar_at_far(similarity, same, 0.01) or 0),
        "tar_at_far_1e-3": None,
        "tar_at_far_1e-4": None,
        "threshold_at_far_1e-1": threshold_at_far(similarity, same, 0.1),
        "threshold_at_far_1e-2": threshold_at_far(similarity, same, 0.01),
        "threshold_at_far_1e-3": None,
        "threshold_at_far_1e-4": None,
    }


def test_folds_of_one_kind_and_folds_without_pairs() -> None:
    similarity, same, fold = drawn(0, 10**6, 0.7)
    fold = np.where(same, 3, np.where(fold < 5, 4, 8))  # 3 has all pairs of one person, the others none; 7 are empty
    metrics = verification_metrics(similarity, same, fold)
    assert metrics["pairs"] == pytest.approx(100 * mean(slow_accuracy(similarity, same, fold)))
    assert metrics["pairs_auc"] == pytest.approx(100 * roc_auc_score(same, similarity))


def test_what_can_not_be_told_is_none() -> None:
    similarity, same, fold = drawn(0, 10**6, 0.7)
    no_accuracy = verification_metrics(similarity, same, np.zeros_like(fold))
    assert {name for name, value in no_accuracy.items() if value is None} >= {"pairs", "pairs_se"}
    assert no_accuracy["pairs_auc"] == pytest.approx(100 * roc_auc_score(same, similarity))
    for kind in (True, False):
        assert set(verification_metrics(similarity, np.full(200, kind), fold).values()) == {None}
    assert set(verification_metrics(similarity[:0], same[:0], fold[:0]).values()) == {None}
