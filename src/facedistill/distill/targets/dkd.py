"""The soft prediction, decoupled: of the label's class, and of the others among themselves."""

from torch import Tensor

from facedistill.distill.chunked_loss import chunked_mean
from facedistill.distill.class_groups import kl_by_group
from facedistill.distill.target import Target, check_not_negative, check_tau
from facedistill.distill.teacher import TeacherOutput
from facedistill.models.classes import exact
from facedistill.models.network import NetworkOutput


class DkdTarget(Target):
    """DKD, "Decoupled Knowledge Distillation" (Zhao et al. 2022, arXiv 2203.08679), averaged over the batch.

    τ² (TCKD + β NCKD): TCKD = KL(b_T ‖ b_S) with b = (P_y, 1 − P_y) of the label y, NCKD = KL(P̂_T ‖ P̂_S) with
    P̂ = P / (1 − P_y) over the other classes, P = softmax(a / τ). τ² is the authors' code's, their α is ``weight``;
    their warm-up of the term is left out.
    """

    def __init__(self, weight: float, student_width: int, teacher_width: int, tau: float, beta: float) -> None:
        super().__init__(weight, student_width, teacher_width)
        check_tau(tau)
        check_not_negative(beta=beta)
        self.tau, self.beta = tau, beta

    def forward(self, student: NetworkOutput, teacher: TeacherOutput, labels: Tensor) -> Tensor:  # type: ignore[override]
        def losses(logits: Tensor, embedding: Tensor, labels: Tensor) -> Tensor:
            ours, theirs = (exact(each) / self.tau for each in (logits, teacher.logits_of(embedding)))
            others = ~student.classes.is_label(logits, labels)
            tckd, nckd = kl_by_group(student.classes, ours, theirs, others)
            return tckd + self.beta * nckd

        return self.tau**2 * chunked_mean(losses, student, teacher.embedding, labels)
