"""Labeled Faces in the Wild: data sets written here, intact and damaged, and the real one if it is available."""

import os
import re
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facedistill.data.__main__ import main as doctor
from facedistill.data.faces import FaceSet
from facedistill.data.files.alignment import ARCFACE_TEMPLATE, align
from facedistill.data.sources.identity_images import IdentityImages
from facedistill.data.sources.lfw import Lfw
from facedistill.errors import DataError

SIZE = 28
PEOPLE = {"Ann_A": 12, "Bob_B": 12, "Cid": 3, "Dee": 3, "Eve": 3, "Fay": 1}
HEADER = "2\t3"
PAIRS = [
    *["Ann_A\t1\t2", "Ann_A\t12\t3", "Cid\t1\t3"],
    *["Ann_A\t1\tCid\t2", "Cid\t3\tBob_B\t10", "Bob_B\t1\tAnn_A\t2"],
    *["Dee\t1\t2", "Eve\t1\t2", "Dee\t3\t2"],
    *["Dee\t1\tEve\t1", "Eve\t3\tDee\t2", "Fay\t1\tDee\t3"],
]


def colour(person: int, number: int) -> tuple[int, int, int]:
    return (40 * person + 20, 250 - 40 * person, 15 * number)


def points(person: int, number: int) -> np.ndarray:
    """The template at half size, put somewhere else in each image of 80 × 64 pixels."""
    return ARCFACE_TEMPLATE / 2 + [person, number / 3]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six people; Ann and Bob have the twelve images that training asks for."""
    root = tmp_path / "lfw"
    lines = []
    for person, (name, count) in enumerate(PEOPLE.items()):
        (root / "images" / name).mkdir(parents=True)
        for number in range(1, count + 1):
            path = f"{name}/{name}_{number:04d}.jpg"
            Image.new("RGB", (80, 64), colour(person, number)).save(root / "images" / path, quality=95)
            lines.append("\t".join([path, *(f"{value:.2f}" for value in points(person, number).ravel())]))
    (root / "landmarks.txt").write_text("\n".join(lines) + "\n")
    (root / "pairs.txt").write_text("\n".join([HEADER, *PAIRS]) + "\n")
    return root


def source(root: Path, on_error: str = "raise", alignment: str = "similarity", min_images: int = 10) -> Lfw:
    return Lfw(
        "lfw", str(root), min_images, alignment, 0, "landmarks.txt", None, on_error, images="images", pairs="pairs.txt"
    )


def read(root: Path, on_error: str = "raise", alignment: str = "similarity", size: int = SIZE) -> FaceSet:
    return source(root, on_error, alignment).faces(size, root.parent / "cache")


def refused(root: Path, *said: str, on_error: str = "raise", alignment: str = "similarity") -> str:
    with pytest.raises(DataError) as refusal:
        read(root, on_error, alignment)
    missing = [word for word in said if word not in str(refusal.value)]
    assert not missing, refusal.value
    return str(refusal.value)


def change_line(path: Path, number: int, line: str | None) -> None:
    lines = path.read_text().splitlines()
    lines[number - 1 : number] = [] if line is None else [line]
    path.write_text("\n".join(lines) + "\n")


def colour_at(image: np.ndarray) -> list[int]:
    return [int(value) for value in image[SIZE // 2, SIZE // 2]]


def near(found: list[int], expected: tuple[int, int, int]) -> bool:
    return max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= 3


def test_faces_labels_pairs_and_counts(root: Path) -> None:
    faces = read(root)
    assert faces.identities == ["Ann_A", "Bob_B"]
    assert faces.labels.tolist() == [0] * 12 + [1] * 12
    assert faces.images.shape == (24, SIZE, SIZE, 3)
    for index in range(24):
        assert near(colour_at(faces.images[index]), colour(index // 12, index % 12 + 1))
    assert faces.counts == {
        "images": 24,
        "identities": 2,
        "skipped": 0,
        "identities_below_min_images": 4,
        "pairs": 12,
        "pairs_of_people_trained_on": 5,
    }
    assert faces.landmarks is None


@pytest.mark.parametrize("size", [SIZE, 112])
def test_it_is_known_where_the_landmarks_of_an_aligned_image_came_to_lie(root: Path, size: int) -> None:
    """A light spot on an eye of the photograph is where ``aligned_by`` says, though no face is like the template."""
    for number in range(1, 13):
        photo = points(0, number) + np.random.default_rng(number).normal(0, 1.5, (5, 2))
        y, x = np.mgrid[:64, :80]
        light = np.exp(-((x - photo[0, 0]) ** 2 + (y - photo[0, 1]) ** 2) / 4)
        path = f"Ann_A/Ann_A_{number:04d}.jpg"
        Image.fromarray(np.uint8(np.repeat((250 * light)[..., None], 3, 2))).save(root / "images" / path, quality=100)
        change_line(root / "landmarks.txt", number, "\t".join([path, *(f"{value:.3f}" for value in photo.ravel())]))
    faces = read(root, size=size)
    assert faces.aligned_by is not None
    assert (faces.aligned_by.dtype, faces.aligned_by.shape) == (np.float32, (24, 5, 2))
    template = (ARCFACE_TEMPLATE + 0.5) * size / 112 - 0.5
    np.testing.assert_allclose(faces.aligned_by[12:], np.broadcast_to(template, (12, 5, 2)), atol=1e-2)
    for image, landmarks in zip(faces.images[:12], faces.aligned_by[:12], strict=True):
        assert np.abs(landmarks - template).max() > 0.2
        light = image[..., 0].astype(float)
        y, x = np.mgrid[:size, :size]
        centre = ((light * x).sum() / light.sum(), (light * y).sum() / light.sum())
        np.testing.assert_allclose(centre, landmarks[0], atol=0.3)
    assert source(root).samples(root.parent / "cache").has_eyes
    assert not source(root).samples(root.parent / "cache").has_landmarks


def test_without_the_list_it_is_not_known_where_the_eyes_are(root: Path) -> None:
    faces = read(root, alignment="centre")
    assert faces.aligned_by is None
    assert not source(root, alignment="centre").samples(root.parent / "cache").has_eyes


def test_the_pairs_are_those_of_the_file_in_its_order(root: Path) -> None:
    pairs = read(root).pairs
    assert pairs is not None
    assert pairs.same.tolist() == [True] * 3 + [False] * 3 + [True] * 3 + [False] * 3
    assert pairs.fold.tolist() == [0] * 6 + [1] * 6
    assert pairs.trained_on.tolist() == [True, True, False, True, True, True] + [False] * 6
    assert pairs.left.dtype == pairs.right.dtype == pairs.fold.dtype == np.int64
    number = {name: i for i, name in enumerate(PEOPLE)}
    for i, line in enumerate(PAIRS):
        name, first, *others, second = line.split("\t")
        other = others[0] if others else name
        assert near(colour_at(pairs.images[pairs.left[i]]), colour(number[name], int(first))), line
        assert near(colour_at(pairs.images[pairs.right[i]]), colour(number[other], int(second))), line
    assert len(pairs.images) == len({image for line in PAIRS for image in images_of(line)})


def images_of(line: str) -> list[tuple[str, str]]:
    name, first, *others, second = line.split("\t")
    return [(name, first), (others[0] if others else name, second)]


def test_who_has_test_images_only_is_not_trained_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facedistill.data.sources.identity_images.is_test_sample", lambda name: name.startswith("Bob"))
    faces = read(root)
    assert faces.identities == ["Ann_A", "Bob_B"]
    assert faces.pairs is not None
    assert faces.pairs.trained_on.tolist() == [True, True, False, True, False, True] + [False] * 6


def test_both_stores_are_aligned_by_their_landmarks(root: Path) -> None:
    path = root / "images" / "Ann_A" / "Ann_A_0002.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((80, 64)).save(path, quality=95)
    faces = read(root)
    with Image.open(path) as image:
        expected = align(image, np.round(points(0, 2), 2), SIZE)
    np.testing.assert_array_equal(faces.images[1], expected)
    assert faces.pairs is not None
    np.testing.assert_array_equal(faces.pairs.images[faces.pairs.right[0]], expected)


def test_the_centre_needs_no_landmarks(root: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "images" / ANN_5)
    aligned = read(root)
    (root / "landmarks.txt").unlink()
    faces = read(root, alignment="centre")
    alone = IdentityImages("lfw", str(root / "images"), 10, "centre", 0, None, None, "raise")
    alone = alone.faces(SIZE, root.parent / "cache")
    np.testing.assert_array_equal(faces.images, alone.images)
    assert (np.array(faces.images) != aligned.images).any()  # of a store of its own
    assert faces.pairs is not None
    assert len(faces.pairs.same) == 12
    said = refused(root, f"data.landmarks: {root / 'landmarks.txt'} does not exist")
    assert "pairs.txt" not in said  # whose fault it is not


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\t", "  "),
        lambda text: "\ufeff" + text,
        lambda text: text + "\n \n\n",
        lambda text: text.rstrip("\n"),
    ],
    ids=["CRLF", "spaces", "BOM", "blank lines", "no newline at the end"],
)
def test_other_ways_to_write_the_two_files(root: Path, rewrite: Callable[[str], str]) -> None:
    before = read(root)
    for name in ("pairs.txt", "landmarks.txt"):
        (root / name).write_bytes(rewrite((root / name).read_text()).encode())
    after = read(root)
    np.testing.assert_array_equal(after.images, before.images)
    assert before.pairs is not None
    assert after.pairs is not None
    for column in ("left", "right", "same", "fold"):
        np.testing.assert_array_equal(getattr(after.pairs, column), getattr(before.pairs, column))


# line of pairs.txt, what stands there, the line that is named, what is said
BAD_PAIRS: dict[str, tuple[int, str | None, int, list[str]]] = {
    "header of a development file": (1, "1100", 5, ["`name i j`"]),
    "header of nothing": (1, "0\t0", 1, ["0 0", "no pairs"]),
    "header of words": (1, "ten\t300", 1, ["ten 300"]),
    "header of one fold": (1, "1\t6", 5, ["`name i j`"]),
    "header that promises less": (1, "2\t2", 4, ["`name i other j`", "Cid 1 3"]),
    "header that promises a fold less": (1, "3\t2", 4, ["`name i other j`"]),
    "header that promises absurdly much": (1, "1000000000\t1000000000", 5, ["`name i j`"]),
    "one line less": (13, None, 12, ["11 of 12 pairs"]),
    "one line more": (13, "Fay\t1\tDee\t3\nDee\t1\tFay\t1", 14, ["12 pairs"]),
    "a line lost in the middle": (3, None, 4, ["`name i j`", "Ann_A 1 Cid 2"]),
    "index of letters": (2, "Ann_A\t1\ttwo", 2, ["'two'", "number"]),
    "index below zero": (2, "Ann_A\t-1\t2", 2, ["'-1'", "number"]),
    "index of another script": (2, "Ann_A\t١\t2", 2, ["'١'", "number"]),
    "index without image": (8, "Dee\t1\t4", 8, ["images/Dee/Dee_0004.jpg does not exist"]),
    "unknown person": (11, "Dee\t1\tZoe\t1", 11, ["images/Zoe/Zoe_0001.jpg does not exist"]),
    "a path": (11, "Dee\t1\t../../x\t1", 11, ["does not exist"]),
    "one person twice where two are expected": (5, "Ann_A\t1\tAnn_A\t2", 5, ["two people"]),
    "too few words": (2, "Ann_A\t1", 2, ["`name i j`", "'Ann_A 1'"]),
    "too many words": (5, "Ann_A\t1\tCid\t2\t3", 5, ["`name i other j`"]),
    "an endless line": (2, "Ann_A\t1\t" + "2" * 100_000, 2, ["longer than"]),
}


@pytest.mark.parametrize("kind", BAD_PAIRS)
def test_a_bad_line_of_pairs_is_named(root: Path, kind: str) -> None:
    number, line, named, said = BAD_PAIRS[kind]
    change_line(root / "pairs.txt", number, line)
    for on_error in ("raise", "skip"):
        message = refused(root, f"{root / 'pairs.txt'}, line {named}:", *said, on_error=on_error)
        assert "on_error=skip" not in message
    with pytest.raises(DataError, match=re.escape(f"line {named}:")):  # when planned, not only when read
        source(root).identity()


def test_no_or_empty_or_binary_pairs(root: Path) -> None:
    (root / "pairs.txt").write_bytes(b"")
    refused(root, str(root / "pairs.txt"), "line 1", "10 300")
    (root / "pairs.txt").write_bytes(bytes(range(256)) * 3)
    refused(root, f"{root / 'pairs.txt'}, line ", "is no pair")
    (root / "pairs.txt").unlink()
    refused(root, f"{root / 'pairs.txt'} does not exist", "data=identity_folders trains without pairs")


ANN_5 = "Ann_A/Ann_A_0005.jpg"  # in no pair; line 5 of the landmark file
GOOD = "19 25 36 25 28 35 20 46 35 46"
BAD_LANDMARKS = {
    "not a number": (f"{ANN_5} 19 25 36 25 28 35 20 46 35 x", "not a number"),
    "NaN": (f"{ANN_5} 19 25 36 25 28 35 20 nan 35 46", "not finite"),
    "infinite": (f"{ANN_5} 19 25 36 25 28 35 20 -inf 35 46", "not finite"),
    "overflowing": (f"{ANN_5} 19 25 36 25 28 35 20 1e999 35 46", "not finite"),
    "nine numbers": (f"{ANN_5} 19 25 36 25 28 35 20 46 35", "9 values"),
    "eleven numbers": (f"{ANN_5} {GOOD} 7", "11 values"),
    "the path alone": (ANN_5, "0 values"),
    "beyond the left": (f"{ANN_5} -0.6 25 36 25 28 35 20 46 35 46", "the left eye (-0.6, 25) is outside"),
    "beyond the right": (f"{ANN_5} 19 25 79.6 25 28 35 20 46 35 46", "the right eye (79.6, 25) is outside"),
    "beyond the bottom": (f"{ANN_5} 19 25 36 25 28 64 20 46 35 46", "the nose (28, 64) is outside"),
    "absurdly far": (f"{ANN_5} 19 25 36 25 28 35 20 46 1e300 46", "the right mouth corner (1e+300, 46) is outside"),
    "both eyes at one point": (f"{ANN_5} 19 25 19 25 28 35 20 46 35 46", "both eyes are at one point"),
    "left and right of the person": (f"{ANN_5} 36 25 19 25 28 35 35 46 20 46", "left is left in the image"),
    "y before x": (f"{ANN_5} 25 19 25 36 35 28 46 20 46 35", "x comes before y"),
    "twice": (f"{ANN_5} {GOOD}\n{ANN_5} {GOOD}", f"a second line for {ANN_5}"),
}


@pytest.mark.parametrize("kind", BAD_LANDMARKS)
def test_a_bad_line_of_landmarks_is_named_or_its_image_skipped(root: Path, kind: str) -> None:
    line, said = BAD_LANDMARKS[kind]
    change_line(root / "landmarks.txt", 5, line)
    named = 6 if kind == "twice" else 5
    for _ in range(2):
        refused(root, f"{root / 'landmarks.txt'}, line {named}:", said, "on_error=skip")
    faces = read(root, "skip")
    assert (faces.counts["images"], faces.counts["skipped"]) == (23, 1)
    assert not any(near(colour_at(image), colour(0, 5)) for image in faces.images)
    assert faces.counts["pairs"] == 12
    # although the store was filled with on_error=skip
    refused(root, f"{root / 'landmarks.txt'}, line {named}:", said)


def test_an_image_without_landmarks_is_named_or_skipped(root: Path) -> None:
    change_line(root / "landmarks.txt", 5, None)
    refused(root, str(root / "landmarks.txt"), f"no line for {root / 'images' / ANN_5}", "on_error=skip")
    assert read(root, "skip").counts["skipped"] == 1


def test_landmarks_of_images_that_are_not_there_are_counted(root: Path) -> None:
    change_line(root / "landmarks.txt", 5, f"{ANN_5} {GOOD}\nZoe/Zoe_0001.jpg {GOOD}\nZoe/Zoe_0002.jpg nonsense")
    counts = read(root).counts
    assert (counts["images"], counts["skipped"], counts["lines_for_other_images"]) == (24, 0, 2)


def test_an_endless_line_of_landmarks_is_not_read(root: Path) -> None:
    with (root / "landmarks.txt").open("a") as file:
        file.write("Ann_A/" + "A" * 3000)
    refused(root, f"{root / 'landmarks.txt'}, line 35:", "longer than")
    refused(root, f"{root / 'landmarks.txt'}, line 35:", "longer than", on_error="skip")


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Dee/Dee_0001.jpg 19 25 19 25 28 35 20 46 35 46", "line 28: both eyes"),
        ("Dee/Dee_0001.jpg 19 25 36 25 28 35 20 46 35 64", "outside"),
        (None, "no line for"),
    ],
)
def test_an_image_of_the_protocol_is_never_skipped(root: Path, on_error: str, line: str | None, said: str) -> None:
    change_line(root / "landmarks.txt", 28, line)
    message = refused(root, said, on_error=on_error)
    assert "Dee_0001.jpg" in message or "line 28" in message
    if on_error == "skip":
        assert f"{root / 'pairs.txt'} needs all images that it names" in message
        assert "on_error=skip" not in message


def test_a_broken_image_of_training_and_of_the_protocol(root: Path) -> None:
    (root / "images" / ANN_5).write_bytes(b"")
    refused(root, str(root / "images" / ANN_5), "empty", "on_error=skip")
    assert read(root, "skip").counts["skipped"] == 1
    (root / "images" / "Eve" / "Eve_0002.jpg").write_bytes(b"")
    for on_error in ("raise", "skip"):
        for _ in range(2):  # a failed attempt leaves no store
            refused(root, "Eve_0002.jpg" if on_error == "skip" else "empty", on_error=on_error)


def test_a_root_that_is_missing_a_file_or_without_images(root: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", f"data.root={tmp_path / 'nowhere'} does not exist", "data.root=FOLDER")
    (tmp_path / "nowhere_else").mkdir()
    refused(tmp_path / "nowhere", f"Did you mean {tmp_path / 'nowhere_else'}?")
    with zipfile.ZipFile(tmp_path / "lfw.zip", "w") as file:
        file.write(root / "pairs.txt")
    refused(
        tmp_path / "lfw.zip",
        f"data.root={tmp_path / 'lfw.zip'} is an archive",
        f"`unzip '{tmp_path / 'lfw.zip'}' -d '{tmp_path / 'lfw'}'`",
    )
    refused(root / "images", f"data.root={root / 'images'} holds no folder images")
    with pytest.raises(DataError, match="nowhere"):
        source(tmp_path / "nowhere").identity()
    (root / "images").rename(root / "photos")
    refused(root, f"data.root={root} holds no folder images")
    (root / "photos").rename(root / "images")
    (root / "pairs.txt").rename(root / "pairsDevTest.txt")
    refused(root, f"{root / 'pairs.txt'} does not exist", "data.pairs=FILE", "pairsDevTest.txt is there")


def test_too_few_identities_with_enough_images(root: Path) -> None:
    with pytest.raises(DataError, match=r"0 identities with at least 13 images.*data\.min_images"):
        source(root, min_images=13).faces(SIZE, root.parent / "cache")


@pytest.mark.parametrize(
    ("key", "value"), [("on_error", "ignore"), ("alignment", "eyes"), ("min_images", 0), ("min_images", "ten")]
)
def test_settings_that_make_no_sense(root: Path, key: str, value: object) -> None:
    settings: dict[str, object] = {"on_error": "raise", "alignment": "centre", "min_images": 2, key: value}
    with pytest.raises(DataError, match=rf"data\.{key}={value}"):
        source(root, **settings)  # type: ignore[arg-type]


def test_the_identity_is_that_of_the_files_on_any_path(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "copy")
    assert source(tmp_path / "copy").identity() == source(root).identity()
    assert source(root).identity()["source"] == "lfw"


def other_pairs(root: Path) -> None:
    change_line(root / "pairs.txt", 2, "Ann_A\t1\t4")


def other_landmarks(root: Path) -> None:
    change_line(root / "landmarks.txt", 5, f"{ANN_5} {GOOD}")


def other_training_image(root: Path) -> None:
    (root / "images" / ANN_5).write_bytes((root / "images" / ANN_5).read_bytes() + b"\0")


def other_pair_image(root: Path) -> None:
    path = root / "images" / "Eve" / "Eve_0002.jpg"
    path.write_bytes(path.read_bytes() + b"\0")


@pytest.mark.parametrize("act", [other_pairs, other_landmarks, other_training_image, other_pair_image])
def test_the_identity_changes_with_what_is_read(root: Path, act: Callable[[Path], None]) -> None:
    before = source(root).identity()
    act(root)
    assert source(root).identity() != before


def test_the_identity_knows_the_alignment_and_who_is_trained_on(root: Path) -> None:
    identities = [source(root, alignment=alignment, min_images=n).identity() for alignment, n in OPTIONS]
    assert all(one != other for i, one in enumerate(identities) for other in identities[:i])
    before = source(root, alignment="centre").identity()
    other_landmarks(root)
    assert source(root, alignment="centre").identity() == before


OPTIONS = [("similarity", 10), ("centre", 10), ("similarity", 3), ("centre", 3)]


def test_changed_landmarks_and_images_are_read_again(root: Path) -> None:
    first = read(root)
    change_line(root / "landmarks.txt", 5, f"{ANN_5} 1 5 60 15 40 35 20 56 65 60")
    again = read(root)
    assert (np.array(first.images) != again.images).any()
    path = root / "images" / "Eve" / "Eve_0001.jpg"
    Image.new("RGB", (80, 64), (250, 250, 250)).save(path)
    os.utime(path, ns=(1, 1))
    assert again.pairs is not None
    pairs = read(root).pairs
    assert pairs is not None
    assert near(colour_at(pairs.images[pairs.left[7]]), (250, 250, 250))


@pytest.mark.parametrize("decoded", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_real_images_and_protocol(
    tmp_path: Path, real_faces: Path, monkeypatch: pytest.MonkeyPatch, decoded: bool
) -> None:
    root = real_faces / "lfw"
    if not decoded:
        black = Image.new("RGB", (8, 8))
        monkeypatch.setattr("facedistill.data.files.layouts.layout.open_photo", lambda path: black)
    assert source(root).identity()["images"] == 4324  # and all lines of pairs and landmarks are valid
    faces = source(root, alignment="centre").faces(8, tmp_path)
    assert faces.counts == {
        "images": 4324,
        "identities": 158,
        "skipped": 0,
        "identities_below_min_images": 4123,
        "pairs": 6000,
        "pairs_of_people_trained_on": 726,
    }
    pairs = faces.pairs
    assert pairs is not None
    assert len(pairs.images) == 7701
    assert [(pairs.fold[pairs.same == same] == fold).sum() for fold in range(10) for same in (True, False)] == [
        300
    ] * 20


def converted(root: Path, rename: Callable[[str], str]) -> None:
    """Every image in another file: lossless, so that its pixels stay."""
    for path in [*root.glob("images/*/*.jpg")]:
        with Image.open(path) as image:
            image.save(path.with_name(rename(path.stem)))
        path.unlink()


TREES: dict[str, Callable[[Path], object]] = {
    "png": lambda root: converted(root, "{}.png".format),
    "PNG": lambda root: converted(root, "{}.PNG".format),
    "bmp": lambda root: converted(root, "{}.bmp".format),
    "a cropper's": lambda root: converted(root, "{}_0.png".format),
    "numbers without zeros": lambda root: converted(root, lambda stem: re.sub("_0+", "_", stem) + ".png"),
    "lfw": lambda root: (root / "images").rename(root / "lfw"),
    "lfw_funneled": lambda root: (root / "images").rename(root / "lfw_funneled"),
    "Kaggle's": lambda root: (
        ((root / "a").mkdir(), (root / "images").rename(root / "a" / "lfw-deepfunneled"))
        and (root / "a").rename(root / "lfw-deepfunneled")
    ),
    "Kaggle's list": lambda root: (root / "pairs.txt").rename(root / "pairs.csv"),
}


@pytest.mark.parametrize("tree", TREES)
def test_trees_of_others_have_the_same_pairs(root: Path, tree: str) -> None:
    def shown() -> list[np.ndarray]:
        pairs = source(root, alignment="centre").protocol(SIZE, root.parent / "cache", {"Dee"})
        return [pairs.images[pairs.left], pairs.images[pairs.right], pairs.same, pairs.fold, pairs.trained_on]

    before, people = shown(), source(root)._layout.identities
    TREES[tree](root)
    for one, other in zip(shown(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert source(root)._layout.identities == people == sorted(PEOPLE)


def test_what_the_doctor_calls_trainable_can_be_trained_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """PNG instead of JPEG, with the lists of the JPEGs, and landmarks of many images that are not there."""
    converted(root, "{}.png".format)
    lines = (root / "landmarks.txt").read_text()
    (root / "landmarks.txt").write_text(lines + lines.replace("_0", "_9"))
    monkeypatch.chdir(tmp_path)
    assert doctor(["data=lfw", f"data.root={root}", f"cache_dir={tmp_path}", "image.resize=28", "image.crop=24"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"lines for other images +34\n", said)
    assert read(root).counts["lines_for_other_images"] == 34


def test_an_order_of_landmarks_is_said_and_read(root: Path) -> None:
    before = read(root)
    rows = [line.split("\t") for line in (root / "landmarks.txt").read_text().splitlines()]
    turned = ["\t".join([name, *values[0::2], *values[1::2]]) for name, *values in rows]
    (root / "landmarks.txt").write_text("\n".join(turned))
    np.testing.assert_array_equal(read(root).images, before.images)
    inventory = source(root).inventory(root.parent)
    assert "the landmarks of landmarks.txt are x1 … x5 y1 … y5" in inventory.notes


def write_pairs(path: Path, kinds: Sequence[bool]) -> None:
    """Pairs without a header, of one person where ``kinds`` says so."""
    path.write_text("".join("Dee\t1\t2\n" if kind else "Dee\t1\tEve\t1\n" for kind in kinds))


def test_lists_without_folds_are_scored_in_ten(root: Path) -> None:
    assert source(root).inventory(root.parent).notes == []
    write_pairs(root / "pairs.txt", [True] * 20 + [False] * 30)
    pairs = read(root).pairs
    assert pairs is not None
    assert pairs.fold.tolist() == [i // 2 for i in range(20)] + [i // 3 for i in range(30)]
    note = "pairs.txt has no folds: scored in 10, tenths of the pairs of each kind"
    assert source(root).inventory(root.parent).notes == source(root).pair_notes == [note]


def test_two_halves_are_one_list(root: Path) -> None:
    write_pairs(root / "matchpairsDevTest.csv", [True] * 10)
    (root / "pairs.txt").rename(root / "matchpairsDevTrain.csv")  # whose other half is not there
    identities = []
    for name in ("matchpairsDevTest.csv", "mismatchpairsDevTest.csv"):
        write_pairs(root / "mismatchpairsDevTest.csv", [False] * 20)
        halves = replace(source(root), pairs=name)
        identities.append(halves.identity())
        assert halves.protocol(SIZE, root.parent / "cache", set()).same.tolist() == [True] * 10 + [False] * 20
    write_pairs(root / "mismatchpairsDevTest.csv", [False] * 21)
    identities.append(replace(source(root), pairs=name).identity())
    assert identities[0] == identities[1] != identities[2]


@pytest.mark.parametrize(("kind", "said"), [(True, "of one person"), (False, "of two people")])
def test_pairs_of_one_kind_are_a_protocol_but_nothing_to_train_beside(root: Path, kind: bool, said: str) -> None:
    write_pairs(root / "pairs.txt", [kind] * 40)
    assert source(root).protocol(SIZE, root.parent / "cache", set()).same.tolist() == [kind] * 40
    assert source(root).pair_notes == []
    for on_error in ("raise", "skip"):
        refused(root, f"{root / 'pairs.txt'}: all of its 40 pairs are {said}", "tells nothing", on_error=on_error)


def test_an_image_that_may_be_two_is_not_guessed(root: Path) -> None:
    converted(root, "{}_0.png".format)
    shutil.copy(root / "images/Dee/Dee_0002_0.png", root / "images/Dee/Dee_0002_1.png")
    said = f"Dee_0002.jpg may be {root}/images/Dee/Dee_0002_0.png or {root}/images/Dee/Dee_0002_1.png: remove one"
    refused(root, "line 8:", said, alignment="centre")


def test_several_folders_of_images_are_not_guessed(root: Path) -> None:
    (root / "images").rename(root / "lfw")
    (root / "lfw_funneled").mkdir()
    refused(root, f"data.root={root} holds lfw, lfw_funneled: name one, data.images=lfw")


@pytest.mark.parametrize("name", ["Cid", "cid", " CID", "Cid_", "\uff23id"])
def test_a_person_is_known_by_other_spellings(root: Path, name: str) -> None:
    pairs = source(root).protocol(SIZE, root.parent / "cache", {name, "Ann", "A_Ann"})
    assert pairs.trained_on.tolist() == ["Cid" in line for line in PAIRS]
    pairs = source(root).protocol(SIZE, root.parent / "cache", {"ann a"})
    assert pairs.trained_on.tolist() == ["Ann_A" in line for line in PAIRS]


@pytest.mark.parametrize(
    "name", ["{}_{:04d}.jpg", "{}_{}.jpg", "{}_{:04d}_0.png"], ids=["CALFW", "CPLFW", "a cropper's"]
)
def test_images_in_one_folder(root: Path, name: str) -> None:
    """With CALFW's list: two lines a pair, and a number that is 0 for two people."""
    before = source(root, alignment="centre").protocol(SIZE, root.parent / "cache", {"Cid"})
    flat = root / "aligned images"
    flat.mkdir()
    for path in root.glob("images/*/*.jpg"):
        person, _, number = path.stem.rpartition("_")
        with Image.open(path) as image:
            image.save(flat / name.format(person, int(number)), quality=95)
    Image.new("RGB", (80, 64)).save(flat / "cover.jpg")
    lines = []
    for _ in range(2):
        for number, line in enumerate(PAIRS):
            for person, shot in images_of(line):
                lines.append(f"{name.format(person, int(shot)).replace('_0.png', '.jpg')} {int(number % 6 < 3)}\n")
    (root / "pairs_CALFW.txt").write_text("".join(lines))
    flat_source = replace(source(root, alignment="centre"), images="aligned images", pairs="pairs_CALFW.txt")
    assert flat_source.inventory(root.parent / "cache").counts["images_without_identity_and_number"] == 1
    pairs = flat_source.protocol(SIZE, root.parent / "cache", {"Cid"})
    assert pairs.same.tolist() == before.same.tolist() * 2
    assert pairs.trained_on.tolist() == before.trained_on.tolist() * 2
    for side in ("left", "right"):
        one, other = pairs.images[getattr(pairs, side)[:12]], before.images[getattr(before, side)]
        assert np.abs(one.astype(int) - other).max() <= 4  # some were compressed twice
    assert flat_source.faces(SIZE, root.parent / "cache").identities == ["Ann_A", "Bob_B"]
