"""The logits: ‖a_S − a_T‖² (table 1)."""

from torch import Tensor

from facedistill.distill.chunked_loss import chunked_mean
from facedistill.distill.target import Target, check_reduction
from facedistill.distill.teacher import TeacherOutput
from facedistill.models.classes import exact
from facedistill.models.network import NetworkOutput


class LogitsTarget(Target):
    """‖a_S − a_T‖², averaged over the batch."""

    def __init__(self, weight: float, student_width: int, teacher_width: int, reduction: str) -> None:
        super().__init__(weight, student_width, teacher_width)
        check_reduction(reduction)
        self.reduction = reduction

    def forward(self, student: NetworkOutput, teacher: TeacherOutput) -> Tensor:
        reduced = student.classes.sum if self.reduction == "sum" else student.classes.mean

        def distance(logits: Tensor, embedding: Tensor) -> Tensor:
            return reduced((exact(logits) - exact(teacher.logits_of(embedding))).square())

        return chunked_mean(distance, student, teacher.embedding)
