"""The optimizers, and the learning rate along a cosine."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from facedistill.config.groups import ScheduleConfig

BETA_2 = 0.999


def build_optimizer(
    schedule: ScheduleConfig, parameters: Iterable[nn.Parameter], slow: Iterable[nn.Parameter] = (), share: float = 1.0
) -> torch.optim.Optimizer:
    """Nesterov SGD or AdamW, at a learning rate of 1 that a scheduler multiplies.

    ``slow``: parameters that take ``share`` of it.
    """
    momentum, decay = schedule.momentum, schedule.weight_decay
    groups: list[dict[str, Any]] = []
    for every, rate in ((list(parameters), 1.0), (list(slow), share)):
        if schedule.optimizer == "sgd":
            groups += [{"params": every, "lr": rate, "weight_decay": decay}]
            continue
        groups += [
            {"params": [part for part in every if part.ndim > 1], "lr": rate, "weight_decay": decay},
            # biases, and the scales of normalizations: to shrink them says nothing of what is learnt
            {"params": [part for part in every if part.ndim <= 1], "lr": rate, "weight_decay": 0.0},
        ]
    groups = [group for group in groups if group["params"]]
    if schedule.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=momentum, nesterov=momentum > 0, fused=True)
    return torch.optim.AdamW(groups, betas=(momentum, BETA_2), fused=True)


def cosine(step: int, steps: int, warmup: float) -> float:
    """The share of its learning rate that step 0, 1, … of a training of ``steps`` has; 0 once all are done.

    It rises in equal parts to 1 at the last of the first ``warmup`` · steps, and falls from there.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising))) / 2
