"""What similarities, logits and thresholds mean."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from facedistill.errors import ConfigError, WeightsError
from facedistill.predict.answers import (
    DIFFERENT,
    SAME,
    Remarks,
    Threshold,
    likely_names,
    names_line,
    no_threshold,
    similarities,
)
from facedistill.predict.faces import NoFace
from facedistill.runs.exported import Exported
from made_exports import made_export


def test_a_similarity_equal_to_the_threshold_is_the_same_person() -> None:
    cosine = float(similarities(np.array([[1, 0], [0.6, 0.8]], np.float32))[0, 1])
    assert Threshold(0.6).verdict(cosine) == SAME
    assert Threshold(0.600002).verdict(cosine) == DIFFERENT
    assert Threshold(0.599998).verdict(cosine) == SAME
    assert Threshold(1.0).verdict(float(similarities(np.full((2, 7), 0.1, np.float32))[0, 1])) == SAME


def test_similarities_are_cosines_whatever_the_lengths() -> None:
    rows = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32) * [[1], [2], [3], [40], [0.01]]
    for i, one in enumerate(rows.tolist()):
        for j, other in enumerate(rows.tolist()):
            dot = math.fsum(a * b for a, b in zip(one, other, strict=True))
            assert similarities(rows)[i, j] == pytest.approx(dot / math.hypot(*one) / math.hypot(*other))
    assert similarities(np.zeros((2, 3), np.float32)).tolist() == [[0, 0], [0, 0]]


def test_the_likeliest_names_come_with_their_probabilities() -> None:
    logits = np.array([1000, 1001, 998, 1002], np.float32)
    likely = likely_names(logits, ["a", "b", "c", "d"])
    assert [name for name, _ in likely] == ["d", "b", "a"]
    whole = 1 + math.exp(-1) + math.exp(-2) + math.exp(-4)
    assert [share for _, share in likely] == pytest.approx([1 / whole, math.exp(-1) / whole, math.exp(-2) / whole])
    assert names_line([("Ann", 0.875), ("Bob", 0.1)]) == "Ann 87.5 %, Bob 10.0 %"
    assert len(likely_names(logits[:2], ["a", "b"])) == 2


def exported(tmp_path: Path, thresholds: dict[str, float]) -> Exported:
    return Exported.read(made_export(tmp_path / "made", thresholds=thresholds))


@pytest.mark.parametrize(
    ("thresholds", "far", "value", "rate"),
    [
        ({"0.01": 0.4, "0.001": 0.6, "0.0001": 0.7}, None, 0.6, 1e-3),
        ({"1e-2": 0.4, "1e-4": 0.7}, None, 0.7, 1e-4),
        ({"0.01": 0.4, "0.001": 0.6}, 1e-2, 0.4, 1e-2),
    ],
)
def test_the_threshold_is_that_of_the_rate(
    thresholds: dict[str, float], far: float | None, value: float, rate: float, tmp_path: Path
) -> None:
    found = Threshold.of_export(exported(tmp_path, thresholds), None, far)
    assert found is not None
    assert (found.value, found.far, found.of) == (value, rate, "600 made pairs")


def test_a_threshold_that_a_person_names_wins(tmp_path: Path) -> None:
    assert Threshold.of_export(exported(tmp_path, {"0.001": 0.6}), 0.25, None) == Threshold(0.25)
    assert Threshold(0.25).meaning(0.3) == ""


def test_an_export_without_thresholds_has_none(tmp_path: Path) -> None:
    assert Threshold.of_export(exported(tmp_path, {}), None, None) is None


@pytest.mark.parametrize(
    ("thresholds", "far", "kind", "said"),
    [
        ({"0.01": 0.4, "0.001": 0.6}, 1e-5, ConfigError, "far=1e-05: made has thresholds for 0.001, 0.01"),
        ({}, 1e-3, ConfigError, "made has no threshold.*pairs=FOLDER"),
        ({"often": 0.4}, None, WeightsError, "rates that are no numbers"),
        ({"-1": 0.4}, None, WeightsError, "rates that are none"),
        ({"nan": 0.4}, None, WeightsError, "rates that are none"),
    ],
)
def test_a_rate_that_is_not_there_is_refused(
    thresholds: dict[str, float], far: float | None, kind: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=said):
        Threshold.of_export(exported(tmp_path, thresholds), None, far)


@pytest.mark.parametrize(
    ("far", "tar", "similarity", "words"),
    [
        (1e-3, 97.1, 0.7, "Of 1,000 pairs of two people at most 1 is this similar (on LFW)."),
        (1e-4, None, 0.7, "Of 10,000 pairs of two people at most 1 is this similar (on LFW)."),
        (3e-3, None, 0.7, "Of 1,000 pairs of two people at most 3 are this similar (on LFW)."),
        (0.1, None, 0.7, "Of 100 pairs of two people at most 10 are this similar (on LFW)."),
        (1e-3, 97.1, 0.2, "Of 100 pairs of one person 97.1 reach the threshold (on LFW)."),
        (1e-3, None, 0.2, "Of 1,000 pairs of two people at most 1 reaches the threshold (on LFW)."),
    ],
)
def test_what_a_verdict_means_is_said_in_words(far: float, tar: float | None, similarity: float, words: str) -> None:
    assert Threshold(0.5, far, tar, "LFW").meaning(similarity) == words


def test_of_many_photos_that_are_left_out_some_are_named_and_all_are_counted() -> None:
    remarks = Remarks()
    for number in range(7):
        remarks.leave_out(NoFace(f"{number}.jpg: no face"))
    remarks.add("several", "8.jpg shows 2 faces")
    lines = remarks.summary()
    assert lines[:5] == [f"{number}.jpg: no face" for number in range(5)]
    assert lines[5:] == ["8.jpg shows 2 faces", "and 2 more such photos", "left out: 7 without a face"]
    assert remarks.left_out == 7
    assert Remarks().summary() == []


def test_an_export_without_a_threshold_says_what_helps() -> None:
    square = SimpleNamespace(input=SimpleNamespace(height=112, width=112))
    bands = SimpleNamespace(input=SimpleNamespace(height=48, width=128))
    assert no_threshold(square).endswith("export it again with pairs=FOLDER, or threshold=0.3")  # type: ignore[arg-type]
    assert no_threshold(bands).endswith("the same person: threshold=0.3")  # type: ignore[arg-type]
