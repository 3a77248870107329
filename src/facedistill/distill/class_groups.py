"""A prediction in two parts: whether the class is one of a group, and which of the group it is."""

import torch
from torch import Tensor

from facedistill.models.classes import Classes

HALVINGS = 32  # of the interval from 0 to 1: further than float32 tells sums near 1 apart


def kl_by_group(classes: Classes, student: Tensor, teacher: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """KL(P_T ‖ P_S) of whether the class is in the group, and of which it is among those of the group, each [n].

    Args:
        student, teacher: logits [n, C], divided by τ.
        group: bool [n, C].
    """
    ours, theirs = (_by_group(classes, logits, group) for logits in (student, teacher))
    inside, outside, within = (taught.exp() * (taught - own) for own, taught in zip(ours, theirs, strict=True))
    return inside + outside, classes.sum(within)


def _by_group(classes: Classes, logits: Tensor, group: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log P of the group and of all others, [n], and of every class among those of the group, [n, C].

    Of what is impossible it is very low, but finite, as ∞ − ∞ is no number.
    """
    log_p = classes.log_softmax(logits)
    lowest = torch.finfo(log_p.dtype).min
    in_group = log_p.masked_fill(~group, lowest)
    inside, outside = classes.logsumexp(in_group), classes.logsumexp(log_p.masked_fill(group, lowest))
    return inside, outside, in_group - inside[:, None]


def most_likely(classes: Classes, prediction: Tensor, mass: float) -> Tensor:
    """The fewest classes that together have this ``mass`` (0 … 1) of a prediction [n, C], bool [n, C].

    How likely the last of them is comes by halving, since ranks that split the classes can't sort them. Those that are
    as likely as it, to 2⁻³², are in the group, too.
    """
    low, high = torch.zeros_like(prediction[:, 0]), torch.ones_like(prediction[:, 0])
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        enough = classes.sum(prediction.where(prediction >= middle[:, None], 0)) >= mass
        low, high = middle.where(enough, low), high.where(enough, middle)
    return prediction >= low[:, None]
