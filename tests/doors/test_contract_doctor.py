"""The doctor for recognizers: which contract one fits, from words to a table."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from facedistill.evaluate import main, recognizer
from facedistill.training.contract_check import given_by

NET = ["weights=net.safetensors", "model.name=test_resnet", "model.features=16", "contract=arcface"]


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of a recognizer that knows nothing, and 50 faces without labels."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=16).state_dict(), "net.safetensors")
    draw = np.random.default_rng(0)
    Path("faces").mkdir()
    for number in range(50):
        Image.fromarray(draw.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(f"faces/{number}.png")
    return ["doctor=true", *NET, "faces=faces", "data.alignment=none", "cache_dir=cache"]


@pytest.mark.slow
def test_it_prints_what_every_contract_scores_and_words_for_the_best(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("facedistill.evaluation.contracts.SIZES", (56, 112))
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "pairs without labels: two views of one face, or of two; best first" in said
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.splitlines() if line.startswith("│")]
    assert sum("given" in row[-1] for row in rows) == 1
    assert {row[0] for row in rows} == {"rgb", "bgr"}
    for *_, right, wilson, _, _ in rows:
        low, high = map(float, wilson.split(" … "))
        assert low <= float(right) <= high
    best = re.search(r"^The best: (.*)$", said, re.MULTILINE)
    if best is None:
        assert "The contract that was given fits best." in said
    else:
        own = [word for word in words if word.partition("=")[0] not in ("doctor", "weights", "faces")]
        file, config = recognizer("net.safetensors", ["data=photos", "data.root=faces", *own, *shlex.split(best[1])])
        first = given_by(file, config.image)
        assert [first.colour, str(first.size), f"{first.crop:g}"] == [rows[0][0], *rows[0][2:4]]
    assert main(words) == 0
    assert capsys.readouterr().out == said, "the same numbers every time"


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        ("faces", "faces to try contracts on: protocol=lfw root=LFW, or faces=FOLDER"),
        ("weights", "doctor=true weights=FILE, the file of a recognizer"),
    ],
)
def test_what_it_needs_is_named(words: list[str], taken: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word for word in words if not word.startswith(f"{taken}=")]) == 2
    assert said in capsys.readouterr().err


def test_a_few_faces_tell_nothing(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4, 50):
        Path(f"faces/{number}.png").unlink()
    assert main([*words, "data.test_share=0.2"]) == 2  # of four one is held out
    assert re.search(r"data=photos gives \d pairs, too few to tell contracts apart", capsys.readouterr().err)


@pytest.mark.slow
def test_edgeface_is_put_right(real_faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = real_faces / "teachers" / "edgeface_xs.safetensors"
    own = [f"weights={file}", "model.name=edgenext_x_small", "model.features=512", "contract=edgeface"]
    wrong = ["teacher.contract.colour=bgr", "teacher.contract.size=80"]
    pairs = ["protocol=lfw", f"root={real_faces}/lfw", f"cache_dir={tmp_path}"]
    assert main(["doctor=true", *own, *wrong, *pairs]) == 0
    assert "The best: teacher.contract.size=112 teacher.contract.colour=rgb\n" in capsys.readouterr().out
