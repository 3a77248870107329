"""Folders of people's own photographs, intact and damaged."""

import io
import os
import re
import shutil
import socket
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from facedistill.config.compose import compose_config
from facedistill.data.faces import FaceSet
from facedistill.data.files.faults import Faults
from facedistill.data.files.listing import Found, Listing
from facedistill.data.judgement import complaints
from facedistill.data.sources.identity_images import IdentityImages
from facedistill.data.sources.source import is_test_sample
from facedistill.errors import DataError

SIZE = 16


def colour(person: int, number: int) -> tuple[int, int, int]:
    """A photograph is recognized by its colour."""
    return (person * 60, 255 - person * 60, number * 20)


def photograph(path: Path, pixel: tuple[int, int, int], size: tuple[int, int] = (24, 24)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, pixel).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three people with ten photographs each."""
    for person, name in enumerate(["ann", "bob", "cid"]):
        for number in range(10):
            photograph(tmp_path / "faces" / name / f"{number}.png", colour(person, number))
    return tmp_path / "faces"


def source(
    root: Path, on_error: str = "raise", min_images: int = 1, name: str = "mine", **words: Any
) -> IdentityImages:
    return IdentityImages(name, str(root), min_images, "centre", 0, None, None, on_error, **words)


def read(root: Path, on_error: str = "raise", min_images: int = 1, size: int = SIZE, **words: Any) -> FaceSet:
    return source(root, on_error, min_images, **words).faces(size, root.parent / "cache")


def centre(faces: FaceSet, index: int) -> list[int]:
    return [int(value) for value in faces.images[index, SIZE // 2, SIZE // 2]]


def counted(faces: FaceSet) -> dict[str, int]:
    """What was passed over."""
    always = ("images", "identities", "skipped", "identities_below_min_images")
    return {name: count for name, count in faces.counts.items() if name not in always}


def refused(root: Path, *said: str, **words: Any) -> None:
    """Reading raises a DataError that says all of this."""
    with pytest.raises(DataError) as refusal:
        read(root, **words)
    missing = [word for word in said if word not in str(refusal.value)]
    assert not missing, refusal.value


def test_labels_names_order_and_pixels(root: Path) -> None:
    faces = read(root)
    assert faces.identities == ["ann", "bob", "cid"]
    assert faces.labels.dtype == np.int64
    assert faces.labels.tolist() == [0] * 10 + [1] * 10 + [2] * 10
    assert faces.images.shape == (30, SIZE, SIZE, 3)
    for index in range(30):
        assert centre(faces, index) == list(colour(index // 10, index % 10))
    assert faces.counts["images"] == 30
    assert faces.counts["identities"] == 3
    assert faces.counts["skipped"] == 0
    assert sorted([*faces.train, *faces.test]) == list(range(30))


def test_every_size_that_is_asked_for_is_made(root: Path) -> None:
    assert read(root, size=12).images.shape[1:] == (12, 12, 3)
    assert read(root, size=20).images.shape[1:] == (20, 20, 3)


def test_a_name_with_a_dot_does_not_mix_two_sizes(root: Path) -> None:
    for size in (12, 20):
        faces = source(root, name="my.faces").faces(size, root.parent / "cache")
        assert faces.images.shape[1:] == (size, size, 3)


def test_the_centre_square_of_a_wide_photograph(root: Path) -> None:
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 200  # the middle third
    pixels[:10, 20:40, 0] = 100  # its upper half
    Image.fromarray(pixels).save(root / "ann" / "0.png")
    image = read(root).images[0].astype(int)
    assert np.abs(image[:, 1:-1, 1] - 200).max() <= 1  # Pillow looks over the edge by a pixel
    assert np.abs(image[:6, 1:-1, 0] - 100).max() <= 1
    assert np.abs(image[-6:, 1:-1, 0] - 200).max() <= 1


def test_a_file_is_on_its_side_of_the_split_whatever_else_exists(root: Path) -> None:
    def sides(faces: FaceSet) -> dict[tuple[int, ...], bool]:
        return {tuple(centre(faces, i)): bool(faces.is_test[i]) for i in range(len(faces.labels))}

    before = sides(read(root))
    photograph(root / "aaa" / "0.png", (7, 7, 7))
    photograph(root / "bob" / "00.png", (9, 9, 9))
    after = sides(read(root))
    assert len(after) == len(before) + 2
    assert {pixel: after[pixel] for pixel in before} == before


def test_about_a_fifth_is_the_test_split() -> None:
    count = 5000
    chosen = sum(is_test_sample(f"person {i % 50}/{i}.jpg") for i in range(count))
    assert abs(chosen - count / 5) < 5 * (count * 0.2 * 0.8) ** 0.5


def test_all_on_one_side_of_the_split_is_refused(tmp_path: Path) -> None:
    for name in ("ann", "bob"):
        number = next(i for i in range(100) if not is_test_sample(f"{name}/{i}.png"))
        photograph(tmp_path / "faces" / name / f"{number}.png", (1, 2, 3))
    refused(tmp_path / "faces", "80/20", str(tmp_path / "faces"))


def grey(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels).convert("L")


def grey16(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.asarray(grey(pixels)).astype(np.uint16) * 257)


def opaque(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels).convert("RGBA")


def turned(pixels: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(np.rot90(pixels).copy())
    image.getexif()[0x0112] = 6  # the camera was held upright: turn it a quarter clockwise to see it
    return image


CODINGS: dict[str, tuple[Callable[[NDArray[np.uint8]], Image.Image], str, bool]] = {
    "png": (Image.fromarray, "png", False),
    "bmp": (Image.fromarray, "bmp", False),
    "webp": (Image.fromarray, "webp", False),
    "jpg": (Image.fromarray, "jpg", False),
    "jpeg": (Image.fromarray, "jpeg", False),
    "upper case": (Image.fromarray, "JPG", False),
    "grey": (grey, "png", True),
    "grey jpg": (grey, "jpg", True),
    "16 bit": (grey16, "png", True),
    "grey with alpha": (lambda pixels: grey(pixels).convert("LA"), "png", True),
    "cmyk": (lambda pixels: Image.fromarray(pixels).convert("CMYK"), "jpg", False),
    "palette": (lambda pixels: Image.fromarray(pixels).quantize(64), "png", False),
    "rgba": (opaque, "png", False),
    "exif": (turned, "jpg", False),
    "exif png": (turned, "png", False),
}


@pytest.mark.parametrize("coding", CODINGS)
def test_every_encoding_becomes_rgb_with_the_same_content(root: Path, coding: str) -> None:
    convert, suffix, is_grey = CODINGS[coding]
    across, down = np.meshgrid(np.arange(48), np.arange(48))
    pixels = np.stack([across * 5, down * 5, np.where(across < 24, 40, 210)], 2).astype(np.uint8)
    reference = np.asarray(Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BOX)).astype(int)
    if is_grey:  # ITU-R 601
        reference = np.repeat((reference @ [0.299, 0.587, 0.114])[..., None], 3, 2)
    (root / "ann" / "0.png").unlink()
    image = convert(pixels)
    image.save(root / "ann" / f"0.{suffix}", quality=95, lossless=True, exif=image.getexif())
    faces = read(root)
    assert faces.images.shape[3] == 3
    difference = np.abs(faces.images[0] - reference)
    assert difference.mean() < 5, difference.mean()
    assert faces.counts["images"] == 30


def truncated_jpg() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "jpeg")
    return buffer.getvalue()[:2000]


def tiny_png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "png")
    return buffer.getvalue()


BROKEN = {
    "zero bytes": (b"", "empty"),
    "truncated": (truncated_jpg(), "not a readable image"),
    "no image": (b"<html>404</html>" * 20, "not a readable image"),
    "1 x 1": (tiny_png(), "1×1"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named(root: Path, kind: str) -> None:
    content, said = BROKEN[kind]
    (root / "bob" / "3.png").write_bytes(content)
    refused(root, str(root / "bob" / "3.png"), said)
    refused(root, str(root / "bob" / "3.png"), said)  # a failed attempt leaves no store


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_skipped_and_counted(root: Path, kind: str) -> None:
    (root / "bob" / "3.png").write_bytes(BROKEN[kind][0])
    for _ in range(2):  # made, then opened
        faces = read(root, "skip")
        assert faces.counts["images"] == 29
        assert faces.counts["skipped"] == 1
        assert faces.labels.tolist() == [0] * 10 + [1] * 9 + [2] * 10
        expected = [colour(p, n) for p in range(3) for n in range(10) if (p, n) != (1, 3)]
        assert [tuple(centre(faces, i)) for i in range(29)] == expected
    # although the store was filled with on_error=skip
    refused(root, str(root / "bob" / "3.png"))


def test_of_damaged_files_only_these_are_lost(root: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    draw = np.random.default_rng(1)
    for suffix in ("jpg", "png", "bmp", "webp"):
        buffer = io.BytesIO()
        noise.save(buffer, {"jpg": "jpeg"}.get(suffix, suffix))
        intact = buffer.getvalue()
        for number in range(60):
            damaged = bytearray(intact[: int(draw.integers(len(intact)))] if number % 2 else intact)
            for at in draw.integers(0, max(len(damaged), 1), 4) if damaged else []:
                damaged[at] = int(draw.integers(256))
            (root / "cid" / f"{suffix}{number}.{suffix}").write_bytes(damaged)
    faces = read(root, "skip")
    assert faces.counts["images"] + faces.counts["skipped"] == 270
    assert faces.counts["skipped"] >= 50
    assert faces.labels[:20].tolist() == [0] * 10 + [1] * 10


def test_a_broken_link_is_named_or_skipped(root: Path) -> None:
    (root / "bob" / "link.png").symlink_to(root / "gone.png")
    refused(root, str(root / "bob" / "link.png"))
    faces = read(root, "skip")
    assert (faces.counts["images"], faces.counts["skipped"]) == (30, 1)


def test_a_folder_with_the_name_of_an_image_is_named_or_skipped(root: Path) -> None:
    (root / "bob" / "folder.png").mkdir()
    refused(root, str(root / "bob" / "folder.png"))
    assert read(root, "skip").counts["skipped"] == 1


def test_an_empty_folder_is_passed_over_and_counted(root: Path) -> None:
    before = source(root).identity()
    (root / "dee").mkdir()
    (root / "dee" / "notes.txt").write_text("no image")
    assert source(root).identity() == before
    faces = read(root)
    assert faces.identities == ["ann", "bob", "cid"]
    assert counted(faces) == {"folders_without_images": 1, "files_that_are_no_images": 1}
    assert faces.counts["identities_below_min_images"] == 0


def test_one_identity_is_too_few(tmp_path: Path) -> None:
    for number in range(10):
        photograph(tmp_path / "faces" / "ann" / f"{number}.png", colour(0, number))
    refused(tmp_path / "faces", str(tmp_path / "faces"), "needs two")


def test_one_identity_that_is_left_after_skipping_is_too_few(tmp_path: Path) -> None:
    for number in range(10):
        photograph(tmp_path / "faces" / "ann" / f"{number}.png", colour(0, number))
        photograph(tmp_path / "faces" / "bob" / f"{number}.png", colour(1, number))
        (tmp_path / "faces" / "bob" / f"{number}.png").write_bytes(b"")
    with pytest.raises(DataError, match="needs two"):
        read(tmp_path / "faces", "skip")


def test_nothing_that_can_be_read(root: Path) -> None:
    for path in root.glob("*/*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no image"):
        read(root, "skip")


def test_a_root_that_is_missing_a_file_or_without_folders(root: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", str(tmp_path / "nowhere"), "does not exist")
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as file:
        file.write(root / "ann" / "0.png")
    refused(
        tmp_path / "faces.zip",
        f"data.root={tmp_path / 'faces.zip'} is an archive",
        f"`unzip '{tmp_path / 'faces.zip'}' -d '{tmp_path / 'faces'}'`",
    )
    refused(root / "ann", str(root / "ann"), "no folder")
    with pytest.raises(DataError, match="nowhere"):  # when planned, not only when read
        source(tmp_path / "nowhere").identity()


NFC, NFD = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("one", "other"), [("a.png", "A.png"), ("a.png", "a.jpg"), (f"{NFC}.png", f"{NFD}.png"), ("ß.png", "ss.png")]
)
def test_twin_images_are_named_or_the_second_skipped(root: Path, one: str, other: str) -> None:
    for name in (one, other):
        photograph(root / "bob" / name, (1, 2, 3))
    if len(list((root / "bob").iterdir())) == 11:
        pytest.skip("this disk can't hold both names")
    refused(root, str(root / "bob" / one), str(root / "bob" / other), "same name")
    faces = read(root, "skip")
    assert (faces.counts["images"], faces.counts["skipped"]) == (31, 1)


@pytest.mark.parametrize(("one", "other"), [("zoe", "Zoe"), (f"zo{NFC}", f"zo{NFD}")])
def test_twin_folders_are_named_or_the_second_skipped(root: Path, one: str, other: str) -> None:
    for name in (one, other):
        photograph(root / name / "0.png", (1, 2, 3))
    if len(list(root.iterdir())) == 4:
        pytest.skip("this disk can't hold both names")
    refused(root, str(root / one), str(root / other), "same name")
    faces = read(root, "skip")
    assert len(faces.identities) == 4
    assert (faces.counts["images"], faces.counts["skipped"]) == (31, 1)


def test_identities_with_few_images_are_left_out_and_counted(root: Path) -> None:
    for number in range(4, 10):
        (root / "ann" / f"{number}.png").unlink()
    faces = read(root, min_images=5)
    assert faces.identities == ["bob", "cid"]
    assert faces.labels.tolist() == [0] * 10 + [1] * 10
    assert centre(faces, 0) == list(colour(1, 0))
    assert faces.counts["identities_below_min_images"] == 1
    assert read(root, min_images=4).identities == ["ann", "bob", "cid"]
    with pytest.raises(DataError, match=r"data\.min_images"):
        read(root, min_images=11)


@pytest.mark.parametrize(("on_error", "min_images"), [("ignore", 1), ("raise", 0)])
def test_settings_that_make_no_sense(root: Path, on_error: str, min_images: int) -> None:
    with pytest.raises(DataError, match=r"data\.(on_error=ignore.*raise, skip|min_images)"):
        source(root, on_error, min_images)


def test_the_identity_is_that_of_the_files_on_any_path(root: Path, tmp_path: Path) -> None:
    before = source(root).identity()
    shutil.copytree(root, tmp_path / "copy of faces")  # new dates, another place
    assert source(tmp_path / "copy of faces").identity() == before
    assert source(root, name="mine too").identity() == before


def remove(root: Path) -> None:
    (root / "bob" / "3.png").unlink()


def rename(root: Path) -> None:
    (root / "bob" / "3.png").rename(root / "bob" / "33.png")


def move(root: Path) -> None:
    (root / "bob" / "3.png").rename(root / "cid" / "33.png")


def change(root: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "bob" / "3.png")


@pytest.mark.parametrize("act", [remove, rename, move, change])
def test_the_identity_changes_with_the_files(root: Path, act: Callable[[Path], None]) -> None:
    before = source(root).identity()
    act(root)
    assert source(root).identity() != before


def test_a_changed_file_is_read_again(root: Path) -> None:
    read(root)
    photograph(root / "ann" / "0.png", (11, 22, 33))
    os.utime(root / "ann" / "0.png", ns=(1, 1))
    assert centre(read(root), 0) == [11, 22, 33]


def test_names_with_spaces_other_letters_and_links(root: Path, tmp_path: Path) -> None:
    photograph(tmp_path / "elsewhere" / "a photo.png", (1, 2, 3))
    (root / "zz link").symlink_to(tmp_path / "elsewhere")
    photograph(root / "Łukasz Żółć" / "zdjęcie 1.PNG", (4, 5, 6))
    photograph(root / "山田 花子" / "写真.png", (7, 8, 9))
    faces = read(root)
    assert set(faces.identities) == {"ann", "bob", "cid", "zz link", "Łukasz Żółć", "山田 花子"}
    for name, pixel in [("zz link", [1, 2, 3]), ("Łukasz Żółć", [4, 5, 6]), ("山田 花子", [7, 8, 9])]:
        index = int(np.flatnonzero(faces.labels == faces.identities.index(name))[0])
        assert centre(faces, index) == pixel


LEFT_BY_SYSTEMS = (
    *(
        ".ipynb_checkpoints",
        ".git",
        ".DS_Store",
        "._0.png",
        ".hidden.png",
        "__MACOSX",
        "@eaDir",
        "#recycle",
        "@Recycle",
    ),
    *("lost+found", "$RECYCLE.BIN", "System Volume Information", "Thumbs.db", "desktop.ini", "Icon\r"),
)


def test_what_systems_leave_is_passed_over_and_counted(root: Path) -> None:
    before = source(root).identity()
    for folder in (root, root / "bob"):
        for name in LEFT_BY_SYSTEMS:
            if name in (".DS_Store", "._0.png", ".hidden.png", "Thumbs.db", "desktop.ini", "Icon\r"):
                shutil.copy(root / "ann" / "0.png", folder / name)
            else:
                photograph(folder / name / "0.png", (1, 2, 3))
    assert source(root).identity() == before
    faces = read(root)
    assert faces.identities == ["ann", "bob", "cid"]
    assert counted(faces) == {"left_by_systems": 2 * len(LEFT_BY_SYSTEMS)}


def test_what_is_no_image_of_an_identity_is_counted(root: Path) -> None:
    before = source(root).identity()
    (root / "README.txt").write_text("of the whole set")
    photograph(root / "loose.png", (1, 2, 3))
    for name in ("notes.txt", "0.png~", "png"):
        (root / "ann" / name).write_text("hello")
    photograph(root / "ann" / "rejected" / "0.png", (1, 2, 3))
    assert source(root).identity() == before
    inventory = source(root).inventory(root)
    assert inventory.counts == {
        "identities_below_min_images": 0,
        "images_beside_the_folders": 1,
        "files_that_are_no_images": 3,
        "folders_inside_identities": 1,
    }
    assert ["data.nested=true" in note for note in inventory.notes] == [True]
    assert read(root).counts["images"] == 30


def test_images_that_nobody_here_decodes_are_counted_and_named(root: Path) -> None:
    for name in ("1.heic", "2.HEIC", "3.nef"):
        (root / "ann" / name).write_bytes(b"\0")
    (root / "dee").mkdir()
    (root / "dee" / "1.heic").write_bytes(b"\0")
    inventory = source(root).inventory(root)
    assert inventory.counts["images_not_read"] == 4
    assert inventory.counts["folders_without_images"] == 1
    said = " ".join(inventory.notes)
    assert "3 .heic not read: " in said
    assert "1 .nef not read: " in said


@pytest.mark.parametrize("suffix", ["jfif", "tif", "gif", "pgm", "jp2", "mpo"])
def test_more_suffixes_are_images(root: Path, suffix: str) -> None:
    before = source(root).identity()
    photograph(root / "ann" / "00.png", (200, 10, 20))
    image = Image.open(root / "ann" / "00.png")
    image.save(root / "ann" / f"00.{suffix}", {"jfif": "jpeg", "pgm": "ppm", "jp2": "jpeg2000"}.get(suffix))
    (root / "ann" / "00.png").unlink()
    assert source(root).identity() != before
    assert read(root).counts["images"] == 31


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    os.chdir(path.parent)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [pipe, listening, device])
@pytest.mark.parametrize("place", ["bob/0a.png", "0a.png"])
def test_what_is_no_regular_file_is_never_opened(
    root: Path, make: Callable[[Path], None], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    before = source(root).identity()
    make(root / place)
    assert source(root).identity() == before
    faces = read(root)
    assert (faces.counts["images"], faces.counts["skipped"]) == (30, 0)
    assert counted(faces) == {"pipes_sockets_and_devices": 1}


FAULTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a link to nothing": (lambda root: link(root / "bob" / "x.png", "gone"), "mend or remove the link"),
    "a link to no folder": (lambda root: link(root / "dee", "gone"), "mend or remove the link"),
    "a link to itself": (lambda root: link(root / "bob" / "x.png", "x.png"), "mend or remove the link"),
    "a folder that is a link to itself": (lambda root: link(root / "dee", "dee"), "mend or remove the link"),
    "a link to the whole": (lambda root: link(root / "dee", "."), "remove the link"),
    "another name of a person": (lambda root: link(root / "dee", "bob"), "remove the link"),
    "a folder with the name of an image": (lambda root: made(root / "bob" / "x.png"), "rename or remove"),
    "only folders": (lambda root: made(root / "dee" / "session").parent, "data.nested=true"),
}


def link(path: Path, target: str) -> Path:
    path.symlink_to(target)
    return path


def made(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_cure_or_skipped_and_counted(root: Path, fault: str) -> None:
    make, cure = FAULTS[fault]
    path = make(root)
    refused(root, str(path), cure, "data.on_error=skip")
    faces = read(root, "skip")
    assert faces.identities == ["ann", "bob", "cid"]
    assert (faces.counts["images"], faces.counts["skipped"]) == (30, 1)


def test_a_folder_that_may_not_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def forbidden(path: Any) -> Any:
        if Path(path).name == "bob":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    refused(root, str(root / "bob"), "Permission denied", "make the folder readable")
    faces = read(root, "skip")
    assert faces.identities == ["ann", "cid"]
    assert faces.counts["skipped"] == 1


def tree(root: Path, *folders: str, images: int = 5) -> Path:
    """Folders with images of their own names and colours."""
    for place, folder in enumerate(folders):
        for number in range(images):
            photograph(root / folder / f"{place}-{number}.png", colour(place % 4, number))
    return root


SPLIT = {
    "train and val": (["train/ann", "train/bob", "val/ann", "val/bob"], []),
    "in other words": (["Training/ann", "Training/bob", "Validation/ann", "Validation/bob"], []),
    "and test": (["train/ann", "train/bob", "val/ann", "val/bob", "TEST/bob"], ["test", "val"]),
}


@pytest.mark.parametrize("case", SPLIT)
def test_a_split_of_ones_own(tmp_path: Path, case: str) -> None:
    folders, subsets = SPLIT[case]
    root = tree(tmp_path / "faces", *folders)
    refused(root, "data.split=folders")
    faces = read(root, split="folders")
    assert faces.identities == ["ann", "bob"]
    sides = [(name.split("/")[1], not name.lower().startswith("train")) for name in sorted(folders)]
    for identity in ("ann", "bob"):
        expected = [test for name, test in sides if name == identity for _ in range(5)]
        assert faces.is_test[faces.labels == faces.identities.index(identity)].tolist() == expected
    assert sorted(faces.subsets) == subsets
    if subsets:
        assert len(faces.subsets["test"]) == 5
        assert sorted([*faces.subsets["test"], *faces.subsets["val"]]) == faces.test.tolist()
    assert source(root, split="folders").identity() != source(root, split="folders", nested=True).identity()


def test_test_images_of_people_nobody_trains_on_are_counted(tmp_path: Path) -> None:
    root = tree(tmp_path / "faces", "train/ann", "train/bob", "val/ann", "val/cid", "val/dee", "beside/eve")
    faces = read(root, split="folders")
    assert faces.identities == ["ann", "bob", "cid", "dee"]
    assert counted(faces) == {"test_images_of_unseen_people": 10, "folders_beside_the_split": 1}
    test_side = [number for number in range(500) if is_test_sample(f"eve/{number}.png")]
    photograph(root / "train" / "eve" / f"{test_side[0]}.png", (1, 2, 3))
    photograph(root / "train" / "eve" / f"{test_side[1]}.png", (1, 2, 3))
    faces = read(root / "train")
    assert counted(faces) == {"test_images_of_unseen_people": 2}


def test_people_of_both_sides_whose_names_differ_by_case(tmp_path: Path) -> None:
    root = tree(tmp_path / "faces", "train/Ann", "train/bob", "val/ann", "val/bob")
    refused(root, str(root / "train/Ann"), str(root / "val/ann"), "upper and lower case", "rename", split="folders")


def test_a_split_of_one_side(tmp_path: Path) -> None:
    root = tree(tmp_path / "faces", "train/ann", "train/bob")
    (root / "val" / "ann").mkdir(parents=True)
    refused(root, "one side of the split by folders", split="folders")


def test_train_and_val_are_no_people(tmp_path: Path) -> None:
    root = tree(tmp_path / "faces", "train", "val")
    refused(root, "train, val in", "are no identities", "a list of labels, data.root=LIST")
    photograph(root / "ann" / "0.png", (1, 2, 3))  # whoever has these names beside others keeps them
    assert read(root).identities == ["ann", "train", "val"]


def test_the_split_of_a_tree_needs_no_word_for_its_training_half(tmp_path: Path) -> None:
    """Which the judgement of a split of disjoint people advises."""
    root = tree(tmp_path / "faces", "train/ann", "train/bob", "val/cid", images=20)
    samples = source(root, split="folders").samples(tmp_path)
    config = compose_config(["data=identity_folders", f"data.root={root}", "task=classify"])
    said = next(complaints(config, samples))
    assert "data.root=FOLDER/train" in said
    assert not list(complaints(config, source(root / "train").samples(tmp_path)))


def test_sessions_are_one_identity_by_a_word(tmp_path: Path) -> None:
    root = tree(tmp_path / "faces", "ann/day 1", "ann/day 2/late", "bob/day 1", "bob")
    faces = read(root, nested=True)
    assert faces.identities == ["ann", "bob"]
    assert faces.labels.tolist() == [0] * 10 + [1] * 10
    numbers = [f"ann/day 1/0-{i}.png" for i in range(5)] + [f"ann/day 2/late/1-{i}.png" for i in range(5)]
    numbers += [f"bob/3-{i}.png" for i in range(5)] + [f"bob/day 1/2-{i}.png" for i in range(5)]
    assert faces.is_test.tolist() == [is_test_sample(name) for name in numbers]


def test_a_tree_may_be_deep(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder within a folder, 2,000 times, which pytest itself could not remove."""

    def within(listing: Listing, folder: str) -> Found:
        inner = [SimpleNamespace(path=f"{folder}/d")] if len(folder) < 4000 else []
        return Found([], inner, 0)  # type: ignore[arg-type]

    monkeypatch.setattr(Listing, "read", within)
    assert len(list(Listing(Faults("raise")).walk("/"))) == 2001


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    root = tree(tmp_path / "faces", "ann/day 1", "bob/day 1")
    (root / "ann" / "day 1" / "all").symlink_to(root)
    refused(root, str(root / "ann" / "day 1" / "all"), "remove the link", nested=True)
    assert read(root, "skip", nested=True).counts["skipped"] == 1


ADVICE = {
    "train and val": ["train/ann", "train/bob", "val/ann", "val/bob"],
    "a folder around all": ["CASIA/ann", "CASIA/bob"],
    "two folders around all": ["my faces/CASIA/ann", "my faces/CASIA/bob"],
    "a folder around train and val": ["set/train/ann", "set/train/bob", "set/val/ann"],
    "sessions": ["ann/day 1", "ann/day 2", "bob/day 1"],
    "a folder around sessions": ["set/ann/day 1", "set/bob/day 1", "set/cid"],
    "a split with sessions": ["train/ann/day 1", "train/bob/day 1", "val/ann/day 2", "val/bob/day 2"],
    "sessions of most": ["ann/day 1", "bob/day 1", "cid"],
}


@pytest.mark.parametrize("case", ADVICE)
def test_the_words_that_fit_deeper_trees_are_said_and_work(tmp_path: Path, case: str) -> None:
    root = tree(tmp_path / "faces", *ADVICE[case], images=20)
    with pytest.raises(DataError) as refusal:
        source(root).identity()
    said = str(refusal.value).split("; if")[0].replace("'", "")
    words: dict[str, Any] = dict(re.findall(r"data\.(\w+)=((?:[^ ]| (?!data))+)", said))
    words |= {"nested": True} if "nested" in words else {}
    faces = read(Path(words.pop("root", root)), **words)
    people = {part for folder in ADVICE[case] for part in folder.split("/")} & {"ann", "bob", "cid"}
    assert faces.identities == sorted(people)
    assert faces.counts["images"] == 20 * len(ADVICE[case])


def test_folders_without_any_image(tmp_path: Path) -> None:
    (tmp_path / "faces" / "ann" / "day 1").mkdir(parents=True)
    (tmp_path / "faces" / "bob" / "day 1").mkdir(parents=True)
    for words in ({}, {"nested": True}):
        refused(tmp_path / "faces", str(tmp_path / "faces"), "no image" if not words else "needs two", **words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"split": "official"}, "data.split=official: choices are random, folders"),
        ({"nested": 2}, "data.nested=2: choices are true, false"),
        ({"split": "folders"}, "needs folders train and val"),
    ],
)
def test_words_that_make_no_sense(root: Path, words: dict[str, Any], said: str) -> None:
    refused(root, said, **words)
