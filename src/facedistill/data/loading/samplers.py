"""Which samples, in which views, make a batch: a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import distributed
from torch.utils.data import Sampler

from facedistill.data.loading.view_schedule import EVAL_VIEW
from facedistill.errors import DataError

Keys = list[tuple[int, int]]


def rank_and_world_size() -> tuple[int, int]:
    """This process among those that train or score together: its rank, and how many there are."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


class TrainBatches(Sampler[Keys]):
    """Every training sample once an epoch, in an order and with views that depend on (seed, epoch) alone.

    All samples are used and no batch is much smaller than another: sizes differ by one at most, so that
    BatchNorm never meets a batch of one. Several processes share every batch. There is a view an epoch, or ``views``
    take turns.

    Raises:
        DataError: iterated in several processes, a batch has fewer than two samples for each.
    """

    def __init__(
        self, indices: NDArray[np.int64], batch_size: int, seed: int, views: Sequence[int] | None = None
    ) -> None:
        self._indices, self._batch_size, self._seed, self._views = indices, batch_size, seed, views
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return max(1, min(-(-len(self._indices) // self._batch_size), len(self._indices) // 2))

    def __iter__(self) -> Iterator[Keys]:
        rank, processes = rank_and_world_size()
        view = self._views[self.epoch % len(self._views)] if self._views else self.epoch
        for batch in self.batches(self.epoch):
            yield [(int(index), view) for index in self._share(batch, rank, processes)]

    def _share(self, batch: NDArray[np.int64], rank: int, processes: int) -> NDArray[np.int64]:
        if processes > 1 and len(batch) < 2 * processes:
            raise DataError(
                f"a batch of {len(batch)} samples is too small for {processes} processes: raise task.batch_size, or "
                "lower trainer.devices"
            )
        return batch[rank::processes]

    def batch_sizes_per_rank(self, number: int, processes: int) -> list[int]:
        """How many samples of a batch each process has; the same in every epoch."""
        size, larger = divmod(len(self._indices), len(self))
        return [len(range(rank, size + (number < larger), processes)) for rank in range(processes)]

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """The sample indices of every batch of an epoch."""
        return np.array_split(self._generator(epoch).permutation(self._indices), len(self))

    def _generator(self, epoch: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=np.array([self._seed, epoch], dtype=np.uint64)))


class IdentityBatches(TrainBatches):
    """Batches of P identities × K images, for losses that compare faces.

    An epoch: the images of every identity, shuffled, are cut into groups of K, the last one filled up with images of
    that identity that are in the epoch already. Batches take a group of each of the P identities with the most groups
    left, until fewer than P identities have one; where identities are unbalanced, some images of the largest
    are left to another epoch. Several processes share the identities of every batch.

    Raises:
        DataError: an identity with one training image, or fewer than P identities.
    """

    def __init__(
        self,
        indices: NDArray[np.int64],
        labels: NDArray[np.int64],
        batch_size: int,
        per_identity: int,
        seed: int,
        views: Sequence[int] | None = None,
    ) -> None:
        super().__init__(indices, batch_size, seed, views)
        self._per_identity, self._people = per_identity, batch_size // per_identity
        by_identity = indices[np.argsort(labels[indices], kind="stable")]
        self._images = np.split(by_identity, np.flatnonzero(np.diff(labels[by_identity])) + 1)
        single = [int(images[0]) for images in self._images if len(images) < 2]
        if single:
            raise DataError(
                f"{len(single)} identities have one training image (first: sample {single[0]}); a pair takes two. "
                "Leave such identities out: data.min_images=5, so that the split seldom takes all but one"
            )
        if len(self._images) < self._people:
            raise DataError(
                f"{len(self._images)} identities can't fill a batch of {self._people} × {per_identity} images: "
                "lower task.batch_size"
            )

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _count(self) -> int:
        return len(self._dealt(np.array([self._groups(images) for images in self._images])))

    def batch_sizes_per_rank(self, number: int, processes: int) -> list[int]:
        return [self._per_identity * len(range(rank, self._people, processes)) for rank in range(processes)]

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """The sample indices of every batch of an epoch, [P · K]: K of an identity, then K of the next."""
        draw = self._generator(epoch)
        groups = [self._cut(draw.permutation(images), draw) for images in self._images]
        order = draw.permutation(len(groups))  # which identity is served first among equals
        left = [groups[i] for i in order]
        dealt = self._dealt(np.array([len(group) for group in left]))
        batches = [np.concatenate([left[person].pop() for person in people]) for people in dealt]
        return [batches[i] for i in draw.permutation(len(batches))]

    def _share(self, batch: NDArray[np.int64], rank: int, processes: int) -> NDArray[np.int64]:
        return batch.reshape(self._people, self._per_identity)[rank::processes].ravel()

    def _groups(self, images: NDArray[np.int64]) -> int:
        return -(-len(images) // self._per_identity)

    def _cut(self, images: NDArray[np.int64], draw: np.random.Generator) -> list[NDArray[np.int64]]:
        groups = [images[i : i + self._per_identity] for i in range(0, len(images), self._per_identity)]
        last = groups[-1]
        others = np.setdiff1d(images, last) if len(images) > self._per_identity else images
        fill = draw.choice(others, self._per_identity - len(last), replace=len(others) < self._per_identity)
        groups[-1] = np.concatenate([last, fill])
        return groups

    def _dealt(self, left: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Whose groups come together, as long as P identities have one left."""
        left, dealt = left.copy(), []
        while np.count_nonzero(left) >= self._people:
            people = np.argsort(-left, kind="stable")[: self._people]
            left[people] -= 1
            dealt.append(people)
        return dealt


class EvalBatches(Sampler[Keys]):
    """Every sample once, in order, as its centre crop. Several processes take turns; none is padded."""

    def __init__(self, indices: NDArray[np.int64], batch_size: int) -> None:
        self._indices, self._batch_size = indices, batch_size

    def __len__(self) -> int:
        return -(-len(self._own()) // self._batch_size)

    def __iter__(self) -> Iterator[Keys]:
        own = self._own()
        for start in range(0, len(own), self._batch_size):
            yield [(int(index), EVAL_VIEW) for index in own[start : start + self._batch_size]]

    def _own(self) -> NDArray[np.int64]:
        rank, processes = rank_and_world_size()
        return self._indices[rank::processes]
