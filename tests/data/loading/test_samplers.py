"""Samplers: each sample once, in an order that depends on (seed, epoch) alone."""

import itertools
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from facedistill.data.loading.samplers import EvalBatches, IdentityBatches, TrainBatches
from facedistill.data.loading.view_schedule import EVAL_VIEW
from facedistill.errors import DataError

SIZES = [(33, 32), (32, 32), (31, 32), (65, 32), (7, 3), (100, 7), (2, 2), (3, 2), (33, 2), (4, 3), (10, 9)]


@pytest.mark.parametrize(("count", "batch_size"), SIZES)
def test_an_epoch_has_each_sample_once_in_even_batches_never_of_one(count: int, batch_size: int) -> None:
    indices = np.arange(count) * 3 + 1
    batches = TrainBatches(indices, batch_size, seed=0)
    for epoch in range(3):
        batches.set_epoch(epoch)
        keys = list(batches)
        assert Counter(index for batch in keys for index, _ in batch) == Counter(indices.tolist())
        assert {view for batch in keys for _, view in batch} == {epoch}
        sizes = [len(batch) for batch in keys]
        assert len(sizes) == len(batches)
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) >= 2
        # three samples can't be told apart in batches of two
        assert max(sizes) <= batch_size + (batch_size == 2 and count % 2)


def order(seed: int, epoch: int) -> list[int]:
    batches = TrainBatches(np.arange(200), 16, seed)
    batches.set_epoch(epoch)
    return [index for batch in batches for index, _ in batch]


def test_the_order_depends_on_seed_and_epoch() -> None:
    orders = {key: order(*key) for key in itertools.product(range(3), range(4))}
    assert all(order(*key) == found for key, found in orders.items())
    assert len({tuple(found) for found in orders.values()}) == len(orders)
    assert all(sum(a == b for a, b in zip(found, range(200), strict=True)) < 10 for found in orders.values())


def test_the_order_of_an_epoch_does_not_depend_on_those_before() -> None:
    batches = TrainBatches(np.arange(200), 16, 7)
    for epoch in (0, 1, 3):
        batches.set_epoch(epoch)
        found = [index for batch in batches for index, _ in batch]
    assert found == order(7, 3)


def test_batches_of_an_epoch_are_the_iterated_ones() -> None:
    batches = TrainBatches(np.arange(50), 8, 2)
    batches.set_epoch(4)
    iterated = [[index for index, _ in batch] for batch in batches]
    assert [batch.tolist() for batch in batches.batches(4)] == iterated


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (8, 4), (3, 128), (1, 1), (0, 4)])
def test_evaluation_has_each_sample_once_in_order(count: int, batch_size: int) -> None:
    indices = np.arange(count) * 2 + 1
    batches = EvalBatches(indices, batch_size)
    keys = list(batches)
    assert [key for batch in keys for key in batch] == [(index, EVAL_VIEW) for index in indices.tolist()]
    assert len(keys) == len(batches)
    assert all(1 <= len(batch) <= batch_size for batch in keys)


def people(*counts: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels of identities with so many images, and the indices of all of them but the first (a test sample)."""
    labels = np.concatenate([[0], np.repeat(np.arange(len(counts)), counts)])
    return np.arange(1, len(labels)), labels


@pytest.mark.parametrize(
    ("views", "expected"), [(None, [0, 1, 2, 3, 4]), ([0], [0] * 5), ([0, -2, 1], [0, -2, 1, 0, -2])]
)
def test_an_epoch_has_its_own_view_or_they_cycle(views: list[int] | None, expected: list[int]) -> None:
    indices, labels = np.arange(24), np.arange(24) % 3
    samplers = [
        TrainBatches(indices, 6, seed=0, views=views),
        IdentityBatches(indices, labels, 6, 2, seed=0, views=views),
    ]
    for sampler in samplers:
        for epoch, view in enumerate(expected):
            sampler.set_epoch(epoch)
            assert {seen for batch in sampler for _, seen in batch} == {view}


@pytest.mark.parametrize("counts", [(8,) * 6, (5, 6, 7, 8, 9, 10), (2, 3, 4, 5), (40, 4, 4, 4, 4)], ids=str)
def test_identity_batches_hold_p_identities_times_k_images(counts: tuple[int, ...]) -> None:
    indices, labels = people(*counts)
    sampler = IdentityBatches(indices, labels, batch_size=12, per_identity=4, seed=2)
    for epoch in range(5):
        batches = sampler.batches(epoch)
        assert len(batches) == len(sampler)
        for batch in batches:
            groups = labels[batch].reshape(3, 4)
            assert (groups == groups[:, :1]).all()
            assert len(set(groups[:, 0].tolist())) == 3
            for group in batch.reshape(3, 4):
                assert len(set(group.tolist())) == min(4, counts[labels[group[0]]])


@pytest.mark.parametrize("counts", [(8,) * 6, (5, 6, 7, 8, 9, 10), (4,) * 3, (7, 7, 7)], ids=str)
def test_with_balanced_identities_an_epoch_has_every_image(counts: tuple[int, ...]) -> None:
    indices, labels = people(*counts)
    sampler = IdentityBatches(indices, labels, batch_size=6, per_identity=2, seed=0)
    for epoch in range(4):
        seen = Counter(int(index) for batch in sampler.batches(epoch) for index in batch)
        missing = set(indices.tolist()) - seen.keys()
        # at most P − 1 identities can be left over with a group each
        assert len(missing) <= 2 * 2
        for label, count in enumerate(counts):
            of_it = [number for index, number in seen.items() if labels[index] == label]
            assert sum(of_it) % 2 == 0
            assert sum(of_it) <= count + count % 2


def test_every_image_of_an_unbalanced_identity_gets_an_epoch() -> None:
    indices, labels = people(60, 4, 4)
    sampler = IdentityBatches(indices, labels, batch_size=8, per_identity=4, seed=0)
    seen = {int(index) for epoch in range(60) for batch in sampler.batches(epoch) for index in batch}
    assert seen == set(indices.tolist())


def test_identity_batches_depend_on_seed_and_epoch_alone() -> None:
    indices, labels = people(9, 8, 7, 6)

    def epochs(seed: int) -> list[list[list[int]]]:
        sampler = IdentityBatches(indices, labels, 6, 3, seed)
        return [[batch.tolist() for batch in sampler.batches(epoch)] for epoch in (0, 1, 0)]

    first, second, again = epochs(5)
    assert first == again != second
    assert epochs(5)[0] == first != epochs(6)[0]


def test_identities_without_a_pair_are_refused() -> None:
    indices, labels = people(5, 1, 5, 5)
    with pytest.raises(DataError, match=r"1 identity has one training image.*min_images"):
        IdentityBatches(indices, labels, 6, 3, 0)
    indices, labels = people(5, 5)
    with pytest.raises(DataError, match=r"2 identities can't fill a batch of 3 × 2.*batch_size"):
        IdentityBatches(indices, labels, 6, 2, 0)


def as_rank(monkeypatch: pytest.MonkeyPatch, rank: int, processes: int) -> None:
    monkeypatch.setattr("facedistill.data.loading.samplers.rank_and_world_size", lambda: (rank, processes))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_every_batch_is_split_between_processes(monkeypatch: pytest.MonkeyPatch, processes: int) -> None:
    indices, labels = people(6, 6, 6, 6, 6, 6)
    samplers = (TrainBatches(indices, 12, 3), IdentityBatches(indices, labels, 12, 2, 3), TrainBatches(indices, 8, 3))
    for sampler in samplers:
        sampler.set_epoch(2)
        shares = []
        for rank in range(processes):
            as_rank(monkeypatch, rank, processes)
            shares.append([[index for index, _ in batch] for batch in sampler])
        batches = zip(sampler.batches(2), zip(*shares, strict=True), strict=True)
        for number, (whole, parts) in enumerate(batches):
            assert sampler.batch_sizes_per_rank(number, processes) == [len(part) for part in parts]
            assert sorted(itertools.chain(*parts)) == sorted(whole.tolist())
            assert max(map(len, parts)) - min(map(len, parts)) <= 2
    as_rank(monkeypatch, 0, 2)
    for batch in samplers[1]:
        counts = Counter(int(labels[index]) for index, _ in batch)
        assert list(counts.values()) == [2, 2, 2]  # whole identities: a pair is not torn apart


@pytest.mark.parametrize(("count", "processes"), [(13, 2), (7, 3), (5, 1), (2, 3)])
def test_processes_score_every_sample_once(monkeypatch: pytest.MonkeyPatch, count: int, processes: int) -> None:
    sampler, seen = EvalBatches(np.arange(count), 3), []
    for rank in range(processes):
        as_rank(monkeypatch, rank, processes)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        seen += [index for batch in batches for index, _ in batch]
    assert sorted(seen) == list(range(count))
