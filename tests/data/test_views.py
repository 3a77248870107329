"""Batches of views: pure, each sample once, in an order of (seed, epoch)."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from facedistill.data.augment import EVAL_VIEW, Augmentation
from facedistill.data.source import FaceSet
from facedistill.data.views import EvalBatches, FaceBatch, Keys, TrainBatches, Views

CROP = 16


def views_of(faces: FaceSet, seed: int = 3) -> Views:
    return Views(faces, Augmentation(CROP, seed))


def by_key(views: Views, batches: list[Keys]) -> dict[tuple[int, int], bytes]:
    found = {}
    for batch in batches:
        images = views[batch].images.numpy()
        found |= {key: images[i].tobytes() for i, key in enumerate(batch)}
    return found


def test_a_batch_is_what_its_docstring_says(faces: FaceSet) -> None:
    batch = views_of(faces)[[(9, 0), (2, 5), (9, 1)]]
    assert isinstance(batch, FaceBatch)
    assert batch.images.shape == (3, 3, CROP, CROP)
    assert batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert (batch.labels.dtype, batch.labels.tolist()) == (torch.int64, [1, 0, 1])
    assert (batch.indices.dtype, batch.indices.tolist()) == (torch.int64, [9, 2, 9])


def test_the_evaluation_view_is_the_centre_crop_of_its_image(faces: FaceSet) -> None:
    batch = views_of(faces)[[(index, EVAL_VIEW) for index in range(32)]]
    expected = faces.images[:, 4:20, 4:20].transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(batch.images.numpy(), expected)


def test_a_view_is_a_piece_of_its_own_image(faces: FaceSet) -> None:
    batch = views_of(faces)[[(index, 2) for index in range(32)]]
    for index, image in enumerate(batch.images.permute(0, 2, 3, 1).numpy()):
        windows = np.lib.stride_tricks.sliding_window_view(faces.images[index], (CROP, CROP), axis=(0, 1))
        pieces = windows.transpose(0, 1, 3, 4, 2)
        assert any(
            np.array_equal(candidate, piece)
            for candidate in (image, image[:, ::-1])
            for piece in pieces.reshape(-1, CROP, CROP, 3)
        )


def test_an_item_is_bit_equal_again_in_another_order_batch_and_instance(faces: FaceSet) -> None:
    keys = list(itertools.product(range(32), range(3)))
    one = by_key(views_of(faces), [keys[i : i + 7] for i in range(0, len(keys), 7)])
    same = views_of(faces)
    again = by_key(same, [list(reversed(keys))])
    single = by_key(same, [[key] for key in keys])
    assert one == again == single
    assert by_key(views_of(faces, seed=4), [keys]) != one
    assert len(set(one.values())) > 0.9 * len(keys)  # views and indices differ


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_give_the_same_bits(faces: FaceSet, workers: int) -> None:
    def epochs(count: int) -> list[FaceBatch]:
        batches = TrainBatches(faces.train, 5, seed=1)
        loader = DataLoader(
            views_of(faces), batch_size=None, sampler=batches, num_workers=count, persistent_workers=count > 0
        )
        found = []
        for epoch in range(2):
            batches.set_epoch(epoch)
            found += list(loader)
        return found

    for one, other in zip(epochs(0), epochs(workers), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


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


def test_the_order_is_that_of_seed_and_epoch() -> None:
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


def test_batches_by_number_are_the_iterated_ones() -> None:
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
