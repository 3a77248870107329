"""Landmarks in a csv: data sets written here, intact and damaged, and the real one if it is available."""

import csv
import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.faces import FaceSet
from facedistill.data.files.alignment import ARCFACE_TEMPLATE
from facedistill.data.loading.augment import Augmentation
from facedistill.data.loading.view_schedule import EVAL_VIEW
from facedistill.data.loading.views import Views
from facedistill.data.sources.mtfl import SCALE, SHIFT, SIDE, Mtfl, box_around
from facedistill.errors import DataError

SIZE = 32
POINTS = ["leye_x", "leye_y", "reye_x", "reye_y", "nose_x", "nose_y", "lmouth_x", "lmouth_y", "rmouth_x", "rmouth_y"]
COLUMNS = ["split", "source", "file", "width", "height", *POINTS]
SPLITS = ["train", "train", "test_b", "train", "test_a", "test_b", "train", "train"]
WIDTH, HEIGHT = 90, 70


def face(number: int) -> NDArray[np.float64]:
    return np.round(ARCFACE_TEMPLATE / 3 + [number + 10, number / 2 + 8], 2)


def row(number: int, **changed: object) -> dict[str, object]:
    values = dict(zip(POINTS, face(number).ravel().tolist(), strict=True))
    own = {"split": SPLITS[number], "source": "AFLW", "file": f"{number}.png", "width": WIDTH, "height": HEIGHT}
    return own | values | changed


def write_rows(root: Path, rows: list[dict[str, object]], columns: list[str] = COLUMNS) -> None:
    with (root / "annotations.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Eight images; a white dot of 3 × 3 pixels is about every landmark, brightness says which image."""
    root = tmp_path / "mtfl"
    (root / "images").mkdir(parents=True)
    for number in range(len(SPLITS)):
        Image.new("RGB", (WIDTH, HEIGHT), (10 + 30 * number,) * 3).save(root / "images" / f"{number}.png")
    write_rows(root, [row(number) for number in range(len(SPLITS))])
    return root


def source(root: Path, on_error: str = "raise", box: str = "landmarks") -> Mtfl:
    return Mtfl("mtfl", str(root), "annotations.csv", "images", box, on_error)


def read(root: Path, on_error: str = "raise", box: str = "landmarks", size: int = SIZE) -> FaceSet:
    return source(root, on_error, box).faces(size, root.parent / "cache")


def numbers(faces: FaceSet) -> list[int]:
    """Which of the images these are."""
    return [round((int(image[SIZE // 2, SIZE // 2, 0]) - 10) / 30) for image in faces.images]


def of_original(faces: FaceSet, size: int = SIZE) -> NDArray[np.float64]:
    assert faces.landmarks is not None
    assert faces.crop_boxes is not None
    corner, side = faces.crop_boxes[:, None, :2].astype(float), faces.crop_boxes[:, None, 2:].astype(float)
    return corner + (faces.landmarks.astype(float) + 0.5) * side / size - 0.5


def refused(root: Path, *said: str, on_error: str = "raise") -> None:
    with pytest.raises(DataError) as refusal:
        read(root, on_error)
    missing = [word for word in said if word not in str(refusal.value)]
    assert not missing, refusal.value


def test_images_split_subsets_and_counts(root: Path) -> None:
    faces = read(root)
    assert numbers(faces) == list(range(8))
    assert faces.is_test.tolist() == [split != "train" for split in SPLITS]
    assert {name: part.tolist() for name, part in faces.subsets.items()} == {"test_a": [4], "test_b": [2, 5]}
    assert faces.labels.tolist() == [0] * 8
    assert faces.identities == []
    assert faces.pairs is None
    assert faces.counts == {"images": 8, "identities": 0, "skipped": 0, "listed_images_not_there": 0}
    assert faces.landmarks is not None
    assert faces.crop_boxes is not None
    assert (faces.landmarks.dtype, faces.landmarks.shape) == (np.float32, (8, 5, 2))
    assert (faces.crop_boxes.dtype, faces.crop_boxes.shape) == (np.float32, (8, 3))


@pytest.mark.parametrize("box", ["landmarks", "image"])
@pytest.mark.parametrize("size", [24, 32, 100])
def test_crop_boxes_lead_back_to_the_original(root: Path, box: str, size: int) -> None:
    expected = np.stack([face(number) for number in range(8)])
    np.testing.assert_allclose(of_original(read(root, box=box, size=size), size), expected, atol=1e-5)


@pytest.mark.parametrize("box", ["landmarks", "image"])
def test_the_stored_image_is_that_square(root: Path, box: str) -> None:
    """A bright dot on the nose of the original is on the nose that is stored."""
    for number in range(8):
        x, y = face(number)[2]
        down, across = np.mgrid[:HEIGHT, :WIDTH]
        dot = 255 * np.exp(-((across - x) ** 2 + (down - y) ** 2) / 8)
        Image.fromarray(dot.astype(np.uint8)).convert("RGB").save(root / "images" / f"{number}.png")
    faces = read(root, box=box, size=90)
    assert faces.landmarks is not None
    down, across = np.mgrid[:90, :90]
    for image, (x, y) in zip(faces.images[..., 0].astype(float), faces.landmarks[:, 2], strict=True):
        found = [(image * across).sum() / image.sum(), (image * down).sum() / image.sum()]
        assert np.abs(np.array(found) - [x, y]).max() < 0.2


def test_the_whole_image_is_padded_to_a_square(root: Path) -> None:
    faces = read(root, box="image", size=WIDTH)
    assert faces.crop_boxes is not None
    assert faces.crop_boxes.tolist() == [[0, (HEIGHT - WIDTH) / 2, WIDTH]] * 8
    for number, image in enumerate(faces.images):
        assert image[:10].max() == image[-10:].max() == 0
        assert (image[10:-10] == 10 + 30 * number).all()


def test_the_box_is_around_the_landmarks_and_jittered(root: Path) -> None:
    points = face(0)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2 + 0.5
    side = SIDE * (points.max(axis=0) - points.min(axis=0)).max()
    boxes = np.array([box_around(points, f"{number}.jpg") for number in range(2000)])
    shifts = (boxes[:, :2] + boxes[:, 2:] / 2 - middle) / side
    scales = boxes[:, 2] / side
    for values, most in [(shifts[:, 0], SHIFT), (shifts[:, 1], SHIFT), (scales - 1, SCALE)]:
        assert np.abs(values).max() <= most + 1e-9
        assert np.abs(values).max() > 0.99 * most
        np.testing.assert_allclose(np.quantile(values, [0.25, 0.5, 0.75]), [-most / 2, 0, most / 2], atol=most / 12)
    assert np.abs(np.corrcoef([*shifts.T, scales]) - np.eye(3)).max() < 0.08


def test_the_box_depends_on_name_and_points_only() -> None:
    digest = hashlib.sha256("é 1.jpg".encode()).digest()
    right, down, larger = (int.from_bytes(digest[8 * i : 8 * i + 8], "big") / 2**64 * 2 - 1 for i in range(3))
    side = SIDE * (92.3655 - 51.5014)  # of the template: from the upper eye to the lower mouth corner
    x, y = (38.2946 + 73.5318) / 2 + 0.5, (51.5014 + 92.3655) / 2 + 0.5
    grown = side * (1 + SCALE * larger)
    expected = [x + SHIFT * right * side - grown / 2, y + SHIFT * down * side - grown / 2, grown]
    assert box_around(ARCFACE_TEMPLATE, "é 1.jpg") == pytest.approx(expected, abs=1e-9)
    assert box_around(ARCFACE_TEMPLATE * 2, "é 1.jpg")[2] == pytest.approx(2 * grown)


def test_other_rows_do_not_move_a_box(root: Path) -> None:
    before = read(root)
    write_rows(root, [row(number) for number in (5, 2, 0, 1)])
    after = read(root)
    assert numbers(after) == [5, 2, 0, 1]
    assert before.crop_boxes is not None
    assert after.crop_boxes is not None
    np.testing.assert_array_equal(after.crop_boxes, before.crop_boxes[[5, 2, 0, 1]])


# what row 3 (line 5) becomes, what is said of it
BAD: dict[str, tuple[dict[str, object], str]] = {
    "no number": ({"nose_x": "x"}, "a coordinate is not a number"),
    "no value": ({"nose_x": ""}, "a coordinate is not a number"),
    "NaN": ({"nose_x": "nan"}, "not finite"),
    "infinite": ({"nose_x": "inf"}, "not finite"),
    "beyond the left": ({"leye_x": -0.51}, "the left eye (-0.51, "),
    "beyond the bottom": ({"rmouth_y": HEIGHT - 0.4}, "the right mouth corner"),
    "absurdly far": ({"nose_y": "1e300"}, f"is outside of the image of {WIDTH}×{HEIGHT} pixels"),
    "both eyes at one point": ({"leye_x": 30, "leye_y": 20, "reye_x": 30.2, "reye_y": 20}, "both eyes are at one"),
    "left and right swapped": ({"leye_x": 40, "reye_x": 20, "lmouth_x": 40, "rmouth_x": 22}, "left is left in the"),
    "no split": ({"split": " "}, "the split is empty"),
    "another file's name": ({"file": "2.png"}, "a second row for 2.png"),
    "another width": ({"width": 91}, f"3.png: {WIDTH}×{HEIGHT} pixels, not 91×{HEIGHT}"),
    "a width of letters": ({"width": "wide"}, "width or height is not a whole number"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_row_is_named_or_left_out(root: Path, kind: str) -> None:
    changed, said = BAD[kind]
    write_rows(root, [row(number, **(changed if number == 3 else {})) for number in range(8)])
    for _ in range(2):
        refused(root, f"{root / 'annotations.csv'}, line 5:", said, "data.on_error=skip")
    faces = read(root, "skip")
    # if a file has two rows, both could be wrong
    left = [0, 1, 4, 5, 6, 7] if kind == "another file's name" else [0, 1, 2, 4, 5, 6, 7]
    assert numbers(faces) == left
    counts = {"images": len(left), "identities": 0, "skipped": 1, "listed_images_not_there": 0}
    assert faces.counts == counts
    np.testing.assert_allclose(of_original(faces), np.stack([face(number) for number in left]), atol=1e-5)
    assert faces.is_test.tolist() == [SPLITS[number] != "train" for number in left]
    assert {n: [left[i] for i in part] for n, part in faces.subsets.items()} == {
        "test_a": [4],
        "test_b": [5] if 2 not in left else [2, 5],
    }
    # although the store was filled with on_error=skip
    refused(root, f"{root / 'annotations.csv'}, line 5:", said)


@pytest.mark.parametrize(("more", "said"), [(",7", "16 values for the 15 columns"), (None, "14 values for the 15")])
def test_a_row_of_another_length_is_named_or_left_out(root: Path, more: str | None, said: str) -> None:
    lines = (root / "annotations.csv").read_text().splitlines()
    lines[4] = lines[4] + more if more else lines[4].rpartition(",")[0]
    (root / "annotations.csv").write_text("\n".join(lines))
    refused(root, f"{root / 'annotations.csv'}, line 5:", said)
    faces = read(root, "skip")
    assert numbers(faces) == [0, 1, 2, 4, 5, 6, 7]
    assert faces.counts["skipped"] == 1


@pytest.mark.parametrize("column", ["split", "file", "width", "nose_y"])
def test_a_missing_column_is_named(root: Path, column: str) -> None:
    write_rows(root, [row(number) for number in range(8)], [name for name in COLUMNS if name != column])
    for on_error in ("raise", "skip"):
        refused(root, f"{root / 'annotations.csv'}, line 1: no column {column}", on_error=on_error)


def test_a_broken_image_is_named_or_left_out(root: Path) -> None:
    (root / "images" / "3.png").write_bytes(b"")
    refused(root, f"{root / 'annotations.csv'}, line 5: {root / 'images' / '3.png'} is empty", "on_error=skip")
    assert numbers(read(root, "skip")) == [0, 1, 2, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no column split"),
        (b"\xff\xd8\x00" * 100, "no column split"),
        (b"a" * 5000, "line 1: longer than"),
        (",".join(COLUMNS).encode() + b"\n" + b"a" * 5000, "line 2: longer than"),
        (",".join(COLUMNS).encode() + b'\n"' + b"a\n" * 100_000, "field larger than field limit"),
        (",".join(COLUMNS).encode(), "no usable row"),
    ],
    ids=["empty", "an image", "one long line", "a long line", "an open quote", "no rows"],
)
def test_a_file_that_is_not_such_a_csv(root: Path, content: bytes, said: str) -> None:
    (root / "annotations.csv").write_bytes(content)
    refused(root, said, on_error="raise")
    refused(root, said, on_error="skip")


@pytest.mark.parametrize("ending", ["\r\n", "\n\n"])
def test_other_ways_to_write_the_csv(root: Path, ending: str) -> None:
    before = read(root)
    text = (root / "annotations.csv").read_text()
    (root / "annotations.csv").write_bytes(("\ufeff" + text.replace("\n", ending)).encode())
    after = read(root)
    np.testing.assert_array_equal(after.images, before.images)
    assert after.landmarks is not None
    np.testing.assert_array_equal(after.landmarks, before.landmarks)


def test_other_columns_and_another_order_of_them_are_ignored(root: Path) -> None:
    before = read(root)
    write_rows(root, [row(number, age=number) for number in range(8)], ["age", *COLUMNS[::-1]])
    np.testing.assert_array_equal(read(root).images, before.images)


@pytest.mark.parametrize(("split", "said"), [("train", "a split other than train"), ("test", "split train")])
def test_one_split_alone_is_refused(root: Path, split: str, said: str) -> None:
    write_rows(root, [row(number, split=split) for number in range(8)])
    refused(root, str(root / "annotations.csv"), f"no usable row of {said}")


def test_a_root_that_is_missing_a_file_or_incomplete(root: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", f"data.root={tmp_path / 'nowhere'} does not exist")
    with zipfile.ZipFile(tmp_path / "mtfl.zip", "w") as file:
        file.write(root / "annotations.csv")
    refused(
        tmp_path / "mtfl.zip",
        f"data.root={tmp_path / 'mtfl.zip'} is an archive",
        f"`unzip '{tmp_path / 'mtfl.zip'}' -d '{tmp_path / 'mtfl'}'`",
    )
    (root / "images").rename(root / "photos")
    refused(root, f"data.root={root} holds no folder images")
    (root / "annotations.csv").unlink()
    refused(root, str(root / "annotations.csv"), "does not exist", "data.annotations=FILE")
    with pytest.raises(DataError, match=r"data\.annotations=FILE"):  # when planned, not only when read
        source(root).identity()


@pytest.mark.parametrize(("on_error", "box"), [("ignore", "image"), ("raise", "face")])
def test_settings_that_make_no_sense(root: Path, on_error: str, box: str) -> None:
    with pytest.raises(DataError, match=r"data\.(on_error=ignore.*raise, skip|box=face.*landmarks, image)"):
        source(root, on_error, box)


def test_the_identity_is_that_of_the_files_on_any_path(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "copy")
    assert source(tmp_path / "copy").identity() == source(root).identity()
    assert source(root, box="image").identity() != source(root).identity()


def other_csv(root: Path) -> None:
    write_rows(root, [row(number, **({"nose_x": 30} if number == 3 else {})) for number in range(8)])


def other_image(root: Path) -> None:
    path = root / "images" / "3.png"
    path.write_bytes(path.read_bytes() + b"\0")


@pytest.mark.parametrize("act", [other_csv, other_image])
def test_the_identity_changes_with_what_is_read(root: Path, act: Callable[[Path], None]) -> None:
    before = source(root).identity()
    act(root)
    assert source(root).identity() != before


def test_changed_annotations_and_images_are_read_again(root: Path) -> None:
    before = read(root)
    other_csv(root)
    after = read(root)
    assert before.landmarks is not None
    assert after.landmarks is not None
    assert (before.landmarks[3] != after.landmarks[3]).any()
    Image.new("RGB", (WIDTH, HEIGHT), (10 + 30 * 6,) * 3).save(root / "images" / "0.png")
    os.utime(root / "images" / "0.png", ns=(1, 1))
    assert numbers(read(root))[0] == 6


def test_a_store_with_the_columns_of_another_version_is_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facedistill.data.sources.photo_source._STORE_FORMAT", 1)
    read(root)
    monkeypatch.undo()
    read(root)
    assert len(list((root.parent / "cache").glob("*.npz"))) == 2


def test_the_real_images(tmp_path: Path, real_faces: Path) -> None:
    real = real_faces / "mtfl"
    assert source(real).identity()["images"] == 15_022
    with (real / "annotations.csv").open() as file:
        header, *rows = file.readlines()
    splits = [line.partition(",")[0] for line in rows]
    assert {split: splits.count(split) for split in set(splits)} == {
        "train": 10_000,
        "test_sun": 2027,
        "test_aflw": 2995,
    }
    (tmp_path / "mtfl").mkdir()
    (tmp_path / "mtfl" / "images").symlink_to(real / "images")
    (tmp_path / "mtfl" / "annotations.csv").write_text(
        header + "".join(rows[::16])
    )  # all of them would take half a minute
    faces = read(tmp_path / "mtfl")
    assert faces.counts == {"images": 939, "identities": 0, "skipped": 0, "listed_images_not_there": 0}
    assert len(faces.train) == splits[::16].count("train")
    assert {name: len(part) for name, part in faces.subsets.items()} == {
        name: splits[::16].count(name) for name in ("test_sun", "test_aflw")
    }
    assert faces.landmarks is not None
    assert faces.landmarks.min() > -0.5
    assert faces.landmarks.max() < SIZE - 0.5  # the box holds every landmark


def test_a_mirrored_real_face_has_its_landmarks_on_the_same_pixels(tmp_path: Path, real_faces: Path) -> None:
    real = real_faces / "mtfl"
    (tmp_path / "mtfl").mkdir()
    (tmp_path / "mtfl" / "images").symlink_to(real / "images")
    with (real / "annotations.csv").open() as file:
        header, *rows = file.readlines()
    (tmp_path / "mtfl" / "annotations.csv").write_text(header + "".join(rows[::500]))
    faces, crop, mirrored = read(tmp_path / "mtfl"), SIZE - 8, 0
    assert faces.landmarks is not None
    for index, (image, landmarks) in enumerate(zip(faces.images, faces.landmarks, strict=True)):
        view, points, said = Augmentation(crop, 0)(image, landmarks, index, 0)
        left_eye, right_eye, nose, left_mouth, right_mouth = points
        for (x, y), flipped in product(product(range(SIZE - crop + 1), repeat=2), (False, True)):
            cut = image[y : y + crop, x : x + crop]
            if np.array_equal(view, cut[:, ::-1] if flipped else cut):
                break
        else:
            pytest.fail("the view is no crop of the image")
        assert said is flipped
        if flipped:  # the eye that is left now was right, and is as far from the other edge
            mirrored += 1
            back = np.stack([right_eye, left_eye, nose, right_mouth, left_mouth])
            back[:, 0] = crop - 1 - back[:, 0]
        else:
            back = points
        np.testing.assert_allclose(back + np.array([x, y]), landmarks, atol=1e-4)
    assert 5 < mirrored < 25


def published_lines(numbers: Sequence[int], folder: str, separator: str = " ", attributes: bool = True) -> str:
    """As MTFL's: a leading space, backslashes, x of all landmarks before y."""
    lines = []
    for number in numbers:
        words = [f"{value:.6f}" for value in face(number).T.ravel()] + (["1", "2", "2", "3"] if attributes else [])
        lines.append(f" {folder}\\{number}.png " + separator.join(words) + " \n")
    return "".join(lines)


def as_published(root: Path, **form: Any) -> None:
    """The same images as MTFL's archive has them: 0, 1, 3, 6, 7 to train on, 2, 4, 5 of AFLW."""
    (root / "annotations.csv").unlink()
    for folder, those in {"lfw_5590": [0, 1, 3], "net_7876": [6, 7], "AFLW": [2, 4, 5]}.items():
        (root / folder).mkdir()
        for number in those:
            (root / "images" / f"{number}.png").rename(root / folder / f"{number}.png")
    (root / "images").rmdir()
    training = published_lines([0, 1, 3], "lfw_5590", **form) + published_lines([6, 7], "net_7876", **form)
    (root / "training.txt").write_text(training)
    (root / "testing.txt").write_text(published_lines([2, 4, 5], "AFLW", **form))


@pytest.mark.parametrize("form", [{}, {"separator": ","}, {"separator": "; ", "attributes": False}], ids=str)
def test_mtfl_as_published(root: Path, form: dict[str, Any]) -> None:
    as_published(root, **form)
    faces = read(root, box="image")
    assert numbers(faces) == [0, 1, 3, 6, 7, 2, 4, 5]
    assert faces.is_test.tolist() == [False] * 5 + [True] * 3
    assert {name: part.tolist() for name, part in faces.subsets.items()} == {"test_aflw": [5, 6, 7]}
    np.testing.assert_allclose(of_original(faces), np.stack([face(n) for n in numbers(faces)]), atol=1e-5)
    assert faces.counts == {"images": 8, "identities": 0, "skipped": 0, "listed_images_not_there": 0}
    assert source(root).inventory(root.parent / "cache").notes == []


def test_a_copy_whose_landmarks_are_in_another_order_says_so(root: Path) -> None:
    as_published(root)
    for path in (root / "training.txt", root / "testing.txt"):
        lines = []
        for line in path.read_text().splitlines():
            name, *words = line.split()
            lines.append(" ".join([name, *(words[axis + point] for point in range(5) for axis in (0, 5)), *words[10:]]))
        path.write_text("\n".join(lines))
    assert numbers(read(root, box="image")) == [0, 1, 3, 6, 7, 2, 4, 5]
    assert source(root).inventory(root.parent / "cache").notes == ["landmarks are in the order x1 y1 … x5 y5"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (" lfw_5590\\3.png 1 2 3\n", "5 values for the 16 columns"),
        (" lfw_5590\\3.png " + "x " * 14 + "\n", "a coordinate is not a number"),
        (published_lines([3], "lfw_5590") * 2, "a second row for lfw_5590/3.png"),
    ],
)
def test_a_bad_line_of_a_published_list_is_named_or_left_out(root: Path, line: str, said: str) -> None:
    as_published(root)
    whole = (root / "training.txt").read_text()
    (root / "training.txt").write_text(whole.replace(published_lines([3], "lfw_5590"), line))
    refused(root, f"{root / 'training.txt'}, line ", said)
    assert 3 not in numbers(read(root, "skip", box="image"))


def test_images_of_a_list_that_are_not_there_are_counted(root: Path) -> None:
    write_rows(
        root, [*(row(number) for number in range(8)), row(0, file="gone.png"), row(0, file="../annotations.csv")]
    )
    (root / "images" / "7.png").unlink()
    faces = read(root)
    assert numbers(faces) == list(range(7))
    assert faces.counts == {"images": 7, "identities": 0, "skipped": 0, "listed_images_not_there": 3}
    (root / "other").mkdir()
    for path in list((root / "images").iterdir()):
        path.rename(root / "other" / path.name)
    refused(root, f"{root / 'images'} holds none of the 10 images", "data.images=NAME")


@pytest.mark.parametrize("named", ["images/{}", "images\\{}", "/home/me/mtfl/images/{}", "./{}"])
def test_file_names_with_their_folder_are_the_same_faces(root: Path, named: str) -> None:
    before = read(root)
    write_rows(root, [row(number, file=named.format(f"{number}.png")) for number in range(8)])
    after = read(root)
    np.testing.assert_array_equal(after.images, before.images)
    np.testing.assert_array_equal(after.crop_boxes, before.crop_boxes)


def test_split_names_in_any_case(root: Path) -> None:
    before = read(root)
    written = ["Train", "TRAIN", "TEST_B", "train", "test_a", "test_b", " tRain", "train "]
    write_rows(root, [row(number, split=split) for number, split in enumerate(written)])
    after = read(root)
    assert after.is_test.tolist() == before.is_test.tolist()
    assert {name: part.tolist() for name, part in after.subsets.items()} == {"test_a": [4], "TEST_B": [2, 5]}


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_csv_with_another_separator_and_case_of_columns(root: Path, separator: str) -> None:
    before = read(root)
    header, *lines = (root / "annotations.csv").read_text().replace(",", separator).splitlines()
    (root / "annotations.csv").write_text("\n".join([header.upper(), *lines]))
    np.testing.assert_array_equal(read(root).images, before.images)


def test_the_band_about_the_eyes_is_cut_by_its_landmarks(root: Path) -> None:
    """A light spot on the left eye of every image comes to the place of left eyes in the band."""
    for number in range(8):
        (x, y), photo = face(number)[0], Image.open(root / "images" / f"{number}.png")
        pixels = np.asarray(photo).copy()
        rows, columns = np.mgrid[:HEIGHT, :WIDTH]
        pixels[np.hypot(columns - x, rows - y) < 2] = 255
        Image.fromarray(pixels).save(root / "images" / f"{number}.png")
    faces = read(root, size=96)
    batch = Views(faces, Augmentation(88, 0), bands=True)[[(number, EVAL_VIEW) for number in range(8)]]
    assert batch.bands.shape == (8, 3, 33, 88)
    for band in batch.bands[:, 0].double().numpy():
        light = np.maximum(band - np.median(band) - 5, 0)
        rows, columns = np.mgrid[:33, :88]
        assert (light * columns).sum() / light.sum() == pytest.approx(88 / 4 - 0.5, abs=0.7)
        assert (light * rows).sum() / light.sum() == pytest.approx(0.6 * 33 - 0.5, abs=0.7)
