"""The rendered faces: purity, pinned pixels, landmarks against the picture, and arguments."""

import hashlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from facedistill.data.synthetic import RENDERER_VERSION, Faces, Variation, render_faces
from facedistill.data.synthetic import render as render_module
from facedistill.data.synthetic.albedo import face_albedo
from facedistill.data.synthetic.identity import IDENTITY_RANGES, identity_draws, identity_vectors

SEED = 11
NEUTRAL = Variation(
    yaw_peaked=(0.0, 0.0),
    pitch_peaked=(0.0, 0.0),
    roll_peaked=(0.0, 0.0),
    scale=(0.53, 0.53),
    shift_x=(0.0, 0.0),
    shift_y=(0.0, 0.0),
    light_x=(0.0, 0.0),
    light_y=(-0.3, -0.3),
    light_power=(0.8, 0.8),
    ambient=(0.4, 0.4),
    gloss=(0.0, 0.0),
    mouth_open_chance=0.0,
    smile=(0.0, 0.0),
    brow_raise=(0.0, 0.0),
    gaze_x=(0.0, 0.0),
    gaze_y=(0.0, 0.0),
    squint=(0.0, 0.0),
    blink_chance=0.0,
    glasses_chance=0.0,
    cap_chance=0.0,
    occluder_chance=0.0,
    gain=(1.0, 1.0),
    blur=(0.0, 0.0),
    noise=(0.0, 0.0),
)
"""A passport photograph."""


def ids(*values: int) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def digest(faces: Faces) -> str:
    return hashlib.sha256(faces.images.tobytes()).hexdigest()


def batch(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    index = np.arange(count, dtype=np.int64)
    return index % 5, index


def test_shapes_types_and_ranges() -> None:
    faces = render_faces(SEED, *batch(30), 48)
    assert faces.images.shape == (30, 48, 48, 3)
    assert faces.images.dtype == np.uint8
    assert faces.landmarks.shape == (30, 5, 2)
    assert faces.landmarks.dtype == np.float32
    assert np.isfinite(faces.landmarks).all()
    # Neither black nor white nor flat.
    means = faces.images.reshape(30, -1).mean(axis=1)
    assert (means > 15).all()
    assert (means < 240).all()
    assert (faces.images.reshape(30, -1).std(axis=1) > 10).all()


def test_an_empty_batch_is_allowed() -> None:
    faces = render_faces(SEED, ids(), ids(), 32)
    assert faces.images.shape == (0, 32, 32, 3)
    assert faces.landmarks.shape == (0, 5, 2)


def test_the_same_pixels_alone_in_a_batch_and_shuffled() -> None:
    identities, samples = batch(40)
    whole = render_faces(SEED, identities, samples, 40)
    order = np.random.default_rng(0).permutation(40)
    shuffled = render_faces(SEED, identities[order], samples[order], 40)
    np.testing.assert_array_equal(shuffled.images, whole.images[order])
    np.testing.assert_array_equal(shuffled.landmarks, whole.landmarks[order])
    for k in range(0, 40, 3):
        alone = render_faces(SEED, identities[k : k + 1], samples[k : k + 1], 40)
        np.testing.assert_array_equal(alone.images[0], whole.images[k])
        np.testing.assert_array_equal(alone.landmarks[0], whole.landmarks[k])


def test_the_same_pixels_in_another_process() -> None:
    here = render_faces(SEED, *batch(6), 64)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        there = pool.submit(render_faces, SEED, *batch(6), 64).result()
    np.testing.assert_array_equal(here.images, there.images)
    np.testing.assert_array_equal(here.landmarks, there.landmarks)


GOLDEN = {
    (48, 1): "8a48c29e20f7ee7b8fbb19956aa2beffb4c5cf6168a3f1f614ec2a65c62722cc",
    (64, 1): "72fbcd4927eec0a6801b8645d98975ccd9cf073d9d7e8bb70f3e18e885e51653",
    (112, 1): "acfd959655f2899a4f95c4f60e56807184654670cfc13298700831b6e48fef3d",
}
"""SHA-256 of the pixels per (size, RENDERER_VERSION)."""


@pytest.mark.parametrize("size", [48, 64, 112])
def test_pixels_are_pinned(size: int) -> None:
    faces = render_faces(2024, ids(0, 1, 2, 3, 4, 5, 6, 7), ids(0, 0, 1, 1, 2, 2, 3, 3), size)
    assert digest(faces) == GOLDEN[size, RENDERER_VERSION], "pixels changed: bump RENDERER_VERSION and pin anew"


def test_seed_identity_and_sample_each_change_the_picture() -> None:
    base = render_faces(SEED, ids(3), ids(4), 48).images
    for seed, identity, sample in [(SEED + 1, 3, 4), (SEED, 4, 4), (SEED, 3, 5), (SEED, 4, 3)]:
        other = render_faces(seed, ids(identity), ids(sample), 48).images
        assert (other != base).mean() > 0.5


def test_identity_vectors_vary_and_do_not_depend_on_samples() -> None:
    assert len(IDENTITY_RANGES) >= 30
    vectors = identity_vectors(identity_draws(SEED, ids(1, 2, 1)))
    assert vectors.shape == (3, len(IDENTITY_RANGES))
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert (vectors[0] != vectors[1]).all()
    many = identity_vectors(identity_draws(SEED, np.arange(300)))
    low, high = np.array(list(IDENTITY_RANGES.values())).T
    assert (many >= low - 1e-6).all()
    assert (many <= high + 1e-6).all()
    # Each value uses its range.
    assert (np.ptp(many, axis=0) > 0.9 * (high - low)).all()


def test_a_passport_photograph_depends_on_the_person_and_not_on_the_sample() -> None:
    """With all variation of the face pinned, samples of one person have the same landmarks."""
    marks = render_faces(SEED, ids(1, 1, 2), ids(5, 6, 5), 64, NEUTRAL).landmarks
    np.testing.assert_array_equal(marks[0], marks[1])
    assert np.abs(marks[0] - marks[2]).max() > 0.3


def test_landmarks_are_in_view_and_in_order_for_all_poses() -> None:
    n = 600
    marks = render_faces(SEED, np.arange(n) % 50, np.arange(n), 16).landmarks
    left_eye, right_eye, nose, left_mouth, right_mouth = np.moveaxis(marks, 1, 0)
    assert (marks > 0.5).all()
    assert (marks < 14.5).all()
    assert (right_eye[:, 0] - left_eye[:, 0] > 2.0).all()
    assert (right_mouth[:, 0] - left_mouth[:, 0] > 1.0).all()
    eyes, mouth = (left_eye + right_eye) / 2, (left_mouth + right_mouth) / 2
    assert (nose[:, 1] > eyes[:, 1]).all()
    assert (mouth[:, 1] > nose[:, 1]).all()


def test_landmarks_of_all_sizes_are_the_same_scene() -> None:
    marks = {size: render_faces(SEED, *batch(10), size).landmarks for size in (48, 64, 112)}
    for size in (48, 64):
        # Pixel centres at integers: the image spans [-0.5, size - 0.5].
        relative = (marks[size] + 0.5) / size - (marks[112] + 0.5) / 112
        assert np.abs(relative).max() < 0.01


def test_pupils_are_where_the_eye_landmarks_say() -> None:
    """Only the irises move with the gaze, so the change of the picture is centred on the eyes."""
    size, count = 192, 12
    looks = [replace(NEUTRAL, gaze_x=(gaze, gaze)) for gaze in (-0.04, 0.04)]
    left, right = (render_faces(SEED, np.arange(count), np.zeros(count, dtype=np.int64), size, v) for v in looks)
    np.testing.assert_array_equal(left.landmarks, right.landmarks)
    change = np.abs(left.images.astype(float) - right.images).sum(axis=3)
    half = size // 2
    for picture, marks in zip(change, left.landmarks, strict=True):
        for start, (x, y) in zip((0, half), marks[:2], strict=True):
            eye = picture[:, start : start + half]
            rows, columns = np.mgrid[:size, start : start + half]
            assert abs((columns * eye).sum() / eye.sum() - x) < 1.0
            assert abs((rows * eye).sum() / eye.sum() - y) < 3.5


MARKED_POINTS = {
    0: ("eye_x", -1.0, "eye_y"),
    1: ("eye_x", 1.0, "eye_y"),
    2: ("eye_x", 0.0, "tip_y"),
    3: ("mouth_half", -1.0, "corner_y"),
    4: ("mouth_half", 1.0, "corner_y"),
}


@pytest.mark.parametrize("which", range(5))
def test_a_spot_painted_on_the_skin_is_seen_at_the_landmark(which: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture comes from rays that search the surface, the landmark from projecting a point: compare."""
    size, count = 160, 12
    column, side, row = MARKED_POINTS[which]

    def spotted(p: Any, s: Any, f: Any, grid: Any, mottle: Any) -> Any:
        distance = (grid.x - side * f[column]) ** 2 + (grid.y - f[row]) ** 2
        spot = np.maximum(1.0 - distance / 0.04**2, 0.0).astype(np.float32)
        return [1000.0 * spot, 0.0 * spot, 0.0 * spot]

    plain = replace(
        Variation(),
        glasses_chance=0.0,
        occluder_chance=0.0,
        cap_chance=0.0,
        noise=(0.0, 0.0),
        blur=(0.0, 0.0),
    )
    monkeypatch.setattr(render_module, "face_albedo", spotted)
    faces = render_faces(SEED, np.arange(count), np.arange(count), size, plain)
    monkeypatch.setattr(render_module, "face_albedo", lambda *a: [0.0 * v for v in face_albedo(*a)])
    without = render_faces(SEED, np.arange(count), np.arange(count), size, plain)
    errors = []
    for k in range(count):
        rows, columns = np.nonzero(faces.images[k, :, :, 0].astype(int) > without.images[k, :, :, 0].astype(int) + 40)
        if len(rows) > 3:  # else hidden by hair or by the nose
            errors.append(np.array([columns.mean(), rows.mean()]) - faces.landmarks[k, which])
    assert len(errors) >= count - 3
    assert np.median(np.abs(errors), axis=0).max() < 0.8
    assert np.abs(errors).max() < 3.5


def test_landmarks_rotate_with_roll() -> None:
    t = 0.1
    size = 64
    upright = render_faces(SEED, *batch(5), size, NEUTRAL).landmarks
    rolled = render_faces(SEED, *batch(5), size, replace(NEUTRAL, roll_peaked=(t, t))).landmarks
    cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    centre = (size - 1) / 2
    x, y = (upright - centre)[..., 0], (upright - centre)[..., 1]
    expected = np.stack([cos * x - sin * y, sin * x + cos * y], axis=2) + centre
    np.testing.assert_allclose(rolled, expected, atol=1e-3)


def test_landmarks_move_with_the_head() -> None:
    size = 64
    still = render_faces(SEED, *batch(5), size, NEUTRAL).landmarks
    moved = render_faces(SEED, *batch(5), size, replace(NEUTRAL, shift_x=(0.1, 0.1), shift_y=(-0.05, -0.05)))
    np.testing.assert_allclose(moved.landmarks - still, np.broadcast_to([3.2, -1.6], still.shape), atol=1e-3)


def test_yaw_moves_the_nose_and_smile_widens_the_mouth() -> None:
    still = render_faces(SEED, *batch(5), 64, NEUTRAL).landmarks
    turned = render_faces(SEED, *batch(5), 64, replace(NEUTRAL, yaw_peaked=(0.2, 0.2))).landmarks
    nose_offset = turned[:, 2, 0] - turned[:, :2, 0].mean(axis=1)
    assert (nose_offset > 1.0).all()
    smiling = render_faces(SEED, *batch(5), 64, replace(NEUTRAL, smile=(1.0, 1.0))).landmarks
    assert (smiling[:, 4, 0] - smiling[:, 3, 0] > still[:, 4, 0] - still[:, 3, 0] + 0.5).all()
    np.testing.assert_array_equal(smiling[:, :2, 0], still[:, :2, 0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((SEED, ids(1), ids(1), 15), "size must be at least 16"),
        ((SEED, ids(1, 2), ids(1), 64), "one length, got 2 and 1"),
        ((SEED, ids(-1), ids(1), 64), "identities must not be negative"),
        ((SEED, ids(1), ids(-5), 64), "samples must not be negative"),
        ((SEED, ids(1).reshape(1, 1), ids(1), 64), "identities must be one-dimensional"),
        ((SEED, np.array([1.5]), ids(1), 64), "identities must be integers"),
        ((-1, ids(1), ids(1), 64), "seed must be in"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        render_faces(*arguments)
