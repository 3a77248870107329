"""The bank: K_T of every training sample in every view, answered once for all students of a teacher and a data source.

A view is a store of its own (see ``data.store``), so that a longer schedule adds to what is there, and several
processes, each making a view that nobody has, share the work. Logits are not kept: the teacher's own output layer
makes them from K_T. Where the soft prediction is all that students learn, the most likely classes of it may be kept
in the place of K_T (``distill.top``).
"""

import abc
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
from facedistill.distill.teacher import Teacher, TeacherOutput, autocast_for, differs
from facedistill.errors import BusyError, DataError
from facedistill.system.files import disk_of, hash_of, read_json_object, write_json
from facedistill.system.terminal import say

VERSION = 1  # raised whenever a change of the code changes what a bank holds
SPOTS = 8  # samples of every view that are answered again when a bank is opened
SIDES = (0, 1)  # the views of a teacher with pixels of its own, see ``FaceData.seen_as``
KINDS = {"float16": "<f2", "float32": "<f4"}


@dataclass(frozen=True)
class Bank:
    """K_T by sample and view, or what else a bank keeps.

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


class Kept(abc.ABC):
    """What a bank keeps of an answer.

    Attributes:
        item: of a sample.
        size: of that, for people.
        about: what tells it from other forms, for the name of the bank.
    """

    item: Item
    size: str
    about: Mapping[str, Any]

    @abc.abstractmethod
    def __call__(self, answer: TeacherOutput) -> NDArray[Any]:
        """An answer of B samples as it is kept, [B, *item.shape]. Raises ``DataError`` where it can't be."""

    @abc.abstractmethod
    def differs(self, banked: NDArray[Any], asked: NDArray[Any]) -> bool:
        """Whether what was kept of a sample is farther from what is said of it today than rounding explains."""


class KeptEmbedding(Kept):
    """K_T, of ``width`` values, as ``kind`` says: ``float16`` or ``float32``."""

    def __init__(self, width: int, kind: str) -> None:
        self.kind, self.size = kind, f"{width} values"
        self.item = Item((width,), KINDS[kind], "embedding", f"embeddings of {width} values")
        self.about = {"kind": kind, "width": width}

    def __call__(self, answer: TeacherOutput) -> NDArray[Any]:
        return kept_as(answer.embedding.float().cpu().numpy(), self.kind)

    def differs(self, banked: NDArray[Any], asked: NDArray[Any]) -> bool:
        return differs(*(torch.from_numpy(one[None]).double() for one in (banked, asked)))


@dataclass(frozen=True)
class BankMaker:
    """Opens the bank of a teacher, and fills it where it is not there.

    ``keeps``: what of an answer; ``about``: everything else that decides what the bank holds; ``samples``: int64 [N],
    ascending, those that it holds; ``precision``: in which the teacher answers, a ``trainer.precision``.
    """

    teacher: Teacher
    data: FaceData
    device: torch.device
    cache_dir: Path
    keeps: Kept
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
        return {**self.about, "version": VERSION, **self.keeps.about, "samples": samples, **precision}

    def is_there(self, views: Sequence[int]) -> bool:
        return not self._missing(views)

    def open(self, views: Sequence[int]) -> Bank:
        """The bank with these views, which are made where they are missing.

        Raises:
            DataError: it is of something else than its name says, or the teacher says something else today; the disk
                has no room; an answer can't be kept.
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
        count, item = len(self.samples), self.keeps.item
        say(
            f"bank of the teacher's {item.one}: {views} views × {count:,} samples × {self.keeps.size}, "
            f"{views * count * item.bytes / 1e6:,.1f} MB in {self.folder}; the teacher answers {views * count:,} times"
        )

    def _view(self, view: int, wait: bool) -> Mapped:
        samples = self.samples

        def answers(start: int) -> Batches:
            for first, kept in self._answered([(int(index), view) for index in samples[start:]]):
                yield start + first + len(kept), kept, {}

        path = self._path(view)
        return open_or_make(path, len(samples), self.keeps.item, answers, f"bank, {path.name}", wait).items

    def _answered(self, keys: Keys) -> Iterator[tuple[int, NDArray[Any]]]:
        """What is kept of keys in their order, batch by batch, and where each batch begins."""
        starts = range(0, len(keys), EVAL_BATCH)
        batches = self.data.loader([keys[start : start + EVAL_BATCH] for start in starts])
        self.teacher.to(self.device)
        for start, batch in zip(starts, batches, strict=True):
            with autocast_for(self.precision, self.device):
                answer = self.teacher(batch.to(self.device).images)
            yield start, self.keeps(answer)

    def _check(self, bank: Bank) -> None:
        """Let the teacher answer some samples of every view again."""
        spots = bank.samples[np.linspace(0, len(bank.samples) - 1, SPOTS).astype(int)]
        keys = [(int(index), view) for view in bank.views for index in spots]
        live = np.concatenate([kept for _, kept in self._answered(keys)])
        for (index, view), banked, asked in zip(keys, bank(keys), live, strict=True):
            if self.keeps.differs(banked, asked):
                raise DataError(
                    f"{self.folder}: the teacher says something else of sample {index}, view {view}, than its bank. "
                    "Delete this folder: it is made again"
                )
