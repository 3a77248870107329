"""Weights by gradient parity: a term weighs what makes its gradient on the backbone as long as the task's.

The value of a loss says nothing of how much it teaches: that of a cross-entropy is mostly the entropy of its target.
Its gradient does, and in that a term may be summed or averaged, at any temperature: parity gives the student the same
step. Parameters of the term itself, as the map of the hidden layer, keep the step of their own loss: some hundred times
that, which parity can come to, they would diverge.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn

from facedistill.errors import RunError
from facedistill.models.network import NetworkOutput

BATCHES = 4  # from which terms start, and on which parity is measured: in one alone there may be no triplet


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (factor,) = ctx.saved_tensors
        return gradients[0] * factor, None


def scale_gradient(value: Tensor, factor: Tensor) -> Tensor:
    """The same value, to which gradients come back ``factor`` (a scalar) times as long."""
    scaled: Tensor = _ScaledGradient.apply(value, factor)
    return scaled


def with_gradient(student: NetworkOutput, factor: Tensor) -> NetworkOutput:
    """The same output of a student, to which gradients come back ``factor`` (a scalar) times as long."""
    embedding, logits, landmarks = (scale_gradient(part, factor) for part in student[:3])
    return NetworkOutput(embedding, logits, landmarks, student.classes)


def parity(c: float, task: Sequence[float], terms: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """By what every term has to be multiplied for its gradient to be ``c`` times as long as that of the task's loss.

    Args:
        task: lengths of the gradient of the task's loss on the backbone, batch by batch.
        terms: those of every term by name, before it is weighted.

    Raises:
        RunError: a loss has no gradient, or one that is not finite.
    """
    lengths = {"the task's own loss": mean(task), **{f"target.terms.{name}": mean(of) for name, of in terms.items()}}
    for name, length in lengths.items():
        if not 0 < length < math.inf:
            raise RunError(
                f"{name} has a gradient of length {length:g} on the backbone in the first {len(task)} batches, so "
                "there is no parity. target.parity=null takes the weights of terms as they stand"
            )
    return {name: c * mean(task) / mean(of) for name, of in terms.items()}


@contextmanager
def unchanged(network: nn.Module) -> Iterator[None]:
    """Leave the buffers of a network (BatchNorm's running statistics) and torch's random state as they were."""
    kept = [buffer.clone() for buffer in network.buffers()]
    with torch.random.fork_rng({buffer.device for buffer in kept if buffer.is_cuda}):
        yield
    for buffer, value in zip(network.buffers(), kept, strict=True):
        buffer.copy_(value)
