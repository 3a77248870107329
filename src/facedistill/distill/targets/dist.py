"""The soft prediction by its correlation with the teacher's, between classes and within each class."""

from torch import Tensor

from facedistill.distill.relations import cosines
from facedistill.distill.target import Target, check_tau
from facedistill.distill.teacher import TeacherOutput
from facedistill.models.classes import exact
from facedistill.models.network import NetworkOutput


class DistTarget(Target):
    """DIST, "Knowledge Distillation from A Stronger Teacher" (Huang et al. 2022, arXiv 2205.10536).

    τ² (inter + intra), each 1 minus the mean of Pearson's ρ(P_S, P_T), P = softmax(a / τ): inter of every sample over
    its classes, intra of every class over the batch. Equal weights are the paper's, τ² is the authors' code's. They add
    10⁻⁸ to the product of two lengths, which from about 10,000 classes on outweighs those of a class; here each counts
    as 10⁻⁸ at least. Intra needs all rows at once: it takes the memory of several matrices [B, C].
    """

    def __init__(self, weight: float, student_width: int, teacher_width: int, tau: float) -> None:
        super().__init__(weight, student_width, teacher_width)
        check_tau(tau)
        self.tau = tau

    def forward(self, student: NetworkOutput, teacher: TeacherOutput) -> Tensor:
        classes = student.classes
        logits = (student.logits, teacher.logits_of(teacher.embedding))
        ours, theirs = (classes.softmax(exact(each) / self.tau) for each in logits)
        inter = cosines(classes.sum, *(each - classes.mean(each)[:, None] for each in (ours, theirs)))
        intra = cosines(lambda values: values.sum(0), *(each - each.mean(0) for each in (ours, theirs)))
        return self.tau**2 * (2 - inter.mean() - classes.mean(intra[None]).mean())
