"""Verification: is the nearest other test sample of the same person?"""

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from facedistill.config.schema import Config
from facedistill.data.loading.datamodule import EVAL_BATCH, FaceData
from facedistill.data.loading.views import FaceBatch
from facedistill.evaluation.evaluation import Evaluation
from facedistill.evaluation.pictures import COLUMNS, nearest, spread
from facedistill.metrics.retrieval import NearestNeighbour
from facedistill.models.network import Network, NetworkOutput


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
        batch = next(iter(data.test_loader(spread(data.faces.test, EVAL_BATCH))))
        embedding = self._embedding(network(batch.images))
        neighbour = torch.cdist(embedding, embedding).fill_diagonal_(torch.inf).argmin(1)
        shown = torch.from_numpy(spread(np.arange(len(neighbour)), COLUMNS * 2))
        pixels, right = batch.pixels(), batch.labels[neighbour] == batch.labels
        return {"samples": nearest(pixels[shown], pixels[neighbour[shown]], right[shown].tolist())}

    def _embedding(self, output: NetworkOutput) -> Tensor:
        embedding = output.embedding.float()
        return F.normalize(embedding, dim=1) if self.normalize else embedding
