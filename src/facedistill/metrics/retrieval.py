"""Face retrieval: the ranks of a person's other images among all other images."""

import math

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
        labels: [N], identities, on the same device; it must know float64.

    Raises:
        DataError: an embedding is not finite.
    """
    order = labels.argsort(stable=True)
    points, labels = on_grid(embeddings[order]), labels[order]  # the images of a person are next to each other
    squares = torch.einsum("nd,nd->n", points, points)
    first, precision = np.empty(len(points)), np.empty(len(points))
    _, group, counts = torch.unique_consecutive(labels, return_inverse=True, return_counts=True)
    end = counts.cumsum(0)[group]
    start = end - counts[group]
    numbers = torch.arange(len(points), device=points.device)
    for begin in range(0, len(points), CHUNK):
        queries = numbers[begin : begin + CHUNK]
        # without the query's own square, which does not change the order
        distances = torch.addmm(squares, points[queries], points.T, alpha=-2)
        columns = start[queries, None] + torch.arange(int(counts[group[queries]].max()), device=points.device)
        matching = (columns < end[queries, None]) & (columns != queries[:, None])
        matches = distances.gather(1, columns.clamp(max=len(points) - 1)).masked_fill_(~matching, torch.inf)
        distances.masked_fill_(labels[queries, None] == labels, torch.inf)
        ranks = ranks_of(matches.sort(1).values, distances)
        shares = torch.arange(1, ranks.shape[1] + 1, device=points.device) / ranks.double()
        found = matching.sum(1).tolist(), ranks[:, 0].tolist(), shares.cpu().numpy(), order[queries].tolist()
        for count, rank, of_matches, sample in zip(*found, strict=True):
            first[sample] = rank if count else np.inf
            precision[sample] = np.mean(of_matches[:count]) if count else 0
    return first, precision


def ranks_of(matches: Tensor, others: Tensor) -> Tensor:
    """Ranks of a query's matches in its gallery, int64 [B, M], from distances.

    Args:
        matches: [B, M], ascending; infinity after the last one.
        others: [B, N], of other identities; infinity where there is none.
    """
    queries, count = matches.shape
    nearer = torch.searchsorted(matches, others)  # matches that are nearer than this one
    rows = torch.arange(queries, device=matches.device)[:, None] * (count + 1)
    before = torch.bincount((nearer + rows).view(-1), minlength=queries * (count + 1)).view(queries, count + 1)
    return before[:, :count].cumsum(1) + torch.arange(1, count + 1, device=matches.device)


def on_grid(embeddings: Tensor) -> Tensor:
    """Embeddings [N, D] in units of 2^-25 of the longest one's length, rounded: see ``score_queries``, which raises."""
    points = embeddings.double()
    squares = torch.einsum("nd,nd->n", points, points)
    if not squares.isfinite().all():
        raise DataError("embeddings are not finite: the weights are unusable, or the training has diverged")
    return points.mul_(2.0 ** (25 - math.frexp(math.sqrt(squares.max()))[1])).round_()
