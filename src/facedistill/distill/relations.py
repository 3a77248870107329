"""Distances, angles, inner products and cosines, of which none is divided by 0."""

from collections.abc import Callable

import torch
from torch import Tensor

LEAST = 1e-8  # of the lengths that a cosine is divided by, as in torch


def inner_products(rows: Tensor) -> Tensor:
    """Rows [..., n, D] → those of all pairs, [..., n, n]; never of half precision, whatever autocast says."""
    with torch.autocast(rows.device.type, enabled=False):
        return rows @ rows.mT


def directions(rows: Tensor) -> Tensor:
    """Rows [..., D] → the same of length 1. Zeros stay, with a gradient that is not divided by almost nothing."""
    lengths = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / _above_zero(lengths)


def relative_distances(differences: Tensor) -> Tensor:
    """Differences [B, B, D] of all pairs → their lengths, divided by the mean of those of two samples, [B, B]."""
    lengths = torch.linalg.vector_norm(differences, dim=2)
    pairs = max(1, len(lengths) * (len(lengths) - 1))
    relative: Tensor = lengths / _above_zero(lengths.sum() / pairs)
    return relative


def cosines(total: Callable[[Tensor], Tensor], one: Tensor, other: Tensor) -> Tensor:
    """Of values [n, m] along the axis over which ``total`` sums; lengths below ``LEAST`` count as such."""
    first, second = (total(values.square()).clamp_min(LEAST**2).sqrt() for values in (one, other))
    return total(one * other) / first / second


def _above_zero(values: Tensor) -> Tensor:
    """Values that are not negative, to divide by: 1 in the place of 0."""
    return values.where(values > 0, 1)
