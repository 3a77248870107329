"""Imitation: how near the embedding of a student is to its teacher's."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

# as in landmarks.py, sums are of integers, so that they depend on no order, device or number of ranks
UNIT = 10**9
LEAST_SPREAD = (
    1e-3  # of the teacher's directions: of faces that all look alike to it, or of one, nothing can be explained
)


def cosine_units(student: Tensor, teacher: Tensor) -> Tensor:
    """Cosines of embeddings [B, D] with others [B, D], int64 [B] on the CPU, in units of 1e-9."""
    student, teacher = (part.detach().cpu().double() for part in (student, teacher))
    return (F.cosine_similarity(student, teacher, dim=1).nan_to_num(nan=-1.0) * UNIT).round().long()


class Imitation(Metric):
    """The mean cosine of the student's embedding with its teacher's, and the share of the teacher's that it explains.

    A student that always says the teacher's mean has a high cosine where faces look alike to the teacher, and explains
    nothing.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    cosines: Tensor  # their sum
    directions: Tensor  # [D], the sum of the teacher's embeddings, each of length 1
    samples: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        for name, size in (("cosines", ()), ("directions", (width,)), ("samples", ())):
            self.add_state(name, torch.zeros(size, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, student: Tensor, teacher: Tensor) -> None:
        """Add a batch of embeddings, both [B, D]."""
        directions = F.normalize(teacher.detach().cpu().double(), dim=1)
        self.cosines += cosine_units(student, teacher).sum().to(self.cosines)
        self.directions += (directions * UNIT).round().long().sum(0).to(self.directions)
        self.samples += len(student)

    def compute(self) -> dict[str, Tensor]:
        """In %, float64 on the CPU; NaN before the first face.

        Returns:
            cosine: mean of cos(K_S, K_T).
            explained: 1 − Σ ‖u_S − u_T‖² / Σ ‖u_T − mean(u_T)‖² with u = K / ‖K‖, the explained variance.
        """
        samples = self.samples.cpu().double()
        cosine = self.cosines.cpu().double() / UNIT / samples
        spread = 1 - (self.directions.cpu().double() / UNIT / samples).square().sum()
        spread = spread.clamp(min=LEAST_SPREAD)
        return {"cosine": 100 * cosine, "explained": 100 * (1 - 2 * (1 - cosine) / spread)}
