"""Softmax, sums and means over the classes of logits: all of them, or those that ranks have split between them.

A loss that is written with these functions is the same in both cases, and so are its gradients.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed


class Classes:
    """All classes, of which this process has every logit: each function is torch's own."""

    def log_softmax(self, logits: Tensor) -> Tensor:
        """log P of logits [n, C], in float32 at least."""
        return F.log_softmax(exact(logits), dim=1)

    def softmax(self, logits: Tensor) -> Tensor:
        """P of logits [n, C], in float32 at least."""
        return F.softmax(exact(logits), dim=1)

    def sum(self, values: Tensor) -> Tensor:
        """Values [n, C] → their sum over the classes, [n]."""
        return values.sum(1)

    def mean(self, values: Tensor) -> Tensor:
        """Values [n, C] → their mean over the classes, [n]."""
        return values.mean(1)

    def of_labels(self, values: Tensor, labels: Tensor) -> Tensor:
        """Values [n, C] → that of the class ``labels`` int64 [n] of every row, [n]."""
        return -F.nll_loss(values, labels, reduction="none")

    def logsumexp(self, values: Tensor) -> Tensor:
        """log Σ exp of values [n, C] over the classes, [n], in float32 at least."""
        return exact(values).logsumexp(1)

    def is_label(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Of every class of logits [n, C], whether it is that of ``labels`` int64 [n], bool [n, C]."""
        return torch.arange(logits.shape[1], device=logits.device) == labels[:, None]

    def outcomes(self, logits: Tensor, named: Tensor) -> Tensor:
        """Logits [n, C] → of k + 1 outcomes, [n, k + 1], in float32 at least: k classes, and any other of them.

        That of any other is log Σ exp over their logits, so that a softmax gives it the sum of their probabilities.

        Args:
            named: int64 [n, k], different classes, k < C.
        """
        values = exact(logits)
        others = self.logsumexp(values.scatter(1, named, -torch.inf))
        return torch.cat([values.gather(1, named), others[:, None]], 1)

    def largest_share(self, logits: Tensor) -> int:
        """The most classes of which one process has logits, where this one has [n, C]."""
        return logits.shape[1]


ALL = Classes()


@dataclass(frozen=True)
class ClassShare(Classes):
    """The classes of one of several ranks: ``whole`` of them in order, split into shares that differ by one at most.

    Every function takes logits or values [n, count] of the rank's own classes, of the same n rows on every rank, and
    all ranks have to call it together. What it gives for a row is of all classes.

    Gradients are those of the sum of what all ranks find, as everywhere that ranks exchange values (``tasks.gather``):
    ``ranks`` times those of one loss that each of them has.
    """

    rank: int
    ranks: int
    whole: int

    @property
    def rows(self) -> slice:
        """Which of all classes they are."""
        return self.rows_of(self.rank)

    @property
    def count(self) -> int:
        """How many."""
        return len(range(self.whole)[self.rows])

    def rows_of(self, rank: int) -> slice:
        """Which of all classes another rank has."""
        return slice(self.whole * rank // self.ranks, self.whole * (rank + 1) // self.ranks)

    def log_softmax(self, logits: Tensor) -> Tensor:
        values = exact(logits)
        values = values - _largest(values)
        return values - self.sum(values.exp()).log()[:, None]

    def softmax(self, logits: Tensor) -> Tensor:
        return self.log_softmax(logits).exp()

    def sum(self, values: Tensor) -> Tensor:
        total: Tensor = _SumOverRanks.apply(values.sum(1))
        return total

    def mean(self, values: Tensor) -> Tensor:
        return self.sum(values) / self.whole

    def of_labels(self, values: Tensor, labels: Tensor) -> Tensor:
        own = labels - self.rows.start
        is_own = (own >= 0) & (own < self.count)
        total: Tensor = _SumOverRanks.apply(-F.nll_loss(values, own.where(is_own, -100), reduction="none"))
        return total

    def logsumexp(self, values: Tensor) -> Tensor:
        values = exact(values)
        largest = _largest(values)
        return largest[:, 0] + self.sum((values - largest).exp()).log()

    def is_label(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().is_label(logits, labels - self.rows.start)

    def outcomes(self, logits: Tensor, named: Tensor) -> Tensor:
        own = named - self.rows.start
        padded = F.pad(exact(logits), (0, 1))  # the last column stands for the classes of other ranks
        places = own.where((own >= 0) & (own < self.count), self.count)
        others = self.logsumexp(padded.scatter(1, places, -torch.inf)[:, :-1])
        of_named: Tensor = _SumOverRanks.apply(padded.gather(1, places))
        return torch.cat([of_named, others[:, None]], 1)

    def largest_share(self, logits: Tensor) -> int:
        return -(-self.whole // self.ranks)


def _largest(values: Tensor) -> Tensor:
    """Of values [n, count] the largest that any rank has in a row, [n, 1], without a gradient."""
    largest = values.detach().amax(1, keepdim=True)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    return largest


class _SumOverRanks(torch.autograd.Function):
    """The sum of what all ranks have; each of them depends on it, so the gradients that they have of it add up."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total


def exact(values: Tensor) -> Tensor:
    """In float32 at least: differences, and logarithms of sums, are never of half precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
