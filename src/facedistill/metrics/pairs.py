"""Pair verification by the protocol of LFW: ten folds, each with the threshold that is best on the other nine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def ten_fold_accuracy(
    similarity: NDArray[np.float64], same: NDArray[np.bool_], fold: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Accuracy of each fold when "same" means similarity ≥ the threshold that is best on all other folds.

    Args:
        similarity: [P], larger for the same person.
        same: [P], the truth.
        fold: [P], number of each pair's fold.

    Returns:
        The accuracies [folds], 0 … 1 (Huang et al. 2007; the score is their mean).
    """
    return np.array(
        [
            np.mean(
                (similarity[fold == k] >= best_threshold(similarity[fold != k], same[fold != k])) == same[fold == k]
            )
            for k in np.unique(fold)
        ]
    )


def best_threshold(similarity: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    """The threshold with the most right answers; between two similarities, the lowest of equally good ones."""
    values, counts = np.unique(similarity, return_counts=True)
    order = np.argsort(similarity, kind="stable")
    below = np.concatenate([[0], np.cumsum(same[order])])  # pairs of one person among the k least similar
    # cutting below the i-th value calls everything under it different, and the rest the same
    cuts = np.concatenate([[0], np.cumsum(counts)])
    right = (cuts - below[cuts]) + (below[-1] - below[cuts])
    middles = (values[:-1] + values[1:]) / 2
    middles = np.where(middles > values[:-1], middles, values[1:])  # of two adjacent floats there is no middle
    edges = np.concatenate([[values[0]], middles, [values[-1] + 1]])
    return float(edges[int(np.argmax(right))])
