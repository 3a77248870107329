"""A target: one term of the student's loss, and its weight. A new one is a file in ``targets/``, a yaml and a test."""

import abc
import math

import torch
from torch import Tensor, nn

from facedistill.distill.teacher import TeacherOutput
from facedistill.errors import ConfigError
from facedistill.models.network import NetworkOutput


class Target(nn.Module, abc.ABC):
    """``weight`` times a distance between what student and teacher say of the same pixels.

    ``student_width`` and ``teacher_width`` are the numbers of values of K_S and K_T. Parameters of a target are
    trained with the student and are dropped afterwards.

    Attributes:
        weight: α, β, … as configured.
        parity: what gradient parity multiplies its gradient on the student by, a scalar; 1 without. A buffer, so that a
            checkpoint has it.
    """

    parity: Tensor

    def __init__(self, weight: float, student_width: int, teacher_width: int) -> None:
        super().__init__()
        self.weight = weight
        self.register_buffer("parity", torch.ones(()))

    @property
    def final_weight(self) -> float:
        """What the student's gradient of the distance is multiplied by."""
        return self.weight * float(self.parity)

    def start(self, student: Tensor, teacher: Tensor) -> None:
        """Called once before the first step, without gradients, with K_S and K_T [N, width] of the first batches."""

    @abc.abstractmethod
    def forward(self, student: NetworkOutput, teacher: TeacherOutput) -> Tensor:
        """The distance, a scalar, before it is weighted.

        Where its term has ``needs: labels``, those of the batch, int64 [B], are a third argument.
        """


def check_reduction(reduction: str) -> None:
    """Raise ``ConfigError`` for what is neither ``mean`` nor ``sum``."""
    if reduction not in ("mean", "sum"):
        raise ConfigError(f"reduction={reduction}: choices are mean, sum")


def check_tau(tau: float) -> None:
    """Raise ``ConfigError`` for a temperature that is none."""
    if not 0 < tau < math.inf:
        raise ConfigError(f"target.tau={tau} must be positive")


def check_share(name: str, share: float) -> None:
    """Raise ``ConfigError`` for what is no part of a whole."""
    if not 0 < share <= 1:
        raise ConfigError(f"{name}={share} must be above 0, and at most 1")


def check_not_negative(**weights: float) -> None:
    """Raise ``ConfigError`` for a part of a distance, by its name, whose weight is negative or not finite."""
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise ConfigError(f"{name}={weight} must be a number that is not negative")


def check_widths(student_width: int, teacher_width: int) -> None:
    """Raise ``ConfigError`` where K_S can't be compared with K_T value by value."""
    if student_width != teacher_width:
        raise ConfigError(
            f"the student's embedding has {student_width} values, the teacher's {teacher_width}: "
            f"model.features={teacher_width} ends the student in one as wide. With task=embed it may be narrower, "
            "and in other tasks target=hidden maps one to the other"
        )


def reduced(squares: Tensor, reduction: str) -> Tensor:
    """Squares [B, D] → their ``sum`` (‖·‖²) or ``mean`` over D, [B]."""
    return squares.sum(1) if reduction == "sum" else squares.mean(1)
