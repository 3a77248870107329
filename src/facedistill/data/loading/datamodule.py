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
from torch import Tensor
from torch.utils.data import DataLoader

from facedistill.config.groups import ImageConfig, TrainerConfig
from facedistill.config.schema import Config
from facedistill.data.faces import FaceSet, Pairs
from facedistill.data.judgement import check, check_seen_as
from facedistill.data.loading.augment import Augmentation, Upright
from facedistill.data.loading.on_device import Batch, UncutViews, beside_gpu, images_on
from facedistill.data.loading.rounds import Banks, Preparation, Rounds
from facedistill.data.loading.samplers import EvalBatches, IdentityBatches, Keys, TrainBatches
from facedistill.data.loading.view_schedule import EVAL_VIEW, banked_views
from facedistill.data.loading.views import BankReader, FaceBatch, Views
from facedistill.data.sources.source import Source, build_source
from facedistill.data.sources.verification_set import protocol_source
from facedistill.system.cores import cores_of_process

Loader = DataLoader[Batch]
EVAL_BATCH = 128
MOST_WORKERS = 16  # of one training process


def read_faces(config: Config, data: dict[str, Any]) -> FaceSet:
    """The faces of a ``conf/data`` node at the size of a configuration, from its cache or prepared now.

    Their pairs are those of ``config.protocol``, where it names one.
    """
    size, cache = config.image.resize, Path(config.cache_dir).expanduser()
    faces = build_source(data).faces(size, cache)
    if config.has_protocol:
        pairs = protocol_source(config.protocol).protocol(size, cache, set(faces.identities))
        faces = replace(faces, pairs=pairs)
    return faces


def pair_batches(pairs: Pairs, config: Config) -> Loader:
    """Centre crops of the images of a verification protocol, in order; their labels are 0."""
    return pair_data(pairs, config).val_dataloader()


def pair_data(pairs: Pairs, config: Config) -> "FaceData":
    """The images of a verification protocol as a test split."""
    zeros = np.zeros(len(pairs.images), np.int64)
    return FaceData(config, FaceSet(pairs.images, zeros, is_test=zeros == 0, identities=[]))


def workers_for(trainer: TrainerConfig) -> int:
    """How many processes prepare batches; ``auto``: a training process' share of the cores, but one, beside a GPU."""
    if isinstance(trainer.num_workers, int):
        return trainer.num_workers
    if trainer.accelerator == "cpu" or not torch.accelerator.is_available():
        return 0
    return min(MOST_WORKERS, max(1, cores_of_process(trainer.devices) - 1))


class FaceData(pl.LightningDataModule):
    """Augmented training batches, and centre crops for testing, of one source."""

    def __init__(self, config: Config, faces: FaceSet, augmentation: Augmentation | Upright | None = None) -> None:
        super().__init__()
        bands = config.task.bands
        faces = faces.live if config.task.live_only else faces
        self.faces = replace(faces, pairs=None) if bands else faces  # where the eyes in them are is not known
        self._config = config
        self._workers = workers_for(config.trainer)
        landmarks = (faces.aligned_by if faces.landmarks is None else faces.landmarks) if bands else None
        self._used = faces if config.task.needs == "landmarks" else replace(faces, landmarks=landmarks, crop_boxes=None)
        # a face that comes once needs no mirror, and teachers of all seeds then see the same
        self._augmentation = augmentation or Augmentation(
            config.image.crop, config.seed, config.augment.name, mirrors=self.source.epochs_per_round is None
        )
        self._views = self._views_of_training = Views(self._used, self._augmentation, bands=bands)
        self._cuts_on_device = beside_gpu(config.trainer) and self._augmentation.crops_alone and not bands
        self._on_device: Tensor | None = None  # all images, where the device keeps them
        self._rounds: Rounds | None = None

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
        views = Views(self._used, self._augmentation, banks, test_banks, self._config.task.bands)
        self._views = self._views_of_training = views

    def use_rounds(self, prepare: Preparation) -> None:
        """Have every epoch train on a round of the source, which is prepared when the epoch begins."""
        self._rounds = Rounds(self.source, prepare)

    def teardown(self, stage: str) -> None:
        self._on_device = None
        if self._rounds is not None:
            self._rounds.prepare.end()

    @cached_property
    def source(self) -> Source:
        """Whose faces these are."""
        return build_source(self._config.data)

    def views_of(self, faces: FaceSet, banks: Banks = MappingProxyType({})) -> Views:
        """Other faces, as those of this source are seen in training."""
        return Views(faces, self._augmentation, banks)

    def imitated(self, indices: Tensor, cosines: Tensor) -> None:
        """Take note of how well the student imitated training faces, both [B]: rounds may depend on it."""
        if self._rounds is not None:
            self._rounds.imitated(self.train_batches.epoch, indices, cosines)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint at the end of an epoch."""
        return {} if self._rounds is None else self._rounds.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._rounds is not None:
            self._rounds.load_state_dict(state_dict)

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
        task, seed, faces = self._config.task, self._config.seed, self.faces
        views = None if self.source.epochs_per_round else banked_views(self._config)
        if task.images_per_identity is None:
            return TrainBatches(faces.train, task.batch_size, seed, views)
        return IdentityBatches(faces.train, faces.labels, task.batch_size, task.images_per_identity, seed, views)

    def train_dataloader(self) -> Loader:
        if self._rounds is not None:
            assert self.trainer is not None
            faces, banks = self._rounds.begin(self.trainer.current_epoch)
            self._views_of_training = self.views_of(faces, banks)
        elif self._cuts_on_device and self.trainer is not None:
            self._on_device = images_on(self.trainer.strategy.root_device, self._used, self._config.data["name"])
        return self.loader(self.train_batches, self._views_of_training, self._on_device is None)

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Batches of what the device keeps bring no images."""
        if self._on_device is None or isinstance(batch, FaceBatch) or len(batch.batch.images):
            return batch
        return batch.with_images(self._on_device)

    def first_batches(self, count: int) -> list[FaceBatch]:
        """The first training batches of the epoch that the sampler is at, or this process' share of them."""
        return [self._views_of_training[keys] for keys in islice(self.train_batches, count)]

    def val_dataloader(self) -> Loader:
        """The test split: the paper has no third one, and nothing is selected by it here either."""
        return self.test_loader(self.faces.test)

    def test_loader(self, indices: NDArray[np.int64]) -> Loader:
        """Centre crops of the samples with these indices, in order."""
        return self.loader(EvalBatches(indices, EVAL_BATCH))

    def centre_crops(self, indices: NDArray[np.int64]) -> FaceBatch:
        """A batch of the samples with these indices, on the CPU."""
        return self._views[[(int(index), EVAL_VIEW) for index in indices]]

    @property
    def of_pairs(self) -> "FaceData | None":
        """The images of the source's pairs, as they are seen here; None: it has none."""
        return None if self.faces.pairs is None else pair_data(self.faces.pairs, self._config)

    def loader(self, batches: Iterable[Keys], views: Views | None = None, brings_images: bool = True) -> Loader:
        """The batches of a sampler. To iterate over them draws nothing from torch's generator, which dropout reads.

        ``brings_images``: see ``UncutViews``.
        """
        views = views or self._views
        return DataLoader(
            UncutViews(views, brings_images) if self._cuts_on_device else views,
            batch_size=None,  # the sampler makes the batches
            sampler=batches,
            num_workers=self._workers,
            persistent_workers=self._workers > 0,
            generator=torch.Generator(),
            pin_memory=torch.cuda.is_available(),
        )
