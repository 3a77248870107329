"""The hidden layer: β ‖K_S − K_T‖²."""

from torch import Tensor, nn

from facedistill.distill.ridge import ridge
from facedistill.distill.target import Target, check_reduction, reduced
from facedistill.distill.teacher import TeacherOutput
from facedistill.models.network import NetworkOutput


class HiddenTarget(Target):
    """‖map(K_S) − K_T‖², averaged over the batch (eq. 7); the map is linear, since the widths differ.

    ``map`` is how it starts: at the ``ridge`` regression of K_T on K_S, so that the first gradients of the student are
    not those of a map that knows nothing, or ``random``.
    """

    def __init__(
        self, weight: float, student_width: int, teacher_width: int, reduction: str, map: str = "ridge"
    ) -> None:
        super().__init__(weight, student_width, teacher_width)
        check_reduction(reduction)
        self.map = nn.Linear(student_width, teacher_width)
        self.reduction = reduction
        self._starts_at_ridge = map == "ridge"

    def start(self, student: Tensor, teacher: Tensor) -> None:
        if self._starts_at_ridge:
            weight, bias = ridge(student, teacher)
            self.map.weight.copy_(weight)
            self.map.bias.copy_(bias)

    def forward(self, student: NetworkOutput, teacher: TeacherOutput) -> Tensor:
        return reduced((self.map(student.embedding) - teacher.embedding).square(), self.reduction).mean()
