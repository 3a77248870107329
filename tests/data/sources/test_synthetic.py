"""Rendered faces as a source: labels, split, pairs of strangers, rendered once."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from facedistill.data.faces import FaceSet
from facedistill.data.files.store import Batches
from facedistill.data.sources import synthetic
from facedistill.data.sources.synthetic import SyntheticFaces
from facedistill.data.synthetic import render_faces, rendering
from facedistill.errors import DataError

SOURCE = SyntheticFaces("synthetic", num_identities=6, images_per_identity=5, pairs_per_fold=8, seed=3)
SIZE = 16


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faces")


@pytest.fixture(scope="module")
def made(cache: Path) -> FaceSet:
    return SOURCE.faces(SIZE, cache)


@pytest.fixture
def no_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("rendered again")

    monkeypatch.setattr(rendering, "ProcessPoolExecutor", refuse)
    monkeypatch.setattr(synthetic, "_rendered", refuse)


def test_processes_render_what_one_does(made: FaceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "_ALONE", 0)
    shared = SOURCE.faces(SIZE, tmp_path)
    np.testing.assert_array_equal(shared.images, made.images)
    assert shared.landmarks is not None
    assert made.landmarks is not None
    np.testing.assert_array_equal(shared.landmarks, made.landmarks)


def test_pixels_labels_and_names(made: FaceSet) -> None:
    people, shots = np.repeat(np.arange(6), 5), np.tile(np.arange(5), 6)
    np.testing.assert_array_equal(made.images, render_faces(3, people, shots, SIZE).images)
    assert made.labels.tolist() == people.tolist()
    assert len(set(made.identities)) == 6
    assert (made.counts["images"], made.counts["identities"], made.counts["skipped"]) == (30, 6, 0)
    assert len({image.tobytes() for image in made.images}) == 30


@pytest.mark.usefixtures("no_rendering")
def test_the_second_call_renders_nothing(made: FaceSet, cache: Path) -> None:
    again = SOURCE.faces(SIZE, cache)
    np.testing.assert_array_equal(again.images, made.images)
    assert again.is_test.tolist() == made.is_test.tolist()
    assert again.pairs is not None
    assert made.pairs is not None
    for name in ("images", "left", "right", "same", "fold"):
        np.testing.assert_array_equal(getattr(again.pairs, name), getattr(made.pairs, name))


def test_pairs_are_two_photographs_half_of_one_person_and_folds_share_nobody(made: FaceSet) -> None:
    pairs = made.pairs
    assert pairs is not None
    assert Counter(pairs.fold.tolist()) == dict.fromkeys(range(10), 8)
    person = np.arange(len(pairs.images)) // 8  # eight photographs each
    assert ((person[pairs.left] == person[pairs.right]) == pairs.same).all()
    assert (pairs.left != pairs.right).all()
    assert [int(pairs.same[pairs.fold == k].sum()) for k in range(10)] == [4] * 10
    people = [set(person[pairs.left[pairs.fold == k]]) | set(person[pairs.right[pairs.fold == k]]) for k in range(10)]
    assert sum(len(group) for group in people) == len(set().union(*people))


def test_nobody_of_the_pairs_is_trained_on(made: FaceSet) -> None:
    assert made.pairs is not None
    strangers = render_faces(3, np.array([1_000_000, 1_000_001]), np.array([2, 0]), SIZE).images
    np.testing.assert_array_equal(made.pairs.images[[2, 8]], strangers)
    assert not {image.tobytes() for image in made.images} & {image.tobytes() for image in made.pairs.images}


def test_more_people_do_not_change_those_who_were_there(made: FaceSet, cache: Path) -> None:
    more = replace(SOURCE, num_identities=7).faces(SIZE, cache)
    np.testing.assert_array_equal(more.images[:30], made.images)
    assert more.is_test[:30].tolist() == made.is_test.tolist()
    assert more.identities[:6] == made.identities


@pytest.mark.parametrize(
    "change", [{"num_identities": 7}, {"images_per_identity": 6}, {"pairs_per_fold": 10}, {"seed": 4}]
)
def test_the_identity_changes_with_what_changes_the_faces(change: dict[str, int]) -> None:
    assert replace(SOURCE, **change).identity() != SOURCE.identity()  # type: ignore[arg-type]
    assert replace(SOURCE, name="shown by another name").identity() == SOURCE.identity()


def test_another_version_of_the_renderer_is_another_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    before = SOURCE.identity()
    monkeypatch.setattr(synthetic, "RENDERER_VERSION", synthetic.RENDERER_VERSION + 1)
    assert SOURCE.identity() != before


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_no_generator_takes_is_refused(seed: int) -> None:
    with pytest.raises(DataError, match=rf"data\.seed={seed} must lie in 0 … 2\^63 − 1"):
        replace(SOURCE, seed=seed)


class Inline:
    """A pool without processes."""

    def __init__(self, workers: int, **_: Any) -> None:
        pass

    def __enter__(self) -> "Inline":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, function: Callable[..., Any], *values: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*values))
        return future


@pytest.mark.parametrize("alone", [0, 2**20])
@pytest.mark.parametrize("start", [0, 1, 63, 64, 70, 79, 80])
def test_rendering_resumes_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: int, alone: int) -> None:
    def keep(path: Path, count: int, size: int, make: Callable[[int], Batches], description: str) -> None:
        makers.append(make)

    def render(seed: int, people: NDArray[np.int64], samples: NDArray[np.int64], size: int) -> Any:
        images = np.stack([people, samples], 1).astype(np.uint8)
        return SimpleNamespace(images=images, landmarks=people * 2)

    makers: list[Callable[[int], Batches]] = []
    monkeypatch.setattr(rendering, "open_or_make", keep)
    monkeypatch.setattr(synthetic, "render_faces", render)
    monkeypatch.setattr(rendering, "ProcessPoolExecutor", Inline)
    monkeypatch.setattr(rendering, "_ALONE", alone)
    people, samples = np.arange(80), np.arange(80)[::-1].copy()
    SyntheticFaces("synthetic", 2, 2, 2, 0)._stored(people, samples, 8, tmp_path, "faces")
    ends, images, columns = zip(*makers[0](start), strict=True)
    assert ends[-1] == 80
    assert np.diff([start, *ends]).tolist() == [len(batch) for batch in images]
    assert np.concatenate(images).tolist() == np.stack([people, samples], 1)[start:].tolist()
    assert np.concatenate([batch["landmarks"] for batch in columns]).tolist() == (people[start:] * 2).tolist()


def test_renderers_end_with_the_process_that_was_killed(tmp_path: Path) -> None:
    """They share its output, which ends when the last of them does."""
    path = tmp_path / "render.py"
    path.write_text(
        "from pathlib import Path\n"
        "from facedistill.data.sources.synthetic import SyntheticFaces\n"
        "if __name__ == '__main__':\n"
        f"    SyntheticFaces('synthetic', 500, 100, 8, 0).faces(48, Path({str(tmp_path)!r}))\n"
    )
    with subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        end = time.monotonic() + 60
        while not [part for part in tmp_path.glob("*.part") if part.stat().st_size > 128]:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.05)
        process.kill()
        process.communicate(timeout=30)
