"""Batches of views: a pure function of their keys."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from facedistill.config.compose import compose_config
from facedistill.data.faces import FaceSet
from facedistill.data.loading.augment import NO_LANDMARKS, Augmentation
from facedistill.data.loading.datamodule import FaceData
from facedistill.data.loading.samplers import Keys, TrainBatches
from facedistill.data.loading.view_schedule import EVAL_VIEW, mirror_of
from facedistill.data.loading.views import FaceBatch, Views

CROP = 16


def views_of(faces: FaceSet, seed: int = 3) -> Views:
    return Views(faces, Augmentation(CROP, seed))


def by_key(views: Views, batches: list[Keys]) -> dict[tuple[int, int], bytes]:
    found = {}
    for batch in batches:
        images = views[batch].images.numpy()
        found |= {key: images[i].tobytes() for i, key in enumerate(batch)}
    return found


def test_types_and_shapes_of_a_batch(faces: FaceSet) -> None:
    batch = views_of(faces)[[(9, 0), (2, 5), (9, 1)]]
    assert isinstance(batch, FaceBatch)
    assert batch.images.shape == (3, 3, CROP, CROP)
    assert batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert (batch.labels.dtype, batch.labels.tolist()) == (torch.int64, [1, 0, 1])
    assert (batch.indices.dtype, batch.indices.tolist()) == (torch.int64, [9, 2, 9])
    assert (batch.mirrored.dtype, batch.mirrored.shape) == (torch.bool, (3,))


def test_a_batch_says_which_of_its_images_are_mirrored(faces: FaceSet) -> None:
    views, keys = views_of(faces), [(index, 4) for index in range(32)]
    mirrored = views[keys].mirrored
    assert 4 < mirrored.sum() < 28
    for index, said in enumerate(mirrored.tolist()):
        assert views.view(index, 4).mirrored is said
    opposite = views[[(index, mirror_of(view)) for index, view in keys]].mirrored
    assert torch.equal(opposite, ~mirrored)
    assert not views[[(index, EVAL_VIEW) for index in range(32)]].mirrored.any()
    assert torch.equal(views[keys].to(torch.device("cpu")).without_images().mirrored, mirrored)


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


def test_items_are_the_same_bits_in_any_order_batch_and_instance(faces: FaceSet) -> None:
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
        assert one.teacher_embeddings == other.teacher_embeddings == {}
        assert all(torch.equal(a, b) for a, b in zip(one[:-1], other[:-1], strict=True))


def test_the_data_of_a_run_have_the_views_of_its_augmentation(faces: FaceSet) -> None:
    size = ["image.resize=24", f"image.crop={CROP}", "seed=3"]
    found = {}
    for preset in ("paper", "recognizer"):
        config = compose_config([*size, f"augment={preset}"])
        keys = next(iter(FaceData(config, faces).train_batches))
        batch = FaceData(config, faces).first_batches(1)[0]
        for number, key in enumerate(keys):
            expected = Augmentation(CROP, 3, preset)(faces.images[key[0]], NO_LANDMARKS, *key).image
            np.testing.assert_array_equal(batch.images[number].permute(1, 2, 0).numpy(), expected)
        found[preset] = batch.images
    assert not torch.equal(found["paper"], found["recognizer"])


def with_landmarks(faces: FaceSet) -> FaceSet:
    points = np.random.default_rng(1).uniform(2, 20, (32, 5, 2)).astype(np.float32)
    crop_boxes = np.random.default_rng(2).uniform(0, 50, (32, 3)).astype(np.float32)
    return dataclasses.replace(faces, landmarks=points, crop_boxes=crop_boxes)


def test_a_batch_has_landmarks_in_units_of_the_crop_and_crop_boxes(faces: FaceSet) -> None:
    marked = with_landmarks(faces)
    batch = views_of(marked)[[(index, EVAL_VIEW) for index in (3, 30)]]
    assert marked.landmarks is not None
    assert marked.crop_boxes is not None
    inside = marked.landmarks[[3, 30]] - 4  # the margin of a crop of 16 in 24 pixels
    expected = 2 * (inside + 0.5) / CROP - 1
    np.testing.assert_allclose(batch.landmarks.numpy(), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(batch.crop_boxes.numpy(), marked.crop_boxes[[3, 30]])


def test_a_batch_without_landmarks(faces: FaceSet) -> None:
    batch = views_of(faces)[[(3, 0), (4, 0)]]
    assert (batch.landmarks.shape, batch.crop_boxes.shape) == ((2, 0, 2), (2, 0))
