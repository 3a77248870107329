"""Distances, angles, inner products and correlations, of which none is divided by 0."""

from collections.abc import Callable

import torch
from torch import Tensor


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


def correlation(one: Tensor, other: Tensor, mean: Callable[[Tensor], Tensor]) -> Tensor:
    """Pearson's of values [n, m] along the axis of which ``mean`` takes the mean, and which it keeps.

    With what is constant it is 0.
    """
    one, other = one - mean(one), other - mean(other)
    first, second = (_above_zero(mean(values.square())).sqrt() for values in (one, other))
    return mean(one * other) / first / second


def _above_zero(values: Tensor) -> Tensor:
    """Values that are not negative, to divide by: 1 in the place of 0."""
    return values.where(values > 0, 1)
