"""The DataModule that every task shares."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from facedistill.config import Config
from facedistill.data.augment import Augmentation
from facedistill.data.source import FaceSet, build_source
from facedistill.data.views import EvalBatches, FaceBatch, IdentityBatches, Keys, TrainBatches, Views

EVAL_BATCH = 128


def read_faces(config: Config, data: dict[str, Any]) -> FaceSet:
    """The faces of a ``conf/data`` node at the size of a configuration, from its cache or made now."""
    return build_source(data).faces(config.image.resize, Path(config.cache_dir).expanduser())


def _train_batches(config: Config, faces: FaceSet) -> TrainBatches:
    task = config.task
    if task.images_per_identity is None:
        return TrainBatches(faces.train, task.batch_size, config.seed)
    return IdentityBatches(faces.train, faces.labels, task.batch_size, task.images_per_identity, config.seed)


class FaceData(pl.LightningDataModule):
    """Training views and test centre crops of one source."""

    def __init__(self, config: Config, faces: FaceSet) -> None:
        super().__init__()
        self.faces = faces
        self._crop = config.image.crop
        self._workers = config.trainer.num_workers
        shown = faces if config.task.needs == "landmarks" else replace(faces, landmarks=None, frames=None)
        self._views = Views(shown, Augmentation(config.image.crop, config.seed))
        self.train_batches = _train_batches(config, faces)

    @classmethod
    def of(cls, config: Config) -> FaceData:
        """Prepare the data that a configuration names (rendered or decoded on the first call)."""
        return cls(config, read_faces(config, config.data))

    def train_dataloader(self) -> DataLoader[FaceBatch]:
        """Shuffled, augmented, every sample once."""
        return self._loader(self._views, self.train_batches)

    def val_dataloader(self) -> DataLoader[FaceBatch]:
        """The test split: the paper has no third one, and nothing is chosen by it here either."""
        return self.test_loader(self.faces.test)

    def test_loader(self, indices: NDArray[np.int64]) -> DataLoader[FaceBatch]:
        """Centre crops of the given samples, in order."""
        return self._loader(self._views, EvalBatches(indices, EVAL_BATCH))

    def pairs_loader(self) -> DataLoader[FaceBatch] | None:
        """Centre crops of the pair protocol's images, in order; labels are 0."""
        pairs = self.faces.pairs
        if pairs is None:
            return None
        count = len(pairs.images)
        zeros = np.zeros(count, np.int64)
        images = FaceSet(pairs.images, zeros, zeros.astype(bool), [])
        views = Views(images, Augmentation(self._crop, 0))
        return self._loader(views, EvalBatches(np.arange(count), EVAL_BATCH))

    def _loader(self, views: Dataset[FaceBatch], batches: Sampler[Keys]) -> DataLoader[FaceBatch]:
        return DataLoader(
            views,
            batch_size=None,  # the sampler gives whole batches
            sampler=batches,
            num_workers=self._workers,
            persistent_workers=self._workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
