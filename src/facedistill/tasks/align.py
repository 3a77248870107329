"""Alignment: five landmarks by regression on K."""

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from facedistill.config.schema import Config
from facedistill.data.loading.datamodule import FaceData
from facedistill.data.loading.views import FaceBatch
from facedistill.errors import ConfigError
from facedistill.evaluation.evaluation import Evaluation
from facedistill.evaluation.pictures import error_curve, landmarks, spread
from facedistill.metrics.landmarks import PERCENT, LandmarkError, box_diagonal, error_units, eye_distance
from facedistill.models.network import Network, NetworkOutput
from facedistill.tasks.base import TaskModule

NORMALIZERS = ("eyes", "box")


@dataclass(frozen=True)
class AlignOptions:
    """``normalizer`` of the NRMSE: the distance of the ``eyes``, or the diagonal of the face ``box``.

    The face box is the square that the source cut out of the original.
    """

    normalizer: str

    def __post_init__(self) -> None:
        if self.normalizer not in NORMALIZERS:
            raise ConfigError(f"task.options.normalizer={self.normalizer}: choices are {', '.join(NORMALIZERS)}")


class AlignEvaluation(Evaluation):
    """NRMSE in pixels of the original image, %, normalized by ``eyes`` or ``box``; see ``AlignOptions``."""

    metric: LandmarkError

    def __init__(self, config: Config, normalizer: str) -> None:
        super().__init__(config)
        self.normalizer = normalizer
        self.metric = LandmarkError()
        self._errors: list[Tensor] = []

    def update(self, output: NetworkOutput, batch: FaceBatch) -> None:
        predicted = in_original(output.landmarks, batch, self.config)
        true = in_original(batch.landmarks, batch, self.config)
        unit = eye_distance(true) if self.normalizer == "eyes" else box_diagonal(batch.crop_boxes[:, 2])
        self.metric.update(predicted, true, unit)
        self._errors.append(error_units(predicted, true, unit)[:, 0])

    def per_sample(self) -> NDArray[np.float32]:
        return (torch.cat(self._errors).double() / PERCENT).float().numpy()

    def reset(self) -> None:
        super().reset()
        self._errors = []

    @torch.no_grad()
    def pictures(self, network: Network, data: FaceData) -> dict[str, Figure]:
        """Test faces with their true and predicted landmarks, and the cumulative error curve."""
        batch = data.centre_crops(spread(data.faces.test))
        predicted = network(batch.images).landmarks
        crop = self.config.image.crop
        pixels = ((crop * (points + 1) / 2 - 0.5).numpy() for points in (batch.landmarks, predicted))
        return {
            "samples": landmarks(batch.pixels(), *pixels),
            "errors": error_curve(*self.metric.curve(), f"test split, normalized by {self.normalizer}"),
        }


def in_original(points: Tensor, batch: FaceBatch, config: Config) -> Tensor:
    """Points [B, 5, 2] of centre crops, in units of the crop → pixels of the original image."""
    image = config.image
    margin = (image.resize - image.crop) // 2
    stored = (margin + image.crop * (points.double() + 1) / 2) / image.resize
    corner, side = batch.crop_boxes[:, None, :2].double(), batch.crop_boxes[:, None, 2:].double()
    return corner + side * stored - 0.5


class Align(TaskModule):
    """Φ = ‖R − y‖² (eq. 6 and 7), R and y from −1 to 1 in the crop."""

    options_type = AlignOptions

    @classmethod
    def build_evaluation(cls, config: Config, network: Network) -> AlignEvaluation:
        return AlignEvaluation(config, cls.options(config).normalizer)

    def task_loss(self, student: NetworkOutput, batch: FaceBatch) -> Tensor:
        return (student.landmarks - batch.landmarks).square().sum((1, 2)).mean()
