"""The optimizers, and the learning rate along a cosine."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from facedistill.config.groups import ScheduleConfig

BETA_2 = 0.999


def build_optimizer(schedule: ScheduleConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Nesterov SGD or AdamW, at a learning rate of 1 that a scheduler multiplies."""
    momentum, decay = schedule.momentum, schedule.weight_decay
    if schedule.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=1.0, momentum=momentum, weight_decay=decay, nesterov=momentum > 0, fused=True
        )
    every = list(parameters)
    groups = [
        {"params": [parameter for parameter in every if parameter.ndim > 1], "weight_decay": decay},
        # biases, and the scales of normalizations: to shrink them says nothing of what is learnt
        {"params": [parameter for parameter in every if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1.0, betas=(momentum, BETA_2), fused=True)


def cosine(step: int, steps: int, warmup: float) -> float:
    """The share of its learning rate that step 0, 1, … of a training of ``steps`` has; 0 once all are done.

    It rises in equal parts to 1 at the last of the first ``warmup`` · steps, and falls from there.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising))) / 2
