"""Face alignment: the normalized error of five landmarks and its distribution."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from facedistill.errors import DataError

LANDMARKS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
LIMITS = (8, 10)  # %, of the area under the curve and the failure rate
CURVE_END, CURVE_STEP = 20, 0.1  # %
# errors are summed as integers of 1e-7 %, so that the sum depends on no order, device or number of ranks
PERCENT = 10**7
CEILING = 100_000 * PERCENT  # int64 holds the sum of 9·10⁶ faces


def eye_distance(true: Tensor) -> Tensor:
    """Distance between the eyes, points 0 and 1: [B, 5, 2] → [B]."""
    return (true[:, 0] - true[:, 1]).square().sum(1).sqrt()


def box_diagonal(side: Tensor) -> Tensor:
    """Diagonal of square boxes from their sides: [B] → [B]."""
    return side * 2**0.5


def error_units(predicted: Tensor, true: Tensor, normalizer: Tensor) -> Tensor:
    """Normalized errors of faces and of their landmarks, int64 [B, 1 + 5] on the CPU, in units of 1e-7 %.

    Args:
        predicted: [B, 5, 2], pixels of the original image.
        true: [B, 5, 2], the same.
        normalizer: [B], pixels, > 0.

    Raises:
        DataError: a normalizer is not a positive number.
    """
    # some accelerators have no float64
    predicted, true, normalizer = (part.detach().cpu().double() for part in (predicted, true, normalizer))
    bad = ~(normalizer.isfinite() & (normalizer > 0))
    if bad.any():
        raise DataError(
            f"{int(bad.sum())} of {len(bad)} faces of a batch have nothing to divide their error by: both eyes are "
            "at one point. Fix their annotation, or divide by the box: task.options.normalizer=box"
        )
    distance = torch.linalg.vector_norm(predicted - true, dim=2) / normalizer[:, None]
    error = distance.square().mean(1, keepdim=True).sqrt()
    errors = (100 * PERCENT * torch.cat([error, distance], 1)).nan_to_num(nan=CEILING).clamp(max=CEILING)
    return errors.round().long()


class LandmarkError(Metric):
    """Normalized root mean square error of the landmarks of every face, exact to 1e-7 %.

    The error of a face is √(mean over its landmarks of squared distance) / normalizer. Values above 100,000 % and NaN
    count as 100,000 %.
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    sums: Tensor  # [1 + 5] of the errors of faces, and of each landmark
    areas: Tensor  # [limits] of the margins by which errors stay below each limit
    histogram: Tensor  # [bins] faces; bin k ends with k · CURVE_STEP, inclusive, and the last has no end

    def __init__(self) -> None:
        super().__init__()
        bins = round(CURVE_END / CURVE_STEP) + 2
        for name, size in (("sums", 1 + len(LANDMARKS)), ("areas", len(LIMITS)), ("histogram", bins)):
            self.add_state(name, torch.zeros(size, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, true: Tensor, normalizer: Tensor) -> None:
        """Add a batch; see ``error_units`` for the arguments."""
        units = error_units(predicted, true, normalizer)
        below = torch.tensor(LIMITS) * PERCENT - units[:, :1]
        step = round(CURVE_STEP * PERCENT)
        bins = ((units[:, 0] + step - 1) // step).clamp(max=len(self.histogram) - 1)
        self.sums += units.sum(0).to(self.sums)
        self.areas += below.clamp(min=0).sum(0).to(self.areas)
        self.histogram += torch.bincount(bins, minlength=len(self.histogram)).to(self.histogram)

    def compute(self) -> dict[str, Tensor]:
        """All metrics in %, float64 on the CPU; NaN before the first face.

        Returns:
            nrmse: mean error of the faces; nrmse_LANDMARK: mean distance / normalizer of one landmark.
            auc_LIMIT: area under the cumulative curve of errors up to the limit, 100 for a perfect network: the mean
                of max(0, 1 - error / limit).
            failure_LIMIT: share of faces with an error over the limit.
        """
        within = self.histogram.cpu().cumsum(0)
        faces = within[-1]
        names = ["nrmse", *(f"nrmse_{name}" for name in LANDMARKS)]
        metrics = dict(zip(names, self.sums.cpu().double() / PERCENT / faces, strict=True))
        for limit, area in zip(LIMITS, self.areas.cpu().double(), strict=True):
            metrics[f"auc_{limit}"] = 100 * area / (limit * PERCENT) / faces
            metrics[f"failure_{limit}"] = 100 * (faces - within[round(limit / CURVE_STEP)]).double() / faces
        return metrics

    def curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Cumulative error curve: errors 0 … 20 % in steps of 0.1, and the fraction of faces up to each.

        It synchronizes the ranks, so that every one has to call it.
        """
        with self.sync_context():
            within = self.histogram.cpu().double().cumsum(0).numpy()
        return np.arange(len(within) - 1) / round(1 / CURVE_STEP), within[:-1] / within[-1]
