"""The most likely classes of a soft prediction in a bank: of very many identities, in the place of all logits."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from facedistill.data.files.store import Item
from facedistill.distill.bank import Kept
from facedistill.distill.chunked_loss import MOST
from facedistill.distill.teacher import TOLERANCE, Teacher, TeacherInput, TeacherOutput, TopPrediction
from facedistill.models.classes import ALL

_BYTES = 2 + 4  # of a class: log P as float16, its number as int32


class KeptTop(Kept):
    """Of P_T^τ = softmax(a_T / τ) the ``count`` most likely classes, and the rest as one: 6 · count + 2 bytes.

    A sample has log P of all of these outcomes, that of the rest last, float16, then the numbers of the classes, int32.
    Of C ``identities`` no more than C − 1 are kept: then the rest is the last class, and float16 alone rounds.
    """

    def __init__(self, count: int, tau: float, identities: int) -> None:
        self.tau, self.identities, self.count = tau, identities, min(count, identities - 1)
        self.size = f"{self.count} of {identities:,} classes"
        self.item = Item((_BYTES * self.count + 2,), "|u1", "soft prediction", f"soft predictions of {self.size}")
        self.about = {"kind": f"top{count}", "tau": tau}

    def __call__(self, answer: TeacherOutput) -> NDArray[Any]:
        rows = max(1, MOST // self.identities)  # of many identities logits are never kept whole
        parts = [self._of(answer.logits_of(part)) for part in torch.split(answer.embedding.float(), rows)]
        return np.concatenate(parts)

    def _of(self, logits: Tensor) -> NDArray[np.uint8]:
        softened = logits.float() / self.tau
        classes = softened.topk(self.count).indices
        log_prediction = F.log_softmax(ALL.outcomes(softened, classes), dim=1)
        log_prediction = log_prediction.clamp(min=torch.finfo(torch.float16).min)  # where P is 0 in any precision
        parts = (log_prediction.cpu().numpy().astype("<f2"), classes.cpu().numpy().astype("<i4"))
        return np.concatenate([part.view(np.uint8) for part in parts], axis=1)

    def differs(self, banked: NDArray[Any], asked: NDArray[Any]) -> bool:
        """By P of all classes that either has; one that the other lacks is there as likely as its last at most."""
        both = [_parts(torch.from_numpy(one[None])) for one in (banked, asked)]
        known = torch.unique(torch.cat([classes for _, classes in both], dim=1))
        values = []
        for log_prediction, classes in both:
            of_known = log_prediction[:, -2:-1].repeat(1, len(known))
            of_known[:, torch.searchsorted(known, classes[0])] = log_prediction[:, :-1]
            values.append(torch.cat([of_known, log_prediction[:, -1:]], dim=1))
        one, other = (log_prediction.exp() for log_prediction in values)
        return not bool((one - other).abs().sum() <= 2 * TOLERANCE)  # so, NaN differs


class TopTeacher(Teacher):
    """What a bank of ``KeptTop`` says. It has no weights, so that steps spend nothing on those of the teacher.

    ``input``: of the teacher that has answered.
    """

    width = 0

    def __init__(self, input: TeacherInput) -> None:
        self.input = input

    def __call__(self, images: Tensor) -> TeacherOutput:
        raise AssertionError("a configuration with target.views=live and target.bank=topN is refused")

    def from_embedding(self, embedding: Tensor) -> TeacherOutput:
        raise AssertionError("its bank has no embeddings")

    def recall(self, kept: Tensor) -> TeacherOutput:
        """``kept``: uint8 [B, 6 k + 2]. What float16 has rounded is made to add up to 1 again."""
        log_prediction, classes = _parts(kept)
        return TeacherOutput(log_prediction[:, :0], None, TopPrediction(log_prediction.softmax(dim=1), classes))

    def to(self, device: torch.device) -> None:
        """There is nothing to move."""


def _parts(kept: Tensor) -> tuple[Tensor, Tensor]:
    """Bytes [B, 6 k + 2] → log P of k classes and of all others, float32 [B, k + 1]; the classes, int64 [B, k]."""
    split = 2 * (kept.shape[1] // _BYTES + 1)
    # copies, as values have to lie at a multiple of their size
    log_prediction, classes = (
        part.clone(memory_format=torch.contiguous_format) for part in (kept[:, :split], kept[:, split:])
    )
    return log_prediction.view(torch.float16).float(), classes.view(torch.int32).long()
