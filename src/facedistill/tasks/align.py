"""Alignment: five landmarks by regression on K."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from facedistill.config.build import build
from facedistill.config.schema import Config
from facedistill.data.loading.datamodule import FaceData
from facedistill.data.loading.views import FaceBatch
from facedistill.errors import ConfigError
from facedistill.evaluation.pictures import error_curve, landmarks, spread
from facedistill.metrics.landmarks import PERCENT, LandmarkError, box_diagonal, error_units, eye_distance
from facedistill.models.network import NetworkOutput
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


class Align(TaskModule):
    """Φ = ‖R − y‖² (eq. 6 and 7), R and y from −1 to 1 in the crop. Metric: NRMSE in pixels of the original, %."""

    metric: LandmarkError

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        options: AlignOptions = build(self.config.task.options)
        self.normalizer = options.normalizer
        self.metric = LandmarkError()

    def task_loss(self, student: NetworkOutput, batch: FaceBatch) -> Tensor:
        """‖R − y‖², averaged over the batch."""
        return (student.landmarks - batch.landmarks).square().sum((1, 2)).mean()

    def measure(self, batch: FaceBatch) -> None:
        """Compare landmarks in pixels of the original image."""
        self.metric.update(*self._compared(batch))

    def _compared(self, batch: FaceBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Found and true landmarks in pixels of the original image, and what their distance is divided by."""
        found = in_original(self.network(batch.images).landmarks, batch, self.config)
        true = in_original(batch.landmarks, batch, self.config)
        return found, true, eye_distance(true) if self.normalizer == "eyes" else box_diagonal(batch.crop_boxes[:, 2])

    @torch.no_grad()
    def sample_scores(self, data: FaceData) -> NDArray[np.float32]:
        """The NRMSE of every face."""
        batches = (batch.to(self.device) for batch in data.val_dataloader())
        errors = [error_units(*self._compared(batch))[:, 0] for batch in batches]
        return (torch.cat(errors).double() / PERCENT).float().numpy()

    @torch.no_grad()
    def pictures(self, data: FaceData) -> dict[str, Figure]:
        """Test faces with their true and found landmarks, and the cumulative error curve."""
        batch = next(iter(data.test_loader(spread(data.faces.test))))
        found = self.network(batch.images).landmarks
        crop = self.config.image.crop
        true, said = ((crop * (points + 1) / 2 - 0.5).numpy() for points in (batch.landmarks, found))
        return {
            "samples": landmarks(batch.pixels(), true, said),
            "errors": error_curve(*self.metric.curve(), f"test split, normalized by {self.normalizer}"),
        }


def in_original(points: Tensor, batch: FaceBatch, config: Config) -> Tensor:
    """Points [B, 5, 2] of centre crops, in units of the crop → pixels of the original image."""
    image = config.image
    margin = (image.resize - image.crop) // 2
    stored = (margin + image.crop * (points.double() + 1) / 2) / image.resize
    corner, side = batch.crop_boxes[:, None, :2].double(), batch.crop_boxes[:, None, 2:].double()
    return corner + side * stored - 0.5
