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
