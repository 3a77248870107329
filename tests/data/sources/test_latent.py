"""Faces by latents in rounds: pure functions of (seed, round, index), and moved the farther the better imitated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facedistill.data.sources.latent import DEVIATION, LatentFaces, moved
from facedistill.errors import DataError

SOURCE = LatentFaces("latent", 5, 1, 3, "dynamic", 1.0, True, 0)
SIZE = 16


def latents(source: LatentFaces, number: int, imitated: list[float] | None = None) -> np.ndarray:
    given = None if imitated is None else np.array(imitated, np.float32)
    return np.concatenate(source.in_round(number, given).latents, 1)


def test_a_round_is_drawn_from_its_number_alone_and_shared_by_dynamic_and_static(tmp_path: Path) -> None:
    static = replace(SOURCE, sampling="static")
    np.testing.assert_array_equal(latents(SOURCE, 2), latents(static, 2))
    assert SOURCE.in_round(2, None).key == static.in_round(2, None).key
    faces = SOURCE.in_round(2, None).faces(SIZE, tmp_path)
    np.testing.assert_array_equal(faces.images, static.in_round(2, None).faces(SIZE, tmp_path / "other").images)
    np.testing.assert_array_equal(np.concatenate(list(SOURCE.in_round(2, None).images(SIZE, 0))), faces.images)
    np.testing.assert_array_equal(np.concatenate(list(SOURCE.in_round(2, None).images(SIZE, 3))), faces.images[3:])


def test_rounds_and_test_faces_have_nobody_in_common(tmp_path: Path) -> None:
    static = replace(SOURCE, sampling="static")
    drawn = np.concatenate([latents(static, number) for number in range(4)] + [np.hstack(static._drawn(2**30, 3))])
    assert len(np.unique(drawn[:, :60], axis=0)) == len(drawn)
    faces = SOURCE.faces(SIZE, tmp_path)
    assert faces.is_test.tolist() == [False] * 5 + [True] * 3
    assert faces.identities == []
    first = SOURCE.in_round(0, None).faces(SIZE, tmp_path)
    np.testing.assert_array_equal(faces.images[:5], first.images)


def test_every_second_round_moves_the_faces_of_the_one_before_by_how_well_they_were_imitated() -> None:
    before = latents(SOURCE, 0)
    assert SOURCE.asks_back(0)
    assert not SOURCE.asks_back(1)
    after = latents(SOURCE, 1, [-1, -0.5, 0, 0.5, 1])
    far = np.sqrt(np.square(after - before).mean(1))
    assert far[0] == 0, "a face that was not imitated at all stays"
    assert (np.diff(far) > 0).all()
    draw = np.random.default_rng(0)
    expected = np.abs(before[4] + DEVIATION * draw.standard_normal((4000, before.shape[1])))  # mirrored at 0 and at 1
    expected = np.where(expected > 1, 2 - expected, expected)
    assert far[4] == pytest.approx(np.sqrt(np.square(expected - before[4]).mean()), rel=0.1)
    np.testing.assert_array_equal(latents(replace(SOURCE, step=0.0), 1, [1] * 5), before)
    half = latents(replace(SOURCE, step=0.5), 1, [1] * 5)
    np.testing.assert_array_equal(half[4], latents(SOURCE, 1, [0] * 5)[4])


def test_moved_latents_stay_uniform() -> None:
    draw = np.random.default_rng(1)
    start = draw.random((4000, 50), np.float32)
    found = moved(start, np.full(4000, 2.5, np.float32), draw.standard_normal((4000, 50)).astype(np.float32))
    assert 0 <= found.min() <= found.max() <= 1
    np.testing.assert_allclose(np.quantile(found, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.01)
    # cos(πw) is what a step between two mirrors multiplies by exp(−(π · deviation)² / 2)
    along = np.exp(-((np.pi * 2.5 * DEVIATION) ** 2) / 2)
    assert np.corrcoef(np.cos(np.pi * found.ravel()), np.cos(np.pi * start.ravel()))[0, 1] == pytest.approx(
        along, abs=0.01
    )


def test_what_it_depends_on_is_in_the_key_of_a_round() -> None:
    one, same, other = (SOURCE.in_round(1, np.full(5, far, np.float32)) for far in (0.5, 0.5, 0.6))
    assert one.key == same.key != other.key
    assert one.depends_on_student
    assert not SOURCE.in_round(2, None).depends_on_student
    keys = {replace(SOURCE, **change).in_round(2, None).key for change in ({"seed": 1}, {"aligned": False}, {})}
    assert len(keys) == 3


def test_identities_have_what_matters() -> None:
    fixed, static = replace(SOURCE, sampling="fixed"), replace(SOURCE, sampling="static")
    assert fixed.epochs_per_round is None
    assert static.epochs_per_round == 1
    assert fixed.identity() == replace(fixed, step=0.3, epochs_a_round=4).identity()
    assert static.identity() == replace(static, step=0.3).identity() != replace(static, epochs_a_round=4).identity()
    assert SOURCE.identity() != replace(SOURCE, step=0.3).identity()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampling": "random"}, r"data.sampling=random: choices are dynamic, static, fixed"),
        ({"faces_per_round": 1}, r"data.faces_per_round and data.test_faces must lie in 2 …"),
        ({"faces_per_round": 2.5}, r"data.faces_per_round=2.5 must be a whole number"),
        ({"epochs_a_round": 0}, r"data.epochs_a_round=0 must be a whole number"),
        ({"step": -1}, r"data.step=-1 must be a number from 0 to 10"),
        ({"step": float("nan")}, r"data.step=nan must be a number"),
        ({"aligned": "yes"}, r"data.aligned=yes: choices are true, false"),
        ({"seed": -1}, r"data.seed=-1 must lie in 0"),
    ],
)
def test_what_is_out_of_range_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(SOURCE, **change)  # type: ignore[arg-type]
