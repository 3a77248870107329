"""A generative teacher: a network whose embedding of a live face is enough for a small decoder to draw it again."""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torchmetrics.image import PeakSignalNoiseRatio

from facedistill.config.schema import Config
from facedistill.data.loading.views import FaceBatch
from facedistill.evaluation.evaluation import Evaluation, Scores
from facedistill.models.decoder import Decoder
from facedistill.models.network import Network, NetworkOutput
from facedistill.tasks.base import ScheduledModule
from facedistill.tasks.gather import mean_over_ranks

HALF = 127.5  # pixel levels that are one unit of the loss


class ReconstructEvaluation(Evaluation):
    """``psnr``, dB, over the test split; a network without its decoder has none."""

    metric: PeakSignalNoiseRatio

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.metric = PeakSignalNoiseRatio(data_range=255.0)

    def update(self, output: NetworkOutput, batch: FaceBatch) -> None:
        raise TypeError("an embedding alone is no image: Reconstruct.measure updates the metric with what it draws")

    def scores(self) -> Scores:
        return {"psnr": float(self.metric.compute())}


class Reconstruct(ScheduledModule):
    """Φ = mean squared (decoder(K) − x), of pixels from −1 to 1. The decoder is not published: K is what teaches."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.decoder = Decoder(self.network.backbone.width, self.config.image.crop)
        self._embed: Callable[[Tensor], Tensor] = self.compiled(self.network.backbone.forward)

    @classmethod
    def build_evaluation(cls, config: Config, network: Network) -> ReconstructEvaluation:
        return ReconstructEvaluation(config)

    def training_step(self, batch: FaceBatch, batch_index: int) -> dict[str, Tensor]:
        sizes = self.batch_sizes_per_rank(batch, batch_index)
        with self.batch_norm_over(sizes):
            drawn = self.decoder(self._embed(batch.images))
        loss = mean_over_ranks(F.mse_loss(drawn / HALF, batch.images / HALF), sizes)
        return {"loss": loss, "task": loss.detach()}

    def measure(self, batch: FaceBatch) -> None:
        self.evaluation.metric.update(self.decoder(self.network.backbone(batch.images)), batch.images.float())
