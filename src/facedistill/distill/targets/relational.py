"""How the embeddings of a batch lie to each other: distances of pairs, angles of triplets."""

import torch.nn.functional as F
from torch import Tensor

from facedistill.distill.relations import directions, inner_products, relative_distances
from facedistill.distill.target import Target, check_not_negative
from facedistill.distill.teacher import TeacherOutput
from facedistill.models.network import NetworkOutput


class RelationalTarget(Target):
    """RKD, "Relational Knowledge Distillation" (Park et al. 2019, arXiv 1904.05068), of embeddings of any two widths.

    ``distance`` · mean l(ψ_S − ψ_T) over pairs, where ψ = ‖x_i − x_j‖ / μ and μ is its mean over different samples,
    plus ``angle`` · mean l(c_S − c_T) over triplets, where c = cos ∠ x_i x_j x_k; l is the Huber loss with δ = 1. Means
    are, as in the authors' code, over all B² and B³, with those of a sample and itself, which are 0.
    """

    def __init__(self, weight: float, student_width: int, teacher_width: int, distance: float, angle: float) -> None:
        super().__init__(weight, student_width, teacher_width)
        check_not_negative(distance=distance, angle=angle)
        self.distance, self.angle = distance, angle

    def forward(self, student: NetworkOutput, teacher: TeacherOutput) -> Tensor:
        # [j, i]: from x_j to x_i
        ours, theirs = (answer.embedding - answer.embedding[:, None] for answer in (student, teacher))
        distances = F.huber_loss(relative_distances(ours), relative_distances(theirs))
        angles = F.huber_loss(inner_products(directions(ours)), inner_products(directions(theirs)))
        return self.distance * distances + self.angle * angles
