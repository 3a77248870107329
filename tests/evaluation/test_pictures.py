"""Pictures of a run are drawn whatever the names in them."""

import os
import warnings
from pathlib import Path

import numpy as np

from facedistill.evaluation.pictures import curves, identified, save_pictures


def test_names_that_are_not_text_are_drawn(tmp_path: Path) -> None:
    names = [os.fsdecode(b"Jos\xe9"), "$a$ \x1b[31m\n\u202e", "[red] \U0001f600"]
    faces = np.zeros((3, 24, 24, 3), np.uint8)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        save_pictures({"samples": identified(faces, names, names[::-1])}, tmp_path)
        row = {"epoch": 0, "train/loss": 1.0, "test/top1": 1.0}
        save_pictures({"curves": curves([row], "top1", names[0] + "$a_{")}, tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {"samples.png", "curves.png"}


def test_curves_are_of_the_epochs_that_were_scored() -> None:
    rows = [{"epoch": epoch, "train/loss": 3.0 - epoch} for epoch in range(3)]
    [losses] = curves(rows, "top1", "never scored").axes
    assert losses.lines[0].get_xydata().tolist() == [[1, 3], [2, 2], [3, 1]]
    rows[1]["test/top1"] = 60.0
    _, scores = curves(rows, "top1", "scored once").axes
    assert scores.lines[0].get_xydata().tolist() == [[2, 60]]
