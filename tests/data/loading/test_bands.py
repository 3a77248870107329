"""The band about the eyes: where the eyes come to lie, of which pixels, and as pure a function as the view itself."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from facedistill.config.compose import compose_config
from facedistill.config.groups import band_size
from facedistill.data.faces import FaceSet
from facedistill.data.files.alignment import ARCFACE_TEMPLATE
from facedistill.data.loading.augment import NO_LANDMARKS, Augmentation
from facedistill.data.loading.bands import band_of, in_band
from facedistill.data.loading.datamodule import FaceData
from facedistill.data.loading.view_schedule import EVAL_VIEW, mirror_of
from facedistill.data.loading.views import Views

CROP = 16
Floats = NDArray[np.float64]


def turned(crop: int, degrees: float, size: float) -> NDArray[np.float32]:
    """A face's landmarks in a crop, upright and of a third of its width at 0° and 1."""
    z = (ARCFACE_TEMPLATE - ARCFACE_TEMPLATE.mean(0)) @ [1, 1j] * (crop / 112)
    z = z * size * np.exp(1j * np.radians(degrees)) + complex(crop / 2, crop / 2)
    return np.float32(np.stack([z.real, z.imag], 1))


def spots(crop: int, points: Floats) -> NDArray[np.uint8]:
    """A light spot at every point of a dark image."""
    y, x = np.mgrid[:crop, :crop]
    light = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * (crop / 60) ** 2)) for px, py in points)
    return np.uint8(np.repeat((200 * light)[..., None], 3, 2))


def centres(band: NDArray[np.uint8]) -> list[tuple[float, float]]:
    """Of the light in the left and in the right half."""
    found, half = [], band.shape[1] // 2
    for left in (0, half):
        light = band[:, left : left + half, 0].astype(float)
        y, x = np.mgrid[: light.shape[0], :half]
        found.append((left + (light * x).sum() / light.sum(), (light * y).sum() / light.sum()))
    return found


@pytest.mark.parametrize("crop", [40, 96, 128])
@pytest.mark.parametrize(("degrees", "size"), [(0, 1), (25, 1), (-40, 0.8), (10, 0.6)])
def test_the_eyes_come_to_their_places(crop: int, degrees: float, size: float) -> None:
    landmarks = turned(crop, degrees, size)
    band = band_of(spots(crop, landmarks[:2].astype(float)), landmarks)
    height, width = round(3 * crop / 8), crop
    assert band.shape == (height, width, 3)
    assert band.dtype == np.uint8
    places = [(share * width - 0.5, 0.6 * height - 0.5) for share in (0.25, 0.75)]
    np.testing.assert_allclose(centres(band), places, atol=0.35)
    np.testing.assert_allclose(in_band(landmarks, crop)[:2], places, atol=1e-3)


def test_it_has_the_size_of_the_paper() -> None:
    assert band_size(128) == (48, 128)
    assert band_size(40) == (15, 40)


def by_hand(image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> Floats:
    """Bilinear in float64; the pixels at the edge go on outside."""
    crop = len(image)
    height = round(3 * crop / 8)
    one, other = landmarks[:2].astype(float)
    across = (other - one) / (crop / 2)  # of a pixel of the band, in the view; eyes are half a band apart
    down = np.array([-across[1], across[0]])
    found = np.empty((height, crop, 3))
    for row, column in itertools.product(range(height), range(crop)):
        x, y = one + (column + 0.5 - crop / 4) * across + (row + 0.5 - 0.6 * height) * down
        left, top = int(np.floor(x)), int(np.floor(y))
        found[row, column] = sum(
            abs(1 - dx - (x - left))
            * abs(1 - dy - (y - top))
            * image[np.clip(top + dy, 0, crop - 1), np.clip(left + dx, 0, crop - 1)]
            for dx, dy in itertools.product((0, 1), (0, 1))
        )
    return found


@pytest.mark.parametrize(("degrees", "size"), [(0, 1), (20, 0.7), (-15, 2.5)])
def test_its_pixels_are_those_of_the_view_between_which_it_lies(degrees: float, size: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    landmarks = turned(40, degrees, size)
    off = np.abs(band_of(image, landmarks) - by_hand(image, landmarks))
    assert off.max() < 12  # places are rounded to 1/32 pixel there
    assert off.mean() < 2


def with_landmarks(faces: FaceSet) -> FaceSet:
    moved = np.random.default_rng(1).uniform(-2, 2, (32, 1, 2))
    return dataclasses.replace(faces, landmarks=np.float32(turned(24, 0, 1)[None] + moved))


@pytest.mark.parametrize("preset", ["paper", "recognizer"])
def test_it_is_cut_from_the_very_view_whose_pixels_it_does_not_change(faces: FaceSet, preset: str) -> None:
    marked = with_landmarks(faces)
    augmentation = Augmentation(CROP, 3, preset)
    keys = [(index, view) for index in range(32) for view in (0, 5)]
    batch = Views(marked, augmentation, bands=True)[keys]
    assert batch.bands.shape == (64, 3, 6, CROP)
    assert batch.bands.is_contiguous(memory_format=torch.channels_last)
    assert batch.student_images is batch.bands
    assert batch.pixels().shape == (64, 6, CROP, 3)
    for number, (index, view) in enumerate(keys):
        plain = augmentation(marked.images[index], NO_LANDMARKS, index, view).image  # as a teacher's bank has it
        np.testing.assert_array_equal(batch.images[number].permute(1, 2, 0).numpy(), plain)
        assert marked.landmarks is not None
        seen = augmentation(marked.images[index], marked.landmarks[index], index, view)
        np.testing.assert_array_equal(batch.bands[number].permute(1, 2, 0).numpy(), band_of(plain, seen.landmarks))


def test_the_same_bits_in_any_order_batch_and_instance(faces: FaceSet) -> None:
    marked = with_landmarks(faces)
    views, others = (Views(marked, Augmentation(CROP, 3), bands=True) for _ in range(2))
    keys = [(index, view) for index in (3, 30, 7) for view in (1, EVAL_VIEW, mirror_of(1))]
    whole = views[keys].bands
    for number in (8, 0, 4):
        assert torch.equal(others[[keys[number]]].bands[0], whole[number])


def test_that_of_a_mirrored_view_is_mirrored(faces: FaceSet) -> None:
    marked = with_landmarks(faces)
    smooth = np.uint8(np.random.default_rng(2).integers(0, 256, (32, 4, 4, 3)).repeat(6, 1).repeat(6, 2))
    views = Views(dataclasses.replace(marked, images=smooth), Augmentation(CROP, 3), bands=True)
    one = views[[(index, 4) for index in range(32)]].bands.int()
    other = views[[(index, mirror_of(4)) for index in range(32)]].bands.flip(3).int()
    assert (one - other).abs().float().mean() < 1  # places are rounded to 1/32 pixel
    assert (one - one.flip(3)).abs().float().mean() > 10


def test_only_a_task_that_asks_has_bands(faces: FaceSet) -> None:
    words = ["image.resize=24", f"image.crop={CROP}"]
    marked = with_landmarks(faces)
    for task, height in (("classify", 0), ("periocular", 6)):
        batch = FaceData(compose_config([f"task={task}", *words]), marked).first_batches(1)[0]
        assert batch.bands.shape[1:] == (3, height, CROP if height else 0)
        assert batch.landmarks.shape[1] == (5 if height else 0)
        assert batch.without_images().bands.numel() == 0
        assert batch.to(torch.device("cpu")).student_images.shape[2] == (height or CROP)


def test_of_images_that_were_aligned_it_is_cut_by_where_their_landmarks_came_to_lie(faces: FaceSet) -> None:
    marked = with_landmarks(faces)
    aligned = dataclasses.replace(marked, landmarks=None, aligned_by=marked.landmarks)
    assert aligned.samples.has_eyes
    assert not aligned.samples.has_landmarks
    assert not faces.samples.has_eyes
    config = compose_config(["task=periocular", "image.resize=24", f"image.crop={CROP}"])
    one, other = (FaceData(config, of).first_batches(1)[0] for of in (marked, aligned))
    assert torch.equal(one.bands, other.bands)
