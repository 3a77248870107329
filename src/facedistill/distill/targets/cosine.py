"""The direction of the embedding: 1 − cos(K_S, K_T)."""

import torch.nn.functional as F
from torch import Tensor

from facedistill.distill.target import Target, check_widths
from facedistill.distill.teacher import TeacherOutput
from facedistill.models.network import NetworkOutput


class CosineTarget(Target):
    """1 − cos(K_S, K_T), averaged over the batch: recognizers are compared by the cosine, which no length changes.

    Raises ``ConfigError`` where the widths differ.
    """

    def __init__(self, weight: float, student_width: int, teacher_width: int) -> None:
        super().__init__(weight, student_width, teacher_width)
        check_widths(student_width, teacher_width)

    def forward(self, student: NetworkOutput, teacher: TeacherOutput) -> Tensor:
        return 1 - F.cosine_similarity(student.embedding, teacher.embedding, dim=1).mean()
