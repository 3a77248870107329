"""What is drawn for a view: a uniform crop, a flip half of the time, and nothing at all for the evaluation view."""

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest, chi2_contingency, chisquare

from facedistill.data.augment import EVAL_VIEW, Augmentation

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
    return [drawn(augmentation(MAP, index, view)) for index in range(count // views) for view in range(views)]


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


def test_a_view_depends_on_seed_index_and_view_alone() -> None:
    draw = np.random.default_rng(0)
    keys = [(int(i), int(v)) for i, v in zip(draw.integers(0, 10**6, 200), draw.integers(0, 300, 200), strict=True)]
    one, other = Augmentation(CROP, 5), Augmentation(CROP, 5)
    first = {key: one(MAP, *key) for key in keys}
    np.random.seed(1)  # noqa: NPY002 - the global generators must not matter
    for key in reversed(keys):
        if key[0] % 2:
            other(MAP, key[0], EVAL_VIEW)
        np.testing.assert_array_equal(other(MAP, *key), first[key])
        np.testing.assert_array_equal(one(MAP, *key), first[key])


def test_seeds_indices_and_views_draw_differently() -> None:
    def equal(one: list[Drawn], other: list[Drawn]) -> float:
        return float(np.mean([a == b for a, b in zip(one, other, strict=True)]))

    base = many(600)
    chance = 1 / (PLACES * PLACES * 2)
    augmentation = Augmentation(CROP, 0)
    swapped = [drawn(augmentation(MAP, 0, index)) for index in range(600)]
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
            np.testing.assert_array_equal(augmentation(image, index, EVAL_VIEW), expected)


def test_the_image_itself_is_left_alone() -> None:
    image = MAP.copy()
    augmentation = Augmentation(CROP, 0)
    for index in range(20):
        view = augmentation(image, index, 0).copy()
        view[:] = 0
    np.testing.assert_array_equal(image, MAP)


def test_a_crop_of_the_whole_image_is_it_or_its_mirror() -> None:
    augmentation = Augmentation(SIZE, 0)
    seen = {augmentation(MAP, index, 0).tobytes() for index in range(40)}
    assert seen == {MAP.tobytes(), MAP[:, ::-1].tobytes()}
