"""First stage of FitNet (Romero et al. 2015): the student's shallow layers regress the teacher's middle layer."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric

from facedistill.config.schema import Config
from facedistill.data.loading.views import FaceBatch
from facedistill.evaluation.evaluation import Evaluation, Scores
from facedistill.models.network import Network, NetworkOutput
from facedistill.tasks.base import ScheduledModule
from facedistill.tasks.gather import mean_over_ranks


class HintEvaluation(Evaluation):
    """``hint_error``, the mean over the test split; a network alone has none."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.metric = MeanMetric()

    def update(self, output: NetworkOutput, batch: FaceBatch) -> None:
        raise TypeError("a hint has no output to measure: Hint.measure updates the metric with its error")

    def scores(self) -> Scores:
        return {"hint_error": float(self.metric.compute())}


class Hint(ScheduledModule):
    """Φ = mean squared (regressor(middle of S) − middle of T); the regressor is a 1 × 1 convolution.

    What lies behind the student's middle layer gets no gradient: it keeps its random weights, so that a run that
    starts from here starts from pretrained shallow layers only.
    """

    uses_all_parameters = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.teacher = self.teachers["teacher"]
        crop = self.config.image.crop
        probe = torch.zeros(1, 3, crop, crop)
        with torch.no_grad():  # eval: the probe must not touch the BatchNorm statistics
            student = self.network.backbone.eval().middle(probe)
            teacher = self.teacher.middle(probe)
        self.network.train()
        self._middle: Callable[[Tensor], Tensor] = self.compiled(self.network.backbone.middle)
        self.regressor = nn.Conv2d(student.shape[1], teacher.shape[1], 1)

    @classmethod
    def build_evaluation(cls, config: Config, network: Network) -> HintEvaluation:
        return HintEvaluation(config)

    def training_step(self, batch: FaceBatch, batch_index: int) -> dict[str, Tensor]:
        """Φ alone; no logits are computed. Ranks exchange their means: the maps are large."""
        sizes = self.batch_sizes_per_rank(batch, batch_index)
        with self.batch_norm_over(sizes):
            error = self._error(batch, self._middle)
        loss = mean_over_ranks(error, sizes)
        return {"loss": loss, "task": loss.detach()}

    def measure(self, batch: FaceBatch) -> None:
        self.evaluation.metric.update(self._error(batch, self.network.backbone.middle), len(batch.labels))

    def _error(self, batch: FaceBatch, student: Callable[[Tensor], Tensor]) -> Tensor:
        middle = self.regressor(student(batch.images))
        hint = self.teacher.middle(batch.images)
        if middle.shape[2:] != hint.shape[2:]:
            middle = F.interpolate(middle, hint.shape[2:], mode="bilinear")  # backbones of two families
        return F.mse_loss(middle, hint)
