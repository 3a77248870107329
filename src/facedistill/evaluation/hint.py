"""First stage of FitNet: how far the student's middle layer is from the teacher's."""

from torch import Tensor
from torchmetrics import MeanMetric

from facedistill.config.schema import Config
from facedistill.data.loading.views import FaceBatch
from facedistill.evaluation.evaluation import Evaluation, Scores
from facedistill.models.network import NetworkOutput


class HintEvaluation(Evaluation):
    """``hint_error``, the mean over the test split; a network alone has none."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.metric = MeanMetric()

    def update(self, output: NetworkOutput, batch: FaceBatch) -> None:
        raise TypeError("the error of a hint takes the regressor and the teacher: see update_error")

    def update_error(self, error: Tensor, count: int) -> None:
        """Count the mean error of ``count`` samples."""
        self.metric.update(error, count)

    def scores(self) -> Scores:
        return {"hint_error": float(self.metric.compute())}
