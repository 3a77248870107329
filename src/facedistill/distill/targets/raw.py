"""The embedding as it stands: ‖K_S − K_T‖² without a map."""

from torch import Tensor

from facedistill.distill.target import Target, check_reduction, check_widths, reduced
from facedistill.distill.teacher import TeacherOutput
from facedistill.models.network import NetworkOutput


class RawTarget(Target):
    """‖K_S − K_T‖², averaged over the batch, so that lengths are learnt, too.

    Raises ``ConfigError`` where the widths differ: ``hidden`` maps one to the other.
    """

    def __init__(self, weight: float, student_width: int, teacher_width: int, reduction: str) -> None:
        super().__init__(weight, student_width, teacher_width)
        check_widths(student_width, teacher_width)
        check_reduction(reduction)
        self.reduction = reduction

    def forward(self, student: NetworkOutput, teacher: TeacherOutput) -> Tensor:
        return reduced((student.embedding - teacher.embedding).square(), self.reduction).mean()
