"""Gradients from values alone."""

from collections.abc import Callable

import torch
from torch import Tensor


def by_differences(loss: Callable[[Tensor], float], at: Tensor, step: float = 1e-5) -> Tensor:
    """The gradient of a loss at values in float64, by central differences: whatever the loss is written in."""
    found = torch.zeros_like(at)
    for number in range(at.numel()):
        moved = torch.zeros_like(at).flatten()
        moved[number] = step
        by = moved.view_as(at)
        found.view(-1)[number] = (loss(at + by) - loss(at - by)) / (2 * step)
    return found
