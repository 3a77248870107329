"""Which samples, in which views, make up each batch: a pure function of (seed, epoch)."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import distributed
from torch.utils.data import Sampler

from facedistill.data.judgement import complaints_of_batches
from facedistill.data.loading.view_schedule import EVAL_VIEW
from facedistill.errors import DataError

Keys = list[tuple[int, int]]  # (index, view) of every sample of a batch


def rank_and_world_size() -> tuple[int, int]:
    """This process's rank, and the number of processes that train or score together."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


class TrainBatches(Sampler[Keys]):
    """Every training sample once an epoch, in an order and with views that depend on (seed, epoch) alone.

    All samples are used, and batch sizes differ by one at most, so that BatchNorm never sees a batch of one. Every
    batch is split between the processes. Each epoch has a view of its own, or epochs cycle through ``views``.

    Iteration raises ``DataError`` if a batch has fewer than two samples for each of several processes.
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
            yield [(int(index), view) for index in self._part_of_rank(batch, rank, processes)]

    def _part_of_rank(self, batch: NDArray[np.int64], rank: int, processes: int) -> NDArray[np.int64]:
        if processes > 1 and len(batch) < 2 * processes:
            raise DataError(
                f"a batch of {len(batch)} samples is too small for {processes} processes: raise task.batch_size, or "
                "lower trainer.devices"
            )
        return batch[rank::processes]

    def batch_sizes_per_rank(self, number: int, processes: int) -> list[int]:
        """How many samples of batch ``number`` each process gets; the same in every epoch."""
        size, larger = divmod(len(self._indices), len(self))
        return [len(range(rank, size + (number < larger), processes)) for rank in range(processes)]

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """The sample indices of every batch of an epoch, before they are split between processes."""
        return np.array_split(self._generator(epoch).permutation(self._indices), len(self))

    def _generator(self, epoch: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=np.array([self._seed, epoch], dtype=np.uint64)))


class IdentityBatches(TrainBatches):
    """Batches of P identities × K images, for losses that compare faces.

    In every epoch the shuffled images of each identity are cut into groups of K, the last of them filled up with images
    of that identity that are in the epoch already. Each batch takes a group of each of the P identities with the most
    groups left, until fewer than P identities have any. Where identities are unbalanced, some images of the largest
    have to wait for another epoch. The identities of every batch are split between the processes.

    Raises ``DataError`` if an identity has only one training image, or there are fewer than P identities.
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
        self._per_identity, self._identities = per_identity, batch_size // per_identity
        for complaint in complaints_of_batches(labels, indices, batch_size, per_identity):
            raise DataError(complaint)
        by_identity = indices[np.argsort(labels[indices], kind="stable")]
        self._images = np.split(by_identity, np.flatnonzero(np.diff(labels[by_identity])) + 1)

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _count(self) -> int:
        return len(self._identities_of_batches(np.array([-(-len(i) // self._per_identity) for i in self._images])))

    def batch_sizes_per_rank(self, number: int, processes: int) -> list[int]:
        return [self._per_identity * len(range(rank, self._identities, processes)) for rank in range(processes)]

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """The sample indices of every batch of an epoch, [P · K]: K of an identity, then K of the next."""
        draw = self._generator(epoch)
        groups = [self._groups(draw.permutation(images), draw) for images in self._images]
        left = [groups[i] for i in draw.permutation(len(groups))]  # a new order of identities with equally many groups
        chosen = self._identities_of_batches(np.array([len(group) for group in left]))
        batches = [np.concatenate([left[identity].pop() for identity in identities]) for identities in chosen]
        return [batches[i] for i in draw.permutation(len(batches))]

    def _part_of_rank(self, batch: NDArray[np.int64], rank: int, processes: int) -> NDArray[np.int64]:
        return batch.reshape(self._identities, self._per_identity)[rank::processes].ravel()

    def _groups(self, images: NDArray[np.int64], draw: np.random.Generator) -> list[NDArray[np.int64]]:
        groups = [images[i : i + self._per_identity] for i in range(0, len(images), self._per_identity)]
        last = groups[-1]
        others = np.setdiff1d(images, last) if len(images) > self._per_identity else images
        fill = draw.choice(others, self._per_identity - len(last), replace=len(others) < self._per_identity)
        groups[-1] = np.concatenate([last, fill])
        return groups

    def _identities_of_batches(self, left: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """P identities for each batch, given how many groups are left of every identity."""
        left, batches = left.copy(), []
        while np.count_nonzero(left) >= self._identities:
            largest = np.argsort(-left, kind="stable")[: self._identities]
            left[largest] -= 1
            batches.append(largest)
        return batches


class EvalBatches(Sampler[Keys]):
    """The centre crop of every sample once, in order, split between the processes without padding."""

    def __init__(self, indices: NDArray[np.int64], batch_size: int) -> None:
        self._indices, self._batch_size = indices, batch_size

    def __len__(self) -> int:
        return -(-len(self._part_of_rank()) // self._batch_size)

    def __iter__(self) -> Iterator[Keys]:
        indices = self._part_of_rank()
        for start in range(0, len(indices), self._batch_size):
            yield [(int(index), EVAL_VIEW) for index in indices[start : start + self._batch_size]]

    def _part_of_rank(self) -> NDArray[np.int64]:
        rank, processes = rank_and_world_size()
        return self._indices[rank::processes]
