"""The bank: K_T of every training sample in every view, answered once for all students of a teacher and a data source.

A view is a store of its own (see ``data.store``), so that a longer schedule adds to what is there, and several
processes, each making a view that nobody has, share the work. Logits are not kept: the teacher's own output layer
makes them from K_T.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from facedistill.config.groups import FLOAT32
from facedistill.data.files.store import Batches, Item, Mapped, open_or_make
from facedistill.data.loading.datamodule import EVAL_BATCH, FaceData
from facedistill.data.loading.samplers import Keys
from facedistill.data.loading.view_schedule import EVAL_VIEW, mirror_of
from facedistill.distill.teacher import Teacher, autocast_for, differs
from facedistill.errors import BusyError, DataError
from facedistill.system.files import disk_of, hash_of, read_json_object, write_json
from facedistill.system.terminal import say

VERSION = 1  # raised whenever a change of the code changes what a bank holds
SPOTS = 8  # samples of every view that are answered again when a bank is opened
SIDES = (0, 1)  # the views of a teacher with pixels of its own, see ``FaceData.seen_as``
KINDS = {"float16": "<f2", "float32": "<f4"}


@dataclass(frozen=True)
class Bank:
    """K_T by sample and view.

    Attributes:
        samples: int64 [N], ascending, the samples it knows.
        views: by the number of a view its K_T [N, width], float16 or float32.
    """

    samples: NDArray[np.int64]
    views: Mapping[int, Mapped]

    def __call__(self, keys: Keys, mirrored: NDArray[np.bool_] | None = None) -> NDArray[Any]:
        """K_T [B, width] of (index, view) pairs; that they are mirrored is no other question."""
        indices, views = np.array(keys).T
        rows = np.searchsorted(self.samples, indices)
        first = self.views[views[0]]
        found = np.empty((len(keys), *first.item.shape), first.item.dtype)
        for view in np.unique(views).tolist():  # of a training batch there is one
            found[views == view] = self.views[view][rows[views == view]]
        return found


@dataclass(frozen=True)
class OwnViewBank:
    """K_T by sample, of a teacher that sees each face whole, at its own size, and mirrored where the student's is.

    ``bank`` has the faces as ``FaceData.seen_as`` numbers their views.
    """

    bank: Bank

    def __call__(self, keys: Keys, mirrored: NDArray[np.bool_]) -> NDArray[Any]:
        """K_T [B, width] of the samples of (index, view) pairs."""
        return self.bank([(index, int(flipped)) for (index, _), flipped in zip(keys, mirrored, strict=True)])


@dataclass(frozen=True)
class Answered:
    """K_T of samples in one view, without a bank. ``samples``: int64 [N], ascending; ``embedding``: [N, width]."""

    samples: NDArray[np.int64]
    embedding: NDArray[np.float32] | Mapped

    def __call__(self, keys: Keys, mirrored: NDArray[np.bool_]) -> NDArray[Any]:
        """K_T [B, width] of the samples of (index, view) pairs."""
        return self.embedding[np.searchsorted(self.samples, [index for index, _ in keys])]


def kept_as(embedding: NDArray[np.float32], kind: str) -> NDArray[Any]:
    """K_T as ``float16`` or ``float32``. Raises ``DataError`` if a value is beyond it."""
    with np.errstate(over="ignore"):
        kept: NDArray[Any] = embedding.astype(KINDS[kind])
    if np.isinf(kept).any():
        raise DataError("a value of the teacher's embedding is beyond float16: target.bank=float32 holds it")
    return kept


@dataclass(frozen=True)
class BankMaker:
    """Opens the bank of a teacher, and fills it where it is not there.

    ``about``: everything that decides what the bank holds; ``kind``: float16 or float32; ``samples``: int64 [N],
    ascending, those that it holds; ``precision``: in which the teacher answers, a ``trainer.precision``.
    """

    teacher: Teacher
    data: FaceData
    device: torch.device
    cache_dir: Path
    kind: str
    about: Mapping[str, Any]
    samples: NDArray[np.int64]
    precision: str = FLOAT32

    @cached_property
    def folder(self) -> Path:
        """Where it lies: another teacher, source, alignment, crop or seed is another bank."""
        return self.cache_dir / f"bank-{hash_of(self._contents)}"

    @property
    def _contents(self) -> dict[str, Any]:
        samples = hash_of(self.samples.tolist())
        precision = {} if self.precision == FLOAT32 else {"precision": self.precision}
        shape = {"kind": self.kind, "width": self.teacher.width, "samples": samples}
        return {**self.about, "version": VERSION, **shape, **precision}

    def is_there(self, views: Sequence[int]) -> bool:
        return not self._missing(views)

    def open(self, views: Sequence[int]) -> Bank:
        """The bank with these views, which are made where they are missing.

        Raises:
            DataError: it is of something else than its name says, or the teacher says something else today; the disk
                has no room; a value of K_T is beyond float16.
            DiskError: it can't be written.
        """
        about = self.folder / "about.json"
        if not about.exists():
            with disk_of("the cache", "cache_dir=FOLDER", self.folder):
                write_json(about, self._contents)
        if read_json_object(about) != self._contents:
            raise DataError(f"{about} says that this bank is of something else. Delete {self.folder}")
        if missing := self._missing(views):
            self._announce(len(missing))
        made: dict[int, Mapped] = {}
        for wait in (False, True):  # first what nobody is making, then what others have made
            for view in views:
                if view not in made:
                    with suppress(BusyError):
                        made[view] = self._view(view, wait)
        bank = Bank(self.samples, made)
        self._check(bank)
        return bank

    def _path(self, view: int) -> Path:
        if view < EVAL_VIEW:
            return self.folder / f"view-{mirror_of(view):04d}-mirrored"
        return self.folder / f"view-{view:04d}"

    def _missing(self, views: Sequence[int]) -> list[int]:
        return [view for view in views if not self._path(view).with_suffix(".npz").exists()]

    def _announce(self, views: int) -> None:
        count = len(self.samples)
        size = views * count * self.teacher.width * np.dtype(KINDS[self.kind]).itemsize
        say(
            f"bank of the teacher's embedding: {views} views × {count:,} samples × {self.teacher.width} values, "
            f"{size / 1e6:,.1f} MB in {self.folder}; the teacher answers {views * count:,} times"
        )

    def _view(self, view: int, wait: bool) -> Mapped:
        samples = self.samples
        item = Item((self.teacher.width,), KINDS[self.kind], "embedding", f"embeddings of {self.teacher.width} values")

        def answers(start: int) -> Batches:
            for first, embedding in self._answered([(int(index), view) for index in samples[start:]]):
                yield start + first + len(embedding), embedding, {}

        path = self._path(view)
        return open_or_make(path, len(samples), item, answers, f"bank, {path.name}", wait).items

    def _answered(self, keys: Keys) -> Iterator[tuple[int, NDArray[Any]]]:
        """K_T of keys in their order, batch by batch, and where each batch begins."""
        starts = range(0, len(keys), EVAL_BATCH)
        batches = self.data.loader([keys[start : start + EVAL_BATCH] for start in starts])
        self.teacher.to(self.device)
        for start, batch in zip(starts, batches, strict=True):
            with autocast_for(self.precision, self.device):
                embedding = self.teacher(batch.to(self.device).images).embedding.float()
            yield start, kept_as(embedding.cpu().numpy(), self.kind)

    def _check(self, bank: Bank) -> None:
        """Let the teacher answer some samples of every view again."""
        spots = bank.samples[np.linspace(0, len(bank.samples) - 1, SPOTS).astype(int)]
        keys = [(int(index), view) for view in bank.views for index in spots]
        live = np.concatenate([embedding for _, embedding in self._answered(keys)])
        for (index, view), banked, asked in zip(keys, bank(keys), live, strict=True):
            if differs(torch.from_numpy(banked[None]).double(), torch.from_numpy(asked[None]).double()):
                raise DataError(
                    f"{self.folder}: the teacher says something else of sample {index}, view {view}, than its bank. "
                    "Delete this folder: it is made again"
                )
