"""The same images in every form in which sets of identities circulate."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from facedistill.data.identity_images import IdentityImages
from facedistill.data.photos import decode_photo
from facedistill.data.source import FaceSet
from facedistill.errors import DataError
from writers import PEOPLE, REAL, SHOTS, Face, encoded_faces, write_folders, write_records, write_tsv

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
    if request.param == "real" and not REAL.is_dir():
        pytest.skip("the real faces are not there")
    return encoded_faces(request.param == "real")


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


def test_without_their_names_records_are_known_by_their_keys(
    tmp_path: Path, faces: list[Face], folders: FaceSet
) -> None:
    found = read(write_records(tmp_path / "as records", faces, names=False))
    equal(folders, found)
    assert found.identities == ["0", "1", "2", "3"]
    assert 0 < found.is_test.sum() < PEOPLE * SHOTS / 2


def test_names_that_two_labels_share_are_not_taken_for_one_identity(tmp_path: Path) -> None:
    faces = encoded_faces(real=False)
    root = write_records(tmp_path / "as records", faces)
    (root / "train.lst").write_text((root / "train.lst").read_text().replace("person 1/", "person 0/1"))
    assert read(root).identities == ["0", "1", "2", "3"]


def test_tsv_has_the_images_names_and_split_of_the_jpegs_unpacked_from_it(tmp_path: Path) -> None:
    faces = [
        face._replace(identity=f"m.0{number // SHOTS}", file=f"{number % SHOTS}-FaceId-0.jpg")
        for number, face in enumerate(encoded_faces(REAL.is_dir()))
    ]
    order = sorted(faces, key=lambda face: (face.identity, face.file))
    folders = read(write_folders(tmp_path / "in folders", order))
    for root in (write_tsv(tmp_path / "tsv" / "FaceImageCroppedWithAlignment.tsv", order), tmp_path / "tsv"):
        found = read(root)
        equal(folders, found)
        assert found.identities == folders.identities
        np.testing.assert_array_equal(found.is_test, folders.is_test)


@pytest.mark.parametrize("form", ["records", "tsv"])
def test_images_are_pixel_for_pixel_those_that_were_written(tmp_path: Path, faces: list[Face], form: str) -> None:
    root = write_records(tmp_path / form, faces) if form == "records" else write_tsv(tmp_path / form / "a.tsv", faces)
    size = decode_photo(faces[0].content, "").width
    found = read(root, size=size, alignment="none")
    for number, face in enumerate(faces):
        image = decode_photo(face.content, "")
        assert image.size == (size, size)
        np.testing.assert_array_equal(found.images[number], np.asarray(image))


def test_the_identity_is_that_of_the_contents_wherever_they_lie(tmp_path: Path) -> None:
    faces = encoded_faces(real=False)
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


def test_identities_with_few_images_are_left_out_in_every_form(tmp_path: Path) -> None:
    faces = encoded_faces(real=False)[:-3]
    for root in (
        write_folders(tmp_path / "folders", faces),
        write_records(tmp_path / "records", faces),
        write_tsv(tmp_path / "lines" / "a.tsv", faces),
    ):
        found = read(root, min_images=SHOTS)
        assert found.counts["identities_below_min_images"] == 1
        assert found.labels.tolist() == sorted([0, 1, 2] * SHOTS)


def test_a_broken_image_is_named_or_skipped_in_every_form(tmp_path: Path) -> None:
    faces = encoded_faces(real=False)
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


def test_two_forms_in_one_folder_are_named(tmp_path: Path) -> None:
    for name in ("one.rec", "other.tsv"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"one.rec, other.tsv.*data.root="):
        source(tmp_path).identity()


@pytest.mark.parametrize("inside", [True, False])
def test_an_archive_is_to_be_unpacked(tmp_path: Path, inside: bool) -> None:
    archive = tmp_path / "sets" / "CASIA WebFace.zip"
    archive.parent.mkdir()
    zipfile.ZipFile(archive, "w").close()
    with pytest.raises(DataError) as refusal:
        source(archive.parent if inside else archive).identity()
    assert f"unzip '{archive}' -d '{archive.with_suffix('')}'" in str(refusal.value)


def test_a_tar_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "faces.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"tar -xf '.*faces.tar.gz' -C '.*faces'"):
        source(tmp_path / "faces.tar.gz").identity()


def test_names_of_all_kinds(tmp_path: Path) -> None:
    """Spaces, other letters, upper-case suffixes, links."""
    faces = encoded_faces(real=False)
    root = write_folders(tmp_path / "Ünï cödé", [face._replace(file=face.file.upper()) for face in faces])
    (tmp_path / "link").symlink_to(root)
    (root / "person 0").rename(tmp_path / "elsewhere")
    (root / "person 0").symlink_to(tmp_path / "elsewhere")
    equal(read(tmp_path / "link"), read(root))
