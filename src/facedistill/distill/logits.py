"""The logits: ‖a_S − a_T‖² (table 1)."""

from __future__ import annotations

from torch import Tensor

from facedistill.distill.rows import mean_over_rows
from facedistill.distill.target import Target, Taught, check_reduction, reduced
from facedistill.models.network import Answer


class LogitsTarget(Target):
    """‖a_S − a_T‖², averaged over the batch."""

    def __init__(self, weight: float, student_width: int, teacher_width: int, reduction: str) -> None:
        super().__init__(weight, student_width, teacher_width)
        check_reduction(reduction)
        self.reduction = reduction

    def forward(self, student: Answer, teacher: Taught) -> Tensor:
        """The squared distance of the logits."""

        def distance(logits: Tensor, hidden: Tensor) -> Tensor:
            return reduced((logits - teacher.output(hidden)).square(), self.reduction)

        return mean_over_rows(distance, student.logits, teacher.features)
