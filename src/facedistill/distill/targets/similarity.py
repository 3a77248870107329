"""Which samples of a batch are similar: the rows of its Gram matrix."""

from torch import Tensor

from facedistill.distill.relations import directions, inner_products
from facedistill.distill.target import Target
from facedistill.distill.teacher import TeacherOutput
from facedistill.models.network import NetworkOutput


class SimilarityTarget(Target):
    """SP, "Similarity-Preserving Knowledge Distillation" (Tung & Mori 2019, arXiv 1907.09682), of any two widths.

    ‖G_S − G_T‖²_F / B²: G is K Kᵀ, the inner products of the batch's embeddings [B, width], each row divided by its
    length. The paper compares feature maps; here they are embeddings.
    """

    def forward(self, student: NetworkOutput, teacher: TeacherOutput) -> Tensor:
        ours, theirs = (directions(inner_products(answer.embedding)) for answer in (student, teacher))
        return (ours - theirs).square().mean()
