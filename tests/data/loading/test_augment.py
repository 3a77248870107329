"""What is drawn for a view: a uniform crop, a flip half of the time, and nothing at all for the evaluation view."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import albumentations as A
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest, chi2_contingency, chisquare

from facedistill.config.choices import nodes
from facedistill.config.groups import AUGMENTATIONS
from facedistill.data.faces import MIRRORED
from facedistill.data.loading.augment import NO_LANDMARKS, Augmentation
from facedistill.data.loading.view_schedule import EVAL_VIEW, mirror_of

SIZE, CROP = 24, 16
PLACES = SIZE - CROP + 1
ACROSS, DOWN = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
MAP = np.stack([ACROSS, DOWN, np.zeros_like(ACROSS)], 2).astype(np.uint8)  # every pixel says where it is


class Drawn(NamedTuple):
    left: int
    top: int
    flipped: bool


def drawn(view: NDArray[np.uint8]) -> Drawn:
    """Where a view of MAP was cut; every one of its pixels has to agree."""
    left, top = int(view[..., 0].min()), int(view[..., 1].min())
    flipped = bool(view[0, 0, 0] > view[0, -1, 0])
    cut = MAP[top : top + CROP, left : left + CROP]
    np.testing.assert_array_equal(view, cut[:, ::-1] if flipped else cut)
    return Drawn(left, top, flipped)


def many(count: int, seed: int = 0, views: int = 1) -> list[Drawn]:
    augmentation = Augmentation(CROP, seed)
    return [
        drawn(augmentation(MAP, NO_LANDMARKS, index, view).image)
        for index in range(count // views)
        for view in range(views)
    ]


def test_a_view_is_a_crop_of_the_image_perhaps_flipped() -> None:
    assert {draw.flipped for draw in many(50)} == {True, False}


@pytest.mark.parametrize("views", [1, 50, 2000])  # many images, some of both, one image
def test_half_of_the_views_are_flipped_and_crops_are_uniform(views: int) -> None:
    draws = many(2000, views=views)
    assert binomtest(sum(draw.flipped for draw in draws), len(draws)).pvalue > 1e-4
    for places in ([draw.left for draw in draws], [draw.top for draw in draws]):
        assert chisquare(np.bincount(places, minlength=PLACES)).pvalue > 1e-4


def test_what_is_drawn_is_independent_across_axes_and_neighbours() -> None:
    draws = many(3000)
    left, top = ([getattr(draw, name) // 3 for draw in draws] for name in ("left", "top"))
    flipped = [int(draw.flipped) for draw in draws]
    for one, other in [
        (left, top),
        (left, flipped),
        (top, flipped),
        (left[1:], left[:-1]),
        (flipped[1:], flipped[:-1]),
    ]:
        counts = np.zeros((3, 3), int)
        np.add.at(counts, (one, other), 1)
        assert chi2_contingency(counts[counts.any(1)][:, counts.any(0)]).pvalue > 1e-4


def test_a_view_says_whether_it_is_mirrored() -> None:
    augmentation = Augmentation(CROP, 0)
    for index in range(100):
        for view in (0, EVAL_VIEW, mirror_of(0)):  # the centre crop, after a view that was flipped or not
            image, _, mirrored = augmentation(MAP, NO_LANDMARKS, index, view)
            assert mirrored is drawn(image).flipped


def test_the_draws_of_the_paper_are_those_of_the_runs_that_exist() -> None:
    """Where their numbers come from: other draws raise RESULTS_VERSION."""
    augmentation = Augmentation(CROP, 5)
    keys = [(0, 0), (1, 0), (0, 1), (12345, 67), (2**31, 299)]
    expected = [(0, 4, False), (7, 0, False), (5, 5, True), (2, 5, True), (4, 8, False)]
    assert [drawn(augmentation(MAP, NO_LANDMARKS, *key).image) for key in keys] == expected


@pytest.mark.parametrize("mirrors", [True, False])
@pytest.mark.parametrize(("size", "crop"), [(SIZE, CROP), (48, 40), (33, 20), (24, 24)])
def test_views_of_the_paper_are_those_of_albumentations(size: int, crop: int, mirrors: bool) -> None:
    image = np.random.default_rng(size).integers(0, 256, (size, size, 3), np.uint8)
    points = np.random.default_rng(crop).uniform(-4, size + 4, (5, 2)).astype(np.float32)
    own = Augmentation(crop, 7, mirrors=mirrors)
    library = A.Compose(
        [A.RandomCrop(crop, crop), A.HorizontalFlip(p=0.5 * mirrors)],
        keypoint_params=A.KeypointParams("xy", remove_invisible=False),
    )
    flips = []
    for index in range(100):
        bits = np.random.Philox(key=np.array([7, index << 32 | 3], np.uint64))
        draw = np.random.Generator(bits)
        library.set_random_state(draw, random.Random(int(draw.integers(2**63))))
        expected = library(image=image, keypoints=points)
        view = own(image, points, index, 3)
        np.testing.assert_array_equal(view.image, expected["image"])
        swapped = [1, 0, 2, 4, 3] if view.mirrored else [0, 1, 2, 3, 4]
        np.testing.assert_array_equal(view.landmarks, expected["keypoints"][swapped])
        flips.append(view.mirrored)
    assert set(flips) == ({True, False} if mirrors else {False})


@pytest.mark.parametrize("preset", AUGMENTATIONS)
def test_the_mirror_of_a_view_is_made_of_it_to_the_last_bit_of_its_landmarks(preset: str) -> None:
    """Of a view that was mirrored, too: its landmarks are then mirrored twice, as those of the runs that exist."""
    augmentation = Augmentation(CROP, 5, preset)
    points = np.random.default_rng(0).uniform(0, SIZE, (5, 2)).astype(np.float32)
    seen = set()
    for index in range(40):
        view, mirrored = (augmentation(MAP, points, index, number) for number in (3, mirror_of(3)))
        expected = view.landmarks[list(MIRRORED)].copy()
        expected[:, 0] = CROP - 1 - expected[:, 0]
        np.testing.assert_array_equal(mirrored.landmarks, expected)
        np.testing.assert_array_equal(mirrored.image, view.image[:, ::-1])
        seen.add(view.mirrored)
    assert seen == {True, False}


@pytest.mark.parametrize("preset", AUGMENTATIONS)
def test_a_view_depends_on_seed_index_and_view_alone(preset: str) -> None:
    draw = np.random.default_rng(0)
    keys = [(int(i), int(v)) for i, v in zip(draw.integers(0, 10**6, 200), draw.integers(0, 300, 200), strict=True)]
    one, other = Augmentation(CROP, 5, preset), Augmentation(CROP, 5, preset)
    first = {key: one(MAP, NO_LANDMARKS, *key).image for key in keys}
    np.random.seed(1)  # noqa: NPY002 - the global generators must not matter
    random.seed(1)
    cv2.setRNGSeed(1)
    for key in reversed(keys):
        if key[0] % 2:
            other(MAP, NO_LANDMARKS, key[0], EVAL_VIEW)
        np.testing.assert_array_equal(other(MAP, NO_LANDMARKS, *key).image, first[key])
        np.testing.assert_array_equal(one(MAP, NO_LANDMARKS, *key).image, first[key])


def test_seeds_indices_and_views_give_different_draws() -> None:
    def equal(one: list[Drawn], other: list[Drawn]) -> float:
        return float(np.mean([a == b for a, b in zip(one, other, strict=True)]))

    base = many(600)
    chance = 1 / (PLACES * PLACES * 2)
    augmentation = Augmentation(CROP, 0)
    swapped = [drawn(augmentation(MAP, NO_LANDMARKS, 0, index).image) for index in range(600)]
    for other in (many(600, seed=1), base[1:] + base[:1], swapped):
        assert equal(base, other) < 10 * chance


@pytest.mark.parametrize("size", [16, 17, 24, 25])
def test_the_evaluation_view_is_the_centre_never_flipped(size: int) -> None:
    across, down = np.meshgrid(np.arange(size), np.arange(size))
    image = np.stack([across, down, across], 2).astype(np.uint8)
    expected = image[(size - CROP) // 2 :, (size - CROP) // 2 :][:CROP, :CROP]
    for seed in range(3):
        augmentation = Augmentation(CROP, seed)
        for index in range(20):
            np.testing.assert_array_equal(augmentation(image, NO_LANDMARKS, index, EVAL_VIEW).image, expected)


def test_the_image_and_its_landmarks_are_not_changed() -> None:
    image, points = MAP.copy(), POINTS.copy()
    image.flags.writeable = points.flags.writeable = False
    augmentation = Augmentation(CROP, 0)
    for index in range(20):
        for view in (0, EVAL_VIEW, mirror_of(0)):
            augmentation(image, points, index, view).landmarks[:] = 0
    np.testing.assert_array_equal(image, MAP)
    np.testing.assert_array_equal(points, [[9, 9], [14, 8], [12, 12], [10, 15], [15, 14]])


def test_a_crop_of_full_size_is_the_image_or_its_mirror_image() -> None:
    augmentation = Augmentation(SIZE, 0)
    seen = {augmentation(MAP, NO_LANDMARKS, index, 0).image.tobytes() for index in range(40)}
    assert seen == {MAP.tobytes(), MAP[:, ::-1].tobytes()}


@pytest.mark.parametrize("preset", AUGMENTATIONS)
def test_a_mirrored_view_is_the_mirror_image_of_the_view(preset: str) -> None:
    augmentation, face = Augmentation(CROP, 0, preset), np.float32([[3, 4], [12, 5], [8, 8], [5, 12], [11, 13]])
    for view in range(20):
        assert mirror_of(mirror_of(view)) == view
        image, points, mirrored = augmentation(MAP, face, 7, view)
        other, others, opposite = augmentation(MAP, face, 7, mirror_of(view))
        np.testing.assert_array_equal(other, image[:, ::-1])
        assert opposite is not mirrored
        np.testing.assert_allclose(others[:, 0], CROP - 1 - points[[1, 0, 2, 4, 3], 0], atol=1e-4)
        np.testing.assert_array_equal(others[:, 1], points[[1, 0, 2, 4, 3], 1])
        np.testing.assert_array_equal(augmentation(MAP, NO_LANDMARKS, 7, mirror_of(view)).image, other)


def dots(points: NDArray[np.float32]) -> NDArray[np.uint8]:
    """An image with a dot of its own grey at every point."""
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    for number, (x, y) in enumerate(points.astype(int)):
        image[y, x] = 50 + 40 * number
    return image


POINTS = np.array([[9, 9], [14, 8], [12, 12], [10, 15], [15, 14]], np.float32)


def test_landmarks_move_with_the_pixels_and_a_mirror_swaps_left_and_right() -> None:
    augmentation, image, mirrored = Augmentation(CROP, 0), dots(POINTS), 0
    for index in range(200):
        view, points, said = augmentation(image, POINTS, index, 0)
        greys = [int(view[int(y), int(x), 0]) for x, y in points]
        flipped = greys[0] == 50 + 40 * 1
        assert said is flipped
        mirrored += flipped
        assert greys == [50 + 40 * number for number in ((1, 0, 2, 4, 3) if flipped else range(5))]
        assert points[0, 0] < points[1, 0]  # the left eye is left in the image, mirrored or not
        assert points[3, 0] < points[4, 0]
    assert 60 < mirrored < 140


@pytest.mark.parametrize("preset", AUGMENTATIONS)
def test_landmarks_do_not_change_the_pixels(preset: str) -> None:
    augmentation, image = Augmentation(CROP, 4, preset), dots(POINTS)
    for index, view in [*((index, 3) for index in range(50)), (7, EVAL_VIEW)]:
        with_points, _, mirrored = augmentation(image, POINTS, index, view)
        without, none, said = augmentation(image, NO_LANDMARKS, index, view)
        np.testing.assert_array_equal(with_points, without)
        assert said is mirrored
        assert none.shape == (0, 2)


@pytest.mark.parametrize("preset", AUGMENTATIONS)
def test_the_centre_crop_shifts_landmarks_by_its_margin(preset: str) -> None:
    points = Augmentation(CROP, 0, preset)(MAP, POINTS, 3, EVAL_VIEW).landmarks
    np.testing.assert_array_equal(points, POINTS - (SIZE - CROP) // 2)


def test_a_landmark_may_leave_the_crop() -> None:
    outside = POINTS.copy()
    outside[0], outside[4] = (0, 0), (SIZE - 1, SIZE - 1)
    for index in range(50):
        points = Augmentation(CROP, 0)(MAP, outside, index, 0).landmarks
        assert points.shape == (5, 2)
        assert np.ptp(points, axis=0).tolist() == [SIZE - 1, SIZE - 1]


def test_the_presets_are_the_choices_of_the_group() -> None:
    assert {name: node["name"] for name, node in nodes("augment").items()} == {name: name for name in AUGMENTATIONS}


PHOTO, PHOTO_CROP = 64, 56


def photo() -> NDArray[np.uint8]:
    """Smooth and colourful, with noise: everything that changes a photograph changes it."""
    draw = np.random.default_rng(0)
    coarse = cv2.resize(draw.uniform(40, 200, (6, 6, 3)).astype(np.float32), (PHOTO, PHOTO))
    return np.clip(coarse + draw.normal(0, 12, coarse.shape), 0, 255).astype(np.uint8)


PROBABILITIES = {
    A.RandomCrop: 1.0,
    A.HorizontalFlip: 0.5,
    A.Affine: 0.8,
    A.RandomBrightnessContrast: 0.5,
    A.RandomGamma: 0.3,
    A.ToGray: 0.1,
    A.GaussianBlur: 0.2,
    A.ImageCompression: 0.2,
}


def test_everything_that_the_recognizer_s_preset_names_happens_as_often_as_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changed: Counter[type] = Counter()

    def counting(kind: type, apply: Callable[..., NDArray[np.uint8]]) -> Callable[..., NDArray[np.uint8]]:
        def counted(self: Any, img: NDArray[np.uint8], *args: Any, **params: Any) -> NDArray[np.uint8]:
            before = img.copy()
            after = apply(self, img, *args, **params)
            changed[kind] += not np.array_equal(before, after)
            return after

        return counted

    for kind in PROBABILITIES:
        monkeypatch.setattr(kind, "apply", counting(kind, kind.apply))
    augmentation, image, count = Augmentation(PHOTO_CROP, 0, "recognizer"), photo(), 1000
    views = [augmentation(image, NO_LANDMARKS, index, 0).image for index in range(count)]
    for kind, probability in PROBABILITIES.items():
        assert binomtest(changed[kind], count, probability).pvalue > 1e-4, kind
    assert {(view.shape, view.dtype) for view in views} == {((PHOTO_CROP, PHOTO_CROP, 3), np.dtype(np.uint8))}
    assert len({view.tobytes() for view in views}) > 0.95 * count  # some are but cropped
    changed.clear()
    augmentation(image, NO_LANDMARKS, 0, EVAL_VIEW)
    assert not changed


def test_light_leaves_an_image_between_black_and_white() -> None:
    """A flat grey stays flat, and is never far from what it was."""
    augmentation, flat = Augmentation(PHOTO_CROP, 0, "recognizer"), np.full((PHOTO, PHOTO, 3), 120, np.uint8)
    greys = np.array([augmentation(flat, NO_LANDMARKS, index, 0).image for index in range(400)]).astype(int)
    assert np.ptp(greys, axis=(1, 2, 3)).max() <= 2
    means = greys.mean((1, 2, 3))
    assert 40 < means.min() < 100
    assert 140 < means.max() < 200
    assert abs(means.mean() - 120) < 5


@pytest.mark.parametrize("number", range(5))
def test_a_landmark_stays_on_its_bright_dot_whatever_moves_it(number: int) -> None:
    face = np.float32([[24, 26], [41, 25], [32, 35], [26, 44], [40, 43]])
    left, top = face[number]
    across, down = np.meshgrid(np.arange(PHOTO), np.arange(PHOTO))
    dot = np.clip(255 - 60 * np.hypot(across - left, down - top), 30, 255).astype(np.uint8)
    image = np.repeat(dot[..., None], 3, 2)
    augmentation, misses, flips = Augmentation(PHOTO_CROP, 1, "recognizer"), [], 0
    across, down = np.meshgrid(np.arange(PHOTO_CROP), np.arange(PHOTO_CROP))
    for index in range(200):
        view, points, mirrored = augmentation(image, face, index, 2)
        light = view.mean(2)
        bright = np.clip(light - (light.min() + light.max()) / 2, 0, None)
        centre = [(bright * where).sum() / bright.sum() for where in (across, down)]
        misses.append(np.hypot(*(points[[1, 0, 2, 4, 3][number] if mirrored else number] - centre)))
        flips += mirrored
        assert points.dtype == np.float32
        assert points[0, 0] < points[1, 0]
        assert points[3, 0] < points[4, 0]
    assert binomtest(flips, 200).pvalue > 1e-4
    assert max(misses) < 0.5
    assert np.mean(misses) < 0.15


def test_moves_are_small_and_go_to_all_sides() -> None:
    """Of a full-size crop, by the similarity that carries the landmarks, which the test above holds to the pixels."""
    face = np.float32([[24, 26], [41, 25], [32, 35], [26, 44], [40, 43]])
    augmentation, image, found = Augmentation(PHOTO, 0, "recognizer"), photo(), []
    for index in range(600):
        view = augmentation(image, face, index, 0)
        points = view.landmarks[[1, 0, 2, 4, 3]] if view.mirrored else view.landmarks
        now = (points if not view.mirrored else [PHOTO - 1, 0] + points * [-1, 1]) - (PHOTO - 1) / 2
        one, other = ((pts[1] - pts[0]) @ [1, 1j] for pts in (face, now))
        ratio = other / one
        shift = now @ [1, 1j] - ratio * ((face - (PHOTO - 1) / 2) @ [1, 1j])
        np.testing.assert_allclose(shift, shift[0], atol=1e-3)
        found.append((abs(ratio), np.degrees(np.angle(ratio)), shift[0].real / PHOTO, shift[0].imag / PHOTO))
    for values, (middle, most) in zip(np.transpose(found), [(1, 0.08), (0, 8), (0, 0.04), (0, 0.04)], strict=True):
        assert 0.75 * most < np.abs(values - middle).max() <= 1.001 * most  # shifts are of whole pixels
        assert abs(np.mean(values) - middle) < 0.1 * most
