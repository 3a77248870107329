"""What a task measures of a network on test samples. Plain: it knows no Lightning and no training."""

import abc
from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics import Metric

from facedistill.config.schema import Config
from facedistill.data.loading.datamodule import FaceData
from facedistill.data.loading.views import FaceBatch
from facedistill.models.network import Network, NetworkOutput

Scores = dict[str, float]


class Evaluation(nn.Module, abc.ABC):
    """Scores of everything it was updated with since its reset; a module, so that its metric moves with the network."""

    metric: Metric

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def measure(self, network: Callable[[Tensor], NetworkOutput], batch: FaceBatch) -> None:
        """Have a network answer a batch of centre crops, and count it."""
        self.update(network(batch.student_images), batch)

    @abc.abstractmethod
    def update(self, output: NetworkOutput, batch: FaceBatch) -> None:
        """Count a batch of centre crops."""

    def scores(self) -> Scores:
        return {name: float(value) for name, value in self.metric.compute().items()}

    def per_sample(self) -> NDArray[np.float32]:
        """What the task's score is the mean of: a value for every one of ``of_samples`` [N], %; none where nobody asks.

        After ``scores``, and of one process.
        """
        return np.zeros(0, np.float32)

    def of_samples(self, data: FaceData) -> NDArray[np.int64]:
        """Which samples of the data these are, where there are any."""
        return data.faces.test

    def pictures(self, network: Network, data: FaceData) -> dict[str, Figure]:
        """What a person looks at to believe the scores, by name; after ``scores`` of the test split, on a CPU."""
        return {}

    def reset(self) -> None:
        self.metric.reset()
