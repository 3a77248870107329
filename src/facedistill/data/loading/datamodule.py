"""The DataModule that every task shares."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from facedistill.config.groups import ImageConfig
from facedistill.config.schema import Config
from facedistill.data.faces import FaceSet, Pairs
from facedistill.data.judgement import check, check_seen_as
from facedistill.data.loading.augment import Augmentation, Upright
from facedistill.data.loading.samplers import EvalBatches, IdentityBatches, Keys, TrainBatches
from facedistill.data.loading.view_schedule import banked_views
from facedistill.data.loading.views import BankReader, FaceBatch, Views
from facedistill.data.sources.source import build_source

EVAL_BATCH = 128


def read_faces(config: Config, data: dict[str, Any]) -> FaceSet:
    """The faces of a ``conf/data`` node at the size of a configuration, from its cache or prepared now."""
    return build_source(data).faces(config.image.resize, Path(config.cache_dir).expanduser())


def pair_batches(pairs: Pairs, config: Config) -> DataLoader[FaceBatch]:
    """Centre crops of the images of a verification protocol, in order; their labels are 0."""
    return pair_data(pairs, config).val_dataloader()


def pair_data(pairs: Pairs, config: Config) -> "FaceData":
    """The images of a verification protocol as a test split."""
    zeros = np.zeros(len(pairs.images), np.int64)
    return FaceData(config, FaceSet(pairs.images, zeros, is_test=zeros == 0, identities=[]))


class FaceData(pl.LightningDataModule):
    """Augmented training batches, and centre crops for testing, of one source."""

    def __init__(self, config: Config, faces: FaceSet, augmentation: Augmentation | Upright | None = None) -> None:
        super().__init__()
        faces = faces.live if config.task.live_only else faces
        self.faces = faces
        self._config = config
        self._workers = config.trainer.num_workers
        self._used = faces if config.task.needs == "landmarks" else replace(faces, landmarks=None, crop_boxes=None)
        self._augmentation = augmentation or Augmentation(config.image.crop, config.seed, config.augment.name)
        self._views = Views(self._used, self._augmentation)

    @classmethod
    def of(cls, config: Config, beside: "FaceData | None" = None) -> "FaceData":
        """Prepare the data of a configuration, from what is ``beside`` it if that has the same faces.

        Raises:
            DataError: the task can't use it.
        """
        faces = beside.faces_of(config.data) if beside else read_faces(config, config.data)
        check(config, faces.samples)
        return cls(config, faces)

    def use_banks(
        self, banks: Mapping[str, BankReader], test_banks: Mapping[str, BankReader] = MappingProxyType({})
    ) -> None:
        """Add to training batches, and to those of centre crops, the embeddings of the teachers with these roles."""
        self._views = Views(self._used, self._augmentation, banks, test_banks)

    def seen_as(self, image: ImageConfig) -> "FaceData":
        """The same faces as a recognizer sees them: the centre crop in view 0, mirrored in view 1."""
        config = replace(self._config, image=image)
        check_seen_as(image, config.data)
        return FaceData(config, read_faces(config, config.data), Upright(image.crop))

    def faces_of(self, data: dict[str, Any]) -> FaceSet:
        """The faces of a ``conf/data`` node at this size; those of its own are not looked for again."""
        return self.faces if data == self._config.data else read_faces(self._config, data)

    @cached_property
    def train_batches(self) -> TrainBatches:
        """The sampler that the task needs: every sample once, or P identities × K images."""
        task, seed, faces, views = self._config.task, self._config.seed, self.faces, banked_views(self._config)
        if task.images_per_identity is None:
            return TrainBatches(faces.train, task.batch_size, seed, views)
        return IdentityBatches(faces.train, faces.labels, task.batch_size, task.images_per_identity, seed, views)

    def train_dataloader(self) -> DataLoader[FaceBatch]:
        return self.loader(self.train_batches)

    def first_batches(self, count: int) -> list[FaceBatch]:
        """The first training batches of the epoch that the sampler is at, or this process' share of them."""
        return [self._views[keys] for keys in islice(self.train_batches, count)]

    def val_dataloader(self) -> DataLoader[FaceBatch]:
        """The test split: the paper has no third one, and nothing is selected by it here either."""
        return self.test_loader(self.faces.test)

    def test_loader(self, indices: NDArray[np.int64]) -> DataLoader[FaceBatch]:
        """Centre crops of the samples with these indices, in order."""
        return self.loader(EvalBatches(indices, EVAL_BATCH))

    @property
    def of_pairs(self) -> "FaceData | None":
        """The images of the source's pairs, as they are seen here; None: it has none."""
        return None if self.faces.pairs is None else pair_data(self.faces.pairs, self._config)

    def loader(self, batches: Iterable[Keys]) -> DataLoader[FaceBatch]:
        """The batches of a sampler. To iterate over them draws nothing from torch's generator, which dropout reads."""
        return DataLoader(
            self._views,
            batch_size=None,  # the sampler makes the batches
            sampler=batches,
            num_workers=self._workers,
            persistent_workers=self._workers > 0,
            generator=torch.Generator(),
            pin_memory=torch.cuda.is_available(),
        )
