"""Crop and flip of whole batches on the device that trains, by the draws of the CPU: the same pixels.

A worker then copies images as they are kept and draws two numbers and a flip for each. Landmarks are moved on the CPU,
since they are few. Bands and ``augment=recognizer`` are more than a crop, and stay there.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from facedistill.config.groups import TrainerConfig
from facedistill.data.faces import FaceSet
from facedistill.data.files.photo_store import Decoded
from facedistill.data.files.store import image_of
from facedistill.data.loading.augment import landmarks_in
from facedistill.data.loading.samplers import Keys
from facedistill.data.loading.views import FaceBatch, Views, to_units
from facedistill.system.terminal import say

SHARE = 0.5  # of a device's free memory that images may take: the rest is for networks and their activations
_COPIED_AT_ONCE = 256


def beside_gpu(trainer: TrainerConfig) -> bool:
    """Whether this process trains or scores on a GPU with memory of its own."""
    return trainer.accelerator != "cpu" and torch.cuda.is_available()


class UncutBatch(NamedTuple):
    """A batch whose views are cut out, and mirrored, on the device that it is moved to.

    Attributes:
        batch: the batch, but for its images: uint8 [N, 3, S, S], whole ones. Of images that the device keeps it brings
            none, and gets them by ``with_images``.
        rows: int64 [B], of which of the N images each view is.
        corners: int64 [B, 2], the top left pixel of each, (row, column).
        crop: the side of a view.
    """

    batch: FaceBatch
    rows: Tensor
    corners: Tensor
    crop: int

    def with_images(self, images: Tensor) -> "UncutBatch":
        """The same of images that lie on the device, uint8 [N, 3, S, S]."""
        return self._replace(batch=self.batch._replace(images=images))

    def to(self, device: torch.device) -> FaceBatch:
        """Its views on a device, as ``Views`` gives them on the CPU."""
        batch = self.batch.to(device)
        rows, corners = (part.to(device, non_blocking=device.type == "cuda") for part in (self.rows, self.corners))
        return batch._replace(images=cut_out(batch.images, rows, corners, batch.mirrored, self.crop))


Batch = FaceBatch | UncutBatch  # of either, ``batch.to(device)`` has the views there


def cut_out(images: Tensor, rows: Tensor, corners: Tensor, mirrored: Tensor, crop: int) -> Tensor:
    """The views [B, 3, crop, crop] of images [N, 3, S, S], channels_last; the rest as in ``UncutBatch``."""
    places = torch.arange(crop, device=images.device)
    down = corners[:, :1] + places
    across = corners[:, 1:] + torch.where(mirrored[:, None], crop - 1 - places, places)
    views = images.permute(0, 2, 3, 1)[rows[:, None, None], down[:, :, None], across[:, None, :]]
    return views.permute(0, 3, 1, 2)


class UncutViews(Dataset[UncutBatch]):
    """``views[[(index, view), …]]`` is an UncutBatch of the same pixels as the FaceBatch of ``Views``.

    Args:
        views: of an augmentation that is no more than a crop, without bands.
        brings_images: whether batches bring the images; false where the device keeps all of them.
    """

    def __init__(self, views: Views, brings_images: bool = True) -> None:
        assert views.augmentation.crops_alone, "what is more than a crop stays on the CPU"
        self._views, self._brings_images = views, brings_images

    def __getitem__(self, keys: Keys) -> UncutBatch:
        faces, augmentation, crop = self._views.faces, self._views.augmentation, self._views.augmentation.crop
        indices, side = [index for index, _ in keys], faces.images.shape[1]
        windows = [augmentation.window(side, index, view) for index, view in keys]
        landmarks = [
            to_units(landmarks_in(self._views.landmarks(index), window, crop), crop)
            for index, window in zip(indices, windows, strict=True)
        ]
        images = faces.images[indices if self._brings_images else []]
        return UncutBatch(
            self._views.batch(keys, images, landmarks, [window.mirrored for window in windows]),
            torch.arange(len(keys)) if self._brings_images else torch.tensor(indices),
            torch.tensor([(window.top, window.left) for window in windows]),
            crop,
        )


def images_on(device: torch.device, faces: FaceSet, name: str) -> Tensor | None:
    """All images of a source on a device, uint8 [N, 3, S, S], where they fit; a line on stderr says so, or why not.

    None: it is the CPU, or they take more than half of the room, or images are decoded when they are read.

    Args:
        name: of the source, for the line.
    """
    if device.type != "cuda" or isinstance(faces.images, Decoded):
        return None
    count, side = faces.images.shape[:2]
    needed = count * image_of(side).bytes
    kept_by_torch = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # for what comes next
    free = torch.cuda.mem_get_info(device)[0] + kept_by_torch
    fits = needed <= SHARE * free
    say(
        f"{name}: {count:,} images of {side} pixels take {needed / 2**30:,.1f} GiB, and {device} has "
        f"{free / 2**30:,.1f} free: " + ("they are kept there" if fits else "every batch is copied to it")
    )
    return copied(faces, device) if fits else None


def copied(faces: FaceSet, device: torch.device) -> Tensor:
    """All images of a source on a device, uint8 [N, 3, S, S], channels_last."""
    images = torch.empty(faces.images.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(images), _COPIED_AT_ONCE):
        part = slice(start, start + _COPIED_AT_ONCE)
        images[part] = torch.from_numpy(np.array(faces.images[part])).to(device)  # what is mapped can't be written
    return images.permute(0, 3, 1, 2)
