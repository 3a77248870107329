"""The whole batch where several processes share it: a loss is then that of one process, whatever it compares."""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from facedistill.data.loading.samplers import rank_and_world_size

Parts = TypeVar("Parts", bound=tuple[Any, ...])


class _Gathered(torch.autograd.Function):
    """The parts [B, …] of all ranks, one after the other; the gradients that all ranks have of a part add up."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        rank, world_size = rank_and_world_size()
        ctx.rank, ctx.size = rank, len(part)
        parts = [torch.empty_like(part) for _ in range(world_size)]
        distributed.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].contiguous()
        distributed.all_reduce(gradient)
        own: Tensor = gradient[ctx.rank * ctx.size : (ctx.rank + 1) * ctx.size]
        return own


def gather_batch(parts: Parts, sizes: list[int]) -> Parts:
    """A named tuple of tensors [B, …] of this rank's share → of the whole batch, in the order of the ranks.

    Every rank then has the loss of the whole batch, and the mean over ranks of the gradients of its parameters, which
    DDP takes, is the gradient of that loss.

    Args:
        sizes: of every rank's share.
    """
    return type(parts)(*(gather_tensor(part, sizes) if isinstance(part, Tensor) else part for part in parts))


def mean_over_ranks(mean: Tensor, sizes: list[int]) -> Tensor:
    """The mean over this rank's share, a scalar → over the whole batch, on every rank; gradients as there."""
    if len(sizes) == 1:
        return mean
    first, *others = (size * share for size, share in zip(sizes, gather_shares(mean), strict=True))
    whole: Tensor = sum(others, first) / sum(sizes)
    return whole


def gradient_length(loss: Tensor, weights: Sequence[Tensor]) -> float:
    """The length of the gradient of a loss that every rank has of the whole batch; the graph is kept."""
    gradients = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    gradient = torch.cat([part.flatten() for part in gradients if part is not None])
    _, world_size = rank_and_world_size()
    if world_size > 1:
        distributed.all_reduce(gradient)
    return float(torch.linalg.vector_norm(gradient)) / world_size


def gather_shares(value: Tensor) -> Tensor:
    """A tensor that every rank has of its share, of one shape [...] → of all N ranks [N, ...]; gradients as there."""
    gathered: Tensor = _Gathered.apply(value[None])
    return gathered


def gather_tensor(part: Tensor, sizes: list[int]) -> Tensor:
    """A tensor [B, …] of this rank's share → of the whole batch; see ``gather_batch``."""
    if len(sizes) == 1:
        return part
    longest = max(sizes)
    filled = torch.cat([part, part.new_zeros(longest - len(part), *part.shape[1:])])
    if not part.numel():  # what a network has no output layer for
        return part.new_zeros(sum(sizes), *part.shape[1:])
    gathered: Tensor = _Gathered.apply(filled)
    return torch.cat([gathered[rank * longest : rank * longest + size] for rank, size in enumerate(sizes)])
