"""The similarity against a linear system, and where known pixels land."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.files.alignment import (
    ARCFACE_SIZE,
    ARCFACE_TEMPLATE,
    CELEBA_TEMPLATE,
    Alignment,
    align,
    cut_square,
    likeness,
    similarity,
)
from facedistill.errors import DataError

FACE = np.array([[61.0, 70.0], [99.0, 75.0], [78.0, 96.0], [60.0, 113.0], [93.0, 117.0]])


def linear_system(points: NDArray[np.float64], template: NDArray[np.float64]) -> NDArray[np.float64]:
    """a, b, shifts of x' = a x − b y + u, y' = b x + a y + v by the normal equations of ten rows."""
    rows, right = [], []
    for (x, y), (to_x, to_y) in zip(points, template, strict=True):
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        right += [to_x, to_y]
    a, b, u, v = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
    return np.array([[a, -b, u], [b, a, v]])


def test_the_similarity_is_the_least_squares_solution() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        points = draw.normal(size=(5, 2)) * 10 ** draw.uniform(-2, 3) + draw.normal(size=2) * 100
        expected = linear_system(points, ARCFACE_TEMPLATE)
        np.testing.assert_allclose(similarity(points, ARCFACE_TEMPLATE), expected, 1e-6, 1e-6)


def test_an_exact_similarity_is_found_again() -> None:
    angle, scale, shift = 0.7, 2.3, np.array([-40.0, 12.0])
    turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    found = similarity(FACE, FACE @ turn.T + shift)
    np.testing.assert_allclose(found, np.column_stack([turn, shift]), atol=1e-9)


def test_a_mirrored_face_is_not_mirrored_back() -> None:
    m = similarity(FACE * [-1, 1] + [160, 0], ARCFACE_TEMPLATE)
    assert np.linalg.det(m[:, :2]) > 0


def test_likeness_is_what_the_best_similarity_explains() -> None:
    draw = np.random.default_rng(0)
    spread = ((ARCFACE_TEMPLATE - ARCFACE_TEMPLATE.mean(axis=0)) ** 2).sum()
    for points in (FACE, FACE[[1, 0, 2, 4, 3]], draw.normal(size=(5, 2)), ARCFACE_TEMPLATE * 3 - 7):
        m = linear_system(points, ARCFACE_TEMPLATE)
        rest = ((points @ m[:, :2].T + m[:, 2] - ARCFACE_TEMPLATE) ** 2).sum()
        assert likeness(points) == pytest.approx(math.sqrt(1 - rest / spread))


@pytest.mark.parametrize(
    "points",
    [
        np.full((5, 2), 7.0),
        np.array([[0, 0], [2, 0], [1, 1], [0, 2], [2, 2]]) * [1.0, -1.0],  # any turn is as far off
    ],
)
def test_points_without_a_best_turn_are_refused(points: NDArray[np.float64]) -> None:
    template = np.array([[0, 0], [2, 0], [1, 1], [0, 2], [2, 2]], float)
    with pytest.raises(DataError, match="not arranged like those of a face"):
        similarity(points, template)


def blobs(points: NDArray[np.float64], side: int, width: float) -> Image.Image:
    """White dots on black: Gaussians of ``width`` pixels about each point, the centre of the first pixel being 0."""
    down, across = np.mgrid[:side, :side]
    bright = sum(np.exp(-((across - x) ** 2 + (down - y) ** 2) / (2 * width**2)) for x, y in points)
    return Image.fromarray((np.clip(bright, 0, 1) * 255).astype(np.uint8)).convert("RGB")


def found_at(image: NDArray[np.uint8], near: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Centres of mass of what is bright around each point."""
    found = []
    for x, y in near.round().astype(int):
        part = image[y - reach : y + reach + 1, x - reach : x + reach + 1, 0].astype(float)
        down, across = np.mgrid[y - reach : y + reach + 1, x - reach : x + reach + 1]
        found.append([(part * across).sum() / part.sum(), (part * down).sum() / part.sum()])
    return np.array(found)


@pytest.mark.parametrize("size", [40, 48, 112, 224])
@pytest.mark.parametrize("scale", [0.7, 1, 3.1, 8])
def test_warped_points_land_on_the_template(size: int, scale: float) -> None:
    angle = 0.3
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    points = ((ARCFACE_TEMPLATE - 56) @ turn.T) * scale + 90 * scale
    image = blobs(points, round(180 * scale), 2.5 * scale)
    warped = align(image, points, size)
    assert warped.shape == (size, size, 3)
    expected = (ARCFACE_TEMPLATE + 0.5) * size / ARCFACE_SIZE - 0.5
    error = np.abs(found_at(warped, expected, round(6 * size / ARCFACE_SIZE)) - expected)
    assert error.max() < 0.1, error


@pytest.mark.parametrize("shrink", [2.3, 4.6, 19.6])
def test_a_shrunken_face_is_averaged_not_sampled(shrink: float) -> None:
    stripes = np.zeros((900, 900, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than what is left: grey, whichever columns would be sampled
    points = (ARCFACE_TEMPLATE + 0.5) * (shrink * 40 / ARCFACE_SIZE) - 0.5
    assert align(Image.fromarray(stripes), points, 40)[2:-2, 2:-2].std() < 30  # more than 70, if they were


def test_beyond_the_image_is_black() -> None:
    warped = align(Image.new("RGB", (60, 60), (255, 255, 255)), ARCFACE_TEMPLATE, 112)
    assert warped[:58, :58].min() == 255
    assert warped[62:].max() == 0
    assert warped[:, 62:].max() == 0


def test_a_square_inside_is_that_square() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    np.testing.assert_array_equal(cut_square(Image.fromarray(pixels), 7, 11, 20, 20), pixels[11:31, 7:27])


@pytest.mark.parametrize(("left", "top", "side"), [(-10.0, -5.0, 60.0), (20.0, 12.0, 60.0), (-70.0, -60.0, 200.0)])
def test_a_square_beyond_the_image_is_black_there(left: float, top: float, side: float) -> None:
    square = cut_square(Image.new("RGB", (50, 40), (255, 255, 255)), left, top, side, 100)
    centres = (np.arange(100) + 0.5) * side / 100
    inside = np.outer((top + centres > 0) & (top + centres < 40), (left + centres > 0) & (left + centres < 50))
    assert (np.abs(square[..., 0] - np.where(inside, 255.0, 0.0)) < 200).all()  # a corner is a quarter
    assert square[..., 0].mean() == pytest.approx(255 * inside.mean(), rel=0.03)


@pytest.mark.parametrize("size", [30, 64, 150])
def test_a_square_shows_points_where_its_edges_say(size: int) -> None:
    points = np.array([[55.3, 61.8], [101.2, 66.6], [77.7, 90.1]])
    left, top, side = 33.37, 41.61, 97.53
    square = cut_square(blobs(points, 180, 3), left, top, side, size)
    expected = (points + 0.5 - [left, top]) * size / side - 0.5
    error = np.abs(found_at(square, expected, round(9 * size / side)) - expected)
    assert error.max() < 0.1, error


@pytest.mark.parametrize("shape", [(8, 90_000), (90_000, 8)])
def test_an_image_of_absurd_proportions_takes_no_absurd_memory(shape: tuple[int, int]) -> None:
    image = Image.new("RGB", shape, (255, 255, 255))
    side = float(max(shape))  # 24 GB, if the square were drawn
    square = cut_square(image, (shape[0] - side) / 2, (shape[1] - side) / 2, side, 48)
    assert square.shape == (48, 48, 3)
    points = ARCFACE_TEMPLATE * (side / 112)
    assert align(image, points, 48).shape == (48, 48, 3)


def test_every_edge_that_floats_can_give_is_cut() -> None:
    image = Image.new("RGB", (80, 80), (255, 255, 255))
    draw = np.random.default_rng(0)
    for left, top, side in draw.uniform([-50, -50, 0.5], [70, 70, 150], (300, 3)).astype(np.float32).tolist():
        assert cut_square(image, left, top, side, 24).shape == (24, 24, 3)


@pytest.mark.parametrize("scale", [0.5, 1, 2])
def test_faces_that_celeba_aligned_come_to_the_template(scale: float) -> None:
    """Blobs where its landmarks are on average: to where the best similarity takes them, by another solver."""
    points = (CELEBA_TEMPLATE + 0.5) * scale - 0.5
    image = blobs(points, round(218 * scale), 3 * scale).crop((0, 0, round(178 * scale), round(218 * scale)))
    aligned, crop_box = Alignment("celeba").apply(image, 112, None)
    assert crop_box is None
    m = linear_system(points, ARCFACE_TEMPLATE)
    expected = points @ m[:, :2].T + m[:, 2]
    assert np.abs(expected - ARCFACE_TEMPLATE).max() < 4  # the two templates are alike, but for the tip of the nose
    assert np.abs(found_at(aligned, expected, 6) - expected).max() < 0.15


@pytest.mark.parametrize("shape", [(178, 178), (218, 178), (89, 111), (112, 112)])
def test_images_of_another_shape_are_none_that_celeba_aligned(shape: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=f"{shape[0]}×{shape[1]} pixels, but .* 178×218, or is scaled"):
        Alignment("celeba").apply(Image.new("RGB", shape), 112, None)
