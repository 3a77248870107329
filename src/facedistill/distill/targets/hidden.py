"""The hidden layer: β ‖K_S − K_T‖²."""

from torch import Tensor, nn

from facedistill.distill.target import Target, check_reduction, reduced
from facedistill.distill.teacher import TeacherOutput
from facedistill.models.network import NetworkOutput


class HiddenTarget(Target):
    """‖map(K_S) − K_T‖², averaged over the batch (eq. 7); the map is linear, since the widths differ."""

    def __init__(self, weight: float, student_width: int, teacher_width: int, reduction: str) -> None:
        super().__init__(weight, student_width, teacher_width)
        check_reduction(reduction)
        self.map = nn.Linear(student_width, teacher_width)
        self.reduction = reduction

    def forward(self, student: NetworkOutput, teacher: TeacherOutput) -> Tensor:
        return reduced((self.map(student.embedding) - teacher.embedding).square(), self.reduction).mean()
