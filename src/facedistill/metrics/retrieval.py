"""Face retrieval: the ranks of a person's other images among all other images."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facedistill.errors import DataError
from facedistill.metrics.embeddings import EmbeddingMetric

CHUNK = 128  # queries at a time; 100 MB of distances with 100,000 samples


class NearestNeighbour(EmbeddingMetric):
    """Every sample is the query once and all others the gallery, by Euclidean distance (arXiv 1709.02929)."""

    higher_is_better = True
    first: NDArray[np.float64]  # of the last ``compute``: the rank of every query's nearest match, 1 … N - 1 or inf

    def compute(self) -> dict[str, Tensor]:
        """Float64; %, apart from ``unmatched``.

        Returns:
            top1, rank5, rank10: share of queries with their own identity among the 1, 5, 10 nearest.
            map: mean average precision over queries.
            unmatched: number of queries that are the only image of their identity; they count 0 everywhere.

        Raises:
            DataError: fewer than 2 samples, or an embedding that is not finite.
        """
        embeddings, labels, _ = self.in_order()
        if len(labels) < 2:
            raise DataError("retrieval compares every sample with the others: the split has 1")
        self.first, precision = score_queries(embeddings, labels)
        metrics = {name: 100 * np.mean(self.first <= k) for name, k in (("top1", 1), ("rank5", 5), ("rank10", 10))}
        metrics |= {"map": 100 * precision.mean(), "unmatched": np.isinf(self.first).sum()}
        return {name: torch.tensor(float(value), dtype=torch.float64) for name, value in metrics.items()}


def score_queries(embeddings: Tensor, labels: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rank of the nearest match of every query [N], 1 … N - 1 or inf, and its average precision [N], 0 … 1.

    Of samples equally far from the query, those of other identities come first, so that a network with constant output
    scores lowest.

    Args:
        embeddings: [N, D], rounded to 2^-25 of the longest one's length (a power of two no shorter). Squared distances
            are then integers below 2^53, and float64 exact in whatever order or chunks they are added up.
        labels: [N], identities.

    Raises:
        DataError: an embedding is not finite.
    """
    points = on_grid(embeddings)
    squares, identities = torch.einsum("nd,nd->n", points, points), labels.numpy()

    def score(query: int, distances: NDArray[np.float64]) -> tuple[float, float]:
        distances[query] = np.inf
        same = identities == identities[query]
        same[query] = False
        return score_query(distances, same)

    scores: list[tuple[float, float]] = []
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for start in range(0, len(points), CHUNK):
            # without the query's own square, which does not change the order
            distances = torch.addmm(squares, points[start : start + CHUNK], points.T, alpha=-2).numpy()
            scores += pool.map(score, range(start, start + CHUNK), distances)
    first, precision = np.array(scores).T
    return first, precision


def on_grid(embeddings: Tensor) -> Tensor:
    """Embeddings [N, D] in units of 2^-25 of the longest one's length, rounded: see ``score_queries``, which raises."""
    points = embeddings.double()
    squares = torch.einsum("nd,nd->n", points, points)
    if not squares.isfinite().all():
        raise DataError("embeddings are not finite: the weights are unusable, or the training has diverged")
    return points.mul_(2.0 ** (25 - math.frexp(math.sqrt(squares.max()))[1])).round_()


def score_query(distances: NDArray[np.float64], same: NDArray[np.bool_]) -> tuple[float, float]:
    """Rank of the nearest match and average precision of one query, from its distances [N]."""
    matches = np.sort(distances[same])
    if len(matches) == 0:
        return math.inf, 0.0
    near = np.sort(distances[distances <= matches[-1]])
    count = np.arange(1, len(matches) + 1)
    # samples at most as far as a match, without the matches among them
    others = np.searchsorted(near, matches, side="right") - np.searchsorted(matches, matches, side="right")
    ranks = others + count
    return float(ranks[0]), float(np.mean(count / ranks))
