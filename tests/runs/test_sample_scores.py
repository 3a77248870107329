"""The file of what a run said of every sample: it comes back, and a damaged or hostile one is none."""

import os
from pathlib import Path

import numpy as np
import pytest

from facedistill.runs import sample_scores
from facedistill.runs.sample_scores import SAMPLE_SCORES, SampleScores

KEPT = SampleScores(
    score=np.array([100, 0, 3.25], np.float32),
    similarity=np.array([0.5, -0.25], np.float32),
    same=np.array([True, False], np.bool_),
    identity=np.array([4, 4, 7]),
)


def test_it_comes_back_and_has_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        KEPT.save(tmp_path / name)
    found = SampleScores.read(tmp_path / "one")
    assert found is not None
    for name, part in found._asdict().items():
        assert np.array_equal(part, getattr(KEPT, name))
        assert part.dtype == getattr(KEPT, name).dtype
    assert (tmp_path / "one" / SAMPLE_SCORES).read_bytes() == (tmp_path / "other" / SAMPLE_SCORES).read_bytes()


def test_no_file_is_none(tmp_path: Path) -> None:
    assert SampleScores.read(tmp_path) is None


def test_a_file_without_identities_has_one_for_every_sample(tmp_path: Path) -> None:
    KEPT.save(tmp_path)
    parts = {name: np.asarray(part) for name, part in KEPT._asdict().items() if name != "identity"}
    np.savez_compressed((tmp_path / SAMPLE_SCORES).open("wb"), **parts)
    found = SampleScores.read(tmp_path)
    assert found is not None
    assert found.identity.tolist() == [0, 1, 2]
    assert found.identity.dtype == np.int64


def broken(path: Path, fault: str) -> None:
    parts = {name: np.asarray(part) for name, part in KEPT._asdict().items()}
    match fault:
        case "cut":
            path.write_bytes(path.read_bytes()[:-40])
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("no zip")
        case "a part is missing":
            np.savez(path.open("wb"), score=parts["score"])
        case "pickled":
            np.savez(path.open("wb"), **{**parts, "score": np.array([{}], object)}, allow_pickle=True)
        case "another type":
            np.savez(path.open("wb"), **{**parts, "score": np.array(["a"])})
        case "two dimensions":
            np.savez(path.open("wb"), **{**parts, "score": np.zeros((2, 2), np.float32)})
        case "pairs of two lengths":
            np.savez(path.open("wb"), **{**parts, "same": np.zeros(3, bool)})
        case "identities of other samples":
            np.savez(path.open("wb"), **{**parts, "identity": np.arange(4)})
        case "identities are no numbers":
            np.savez(path.open("wb"), **{**parts, "identity": np.array(["a", "b", "c"])})
        case "not finite":
            np.savez(path.open("wb"), **{**parts, "score": np.array([np.nan], np.float32)})
        case "a pipe":
            path.unlink()
            os.mkfifo(path)
        case "a folder":
            path.unlink()
            path.mkdir()


@pytest.mark.parametrize(
    "fault",
    [
        *("cut", "empty", "text", "a part is missing", "pickled", "another type", "two dimensions"),
        *(
            "pairs of two lengths",
            "identities of other samples",
            "identities are no numbers",
            "not finite",
            "a pipe",
            "a folder",
        ),
    ],
)
def test_a_damaged_file_is_none(tmp_path: Path, fault: str) -> None:
    KEPT.save(tmp_path)
    broken(tmp_path / SAMPLE_SCORES, fault)
    assert SampleScores.read(tmp_path) is None


def test_a_file_that_inflates_to_more_than_any_run_has_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = np.zeros(10_000, np.float32)
    SampleScores(zeros, zeros[:0], np.zeros(0, bool), np.zeros(10_000, np.int64)).save(tmp_path)
    assert (tmp_path / SAMPLE_SCORES).stat().st_size < 2_000
    assert SampleScores.read(tmp_path) is not None
    monkeypatch.setattr(sample_scores, "MOST", 120_000)  # bytes, of which headers take some
    assert SampleScores.read(tmp_path) is None
