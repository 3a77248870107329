"""The same images in every layout in which data sets of identities are published."""

import io
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facedistill.data.faces import FaceSet
from facedistill.data.files.alignment import ARCFACE_TEMPLATE
from facedistill.data.files.photos import decode_photo
from facedistill.data.sources.identity_images import IdentityImages
from facedistill.errors import DataError
from writers import PEOPLE, SHOTS, Face, encoded_faces, real_photos, write_folders, write_records, write_tsv

SIZE = 24


def source(root: Path, **changed: object) -> IdentityImages:
    values = {
        "min_images": 1,
        "alignment": "centre",
        "margin": 0,
        "landmarks": None,
        "boxes": None,
        "on_error": "raise",
    }
    return IdentityImages(name="mine", root=str(root), **{**values, **changed})  # type: ignore[arg-type]


def read(root: Path, size: int = SIZE, **changed: object) -> FaceSet:
    return source(root, **changed).faces(size, Path(f"{root}-cache"))


@pytest.fixture(params=["embedded", "real"])
def faces(request: pytest.FixtureRequest) -> list[Face]:
    return real_photos(request.getfixturevalue("real_faces")) if request.param == "real" else encoded_faces()


@pytest.fixture
def folders(tmp_path: Path, faces: list[Face]) -> FaceSet:
    return read(write_folders(tmp_path / "in folders", faces))


def equal(one: FaceSet, other: FaceSet) -> None:
    np.testing.assert_array_equal(one.images[:], other.images[:])
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.counts["images"] == other.counts["images"] == PEOPLE * SHOTS


FORMS: dict[str, Callable[[Path, list[Face]], Path]] = {
    "RecordIO": write_records,
    "the file of it": lambda path, faces: write_records(path, faces) / "train.rec",
    "without index": lambda path, faces: write_records(path, faces, index=False),
    "one label": lambda path, faces: write_records(path, faces, flag=0),
    "without header": lambda path, faces: write_records(path, faces, header=False),
}


@pytest.mark.parametrize("form", FORMS)
def test_record_io_has_the_images_names_and_split_of_folders(
    tmp_path: Path, faces: list[Face], folders: FaceSet, form: str
) -> None:
    found = read(FORMS[form](tmp_path / "as records", faces))
    equal(folders, found)
    assert found.identities == folders.identities == sorted({face.identity for face in faces})
    np.testing.assert_array_equal(found.is_test, folders.is_test)


def test_without_a_list_records_are_named_by_their_keys(tmp_path: Path, faces: list[Face], folders: FaceSet) -> None:
    found = read(write_records(tmp_path / "as records", faces, names=False))
    equal(folders, found)
    assert found.identities == ["0", "1", "2", "3"]
    assert 0 < found.is_test.sum() < PEOPLE * SHOTS / 2


def test_labels_with_the_same_name_stay_two_identities(tmp_path: Path) -> None:
    faces = encoded_faces()
    root = write_records(tmp_path / "as records", faces)
    (root / "train.lst").write_text((root / "train.lst").read_text().replace("person 1/", "person 0/1"))
    assert read(root).identities == ["0", "1", "2", "3"]


def test_tsv_has_the_images_names_and_split_of_the_jpegs_unpacked_from_it(tmp_path: Path, faces: list[Face]) -> None:
    order = [
        face._replace(identity=f"m.0{number // SHOTS}", file=f"{number % SHOTS}-FaceId-0.jpg")
        for number, face in enumerate(faces)
    ]
    order.sort(key=lambda face: (face.identity, face.file))
    folders = read(write_folders(tmp_path / "in folders", order))
    for root in (write_tsv(tmp_path / "tsv" / "FaceImageCroppedWithAlignment.tsv", order), tmp_path / "tsv"):
        found = read(root)
        equal(folders, found)
        assert found.identities == folders.identities
        np.testing.assert_array_equal(found.is_test, folders.is_test)


@pytest.mark.parametrize("form", ["records", "tsv"])
def test_pixels_are_those_that_were_written(tmp_path: Path, faces: list[Face], form: str) -> None:
    root = write_records(tmp_path / form, faces) if form == "records" else write_tsv(tmp_path / form / "a.tsv", faces)
    size = decode_photo(faces[0].content, "").width
    found = read(root, size=size, alignment="none")
    for number, face in enumerate(faces):
        image = decode_photo(face.content, "")
        assert image.size == (size, size)
        np.testing.assert_array_equal(found.images[number], np.asarray(image))


def test_the_identity_is_that_of_the_contents_on_any_path(tmp_path: Path) -> None:
    faces = encoded_faces()
    records = write_records(tmp_path / "records", faces)
    lines = write_tsv(tmp_path / "lines" / "a.tsv", faces)
    for root in (records, lines.parent):
        before = source(root).identity()
        shutil.copytree(root, tmp_path / "copy")
        assert source(tmp_path / "copy").identity() == before
        assert source(root, alignment="none").identity() != before
        assert source(root, min_images=2).identity() != before
        shutil.rmtree(tmp_path / "copy")
    before = source(records).identity()
    write_records(records, faces[:-1])
    assert source(records).identity() != before
    before = source(lines).identity()
    write_tsv(lines, faces[1:])
    assert source(lines).identity() != before


def test_identities_with_few_images_are_left_out_in_every_layout(tmp_path: Path) -> None:
    faces = encoded_faces()[:-3]
    for root in (
        write_folders(tmp_path / "folders", faces),
        write_records(tmp_path / "records", faces),
        write_tsv(tmp_path / "lines" / "a.tsv", faces),
    ):
        found = read(root, min_images=SHOTS)
        assert found.counts["identities_below_min_images"] == 1
        assert found.labels.tolist() == sorted([0, 1, 2] * SHOTS)


def test_a_broken_image_is_named_or_skipped_in_every_layout(tmp_path: Path) -> None:
    faces = encoded_faces()
    faces[5] = faces[5]._replace(content=faces[5].content[:50])
    for root, place in (
        (write_folders(tmp_path / "folders", faces), "005.png"),
        (write_records(tmp_path / "records", faces), "train.rec, key 6"),
        (write_tsv(tmp_path / "lines" / "a.tsv", faces), "a.tsv, line 6"),
    ):
        with pytest.raises(DataError, match=f"{place}.*is not a readable image.*data.on_error=skip"):
            read(root)
        found = read(root, on_error="skip")
        assert found.counts["skipped"] == 1
        assert found.counts["images"] == PEOPLE * SHOTS - 1


def test_two_files_in_one_folder_are_named(tmp_path: Path) -> None:
    for name in ("one.rec", "other.tsv"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"one.rec, other.tsv.*data.root="):
        source(tmp_path).identity()


@pytest.mark.parametrize("inside", [True, False])
def test_an_archive_is_to_be_unpacked(tmp_path: Path, inside: bool) -> None:
    archive = tmp_path / "sets" / "CASIA.Web Face.zip"
    archive.parent.mkdir()
    zipfile.ZipFile(archive, "w").close()
    with pytest.raises(DataError) as refusal:
        source(archive.parent if inside else archive).identity()
    assert f"unzip '{archive}' -d '{archive.with_suffix('')}'" in str(refusal.value)


def test_what_a_system_left_is_no_file_of_faces(tmp_path: Path) -> None:
    root = write_tsv(tmp_path / "faces.tsv", encoded_faces())
    (tmp_path / "._faces.tsv").write_bytes(b"\0\5\x16\7")
    assert source(tmp_path).identity() == source(root).identity()
    root.unlink()
    for name in ("._faces.zip", "faces.zip"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"unzip '[^']*/faces.zip'"):
        source(tmp_path).identity()


def test_a_tar_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "faces.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"tar -xf '.*faces.tar.gz' -C '.*faces'"):
        source(tmp_path / "faces.tar.gz").identity()


def test_names_of_all_kinds(tmp_path: Path) -> None:
    """Spaces, non-ASCII letters, upper-case suffixes, links."""
    faces = encoded_faces()
    root = write_folders(tmp_path / "Ünï cödé", [face._replace(file=face.file.upper()) for face in faces])
    (tmp_path / "link").symlink_to(root)
    (root / "person 0").rename(tmp_path / "elsewhere")
    (root / "person 0").symlink_to(tmp_path / "elsewhere")
    equal(read(tmp_path / "link"), read(root))


def dotted(folder: Path) -> tuple[list[Face], dict[str, np.ndarray]]:
    """Black images of 60×40 pixels with a white dot on every landmark, and where these are."""
    draw = np.random.default_rng(0)
    faces, points = [], {}
    for number in range(PEOPLE * SHOTS):
        pixels = np.zeros((40, 60, 3), np.uint8)
        at = np.round(ARCFACE_TEMPLATE / 4 + draw.uniform([0, 0], [20, 8])).astype(int)
        for x, y in at:
            pixels[y - 1 : y + 2, x - 1 : x + 2] = 255
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "png")
        face = Face(f"Ann {number // SHOTS}", f"{number:03d} b.png", file.getvalue())
        faces.append(face)
        points[f"{face.identity}/{face.file}"] = at
    return faces, points


def centres(image: np.ndarray, near: np.ndarray, reach: int) -> np.ndarray:
    """Centres of mass of the bright pixels around each point."""
    down, across = np.mgrid[: image.shape[0], : image.shape[1]]
    found = []
    for x, y in near:
        weight = image[..., 0] * ((np.abs(across - x) <= reach) & (np.abs(down - y) <= reach)).astype(float)
        found.append([(weight * across).sum() / weight.sum(), (weight * down).sum() / weight.sum()])
    return np.array(found)


@pytest.mark.parametrize("form", ["folders", "records"])
def test_landmarks_are_moved_to_the_template_in_every_layout(tmp_path: Path, form: str) -> None:
    """With spaces in names, and a file from Windows with a byte-order mark and blank lines."""
    faces, points = dotted(tmp_path)
    root = {"folders": write_folders, "records": write_records}[form](tmp_path / form, faces)
    lines = [f"{name} {' '.join(map(str, at.ravel()))}" for name, at in points.items()]
    (root / "five.txt").write_text("\ufeff" + "\r\n".join(lines) + "\r\n\r\n")
    found = read(root, size=112, alignment="similarity", landmarks="five.txt")
    error = [np.abs(centres(found.images[i], ARCFACE_TEMPLATE, 9) - ARCFACE_TEMPLATE).max() for i in range(10)]
    assert max(error) < 2.5  # the dots were rounded to pixels of a quarter of the size
    assert source(root, alignment="similarity", landmarks="five.txt").identity()["alignment"] == ["similarity"]
    lines[7] += "x"
    (root / "five.txt").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"five.txt, line 8: .*on_error=skip"):
        read(root, size=112, alignment="similarity", landmarks="five.txt")


def test_boxes_are_cropped_with_their_margin(tmp_path: Path) -> None:
    faces, _ = dotted(tmp_path)
    root = write_folders(tmp_path / "faces", faces)
    names = [f"{face.identity}/{face.file}" for face in faces]
    (root / "boxes.txt").write_text("".join(f"{name}\t10 5 20 16\n" for name in names))
    found = read(root, size=40, alignment="box", margin=1.0, boxes="boxes.txt")
    for number in range(5):  # the box's centre is (20, 13), the side twice the longer of its sides
        name = f"{found.identities[found.labels[number]]}/"
        face = [one for one in faces if f"{one.identity}/" == name][number % SHOTS]
        image = np.asarray(decode_photo(face.content, ""))
        expected = np.zeros((40, 40, 3), np.uint8)
        expected[7:, :] = image[0:33, 0:40]
        np.testing.assert_array_equal(found.images[number], expected)
    identities = [source(root, alignment="box", margin=m, boxes="boxes.txt").identity() for m in (0, 1)]
    assert identities[0] != identities[1]


def test_the_whole_image_is_padded_with_black(tmp_path: Path) -> None:
    faces, _ = dotted(tmp_path)
    found = read(write_folders(tmp_path / "faces", faces), size=60, alignment="none")
    np.testing.assert_array_equal(found.images[0][10:50], np.asarray(decode_photo(faces[0].content, "")))
    assert not found.images[0][:10].any()
    assert not found.images[0][50:].any()


def test_an_alignment_names_the_file_that_it_needs(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "faces", encoded_faces())
    for alignment, key in (("similarity", "landmarks"), ("box", "boxes")):
        with pytest.raises(DataError, match=rf"data.alignment={alignment} needs data.{key}=FILE"):
            source(root, alignment=alignment)
        with pytest.raises(DataError, match=rf"data.{key}: .*gone.txt does not exist"):
            source(root, alignment=alignment, **{key: "gone.txt"}).identity()


def test_what_is_said_of_an_archive_unpacks_it(tmp_path: Path) -> None:
    archive = tmp_path / "O'Neil & sons.tar"
    with tarfile.open(archive, "w") as file:
        file.add(__file__, "person/1.jpg")
    with pytest.raises(DataError) as refusal:
        source(archive).identity()
    subprocess.run(str(refusal.value).split("`")[1], shell=True, check=True)
    assert (tmp_path / "O'Neil & sons" / "person" / "1.jpg").exists()


def test_a_pipe_is_no_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "faces")
    with pytest.raises(DataError, match=r"faces is no folder: name the folder of the faces, data\.root=FOLDER"):
        source(tmp_path / "faces").identity()
