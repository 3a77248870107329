"""Verification: is it the same person? The triplet loss on K, alone or joined by H(P, y)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner, TripletMarginMiner
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor

from facedistill.config.build import build
from facedistill.data.loading.datamodule import EVAL_BATCH, FaceData
from facedistill.data.loading.views import FaceBatch
from facedistill.errors import ConfigError
from facedistill.evaluation.pictures import COLUMNS, nearest, spread
from facedistill.metrics.retrieval import NearestNeighbour
from facedistill.models.network import NetworkOutput
from facedistill.tasks.base import TaskModule, identity_loss

MINING = ("hard", "semihard", "all")


@dataclass(frozen=True)
class VerifyOptions:
    """Of the triplets and of the distance between test samples.

    Attributes:
        margin: λ.
        mining: triplets of a batch of P identities × K images: for every anchor the farthest positive and the nearest
            negative (``hard``, Hermans et al. 2017), those that violate the margin though the negative is farther
            than the positive (``semihard``, Schroff et al. 2015), or ``all``.
        normalize: K is L2-normalized.
    """

    margin: float
    mining: str
    normalize: bool

    def __post_init__(self) -> None:
        if self.mining not in MINING:
            raise ConfigError(f"task.options.mining={self.mining}: choices are {', '.join(MINING)}")
        if not isinstance(self.margin, int | float) or not 0 < self.margin < math.inf:
            raise ConfigError(f"task.options.margin={self.margin} must be a number above 0")
        if not isinstance(self.normalize, bool):
            raise ConfigError(f"task.options.normalize={self.normalize}: choices are true, false")


class Verify(TaskModule):
    """Φ = [‖K_a − K_p‖² − ‖K_a − K_n‖² + λ]₊ (eq. 8 and 9), averaged over the triplets; ``task.softmax`` adds H(P, y).

    A batch without a triplet has loss 0. Metric: the nearest other test sample has its identity, %.
    """

    metric: NearestNeighbour

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        options: VerifyOptions = build(self.config.task.options)
        squared = LpDistance(normalize_embeddings=options.normalize, p=2, power=2)
        self.normalize = options.normalize
        self.triplet = TripletMarginLoss(options.margin, distance=squared, reducer=MeanReducer())
        self.miner = {
            "hard": BatchHardMiner(distance=squared),
            "semihard": TripletMarginMiner(options.margin, type_of_triplets="semihard", distance=squared),
            "all": None,
        }[options.mining]
        self.metric = NearestNeighbour()

    def task_loss(self, student: NetworkOutput, batch: FaceBatch) -> Tensor:
        """The triplet loss, and with ``task.softmax`` H(P, y)."""
        triplets = None if self.miner is None else self.miner(student.features, batch.labels)
        loss: Tensor = self.triplet(student.features, batch.labels, triplets)
        if self.config.task.softmax:
            loss = loss + identity_loss(student, batch)
        return loss

    def measure(self, batch: FaceBatch) -> None:
        """Collect the embeddings."""
        self.metric.update(self._embedded(batch), batch.labels, batch.indices)

    def sample_scores(self, data: FaceData) -> NDArray[np.float32]:
        """100 where the nearest other test sample is of the same person, 0 where it is not."""
        return np.where(self.metric.first == 1, np.float32(100), np.float32(0))

    @torch.no_grad()
    def pictures(self, data: FaceData) -> dict[str, Figure]:
        """Test faces, each beside the nearest among a sample of the others."""
        batch = next(iter(data.test_loader(spread(data.faces.test, EVAL_BATCH))))
        embedded = self._embedded(batch)
        found = torch.cdist(embedded, embedded).fill_diagonal_(torch.inf).argmin(1)
        shown = torch.from_numpy(spread(np.arange(len(found)), COLUMNS * 2))
        pixels, right = batch.pixels(), batch.labels[found] == batch.labels
        return {"samples": nearest(pixels[shown], pixels[found[shown]], right[shown].tolist())}

    def _embedded(self, batch: FaceBatch) -> Tensor:
        features: Tensor = self.network(batch.images).features.float()
        return F.normalize(features, dim=1) if self.normalize else features
