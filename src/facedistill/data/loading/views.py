"""An item is a pure function of (index, view)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from facedistill.data.faces import FaceSet
from facedistill.data.loading.augment import NO_LANDMARKS, Augmentation
from facedistill.data.loading.samplers import Keys
from facedistill.data.loading.view_schedule import EVAL_VIEW

Recalled = Callable[[Keys], NDArray[Any]]


class FaceBatch(NamedTuple):
    """Faces as the network takes them.

    Attributes:
        images: uint8 [B, 3, crop, crop], RGB.
        labels: int64 [B].
        indices: int64 [B], the sample's number in its FaceSet.
        landmarks: float32 [B, 5, 2], (x, y) from −1 to 1: (−1, −1) is the top left corner of the crop, (1, 1) the
            bottom right one. [B, 0, 2] where the FaceSet has none.
        crop_boxes: float32 [B, 3], see FaceSet; [B, 0] where it has none.
        hidden: [B, R, width], K_T of R teachers as their banks have it; [B, 0, 0] where nothing is banked.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    landmarks: torch.Tensor
    crop_boxes: torch.Tensor
    hidden: torch.Tensor

    def to(self, device: torch.device) -> FaceBatch:
        """The batch on a device."""
        return FaceBatch(*(part.to(device) for part in self))

    def without_images(self) -> FaceBatch:
        """What a task's own loss asks of a batch; the most of it stays where it is."""
        return self._replace(images=self.images[:, :0], hidden=self.hidden[:, :0])

    def pixels(self) -> NDArray[np.uint8]:
        """The images as [B, crop, crop, 3], as they are drawn."""
        return self.images.permute(0, 2, 3, 1).numpy()


def to_units(points: NDArray[np.float32], crop: int) -> NDArray[np.float32]:
    """Points in pixels of a crop (the centre of the first is 0) → units of it, −1 to 1 from edge to edge."""
    return (points + 0.5) * np.float32(2 / crop) - 1


class Views(Dataset[FaceBatch]):
    """Batches of views. ``views[[(index, view), …]]`` is a FaceBatch, the same on every call.

    ``banks``: what teachers say of such keys, [B, width] each, all of one width.
    """

    def __init__(self, faces: FaceSet, augmentation: Augmentation, banks: Sequence[Recalled] = ()) -> None:
        self._faces = faces
        self._augmentation = augmentation
        self._banks = banks

    def __getitem__(self, keys: Keys) -> FaceBatch:
        indices = [index for index, _ in keys]
        views = [self.view(index, view) for index, view in keys]
        images = np.stack([image for image, _ in views])
        crop_boxes = self._faces.crop_boxes
        return FaceBatch(
            # the memory stays as it is, height × width × channels: torch calls that channels_last
            torch.from_numpy(images).permute(0, 3, 1, 2),
            torch.from_numpy(self._faces.labels[indices]),
            torch.tensor(indices),
            torch.from_numpy(np.stack([to_units(points, images.shape[1]) for _, points in views])),
            torch.from_numpy(np.empty((len(keys), 0), np.float32) if crop_boxes is None else crop_boxes[indices]),
            torch.from_numpy(self._hidden(keys)),
        )

    def _hidden(self, keys: Keys) -> NDArray[Any]:
        if not self._banks or keys[0][1] == EVAL_VIEW:
            return np.empty((len(keys), 0, 0), np.float16)
        return np.stack([bank(keys) for bank in self._banks], 1)

    def view(self, index: int, view: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """One view of one image, uint8 [crop, crop, 3], and its landmarks [5 or 0, 2] in pixels of the crop."""
        landmarks = NO_LANDMARKS if self._faces.landmarks is None else self._faces.landmarks[index]
        return self._augmentation(self._faces.images[index], landmarks, index, view)
