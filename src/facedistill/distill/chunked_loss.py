"""Losses of logits a few rows at a time: of 100,000 identities a matrix is large, and a loss makes several of it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from facedistill.models.network import NetworkOutput

MOST = 2**21  # logits at a time, 8 MB: more take more memory, fewer read the teacher's output layer more often

RowLosses = Callable[..., Tensor]


def chunked_mean(losses: RowLosses, student: NetworkOutput, *others: Tensor) -> Tensor:
    """``losses(student.logits, *others).mean()``; of large matrices no more is kept than its gradient.

    Args:
        losses: logits [n, C] and the same rows of ``others`` → a loss for every row, [n], that depends on no other row.
        student: its logits [B, C] alone get a gradient. Where ranks split its classes, ``losses`` is written with the
            functions of ``student.classes``.
    """
    logits = student.logits
    # as many on every rank: losses are of all of them
    rows = max(1, MOST // max(1, student.classes.largest_share(logits)))
    if len(logits) <= rows:
        return losses(logits, *others).mean()
    mean: Tensor = _ChunkedMean.apply(losses, rows, logits, *others)
    return mean


class _ChunkedMean(torch.autograd.Function):
    """Finds the gradient together with the loss, so that nothing of the one is kept for the other."""

    @staticmethod
    def forward(ctx: Any, losses: RowLosses, rows: int, logits: Tensor, *others: Tensor) -> Tensor:
        gradient = torch.empty_like(logits)
        parts = []
        for start in range(0, len(logits), rows):
            part = slice(start, start + rows)
            with torch.enable_grad():
                own = logits[part].detach().requires_grad_()
                loss = losses(own, *(other[part] for other in others)).sum() / len(logits)
            (gradient[part],) = torch.autograd.grad(loss, own)
            parts.append(loss.detach())
        ctx.save_for_backward(gradient)
        return torch.stack(parts).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return None, None, gradient.mul_(gradients[0]), *(None for _ in ctx.needs_input_grad[3:])
