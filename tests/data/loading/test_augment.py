"""What is drawn for a view: a uniform crop, a flip half of the time, and nothing at all for the evaluation view."""

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest, chi2_contingency, chisquare

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


def test_a_view_depends_on_seed_index_and_view_alone() -> None:
    draw = np.random.default_rng(0)
    keys = [(int(i), int(v)) for i, v in zip(draw.integers(0, 10**6, 200), draw.integers(0, 300, 200), strict=True)]
    one, other = Augmentation(CROP, 5), Augmentation(CROP, 5)
    first = {key: one(MAP, NO_LANDMARKS, *key).image for key in keys}
    np.random.seed(1)  # noqa: NPY002 - the global generators must not matter
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


def test_a_mirrored_view_is_the_mirror_image_of_the_view() -> None:
    augmentation, face = Augmentation(CROP, 0), np.float32([[3, 4], [12, 5], [8, 8], [5, 12], [11, 13]])
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


def test_landmarks_do_not_change_the_pixels() -> None:
    augmentation, image = Augmentation(CROP, 4), dots(POINTS)
    for index, view in [*((index, 3) for index in range(50)), (7, EVAL_VIEW)]:
        with_points, _, mirrored = augmentation(image, POINTS, index, view)
        without, none, said = augmentation(image, NO_LANDMARKS, index, view)
        np.testing.assert_array_equal(with_points, without)
        assert said is mirrored
        assert none.shape == (0, 2)


def test_the_centre_crop_shifts_landmarks_by_its_margin() -> None:
    points = Augmentation(CROP, 0)(MAP, POINTS, 3, EVAL_VIEW).landmarks
    np.testing.assert_array_equal(points, POINTS - (SIZE - CROP) // 2)


def test_a_landmark_may_leave_the_crop() -> None:
    outside = POINTS.copy()
    outside[0], outside[4] = (0, 0), (SIZE - 1, SIZE - 1)
    for index in range(50):
        points = Augmentation(CROP, 0)(MAP, outside, index, 0).landmarks
        assert points.shape == (5, 2)
        assert np.ptp(points, axis=0).tolist() == [SIZE - 1, SIZE - 1]
