"""The logits: ‖a_S − a_T‖² (table 1)."""

from __future__ import annotations

from torch import Tensor

from facedistill.distill.target import Target, check_reduction, reduced
from facedistill.models.network import Answer


class LogitsTarget(Target):
    """‖a_S − a_T‖², averaged over the batch."""

    def __init__(self, weight: float, student_width: int, teacher_width: int, reduction: str) -> None:
        super().__init__(weight, student_width, teacher_width)
        check_reduction(reduction)
        self.reduction = reduction

    def forward(self, student: Answer, teacher: Answer) -> Tensor:
        """The squared distance of the logits."""
        return reduced((student.logits - teacher.logits).square(), self.reduction)
