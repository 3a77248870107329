"""Live faces against presentation attacks, in a domain that was not trained on."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from facedistill.metrics.pairs import auc, equal_error_rate, roc


class HalfTotalError(Metric):
    """Half total error rate: the threshold comes from the domains trained on, the errors from the one held out.

    A sample is taken for live if its score is at least the threshold.
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    samples: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("samples", [], dist_reduce_fx="cat")

    def update(self, score: Tensor, live: Tensor, held_out: Tensor, indices: Tensor) -> None:
        """Add a batch: scores [B], larger for live faces; bool [B] twice; the samples' indices in the split [B]."""
        parts = (score.detach(), live, held_out, indices)
        self.samples.append(torch.stack([part.cpu().double() for part in parts], 1))

    def compute(self) -> dict[str, Tensor]:
        """In %; NaN where live faces or attacks are missing.

        Returns:
            hter: in the domain held out, the mean of the false accept and the false reject rate at ``threshold_of`` the
                samples of the other domains.
            auc: area under the ROC in the domain held out.
            eer: equal error rate in the other domains.
        """
        found = dict.fromkeys(("hter", "auc", "eer"), np.nan)
        score, live, held_out = self.in_order()
        if _both(live[~held_out]):
            found["eer"] = equal_error_rate(score[~held_out], live[~held_out])
        if _both(live[held_out]):
            found["auc"] = auc(score[held_out], live[held_out])
            if _both(live[~held_out]):
                wrong = ~self.right()
                found["hter"] = (wrong[live[held_out]].mean() + wrong[~live[held_out]].mean()) / 2
        return {name: torch.tensor(100 * value, dtype=torch.float64) for name, value in found.items()}

    def right(self) -> NDArray[np.bool_]:
        """Of every sample of the domain held out, in order, whether it is on its side of the threshold."""
        score, live, held_out = self.in_order()
        threshold = threshold_of(score[~held_out], live[~held_out])
        right: NDArray[np.bool_] = (score[held_out] >= threshold) == live[held_out]
        return right

    def in_order(self) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Score, live and held out of all samples, by index; of all ranks inside of ``compute``."""
        score, live, held_out, indices = dim_zero_cat(self.samples).cpu().numpy().T
        order = np.argsort(indices)
        assert (np.diff(indices[order]) > 0).all(), "a sample was counted twice"
        return score[order], live[order] > 0, held_out[order] > 0


def threshold_of(score: NDArray[np.float64], live: NDArray[np.bool_]) -> float:
    """The score from which on samples are taken for live, where false accepts and rejects are as near as can be."""
    accepts, true_accepts, thresholds = roc(score, live)
    return float(thresholds[np.argmin(np.abs(accepts - (1 - true_accepts)))])


def _both(live: NDArray[np.bool_]) -> bool:
    return bool(live.any() and not live.all())
