"""The soft prediction among the classes that the teacher thinks likely; the many others count as one."""

from torch import Tensor

from facedistill.distill.chunked_loss import chunked_mean
from facedistill.distill.class_groups import kl_by_group, most_likely
from facedistill.distill.target import Target, check_share, check_tau
from facedistill.distill.teacher import TeacherOutput
from facedistill.models.classes import exact
from facedistill.models.network import NetworkOutput


class GroupedTarget(Target):
    """GKD, "Grouped Knowledge Distillation for Deep Face Recognition" (Zhao et al. 2023, arXiv 2304.04462).

    τ² (Primary-KD + Binary-KD), averaged over the batch. The primary group has the classes that P_T = softmax(a_T / τ)
    thinks most likely, until their sum passes ``threshold``. Primary-KD is KL(P_T ‖ P_S) among them, Binary-KD that of
    whether the class is one of them; Secondary-KD, among the others, is left out. Written from the paper's abstract:
    that P_T, not P_S, makes the groups, equal weights, τ² and the yaml's threshold are ours.
    """

    def __init__(self, weight: float, student_width: int, teacher_width: int, tau: float, threshold: float) -> None:
        super().__init__(weight, student_width, teacher_width)
        check_tau(tau)
        check_share("threshold", threshold)
        self.tau, self.threshold = tau, threshold

    def forward(self, student: NetworkOutput, teacher: TeacherOutput) -> Tensor:
        def losses(logits: Tensor, embedding: Tensor) -> Tensor:
            ours, theirs = (exact(each) / self.tau for each in (logits, teacher.logits_of(embedding)))
            primary = most_likely(student.classes, student.classes.softmax(theirs), self.threshold)
            binary, among = kl_by_group(student.classes, ours, theirs, primary)
            return binary + among

        return self.tau**2 * chunked_mean(losses, student, teacher.embedding)
