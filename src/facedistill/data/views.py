"""An item is a pure function of (index, view); the sampler decides which, from (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from facedistill.data.augment import EVAL_VIEW, Augmentation
from facedistill.data.source import FaceSet

Keys = list[tuple[int, int]]


class FaceBatch(NamedTuple):
    """Faces as the network takes them.

    Attributes:
        images: uint8 [B, 3, crop, crop], RGB.
        labels: int64 [B].
        indices: int64 [B], the sample's number in its FaceSet.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor


class Views(Dataset[FaceBatch]):
    """Batches of views. ``views[[(index, view), …]]`` is a FaceBatch, the same on every call."""

    def __init__(self, faces: FaceSet, augmentation: Augmentation) -> None:
        self._faces = faces
        self._augmentation = augmentation

    def __getitem__(self, keys: Keys) -> FaceBatch:
        indices = [index for index, _ in keys]
        images = np.stack([self.image(index, view) for index, view in keys])
        return FaceBatch(
            # the memory stays as it is, height × width × channels: torch calls that channels_last
            torch.from_numpy(images).permute(0, 3, 1, 2),
            torch.from_numpy(self._faces.labels[indices]),
            torch.tensor(indices),
        )

    def image(self, index: int, view: int) -> NDArray[np.uint8]:
        """One view of one image, uint8 [crop, crop, 3]."""
        return self._augmentation(self._faces.images[index], index, view)


class TrainBatches(Sampler[Keys]):
    """Every training sample once an epoch, in an order and with views that depend on (seed, epoch) alone.

    All samples are used and no batch is much smaller than another: sizes differ by one at most, so that
    BatchNorm never meets a batch of one.
    """

    def __init__(self, indices: NDArray[np.int64], batch_size: int, seed: int) -> None:
        self._indices, self._batch_size, self._seed = indices, batch_size, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return max(1, min(-(-len(self._indices) // self._batch_size), len(self._indices) // 2))

    def __iter__(self) -> Iterator[Keys]:
        for batch in self.batches(self.epoch):
            yield [(int(index), self.epoch) for index in batch]

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """The sample indices of every batch of an epoch."""
        key = np.array([self._seed, epoch], dtype=np.uint64)
        order = np.random.Generator(np.random.Philox(key=key)).permutation(self._indices)
        return np.array_split(order, len(self))


class EvalBatches(Sampler[Keys]):
    """Every sample once, in order, as its centre crop."""

    def __init__(self, indices: NDArray[np.int64], batch_size: int) -> None:
        self._indices, self._batch_size = indices, batch_size

    def __len__(self) -> int:
        return -(-len(self._indices) // self._batch_size)

    def __iter__(self) -> Iterator[Keys]:
        for start in range(0, len(self._indices), self._batch_size):
            yield [(int(index), EVAL_VIEW) for index in self._indices[start : start + self._batch_size]]
