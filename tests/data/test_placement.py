"""Where faces lie, of rendered faces that are aligned, moved, small and absent; and what doctor and compress say."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facedistill.data import placement
from facedistill.data.__main__ import main
from facedistill.data.files.alignment import align
from facedistill.data.placement import FARTHEST, judge_placement, placement_of
from facedistill.data.sources.photos import Photos
from facedistill.data.synthetic.render import render_faces

COUNT = 8
RENDERED = render_faces(0, np.arange(COUNT), np.zeros(COUNT, np.int64), 112)


def write(root: Path, shown: str) -> Path:
    """Squares of 112 pixels: of ``aligned`` faces, of such, 20 pixels ``down``, of ``bodies``, of ``nobody``."""
    root.mkdir()
    for number, (image, points) in enumerate(zip(RENDERED.images, RENDERED.landmarks, strict=True)):
        square = Image.fromarray(align(Image.fromarray(image), points, 112))
        grey = Image.new("RGB", square.size, (110, 110, 110))
        if shown == "down":
            grey.paste(square, (0, 20))
        elif shown == "bodies":
            grey.paste(square.resize((30, 30)), (41, 0))
        (square if shown == "aligned" else grey).save(root / f"{number}.png")
    return root


def source(root: Path) -> Photos:
    return Photos("photos", str(root), "none", None, None, False, 0.3, "skip")


def test_aligned_faces_lie_where_recognizers_expect_them(tmp_path: Path) -> None:
    of = source(write(tmp_path / "faces", "aligned"))
    found = placement_of(of, len(of.inventory(tmp_path / "cache").labels))
    assert (found.images, found.found) == (COUNT, COUNT)
    assert found.distance < 0.25
    assert found.complaint is None
    assert str(found).startswith("faces in 8 of 8 images, 0.")


def test_the_distance_is_in_eye_distances(tmp_path: Path) -> None:
    """20 pixels are 0.57 of the 35.2 between the template's eyes."""
    of = source(write(tmp_path / "faces", "down"))
    found = placement_of(of, len(of.inventory(tmp_path / "cache").labels))
    assert found.distance == pytest.approx(20 / 35.2, abs=0.12)


@pytest.mark.parametrize("shown", ["down", "bodies", "nobody"])
def test_a_recognizer_is_of_no_use_elsewhere(tmp_path: Path, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = write(tmp_path / "faces", shown)
    words = ["data=photos", f"data.root={root}", f"cache_dir={tmp_path}/cache", f"sheet={tmp_path}/sheet.png"]
    status = main([*words, "data.alignment=none", "data.test_share=0.3"])
    last = capsys.readouterr().out.splitlines()[-1]
    assert status == 1
    assert last.startswith("It can't be trained on: faces in ")
    assert "recognizers fail on such images. data.alignment=detect finds the faces" in last


def test_the_doctor_says_where_aligned_faces_lie(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write(tmp_path / "faces", "aligned")
    words = ["data=photos", f"data.root={root}", f"cache_dir={tmp_path}/cache", f"sheet={tmp_path}/sheet.png"]
    assert main([*words, "data.alignment=none", "data.test_share=0.3"]) == 0
    assert "  alignment                    faces in 8 of 8 images, 0." in capsys.readouterr().out


def test_faces_in_less_than_half_are_too_few_and_what_is_broken_does_not_count(tmp_path: Path) -> None:
    root = write(tmp_path / "faces", "aligned")
    for number in range(3):
        (root / f"{number}.png").write_bytes(b"broken" + bytes(number))
    for number in range(3, 6):
        Image.new("RGB", (112, 112), (number, 0, 0)).save(root / f"{number}.png")
    of = source(root)
    found = placement_of(of, len(of.inventory(tmp_path / "cache").labels))
    assert (found.images, found.found) == (5, 2)
    assert found.distance < FARTHEST
    assert found.complaint is not None


def test_without_a_detector_nothing_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "is_there", lambda: False)
    of = source(write(tmp_path / "faces", "nobody"))
    assert "pip install 'facedistill[photos]', or look at the sheet" in judge_placement(of, COUNT)
