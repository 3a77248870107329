"""Verification: is it the same person? The triplet loss on K, alone or joined by H(P, y)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner, TripletMarginMiner
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor

from facedistill.config import Config
from facedistill.data.module import EVAL_BATCH, FaceData
from facedistill.data.views import FaceBatch
from facedistill.distill.target import Target
from facedistill.distill.teacher import FrozenTeacher
from facedistill.errors import ConfigError
from facedistill.metrics.retrieval import NearestNeighbour
from facedistill.models.network import Answer, Network
from facedistill.reporting.pictures import COLUMNS, nearest, spread
from facedistill.tasks.base import TaskModule

MINING = ("hard", "semihard", "all")


class Verify(TaskModule):
    """Φ = [‖K_a − K_p‖² − ‖K_a − K_n‖² + λ]₊ (eq. 8 and 9), averaged over the triplets; ``task.softmax`` adds H(P, y).

    Triplets come from a batch of P identities × K images: for every anchor the farthest positive and the nearest
    negative (``hard``, Hermans et al. 2017), those that violate the margin though the negative is farther than the
    positive (``semihard``, Schroff et al. 2015), or ``all``. A batch without one has loss 0.
    ``normalize``: K is L2-normalized, here and in the metric: the nearest other test sample has its identity, %.
    """

    def __init__(
        self,
        config: Config,
        network: Network,
        teachers: Mapping[str, FrozenTeacher] | None = None,
        targets: Mapping[str, Target] | None = None,
        *,
        margin: float,
        mining: str,
        normalize: bool,
    ) -> None:
        super().__init__(config, network, teachers, targets)
        squared = LpDistance(normalize_embeddings=normalize, p=2, power=2)
        self.normalize = normalize
        self.triplet = TripletMarginLoss(margin, distance=squared, reducer=MeanReducer())
        self.miner = {
            "hard": BatchHardMiner(distance=squared),
            "semihard": TripletMarginMiner(margin, type_of_triplets="semihard", distance=squared),
            "all": None,
        }[mining]
        self.metric = NearestNeighbour()

    @staticmethod
    def check_options(options: Mapping[str, Any]) -> None:
        """Refuse another mining, a margin that is no positive number, and what is neither true nor false."""
        margin, mining, normalize = options["margin"], options["mining"], options["normalize"]
        if mining not in MINING:
            raise ConfigError(f"task.options.mining={mining}: choices are {', '.join(MINING)}")
        if not isinstance(margin, int | float) or not 0 < margin < math.inf:
            raise ConfigError(f"task.options.margin={margin} must be a number above 0")
        if not isinstance(normalize, bool):
            raise ConfigError(f"task.options.normalize={normalize}: choices are true, false")

    def task_loss(self, student: Answer, batch: FaceBatch) -> Tensor:
        """The triplet loss, and with ``task.softmax`` H(P, y)."""
        triplets = None if self.miner is None else self.miner(student.features, batch.labels)
        loss: Tensor = self.triplet(student.features, batch.labels, triplets)
        if self.config.task.softmax:
            loss = loss + F.cross_entropy(student.logits, batch.labels)
        return loss

    def measure(self, batch: FaceBatch) -> None:
        """Collect the embeddings."""
        self.metric.update(self._embedded(batch), batch.labels, batch.indices)

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
