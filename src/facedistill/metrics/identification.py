"""Identification and verification within one set of images: every image against every other."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facedistill.errors import DataError
from facedistill.metrics.embeddings import EmbeddingMetric
from facedistill.metrics.pairs import equal_rate
from facedistill.metrics.retrieval import CHUNK, on_grid, score_queries

STEPS = 2**18  # of similarities from −1 to 1: those of a set are counted, as there may be too many to keep or to sort


class Identification(EmbeddingMetric):
    """By the cosine of embeddings of length 1; no image is compared with itself."""

    higher_is_better = True
    first: NDArray[np.float64]  # as in ``NearestNeighbour``

    def compute(self) -> dict[str, Tensor]:
        """Float64; %, apart from ``unmatched``.

        Returns:
            rank1: share of images whose most similar other one is of their own person.
            eer: equal error rate over all pairs; NaN where they are of one kind.
            unmatched: number of images that are the only one of their person; they count 0 in ``rank1``.

        Raises:
            DataError: fewer than 2 samples, or an embedding that is not finite.
        """
        embeddings, labels, _ = self.in_order()
        if len(labels) < 2:
            raise DataError("identification compares every sample with the others: the split has 1")
        self.first, _ = score_queries(embeddings, labels)  # of vectors of one length the most similar is the nearest
        same, others = count_similarities(embeddings, labels)
        eer = equal_error_rate_of(same, others) if same.any() and others.any() else np.nan
        metrics = {"rank1": 100 * np.mean(self.first == 1), "eer": 100 * eer, "unmatched": np.isinf(self.first).sum()}
        return {name: torch.tensor(float(value), dtype=torch.float64) for name, value in metrics.items()}


def count_similarities(embeddings: Tensor, labels: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many pairs of one person, and of two, have each similarity, int64 [STEPS] from −1 to 1.

    Args:
        embeddings: [N, D], of length 1.
        labels: [N], identities, on the same device.
    """
    points = on_grid(embeddings)
    length = float(torch.einsum("nd,nd->n", points, points).max())
    counts = torch.zeros(2, STEPS, dtype=torch.int64, device=points.device)
    for start in range(0, len(points), CHUNK):
        part = slice(start, start + CHUNK)
        similarity = points[part] @ points[start:].T / length
        steps = ((similarity + 1) * (STEPS / 2)).long().clamp(0, STEPS - 1)
        once = torch.ones_like(steps, dtype=torch.bool).triu(1)
        same = labels[part, None] == labels[None, start:]
        for kind, chosen in enumerate((same, ~same)):
            counts[kind] += torch.bincount(steps[chosen & once], minlength=STEPS)
    one, other = counts.cpu().numpy()
    return one, other


def equal_error_rate_of(same: NDArray[np.int64], others: NDArray[np.int64]) -> float:
    """The rate at which false accepts equal false rejects, 0 … 1, from ``count_similarities``; as in ``pairs``."""
    tar, far = (np.append(0.0, np.cumsum(counts[::-1]) / counts.sum()) for counts in (same, others))
    return equal_rate(far, tar)
