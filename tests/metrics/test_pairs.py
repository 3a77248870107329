"""Ten-fold pair verification against a search over every threshold."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from facedistill.metrics.pairs import best_threshold, ten_fold_accuracy

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
