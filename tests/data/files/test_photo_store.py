"""Photographs that are decoded whenever they are read: the pixels that a store would hold, and files that change."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from torch.utils.data import DataLoader

from facedistill.config.compose import compose_config
from facedistill.data.faces import FaceSet
from facedistill.data.files import photo_store
from facedistill.data.files.photo_store import Decoded
from facedistill.data.files.store import Mapped
from facedistill.data.loading.augment import Augmentation
from facedistill.data.loading.views import Views
from facedistill.data.sources.packed import write_pack
from facedistill.data.sources.source import build_source
from facedistill.errors import DataError
from writers import Face, encoded_faces, write_folders, write_records, write_tsv

SIZE = 24
FORMS: dict[str, Callable[[Path, list[Face]], Path]] = {
    "folders": write_folders,
    "RecordIO": write_records,
    "TSV": lambda path, faces: write_tsv(path / "FaceImageCropped.tsv", faces),
}


@pytest.fixture(scope="module")
def faces() -> list[Face]:
    return [face._replace(file=f"{i:02d}-FaceId-0.jpg") for i, face in enumerate(encoded_faces())]


def read(root: Path, cache: Path, *words: str, data: str = "identity_folders") -> FaceSet:
    config = compose_config([f"data={data}", f"data.root={root}", *words], trains=False)
    return build_source(config.data).faces(SIZE, cache)


@pytest.mark.parametrize("form", FORMS)
def test_the_pixels_are_those_of_a_store_in_this_process_and_in_others(
    form: str, faces: list[Face], tmp_path: Path
) -> None:
    root = FORMS[form](tmp_path / "faces", faces)
    kept, decoded = (read(root, tmp_path / "cache", f"data.decode={word}") for word in ("once", "always"))
    assert isinstance(kept.images, Mapped)
    assert isinstance(decoded.images, Decoded)
    assert decoded.images.shape == kept.images.shape
    for images in (decoded.images, pickle.loads(pickle.dumps(decoded.images))):
        for index in (0, 7, -1, [3, 3, 1], slice(5, 9), np.array([], np.int64)):
            np.testing.assert_array_equal(images[index], kept.images[index])
    np.testing.assert_array_equal(np.asarray(decoded.images), np.asarray(kept.images))
    np.testing.assert_array_equal(decoded.labels, kept.labels)
    np.testing.assert_array_equal(decoded.is_test, kept.is_test)
    assert decoded.counts == kept.counts
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "cache").rglob("*-checked.npy")}
    assert list(sizes.values()) == [128 + 4 * len(faces)]


def test_landmarks_and_boxes_are_there_and_images_that_can_t_be_read_are_not(real_faces: Path, tmp_path: Path) -> None:
    root = tmp_path / "mtfl"
    (root / "images").mkdir(parents=True)
    lines = (real_faces / "mtfl" / "annotations.csv").read_text().splitlines()
    columns = lines[0].split(",")
    rows = [line for line in lines[1:] if line.startswith("train")][:8]
    rows += [line for line in lines[1:] if not line.startswith("train")][:4]
    for number, row in enumerate(rows):
        file = row.split(",")[columns.index("file")]
        (root / "images" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(real_faces / "mtfl" / "images" / file, root / "images" / file)
        if number == 2:
            (root / "images" / file).write_bytes(b"\xff\xd8\xff damaged")
    (root / "annotations.csv").write_text("\n".join([lines[0], *rows]) + "\n")
    with pytest.raises(DataError, match=r"is not a readable image .* data\.on_error=skip"):
        read(root, tmp_path / "cache", "data.decode=always", data="mtfl")
    kept, decoded = (
        read(root, tmp_path / "cache", f"data.decode={word}", "data.on_error=skip", data="mtfl")
        for word in ("once", "always")
    )
    assert len(decoded.images) == 11
    assert decoded.counts["skipped"] == 1
    np.testing.assert_array_equal(np.asarray(pickle.loads(pickle.dumps(decoded.images))), np.asarray(kept.images))
    np.testing.assert_array_equal(decoded.landmarks, kept.landmarks)
    np.testing.assert_array_equal(decoded.crop_boxes, kept.crop_boxes)


def free(monkeypatch: pytest.MonkeyPatch, share: float, count: int) -> None:
    """Leave so much room that the pixels of ``count`` images take this share of it."""
    room = SimpleNamespace(free=int(count * SIZE * SIZE * 3 / share))
    monkeypatch.setattr(photo_store.shutil, "disk_usage", lambda folder: room)


def test_the_room_on_the_disk_decides_and_a_line_says_so(
    faces: list[Face], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, cache = write_folders(tmp_path / "faces", faces), tmp_path / "not" / "there"
    free(monkeypatch, 0.6, len(faces))
    assert isinstance(read(root, cache).images, Decoded)
    said = capsys.readouterr().err
    assert f"data=identity_folders: {len(faces)} images of {SIZE} pixels take 0.0 GiB, and {tmp_path} has 0.0" in said
    assert "To keep them: data.decode=once" in said
    assert isinstance(read(root, cache, "data.decode=once").images, Mapped)
    assert isinstance(read(root, cache).images, Mapped), "they are there"
    free(monkeypatch, 0.4, len(faces))
    assert isinstance(read(root, tmp_path / "other").images, Mapped)
    assert "data.decode=once" not in capsys.readouterr().err
    free(monkeypatch, 0.6, len(faces))
    store = next((tmp_path / "other").glob("*.npz"))
    store.unlink()
    store.with_suffix(".part").touch()
    assert isinstance(read(root, tmp_path / "other").images, Mapped), "somebody has begun to keep them"


def test_an_error_in_a_worker_is_its_message_alone(faces: list[Face], tmp_path: Path) -> None:
    root = write_folders(tmp_path / "faces", faces)
    found = read(root, tmp_path / "cache", "data.decode=always")
    shutil.copy(root / faces[1].identity / faces[1].file, root / faces[0].identity / faces[0].file)
    views = Views(found, Augmentation(20, 0))
    loader = DataLoader(views, batch_size=None, sampler=[[(0, 0)]], num_workers=1)
    with pytest.raises(DataError) as told:
        list(loader)
    assert str(told.value).startswith("data=identity_folders: image 0 (from 0) has changed since it was first read.")
    assert len(str(told.value).splitlines()) == 1


def test_a_file_that_changes_while_a_run_goes_on_is_named_and_read_anew_afterwards(
    faces: list[Face], tmp_path: Path
) -> None:
    root = write_folders(tmp_path / "faces", faces)
    found = read(root, tmp_path / "cache", "data.decode=always").images
    one, other = (root / face.identity / face.file for face in faces[:2])
    before = found[0]
    shutil.copy(other, one)
    with pytest.raises(DataError, match=r"data=identity_folders: image 0 \(from 0\) has changed .* the same command"):
        found[0]
    os.utime(one, ns=(0, 0))
    again = read(root, tmp_path / "cache", "data.decode=always").images
    np.testing.assert_array_equal(again[0], again[1])
    assert (again[0] != before).any()
    one.unlink()
    with pytest.raises(DataError, match=str(one.name)):
        again[0]


def test_a_pack_of_them_has_the_pixels(faces: list[Face], tmp_path: Path) -> None:
    decoded = read(write_folders(tmp_path / "faces", faces), tmp_path / "cache", "data.decode=always")
    write_pack(decoded, {"source": "a test"}, tmp_path / "pack")
    packed = read(tmp_path / "pack", tmp_path / "cache", data="packed")
    np.testing.assert_array_equal(np.asarray(packed.images), np.asarray(decoded.images))


def test_a_choice_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.decode=sometimes: choices are auto, once, always"):
        read(tmp_path, tmp_path, "data.decode=sometimes")
