"""Verification: is it the same person? The triplet loss on K, alone or joined by H(P, y)."""

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

from facedistill.config.schema import Config
from facedistill.data.loading.datamodule import EVAL_BATCH, FaceData
from facedistill.data.loading.views import FaceBatch
from facedistill.errors import ConfigError
from facedistill.evaluation.evaluation import Evaluation
from facedistill.evaluation.pictures import COLUMNS, nearest, spread
from facedistill.metrics.retrieval import NearestNeighbour
from facedistill.models.network import Network, NetworkOutput
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


class VerifyEvaluation(Evaluation):
    """``top1``: the nearest other test sample has its identity, %. ``normalize``: K is L2-normalized."""

    metric: NearestNeighbour

    def __init__(self, config: Config, normalize: bool) -> None:
        super().__init__(config)
        self.normalize = normalize
        self.metric = NearestNeighbour()

    def update(self, output: NetworkOutput, batch: FaceBatch) -> None:
        self.metric.update(self._embedding(output), batch.labels, batch.indices)

    def per_sample(self) -> NDArray[np.float32]:
        """100 where the nearest other test sample is of the same person, 0 where it is not."""
        return np.where(self.metric.first == 1, np.float32(100), np.float32(0))

    @torch.no_grad()
    def pictures(self, network: Network, data: FaceData) -> dict[str, Figure]:
        """Test faces, each beside the nearest among a sample of the others."""
        batch = data.centre_crops(spread(data.faces.test, EVAL_BATCH))
        embedding = self._embedding(network(batch.images))
        neighbour = torch.cdist(embedding, embedding).fill_diagonal_(torch.inf).argmin(1)
        shown = torch.from_numpy(spread(np.arange(len(neighbour)), COLUMNS * 2))
        pixels, right = batch.pixels(), batch.labels[neighbour] == batch.labels
        return {"samples": nearest(pixels[shown], pixels[neighbour[shown]], right[shown].tolist())}

    def _embedding(self, output: NetworkOutput) -> Tensor:
        embedding = output.embedding.float()
        return F.normalize(embedding, dim=1) if self.normalize else embedding


class Verify(TaskModule):
    """Φ = [‖K_a − K_p‖² − ‖K_a − K_n‖² + λ]₊ (eq. 8 and 9), averaged over the triplets; ``task.softmax`` adds H(P, y).

    A batch without a triplet has loss 0.
    """

    options_type = VerifyOptions

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        options: VerifyOptions = self.options(self.config)
        squared = LpDistance(normalize_embeddings=options.normalize, p=2, power=2)
        self.triplet = TripletMarginLoss(options.margin, distance=squared, reducer=MeanReducer())
        self.miner = {
            "hard": BatchHardMiner(distance=squared),
            "semihard": TripletMarginMiner(options.margin, type_of_triplets="semihard", distance=squared),
            "all": None,
        }[options.mining]

    @classmethod
    def build_evaluation(cls, config: Config, network: Network) -> VerifyEvaluation:
        return VerifyEvaluation(config, cls.options(config).normalize)

    def task_loss(self, student: NetworkOutput, batch: FaceBatch) -> Tensor:
        triplets = None if self.miner is None else self.miner(student.embedding, batch.labels)
        loss: Tensor = self.triplet(student.embedding, batch.labels, triplets)
        if self.config.task.softmax:
            loss = loss + identity_loss(student, batch)
        return loss
