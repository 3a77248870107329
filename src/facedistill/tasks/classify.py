"""Classification of identities: the teacher's pretraining, the student alone (W_S0), the distilled student."""

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from facedistill.config.schema import Config
from facedistill.data.loading.datamodule import FaceData
from facedistill.data.loading.views import FaceBatch
from facedistill.evaluation.evaluation import Evaluation, Scores
from facedistill.evaluation.pictures import identified, spread
from facedistill.models.network import Network, NetworkOutput
from facedistill.tasks.base import TaskModule, identity_loss


class ClassifyEvaluation(Evaluation):
    """``top1``, % of the samples whose identity has the largest logit."""

    def __init__(self, config: Config, num_identities: int) -> None:
        super().__init__(config)
        self.metric = MulticlassAccuracy(num_identities, average="micro", validate_args=False)
        self._right: list[Tensor] = []

    def update(self, output: NetworkOutput, batch: FaceBatch) -> None:
        self.metric.update(output.logits, batch.labels)
        self._right.append(output.logits.argmax(1) == batch.labels)

    def scores(self) -> Scores:
        return {"top1": 100 * float(self.metric.compute())}

    def per_sample(self) -> NDArray[np.float32]:
        """100 where the network is right, 0 where it is not."""
        return 100 * torch.cat(self._right).float().cpu().numpy()

    def reset(self) -> None:
        super().reset()
        self._right = []

    @torch.no_grad()
    def pictures(self, network: Network, data: FaceData) -> dict[str, Figure]:
        """Test faces with their true and their predicted identity."""
        names = data.faces.identities
        batch = data.centre_crops(spread(data.faces.test))
        predicted = network(batch.images).logits.argmax(1).tolist()
        true = [names[label] for label in batch.labels.tolist()]
        return {"samples": identified(batch.pixels(), true, [names[label] for label in predicted])}


class Classify(TaskModule):
    """Φ = H(P, y) (eq. 1 and 2)."""

    @classmethod
    def build_evaluation(cls, config: Config, network: Network) -> ClassifyEvaluation:
        return ClassifyEvaluation(config, network.num_identities)

    def task_loss(self, student: NetworkOutput, batch: FaceBatch) -> Tensor:
        return identity_loss(student, batch)
