"""Batches of augmented faces; each item is a pure function of (index, view)."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from facedistill.data.faces import FaceSet
from facedistill.data.loading.augment import NO_LANDMARKS, Augmentation, Upright, View
from facedistill.data.loading.bands import band_of
from facedistill.data.loading.samplers import Keys
from facedistill.data.loading.view_schedule import EVAL_VIEW

BankReader = Callable[[Keys, NDArray[np.bool_]], NDArray[Any]]  # of samples in a view, and which are mirrored there


class FaceBatch(NamedTuple):
    """A batch of faces.

    Attributes:
        images: uint8 [B, 3, crop, crop], RGB.
        labels: int64 [B].
        indices: int64 [B], positions in the FaceSet.
        landmarks: float32 [B, 5, 2], (x, y) from (−1, −1), the top left corner of the crop, to (1, 1), the bottom
            right one; [B, 0, 2] where the FaceSet has none.
        crop_boxes: float32 [B, 3], see FaceSet; [B, 0] where it has none.
        mirrored: bool [B], whether an image shows its face mirrored; never for centre crops.
        bands: uint8 [B, 3, height, crop], RGB, of these very images, see ``bands.band_of``; [B, 3, 0, 0] for a task
            whose student sees faces.
        domains: int64 [B], see FaceSet; 0 where it has none.
        teacher_embeddings: K_T [B, width] by the role of the teacher, each of its own width, or what else its bank
            keeps; from banked teachers only, and for centre crops only of a teacher that is imitated.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    landmarks: torch.Tensor
    crop_boxes: torch.Tensor
    mirrored: torch.Tensor
    bands: torch.Tensor
    domains: torch.Tensor
    teacher_embeddings: Mapping[str, torch.Tensor]

    def to(self, device: torch.device) -> "FaceBatch":
        """The batch on a device; nobody waits for the copies of pinned memory to a GPU."""
        *tensors, embeddings = self
        free = device.type == "cuda"  # what is copied to the CPU is read there at once
        on_device = {role: embedding.to(device, non_blocking=free) for role, embedding in embeddings.items()}
        return FaceBatch._make([*(tensor.to(device, non_blocking=free) for tensor in tensors), on_device])

    @property
    def student_images(self) -> torch.Tensor:
        """What the student of the task sees: the band of every face, or all of it; teachers see ``images``."""
        return self.bands if self.bands.numel() else self.images

    def without_images(self) -> "FaceBatch":
        """The batch without images and teachers' embeddings: what a task's own loss needs."""
        return self._replace(images=self.images[:, :0], bands=self.bands[:, :0], teacher_embeddings={})

    def pixels(self) -> NDArray[np.uint8]:
        """What the student sees as [B, height, crop, 3], for plotting."""
        return self.student_images.permute(0, 2, 3, 1).numpy()


def to_units(points: NDArray[np.float32], crop: int) -> NDArray[np.float32]:
    """Points in pixels of a crop (the centre of the first at 0) → units from −1 to 1, edge to edge."""
    return (points + 0.5) * np.float32(2 / crop) - 1


class Views(Dataset[FaceBatch]):
    """``views[[(index, view), …]]`` is a FaceBatch, the same on every call.

    Args:
        banks: functions that return K_T [B, width] of such keys, or what else is kept, by the role of the teacher.
        test_banks: the same for centre crops.
        bands: with the band about the eyes of every face, which must have landmarks.
    """

    def __init__(
        self,
        faces: FaceSet,
        augmentation: Augmentation | Upright,
        banks: Mapping[str, BankReader] = MappingProxyType({}),
        test_banks: Mapping[str, BankReader] = MappingProxyType({}),
        bands: bool = False,
    ) -> None:
        self.faces, self.augmentation = faces, augmentation
        self._banks, self._test_banks, self._bands = banks, test_banks, bands

    def __getitem__(self, keys: Keys) -> FaceBatch:
        views = [self.view(index, view) for index, view in keys]
        images = np.stack([view.image for view in views])
        landmarks = [to_units(view.landmarks, images.shape[1]) for view in views]
        bands = [band_of(view.image, view.landmarks) for view in views] if self._bands else []
        return self.batch(keys, images, landmarks, [view.mirrored for view in views], bands)

    def batch(
        self,
        keys: Keys,
        images: NDArray[np.uint8],
        landmarks: Sequence[NDArray[np.float32]],
        mirrored: Sequence[bool],
        bands: Sequence[NDArray[np.uint8]] = (),
    ) -> FaceBatch:
        """Images [B, height, width, 3] of these keys, beside what else is known of them; landmarks in units."""
        indices = [index for index, _ in keys]
        flags = np.array(mirrored)
        crop_boxes, domains = self.faces.crop_boxes, self.faces.domains
        banks = self._test_banks if keys[0][1] == EVAL_VIEW else self._banks
        return FaceBatch(
            # memory stays in the order height × width × channels, torch's channels_last
            torch.from_numpy(images).permute(0, 3, 1, 2),
            torch.from_numpy(self.faces.labels[indices]),
            torch.tensor(indices),
            torch.from_numpy(np.stack(landmarks)),
            torch.from_numpy(np.empty((len(keys), 0), np.float32) if crop_boxes is None else crop_boxes[indices]),
            torch.from_numpy(flags),
            torch.from_numpy(np.stack(bands) if bands else np.empty((len(keys), 0, 0, 3), np.uint8)).permute(
                0, 3, 1, 2
            ),
            torch.zeros(len(keys), dtype=torch.int64) if domains is None else torch.from_numpy(domains[indices]),
            {role: torch.from_numpy(bank(keys, flags)) for role, bank in banks.items()},
        )

    def view(self, index: int, view: int) -> View:
        """One view of one image, and its landmarks."""
        return self.augmentation(self.faces.images[index], self.landmarks(index), index, view)

    def landmarks(self, index: int) -> NDArray[np.float32]:
        """Of an image, [5 or 0, 2] in pixels of it."""
        return NO_LANDMARKS if self.faces.landmarks is None else self.faces.landmarks[index]
