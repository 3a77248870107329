"""The soft prediction: α H(P_S^τ, P_T^τ)."""

import torch.nn.functional as F
from torch import Tensor

from facedistill.distill.chunked_loss import chunked_mean
from facedistill.distill.target import Target, check_tau
from facedistill.distill.teacher import TeacherOutput
from facedistill.models.classes import exact
from facedistill.models.network import NetworkOutput


class SoftTarget(Target):
    """H(P_S^τ, P_T^τ) = − Σ P_T^τ log P_S^τ with P^τ = softmax(a / τ), averaged over the batch (eq. 3).

    Where a bank has kept the most likely classes of P_T^τ alone, all others are one outcome, of both predictions.

    ``tau_squared`` multiplies it by τ² (Hinton et al. 2015), which keeps its gradient's size at every τ.
    """

    def __init__(self, weight: float, student_width: int, teacher_width: int, tau: float, tau_squared: bool) -> None:
        super().__init__(weight, student_width, teacher_width)
        check_tau(tau)
        self.tau = tau
        self.scale = tau**2 if tau_squared else 1.0

    def forward(self, student: NetworkOutput, teacher: TeacherOutput) -> Tensor:
        classes = student.classes

        def cross_entropy(logits: Tensor, embedding: Tensor) -> Tensor:
            soft_prediction = classes.softmax(exact(teacher.logits_of(embedding)) / self.tau)
            return -classes.sum(classes.log_softmax(exact(logits) / self.tau) * soft_prediction)

        def of_outcomes(logits: Tensor, soft_prediction: Tensor, top: Tensor) -> Tensor:
            return -(F.log_softmax(classes.outcomes(exact(logits) / self.tau, top), dim=1) * soft_prediction).sum(1)

        if teacher.top is not None:
            return self.scale * chunked_mean(of_outcomes, student, *teacher.top)
        return self.scale * chunked_mean(cross_entropy, student, teacher.embedding)
