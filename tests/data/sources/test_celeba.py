"""CelebA: data sets written here, complete, partial and damaged, and the real one if it is available."""

import hashlib
import os
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from facedistill.config.compose import compose_config
from facedistill.data.faces import FaceSet
from facedistill.data.files.alignment import ARCFACE_TEMPLATE, CELEBA_TEMPLATE, align
from facedistill.data.loading.datamodule import FaceData
from facedistill.data.sources.celeba import CelebA
from facedistill.data.sources.source import build_source
from facedistill.errors import DataError

SIZE = 32
WIDTH, HEIGHT = 72, 91
COUNT = 24
PEOPLE = [7] * 9 + [10] * 9 + [3] * 5 + [5]
PARTS = [0] * 14 + [1] * 4 + [2] * 6
NAMES = [f"{number + 1:06d}" for number in range(COUNT)]
ALIGNED, WILD = "list_landmarks_align_celeba", "list_landmarks_celeba"
COLUMNS = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"


def face(number: int) -> NDArray[np.float64]:
    """Landmarks of an image, whole numbers as CelebA's are."""
    return np.round(ARCFACE_TEMPLATE / 3 + [number % 6 + 14, number / 4 + 24])


def box(number: int) -> list[int]:
    return [10 + number % 3, 12, 48 + number, 60]


def write_list(path: Path, rows: Sequence[tuple[str, Sequence[object]]], columns: str = "") -> None:
    """As published: the number of rows and the columns, where it has them; commas in a csv."""
    space = "," if path.suffix == ".csv" else " "
    opening = [] if not columns else [columns] if path.suffix == ".csv" else [str(len(rows)), columns]
    lines = [*(line.replace(" ", space) for line in opening), *(space.join([n, *map(str, v)]) for n, v in rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def write_identities(path: Path, changed: dict[int, object] | None = None) -> None:
    people = {number: PEOPLE[number] for number in range(COUNT)} | (changed or {})
    write_list(path, [(f"{NAMES[number]}.jpg", [person]) for number, person in people.items()])


def write_landmarks(path: Path, changed: dict[int, NDArray[np.float64]] | None = None) -> None:
    faces = {number: face(number) for number in range(COUNT)} | (changed or {})
    rows = [(f"{NAMES[number]}.jpg", [f"{value:g}" for value in points.ravel()]) for number, points in faces.items()]
    write_list(path, rows, f"image_id {COLUMNS}" if path.suffix == ".csv" else COLUMNS)


def write_boxes(path: Path, changed: dict[int, list[int]] | None = None) -> None:
    boxes = {number: box(number) for number in range(COUNT)} | (changed or {})
    rows = [(f"{NAMES[number]}.jpg", values) for number, values in boxes.items()]
    write_list(path, rows, "image_id x_1 y_1 width height")


def write_parts(path: Path, changed: dict[int, object] | None = None) -> None:
    parts = {number: PARTS[number] for number in range(COUNT)} | (changed or {})
    write_list(path, [(f"{NAMES[number]}.jpg", [part]) for number, part in parts.items()])


def write_images(folder: Path, suffix: str = "jpg") -> None:
    """Grey; an image is recognized by its brightness."""
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        Image.new("RGB", (WIDTH, HEIGHT), (10 + 10 * number,) * 3).save(folder / f"{name}.{suffix}")


def write_dots(folder: Path, landmark: int) -> None:
    """Black, with a soft white dot on one landmark of every face."""
    down, across = np.mgrid[:HEIGHT, :WIDTH]
    for number, name in enumerate(NAMES):
        x, y = face(number)[landmark]
        dot = 255 * np.exp(-((across - x) ** 2 + (down - y) ** 2) / 8)
        Image.fromarray(dot.astype(np.uint8)).convert("RGB").save(folder / f"{name}.jpg", quality=98)


def dots(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """x, y of the dot in every image [N, 2]."""
    down, across = np.mgrid[: images.shape[1], : images.shape[2]]
    bright = np.maximum(images[..., 0].astype(float) - 20, 0)  # what JPEG leaves about is darker
    return np.stack([(bright * axis).sum((1, 2)) / bright.sum((1, 2)) for axis in (across, down)], axis=1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Aligned images with all of their lists in one folder."""
    root = tmp_path / "celeba"
    write_images(root / "img_align_celeba")
    write_identities(root / "identity_CelebA.txt")
    write_landmarks(root / f"{ALIGNED}.txt")
    write_parts(root / "list_eval_partition.txt")
    return root


@pytest.fixture
def wild(tmp_path: Path) -> Path:
    """Images in the wild, with their lists where they are published."""
    root = tmp_path / "in the wild"
    write_images(root / "Img" / "img_celeba")
    write_identities(root / "Anno" / "identity_CelebA.txt")
    write_landmarks(root / "Anno" / f"{WILD}.txt")
    write_boxes(root / "Anno" / "list_bbox_celeba.txt")
    return root


def source(root: Path, **changed: Any) -> CelebA:
    keys: dict[str, Any] = {"name": "celeba", "images": None, "alignment": "centre", "margin": 0.0, "split": "random"}
    return CelebA(root=str(root), **(keys | {"min_images": 1, "on_error": "raise"} | changed))


def read(root: Path, size: int = SIZE, **changed: Any) -> FaceSet:
    return source(root, **changed).faces(size, root.parent / "cache")


def numbers(faces: FaceSet) -> list[int]:
    """The numbers of the images, from their brightness."""
    return [round((int(image[SIZE // 2, SIZE // 2, 0]) - 10) / 10) for image in faces.images]


def people(faces: FaceSet) -> list[int]:
    return [int(faces.identities[label]) for label in faces.labels]


def refused(root: Path, *said: str, **changed: Any) -> None:
    with pytest.raises(DataError) as refusal:
        read(root, **changed)
    missing = [word for word in said if word not in str(refusal.value)]
    assert not missing, refusal.value


def test_images_identities_landmarks_and_counts(root: Path) -> None:
    faces = read(root)
    assert numbers(faces) == list(range(COUNT))
    assert faces.identities == ["3", "5", "7", "10"]  # in the order of numbers
    assert people(faces) == PEOPLE
    assert faces.labels.dtype == np.int64
    assert faces.landmarks is not None
    assert faces.crop_boxes is not None
    assert (faces.landmarks.dtype, faces.landmarks.shape) == (np.float32, (COUNT, 5, 2))
    assert faces.crop_boxes.dtype == np.float32
    assert faces.crop_boxes.tolist() == [[0, (HEIGHT - WIDTH) / 2, WIDTH]] * COUNT
    assert faces.pairs is None
    assert faces.subsets == {}
    counts = {"images": COUNT, "identities": 4, "skipped": 0}
    assert faces.counts == counts | dict.fromkeys(
        ["identities_below_min_images", "images_not_listed", "listed_images_not_there"], 0
    )


def as_published(root: Path) -> dict[str, Any]:
    write_images(root / "Img" / "img_align_celeba")
    write_identities(root / "Anno" / "identity_CelebA.txt")
    write_landmarks(root / "Anno" / f"{ALIGNED}.txt")
    write_parts(root / "Eval" / "list_eval_partition.txt")
    return {"split": "official"}


def as_kaggle_has_it(root: Path) -> dict[str, Any]:
    write_images(root / "img_align_celeba" / "img_align_celeba")
    write_landmarks(root / f"{ALIGNED}.csv")
    write_identities(root / "identity_CelebA.csv")
    return {}


def published_as_png(root: Path) -> dict[str, Any]:
    write_images(root / "img_align_celeba_png", "png")
    write_identities(root / "identity_CelebA.txt")
    write_landmarks(root / f"{ALIGNED}.txt")
    return {}


def with_upper_case_suffixes(root: Path) -> dict[str, Any]:
    as_published(root)
    for path in list((root / "Img" / "img_align_celeba").iterdir()):
        path.rename(path.with_suffix(".JPG"))
    return {}


def under_other_names(root: Path) -> dict[str, Any]:
    as_published(root)
    (root / "Img" / "img_align_celeba").rename(root / "zdjęcia i 写真")
    return {"images": "zdjęcia i 写真"}


def in_the_wild(root: Path) -> dict[str, Any]:
    write_images(root / "img_celeba")
    write_identities(root / "identity_CelebA.txt")
    write_landmarks(root / f"{WILD}.txt")
    write_landmarks(root / f"{ALIGNED}.txt", {n: face(n) + 1 for n in range(COUNT)})  # of images that are not there
    return {}


def beside_those_in_the_wild(root: Path) -> dict[str, Any]:
    as_published(root)
    (root / "Img" / "img_celeba").mkdir()
    write_landmarks(root / "Anno" / f"{WILD}.txt", {n: face(n) + 1 for n in range(COUNT)})
    return {}


def as_windows_writes(root: Path) -> dict[str, Any]:
    as_published(root)
    for path in root.glob("*/*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n \r\n")
    return {"split": "official"}


LAYOUTS = [
    as_published,
    as_kaggle_has_it,
    published_as_png,
    with_upper_case_suffixes,
    under_other_names,
    in_the_wild,
    beside_those_in_the_wild,
    as_windows_writes,
]


@pytest.mark.parametrize("write", LAYOUTS)
def test_every_layout_has_the_same_faces(root: Path, tmp_path: Path, write: Callable[[Path], dict[str, Any]]) -> None:
    other = tmp_path / "Żółw 写真" / "Celeb A"
    changed = write(other)
    expected, faces = read(root), read(other, **changed)
    assert numbers(faces) == list(range(COUNT))
    assert (faces.identities, people(faces)) == (expected.identities, people(expected))
    assert faces.landmarks is not None
    assert expected.landmarks is not None
    np.testing.assert_array_equal(faces.landmarks, expected.landmarks)
    if not changed.get("split"):
        np.testing.assert_array_equal(faces.is_test, expected.is_test)


@pytest.mark.parametrize("landmark", range(5))
@pytest.mark.parametrize("size", [40, 90])
def test_the_centre_square_has_its_landmarks_on_the_dots(root: Path, landmark: int, size: int) -> None:
    write_dots(root / "img_align_celeba", landmark)
    faces = read(root, size)
    assert faces.landmarks is not None
    assert np.abs(dots(faces.images) - faces.landmarks[:, landmark]).max() < 0.25


@pytest.mark.parametrize("landmark", range(5))
@pytest.mark.parametrize("margin", [0, 0.75])
def test_the_box_has_its_landmarks_on_the_dots(wild: Path, landmark: int, margin: float) -> None:
    write_dots(wild / "Img" / "img_celeba", landmark)
    faces = read(wild, 60, alignment="box", margin=margin)
    assert faces.landmarks is not None
    assert np.abs(dots(faces.images) - faces.landmarks[:, landmark]).max() < 0.25


@pytest.mark.parametrize("alignment", ["centre", "box"])
def test_crop_boxes_lead_back_to_the_original(wild: Path, alignment: str) -> None:
    faces = read(wild, 50, alignment=alignment, margin=0.3)
    assert faces.landmarks is not None
    assert faces.crop_boxes is not None
    corner, side = faces.crop_boxes[:, None, :2].astype(float), faces.crop_boxes[:, None, 2:].astype(float)
    original = corner + (faces.landmarks.astype(float) + 0.5) * side / 50 - 0.5
    np.testing.assert_allclose(original, np.stack([face(number) for number in range(COUNT)]), atol=1e-4)


def test_the_square_is_around_the_box_and_black_beyond_the_image(wild: Path) -> None:
    write_boxes(wild / "Anno" / "list_bbox_celeba.txt", {1: [0, 20, 40, 60], 2: [20, 20, 62, 40]})
    faces = read(wild, 60, alignment="box", margin=0.5)
    assert faces.crop_boxes is not None
    assert faces.crop_boxes[1].tolist() == [20 - 45, 50 - 45, 90]
    assert faces.crop_boxes[2].tolist() == [51 - 46.5, 40 - 46.5, 93]
    left = faces.images[1, 30, :, 0].tolist()  # the image begins 25 / 90 of the way across
    assert max(left[:15]) == 0
    assert min(left[19:]) == max(left[19:]) == 20


@pytest.mark.parametrize("landmark", range(5))
def test_similarity_brings_the_landmarks_to_the_template(root: Path, landmark: int) -> None:
    write_dots(root / "img_align_celeba", landmark)
    faces = read(root, 56, alignment="similarity")
    target = (ARCFACE_TEMPLATE + 0.5) / 2 - 0.5
    for number, found in enumerate(dots(faces.images)):
        points = face(number)
        rows = [[x, -y, 1, 0] for x, y in points] + [[y, x, 0, 1] for x, y in points]
        a, b, right, down = np.linalg.lstsq(np.array(rows), target.T.ravel(), rcond=None)[0]
        x, y = points[landmark]
        assert np.abs(found - [a * x - b * y + right, b * x + a * y + down]).max() < 0.25
    assert faces.landmarks is None  # they are those of the template
    assert faces.crop_boxes is None
    assert people(faces) == PEOPLE


def of_the_name(image: str) -> bool:
    return int(hashlib.sha256(image.encode()).hexdigest()[:16], 16) / 2**64 < 0.2


def test_the_random_split_is_by_name(root: Path) -> None:
    faces = read(root)
    assert faces.is_test.tolist() == [of_the_name(name) for name in NAMES]
    write_identities(root / "identity_CelebA.txt", dict.fromkeys(range(18), 1))  # other people, less images
    lines = (root / "identity_CelebA.txt").read_text().splitlines(keepends=True)
    (root / "identity_CelebA.txt").write_text("".join(lines[5:]))
    assert read(root).is_test.tolist() == [of_the_name(name) for name in NAMES[5:]]


def test_the_official_split(root: Path) -> None:
    faces = read(root, split="official")
    assert faces.is_test.tolist() == [part > 0 for part in PARTS]
    subsets = {name: part.tolist() for name, part in faces.subsets.items()}
    assert subsets == {"test": [18, 19, 20, 21, 22, 23], "val": [14, 15, 16, 17]}
    np.testing.assert_array_equal(faces.images, read(root).images)


def test_the_official_split_without_val(root: Path) -> None:
    write_parts(root / "list_eval_partition.txt", dict.fromkeys(range(14, 18), 0))
    faces = read(root, split="official")
    assert {name: part.tolist() for name, part in faces.subsets.items()} == {"test": list(range(18, 24))}


@pytest.mark.parametrize("part", [0, 2])
def test_all_on_one_side_of_the_split_is_refused(root: Path, part: int) -> None:
    write_parts(root / "list_eval_partition.txt", dict.fromkeys(range(COUNT), part))
    refused(root, str(root / "img_align_celeba"), "one side of the official split", split="official")


def test_a_tree_without_landmarks(root: Path) -> None:
    expected = read(root)
    (root / f"{ALIGNED}.txt").rename(root / f"{WILD}.txt")  # those are of other images
    faces = read(root)
    assert faces.landmarks is None
    assert faces.crop_boxes is None
    assert people(faces) == PEOPLE
    np.testing.assert_array_equal(faces.images, expected.images)
    takes = f"data.alignment=similarity needs {root / ALIGNED}.txt"
    refused(root, takes, "Anno", "does not exist", alignment="similarity")


def test_a_tree_without_identities(root: Path) -> None:
    expected = read(root)
    (root / "identity_CelebA.txt").unlink()
    faces = read(root)
    assert faces.identities == []
    assert faces.labels.tolist() == [0] * COUNT
    assert faces.labels.dtype == np.int64
    assert faces.landmarks is not None
    np.testing.assert_array_equal(faces.landmarks, expected.landmarks)
    np.testing.assert_array_equal(faces.is_test, expected.is_test)
    assert faces.counts["identities"] == 0
    refused(root, f"data.min_images=2 needs {root / 'identity_CelebA'}.txt", min_images=2)


def test_a_tree_with_neither(root: Path) -> None:
    (root / "identity_CelebA.txt").unlink()
    (root / f"{ALIGNED}.txt").unlink()
    refused(root, str(root), "identity_CelebA.txt", f"{ALIGNED}.txt", "Anno")


@pytest.mark.parametrize(
    ("gone", "key"), [("list_eval_partition", "split=official"), ("list_bbox_celeba", "alignment=box")]
)
def test_a_list_that_a_setting_needs_is_named(wild: Path, gone: str, key: str) -> None:
    (wild / "Anno" / f"{gone}.txt").unlink(missing_ok=True)
    for on_error in ("raise", "skip"):
        name, value = key.split("=")
        refused(wild, f"data.{key} needs {wild / gone}.txt", "does not exist", **{name: value}, on_error=on_error)


def test_only_images_with_an_identity_are_read(root: Path) -> None:
    lines = (root / "identity_CelebA.txt").read_text().splitlines(keepends=True)
    (root / "identity_CelebA.txt").write_text("".join(lines[3:20]))
    faces = read(root)
    assert numbers(faces) == list(range(3, 20))
    assert faces.counts["images_not_listed"] == 7
    assert faces.counts["skipped"] == 0
    assert faces.landmarks is not None
    assert len(faces.landmarks) == 17


def test_identities_with_few_images_are_left_out_and_counted(root: Path) -> None:
    faces = read(root, min_images=6)
    assert faces.identities == ["7", "10"]
    assert numbers(faces) == list(range(18))
    assert faces.counts["identities_below_min_images"] == 2
    assert read(root, min_images=5).identities == ["3", "7", "10"]
    refused(root, "0 identities with at least 10 usable images", "data.min_images", min_images=10)


def test_one_person_is_too_few(root: Path) -> None:
    write_identities(root / "identity_CelebA.txt", dict.fromkeys(range(COUNT), 7))
    refused(root, str(root / "img_align_celeba"), "1 identities", "needs two")


def test_one_person_that_is_left_after_skipping_is_too_few(root: Path) -> None:
    write_identities(root / "identity_CelebA.txt", dict.fromkeys(range(2, COUNT), 10))
    for name in NAMES[:2]:
        (root / "img_align_celeba" / f"{name}.jpg").write_bytes(b"")
    refused(root, "1 identity", "needs two", on_error="skip")


@pytest.mark.parametrize("listed", [True, False])
def test_images_that_celeba_aligned_come_to_the_template_without_a_list(root: Path, listed: bool) -> None:
    if not listed:
        (root / f"{ALIGNED}.txt").unlink()
    for number, name in enumerate(NAMES):
        noise = np.random.default_rng(number).integers(0, 256, (109, 89, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / "img_align_celeba" / f"{name}.jpg", quality=95)
    faces = read(root, alignment="celeba")
    half = (CELEBA_TEMPLATE + 0.5) / 2 - 0.5
    images = [Image.open(root / "img_align_celeba" / f"{name}.jpg") for name in sorted(NAMES)]
    np.testing.assert_array_equal(faces.images, [align(image, half, SIZE) for image in images])
    assert faces.landmarks is None
    assert not source(root, alignment="celeba").samples(root).has_landmarks


def is_missing(root: Path) -> None:
    (root / "img_align_celeba" / "000004.jpg").unlink()


@pytest.mark.parametrize("alignment", ["centre", "similarity"])
@pytest.mark.parametrize("there", [[0, 3, 9, 12, 20, 23], list(range(1, COUNT))])
def test_lists_of_more_images_than_are_there(root: Path, there: list[int], alignment: str) -> None:
    for number in set(range(COUNT)) - set(there):
        (root / "img_align_celeba" / f"{NAMES[number]}.jpg").unlink()
    faces = read(root, alignment=alignment)
    if alignment == "centre":
        assert numbers(faces) == there
    assert people(faces) == [PEOPLE[number] for number in there]
    assert faces.is_test.tolist() == [of_the_name(NAMES[number]) for number in there]
    assert faces.counts["listed_images_not_there"] == COUNT - len(there)
    assert faces.counts["skipped"] == 0
    of_skip = source(root, alignment=alignment, on_error="skip").identity()
    assert source(root, alignment=alignment).identity() == of_skip


def test_none_of_the_images_of_a_list(root: Path) -> None:
    for path in list((root / "img_align_celeba").iterdir()):
        path.rename(path.with_name(f"face{path.name}"))
    refused(root, str(root / "img_align_celeba"), "none of the 24 images", "as 000001", "data.images=")


def test_what_systems_leave_and_what_is_no_file_is_counted(root: Path) -> None:
    (root / "img_align_celeba" / "._000001.jpg").write_bytes(b"x")
    os.mkfifo(root / "img_align_celeba" / "pipe.jpg")
    (root / "img_align_celeba" / "000030.jxl").write_bytes(b"x")
    faces = read(root)
    assert numbers(faces) == list(range(COUNT))
    counted = {"left_by_systems": 1, "pipes_sockets_and_devices": 1, "images_not_read": 1, "images_not_listed": 0}
    assert faces.counts.items() >= counted.items()


def is_a_link_to_nowhere(root: Path) -> None:
    is_missing(root)
    (root / "img_align_celeba" / "000004.jpg").symlink_to(root / "nowhere")


def is_empty(root: Path) -> None:
    (root / "img_align_celeba" / "000004.jpg").write_bytes(b"")


def is_no_image(root: Path) -> None:
    (root / "img_align_celeba" / "000004.jpg").write_bytes(b"<html>404</html>" * 20)


def has_no_landmarks(root: Path) -> None:
    lines = (root / f"{ALIGNED}.txt").read_text().splitlines()
    (root / f"{ALIGNED}.txt").write_text("\n".join(["23", *lines[1:5], *lines[6:]]))


def with_landmarks(points: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Callable[[Path], None]:
    return lambda root: write_landmarks(root / f"{ALIGNED}.txt", {3: points(face(3))})


LINE = f"{ALIGNED}.txt, line 6: "  # of image 3
FAULTS: dict[str, tuple[Callable[[Path], None], Sequence[str]]] = {
    "is a link to nowhere": (is_a_link_to_nowhere, ["000004.jpg: No such file", "mend or remove the link"]),
    "is empty": (is_empty, ["000004.jpg is empty"]),
    "is no image": (is_no_image, ["000004.jpg is not a readable image"]),
    "has no landmarks": (has_no_landmarks, [f"{ALIGNED}.txt has no row for 000004"]),
    "nose beyond the edge": (
        with_landmarks(lambda points: points + np.eye(5, 2, -2) * 300),
        [LINE, "000004.jpg: the nose", f"is outside of the image of {WIDTH}×{HEIGHT} pixels"],
    ),
    "left and right swapped": (with_landmarks(lambda points: points[[1, 0, 2, 4, 3]]), [LINE, "left is left in the"]),
    "both eyes at one point": (with_landmarks(lambda points: points[[0, 0, 2, 3, 4]]), [LINE, "both eyes are at one"]),
    "a chin beyond the square": (
        with_landmarks(lambda points: points + np.array([0, HEIGHT - 1 - points[:, 1].max()])),
        [LINE, "outside of the square of data.alignment=centre"],
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_an_image_that_cannot_be_used_is_named_or_left_out(root: Path, kind: str) -> None:
    harm, said = FAULTS[kind]
    harm(root)
    for _ in range(2):
        refused(root, str(root), *said, "data.on_error=skip")
    for _ in range(2):  # made, then opened
        faces = read(root, on_error="skip")
        left = [number for number in range(COUNT) if number != 3]
        assert numbers(faces) == left
        assert people(faces) == [PEOPLE[number] for number in left]
        assert faces.is_test.tolist() == [of_the_name(NAMES[number]) for number in left]
        assert faces.counts["images"] == COUNT - 1
        assert faces.counts["skipped"] == 1
    # although the store was filled with on_error=skip
    refused(root, *said)


@pytest.mark.parametrize(
    "values", [[10, 10, 7, 60], [10, 10, 60, -1], [-450, 0, 980, 60], [500, 10, 60, 60], [-200, 10, 60, 60]]
)
def test_a_box_of_no_face_is_named_or_its_image_left_out(wild: Path, values: list[int]) -> None:
    write_boxes(wild / "Anno" / "list_bbox_celeba.txt", {3: values})
    path = wild / "Anno" / "list_bbox_celeba.txt"
    refused(
        wild,
        f"{path}, line 6: not a box of a face in an image of {WIDTH}×{HEIGHT}",
        "data.on_error=skip",
        alignment="box",
    )
    assert 3 not in numbers(read(wild, alignment="box", on_error="skip", margin=0.2))


def test_a_face_beyond_its_box_is_named(wild: Path) -> None:
    write_boxes(wild / "Anno" / "list_bbox_celeba.txt", {3: [0, 0, 20, 20]})
    said = f"{WILD}.txt, line 6: "
    refused(wild, said, "outside of the square of data.alignment=box", alignment="box")


BROKEN: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "a letter": ("identity_CelebA.txt", lambda path: write_identities(path, {3: "x"}), "line 4: 'x' is not a number"),
    "half a person": (
        "identity_CelebA.txt",
        lambda path: write_identities(path, {3: 0.5}),
        "line 4: an identity must be a",
    ),
    "nobody": (
        "identity_CelebA.txt",
        lambda path: write_identities(path, {3: -1}),
        "line 4: an identity must be a whole",
    ),
    "a fourth part": (
        "list_eval_partition.txt",
        lambda path: write_parts(path, {3: 3}),
        "line 4: a part must be 0, 1 or 2",
    ),
    "empty": (
        "list_eval_partition.txt",
        lambda path: path.write_bytes(b"") and None,
        "line 1: expected a row per image",
    ),
    "cut": (f"{ALIGNED}.txt", lambda path: path.write_bytes(path.read_bytes()[:800]) and None, "values for 10 columns"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_list_is_named_whatever_on_error_says(root: Path, kind: str) -> None:
    name, harm, said = BROKEN[kind]
    harm(root / name)
    for on_error in ("raise", "skip"):
        refused(root, f"{root / name}, line ", said, "copy the file again", split="official", on_error=on_error)


def test_two_files_of_one_image_are_named(root: Path) -> None:
    folder = root / "img_align_celeba"
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "000004.png")
    for on_error in ("raise", "skip"):
        refused(root, f"{folder / '000004.jpg'} and {folder / '000004.png'}", "remove one", on_error=on_error)


def test_a_root_that_is_missing_an_archive_or_without_images(root: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", f"data.root={tmp_path / 'nowhere'} does not exist")
    with zipfile.ZipFile(tmp_path / "celeba.zip", "w") as file:
        file.write(root / "identity_CelebA.txt")
    refused(
        tmp_path / "celeba.zip",
        f"data.root={tmp_path / 'celeba.zip'} is an archive",
        f"`unzip '{tmp_path / 'celeba.zip'}' -d '{tmp_path / 'celeba'}'`",
    )
    refused(root, f"data.root={root} holds no folder photos", images="photos")
    refused(root, "no folder img_celeba:", "data.images", alignment="box")
    shutil.make_archive(str(root / "img_align_celeba"), "zip", root / "img_align_celeba")
    shutil.rmtree(root / "img_align_celeba")
    refused(root, f"`unzip '{root / 'img_align_celeba.zip'}' -d '{root / 'img_align_celeba'}'`")
    (root / "img_align_celeba.zip").unlink()
    refused(root, "holds no folder img_align_celeba or", "unpack the images", "data.images")
    with pytest.raises(DataError, match="holds no folder"):  # when planned, not only when read
        source(root).identity()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("on_error", "ignore", "choices are raise, skip"),
        ("alignment", "eyes", "choices are none, centre, similarity, celeba, box"),
        ("split", "test", "choices are random, official"),
        ("margin", -0.5, "a number from 0 to"),
        ("margin", float("nan"), "a number from 0 to"),
        ("margin", "wide", "a number from 0 to"),
        ("min_images", 0, "a whole number"),
        ("min_images", 1.5, "a whole number"),
    ],
)
def test_settings_that_make_no_sense(root: Path, key: str, value: object, said: str) -> None:
    with pytest.raises(DataError, match=f"data.{key}={value}.*{said}"):
        source(root, **{key: value})


def test_the_identity_is_that_of_the_files_on_any_path(root: Path, tmp_path: Path) -> None:
    before = source(root).identity()
    shutil.copytree(root, tmp_path / "copy")  # new dates, another place
    assert source(tmp_path / "copy").identity() == before
    (root / "Anno").mkdir()
    (root / f"{ALIGNED}.txt").rename(root / "Anno" / f"{ALIGNED}.txt")
    write_boxes(root / "Anno" / "list_bbox_celeba.txt")  # not used
    (root / "README.txt").write_text("hello")
    (root / "img_align_celeba" / "Thumbs.db").write_bytes(b"\0")
    assert source(root, name="mine too").identity() == before
    assert source(root, margin=0.5).identity() == before
    for changed in ({"alignment": "similarity"}, {"split": "official"}, {"min_images": 6}):
        assert source(root, **changed).identity() != before


def test_the_identity_has_the_margin_where_there_are_boxes(wild: Path) -> None:
    one, other = (source(wild, alignment="box", margin=margin).identity() for margin in (0, 0.5))
    assert one != other


def other_image(root: Path) -> None:
    path = root / "img_align_celeba" / "000004.jpg"
    path.write_bytes(path.read_bytes() + b"\0")


def other_identity(root: Path) -> None:
    write_identities(root / "identity_CelebA.txt", {3: 10})


def other_landmark(root: Path) -> None:
    write_landmarks(root / f"{ALIGNED}.txt", {3: face(3) + 1})


def other_part(root: Path) -> None:
    write_parts(root / "list_eval_partition.txt", {3: 2})


def no_landmarks(root: Path) -> None:
    (root / f"{ALIGNED}.txt").unlink()


@pytest.mark.parametrize("act", [other_image, other_identity, other_landmark, other_part, no_landmarks])
def test_the_identity_changes_with_what_is_read(root: Path, act: Callable[[Path], None]) -> None:
    before = source(root, split="official").identity()
    act(root)
    assert source(root, split="official").identity() != before


def test_changed_files_are_read_again(root: Path) -> None:
    before = read(root)
    other_landmark(root)
    after = read(root)
    assert before.landmarks is not None
    assert after.landmarks is not None
    assert (before.landmarks[3] != after.landmarks[3]).all()
    Image.new("RGB", (WIDTH, HEIGHT), (10 + 10 * 20,) * 3).save(root / "img_align_celeba" / "000001.jpg")
    os.utime(root / "img_align_celeba" / "000001.jpg", ns=(1, 1))
    assert numbers(read(root))[0] == 20


def test_the_command_line_builds_it(root: Path) -> None:
    config = compose_config(["data=celeba", f"data.root={root}"])
    assert config.data["gives"] == ["identities", "landmarks"]
    faces = build_source(config.data).faces(SIZE, root.parent / "cache")
    assert (numbers(faces), people(faces)) == (list(range(COUNT)), PEOPLE)


def test_a_split_by_person_can_not_test_classification(root: Path) -> None:
    write_parts(root / "list_eval_partition.txt", {number: 2 * (person > 5) for number, person in enumerate(PEOPLE)})
    words = ["data=celeba", f"data.root={root}", f"cache_dir={root.parent}/cache", "image.resize=32", "image.crop=28"]
    with pytest.raises(DataError, match=r"nobody of its test split is trained on.*data.split=random"):
        FaceData.of(compose_config([*words, "data.split=official", "task=classify"]))
    FaceData.of(compose_config([*words, "data.split=official", "task=align"]))
    FaceData.of(compose_config([*words, "task=classify"]))


def test_the_real_images(tmp_path: Path, real_faces: Path) -> None:
    root = real_faces / "celeba5k"
    faces = source(root, images="images", min_images=2).faces(SIZE, tmp_path)
    with (root / "identity_CelebA.txt").open() as file:
        person = dict(line.split() for line in file)
    images = Counter(person.values())
    kept = [image for image in sorted(person) if images[person[image]] >= 2]
    assert [faces.identities[label] for label in faces.labels] == [person[image] for image in kept]
    assert len(faces.identities) == sum(count >= 2 for count in images.values())
    assert faces.counts["identities_below_min_images"] == sum(count < 2 for count in images.values())
    assert faces.counts["images"] == len(kept)
    assert faces.counts["skipped"] == 0
    assert faces.is_test.tolist() == [of_the_name(image.removesuffix(".jpg")) for image in kept]
    assert faces.landmarks is None
    for index in (0, len(kept) // 2, len(kept) - 1):
        with Image.open(root / "images" / kept[index]) as image:
            width, height = image.size
            square = image.crop((0, (height - width) // 2, width, (height + width) // 2))
            expected = np.asarray(square.resize((SIZE, SIZE), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(faces.images[index] - expected).mean() < 2
