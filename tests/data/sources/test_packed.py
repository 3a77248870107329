"""Packed faces: the same faces elsewhere, without a second copy of the pixels, and packs that are refused."""

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from facedistill.config.compose import compose_config
from facedistill.data.faces import FaceSet, Pairs
from facedistill.data.files.store import Mapped, image_of, open_or_make, verify
from facedistill.data.sources.packed import Packed, pack_folder, write_pack
from facedistill.data.sources.source import build_source
from facedistill.errors import DataError, FacedistillError

N, M, SIZE = 12, 6, 8
DRAW = np.random.default_rng(0)
IMAGES = DRAW.integers(0, 256, (N, SIZE, SIZE, 3), dtype=np.uint8)
COMPARED = DRAW.integers(0, 256, (M, SIZE, SIZE, 3), dtype=np.uint8)
OF = {"source": "drawn", "files": "0123", "images": N, "list": [1, "a"]}
FILES = ("images.npy", "pairs.npy", "faces.npz", "pack.json")


def stored(images: Any, path: Path) -> Mapped:
    return open_or_make(path, len(images), image_of(SIZE), lambda start: [(len(images), images, {})], "filling").items


def face_set(folder: Path) -> FaceSet:
    """A FaceSet with all fields, its pixels in stores."""
    index = np.arange(N)
    return FaceSet(
        stored(IMAGES, folder / "faces-1"),
        labels=index % 3,
        is_test=index >= 8,
        identities=["ann", "Zoë", "\udcff"],  # the last like a file name in another encoding
        pairs=Pairs(
            stored(COMPARED, folder / "pairs-1"),
            left=np.array([0, 1, 4, 4]),
            right=np.array([1, 2, 5, 0]),
            same=np.array([True, False, True, False]),
            fold=np.array([0, 0, 1, 1]),
            trained_on=np.array([True, False, False, False]),
        ),
        landmarks=DRAW.random((N, 5, 2), np.float32),
        crop_boxes=DRAW.random((N, 3), np.float32) + 1,
        subsets={"val": np.array([8, 9]), "in the wild/ü": np.array([11])},
        counts={"images": N, "identities": 3, "skipped": 2},
    )


@pytest.fixture
def faces_to_pack(tmp_path: Path) -> FaceSet:
    return face_set(tmp_path / "cache")


@pytest.fixture
def pack(tmp_path: Path, faces_to_pack: FaceSet) -> Path:
    write_pack(faces_to_pack, OF, tmp_path / "pack")
    return tmp_path / "pack"


def read(folder: Path, size: int = SIZE) -> FaceSet:
    return Packed("packed", str(folder)).faces(size, Path("never used"))


def assert_same(found: Any, expected: Any) -> None:
    """Every field of a FaceSet or of Pairs."""
    for field in fields(expected):
        want, have = getattr(expected, field.name), getattr(found, field.name)
        if isinstance(want, Pairs):
            assert_same(have, want)
        elif field.name == "subsets":
            assert list(have) == list(want)
            for name in want:
                np.testing.assert_array_equal(have[name], want[name])
        elif isinstance(want, np.ndarray | Mapped):
            assert np.asarray(have).dtype == np.asarray(want).dtype
            np.testing.assert_array_equal(have, want)
        else:
            assert have == want


def test_a_pack_is_the_faces_that_were_packed(pack: Path, faces_to_pack: FaceSet) -> None:
    assert {path.name for path in pack.iterdir()} == set(FILES)
    found = read(pack)
    assert_same(found, faces_to_pack)
    for images in (found.images, found.pairs.images if found.pairs else None):
        assert isinstance(images, Mapped)
        verify(images)


def test_numpy_and_json_read_the_files(pack: Path) -> None:
    np.testing.assert_array_equal(np.load(pack / "images.npy", allow_pickle=False), IMAGES)
    np.testing.assert_array_equal(np.load(pack / "pairs.npy", allow_pickle=False), COMPARED)
    with np.load(pack / "faces.npz", allow_pickle=False) as arrays:
        assert arrays["crc32"].tolist() == [zlib.crc32(image.tobytes()) for image in IMAGES]
        assert arrays["labels"].tolist() == [number % 3 for number in range(N)]
        assert arrays["subsets"].tolist() == ["val", "in the wild/ü"]
        assert arrays["subset_1"].tolist() == [11]
        assert arrays["pairs_left"].tolist() == [0, 1, 4, 4]
    said = json.loads((pack / "pack.json").read_text())
    assert said["of"] == OF
    assert said["bytes"] == {name: (pack / name).stat().st_size for name in FILES[:3]}
    assert said["sha256"] == hashlib.sha256((pack / "faces.npz").read_bytes()).hexdigest()


def test_pixels_are_not_stored_twice_on_one_disk(pack: Path, tmp_path: Path) -> None:
    assert (pack / "images.npy").samefile(tmp_path / "cache" / "faces-1.npy")
    shutil.rmtree(tmp_path / "cache")
    np.testing.assert_array_equal(read(pack).images, IMAGES)


def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("facedistill.data.sources.packed.os.link", refuse)


def test_to_another_disk_it_is_copied(tmp_path: Path, faces_to_pack: FaceSet, monkeypatch: pytest.MonkeyPatch) -> None:
    no_links(monkeypatch)
    write_pack(faces_to_pack, OF, tmp_path / "pack")
    assert {path.name for path in (tmp_path / "pack").iterdir()} == set(FILES)
    assert not (tmp_path / "pack" / "images.npy").samefile(tmp_path / "cache" / "faces-1.npy")
    assert_same(read(tmp_path / "pack"), faces_to_pack)


def test_an_interrupted_copy_resumes(tmp_path: Path, faces_to_pack: FaceSet, monkeypatch: pytest.MonkeyPatch) -> None:
    class Cut(Exception):
        pass

    def read_once(self: Mapped, index: slice) -> Any:
        reads.append(index.start)
        if cut and len(reads) == 3:
            raise Cut
        return np.asarray(self)[index]

    no_links(monkeypatch)
    monkeypatch.setattr("facedistill.data.sources.packed._COPIED_AT_ONCE", 5)
    monkeypatch.setattr(Mapped, "__getitem__", read_once)
    reads: list[int] = []
    cut = True
    with pytest.raises(Cut):
        write_pack(faces_to_pack, OF, tmp_path / "pack")
    with pytest.raises(DataError, match=r"pack\.json: No such file"):
        read(tmp_path / "pack")
    cut = False
    write_pack(faces_to_pack, OF, tmp_path / "pack")
    assert reads == [0, 5, 10, 10, 0, 5]  # of 12 images, then of the 6 of pairs
    assert {path.name for path in (tmp_path / "pack").iterdir()} == set(FILES)
    assert_same(read(tmp_path / "pack"), faces_to_pack)


def test_an_interrupted_copy_does_not_resume_with_other_images(
    tmp_path: Path, faces: FaceSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_of(batches: Iterator[Any]) -> Iterator[Any]:
        yield next(batches)
        raise ZeroDivisionError

    def cut(path: Path, count: int, size: int, make: Callable[[int], Any], description: str) -> None:
        open_or_make(path, count, size, lambda start: first_of(make(start)), description)

    monkeypatch.setattr("facedistill.data.sources.packed._COPIED_AT_ONCE", 5)
    with monkeypatch.context() as patch:
        patch.setattr("facedistill.data.sources.packed.open_or_make", cut)
        with pytest.raises(ZeroDivisionError):
            write_pack(replace(faces, images=np.asarray(faces.images)[::-1].copy()), OF, tmp_path)
    write_pack(faces, OF, tmp_path)
    assert_same(read(tmp_path, 24), faces)
    assert {path.name for path in tmp_path.iterdir()} == {"images.npy", "faces.npz", "pack.json"}


def test_images_in_memory_are_packed(tmp_path: Path, faces: FaceSet) -> None:
    write_pack(faces, OF, tmp_path)
    assert_same(read(tmp_path, 24), faces)


def test_packing_again_copies_nothing_and_gives_the_same_bytes(
    pack: Path, faces_to_pack: FaceSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: (pack / name).read_bytes() for name in FILES}
    monkeypatch.setattr("facedistill.data.sources.packed.open_or_make", None)
    write_pack(faces_to_pack, OF, pack)
    write_pack(read(pack), OF, pack)
    assert {name: (pack / name).read_bytes() for name in FILES} == before


def test_another_set_in_the_same_folder_replaces_it(pack: Path, faces_to_pack: FaceSet, tmp_path: Path) -> None:
    other = replace(faces_to_pack, images=IMAGES[::-1].copy(), pairs=None, landmarks=None, crop_boxes=None, subsets={})
    write_pack(other, OF, pack)
    assert_same(read(pack), other)
    np.testing.assert_array_equal(np.load(tmp_path / "cache" / "faces-1.npy"), IMAGES)  # the store was only unlinked


@pytest.mark.parametrize("links", [True, False])
def test_a_broken_store_makes_no_pack(
    tmp_path: Path, faces_to_pack: FaceSet, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if links:
        monkeypatch.setattr("facedistill.data.sources.packed.open_or_make", None)  # no copy is tried of what is broken
    else:
        no_links(monkeypatch)
    with (tmp_path / "cache" / "faces-1.npy").open("r+b") as file:
        file.seek(128 + 7 * IMAGES[0].nbytes)
        file.write(bytes([255 - IMAGES[7, 0, 0, 0]]))
    with pytest.raises(DataError, match=r"\.npy: image 7 .*The same command makes it again"):
        write_pack(faces_to_pack, OF, tmp_path / "pack")
    assert not (tmp_path / "pack" / "pack.json").exists()


def test_faces_that_could_not_be_read_again_are_not_written(tmp_path: Path, faces_to_pack: FaceSet) -> None:
    write_pack(faces_to_pack, OF, tmp_path / "pack")
    with pytest.raises(DataError, match="labels are not all below 3"):
        write_pack(replace(faces_to_pack, labels=faces_to_pack.labels + 1), OF, tmp_path / "pack")
    assert not (tmp_path / "pack" / "pack.json").exists()  # nor does the old one describe the new arrays


def test_a_source_identifies_what_was_packed_and_refuses_another_size(pack: Path) -> None:
    config = compose_config(["data=packed", f"data.root={pack}", "task=align", "image.resize=8", "image.crop=8"])
    source = build_source(config.data)
    digest = hashlib.sha256((pack / "faces.npz").read_bytes()).hexdigest()
    assert source.identity() == {"source": "packed", "of": OF, "faces": digest}
    with pytest.raises(DataError, match=r"images of 8 pixels, not 112: image\.resize=8"):
        read(pack, 112)


def test_a_moved_copy_has_the_same_identity(pack: Path, tmp_path: Path) -> None:
    shutil.copytree(pack, tmp_path / "elsewhere")
    assert Packed("a", str(pack)).identity() == Packed("b", str(tmp_path / "elsewhere")).identity()


def test_packs_of_other_sources_and_sizes_have_other_folders(pack: Path, tmp_path: Path) -> None:
    source = Packed("packed", str(pack))
    folders = {pack_folder(source, size, tmp_path) for size in (8, 8, 9)}
    (pack / "pack.json").write_text((pack / "pack.json").read_text().replace("0123", "4567"))
    assert len(folders | {pack_folder(source, 8, tmp_path)}) == 3


def test_pairs_of_people_trained_on(pack: Path, faces: FaceSet, tmp_path: Path) -> None:
    source = Packed("packed", str(pack))
    assert source.protocol(SIZE, tmp_path, {"ZO\u00cb ", "who"}).trained_on.tolist() == [True, False, False, False]
    pairs = source.protocol(SIZE, tmp_path, {"who"})
    assert pairs.trained_on.tolist() == [False] * 4
    np.testing.assert_array_equal(pairs.images, COMPARED)
    write_pack(faces, OF, tmp_path / "none")
    with pytest.raises(DataError, match="without pairs"):
        Packed("packed", str(tmp_path / "none")).protocol(24, tmp_path, set())


def rewrite(pack: Path, **changes: Any) -> None:
    """Change arrays of faces.npz and make pack.json fit."""
    with np.load(pack / "faces.npz") as file:
        arrays = {name: file[name] for name in file.files} | changes
    np.savez(pack / "faces.npz", **{name: array for name, array in arrays.items() if array is not None})
    seal(pack)


def seal(pack: Path, **changes: Any) -> None:
    """Make pack.json fit the files, with some changes."""
    said = json.loads((pack / "pack.json").read_text())
    said["bytes"] = {name: (pack / name).stat().st_size for name in said["bytes"]}
    said["sha256"] = hashlib.sha256((pack / "faces.npz").read_bytes()).hexdigest()
    (pack / "pack.json").write_text(json.dumps(said | changes))


LABELS, NOT_A_NUMBER = np.arange(N) % 3, np.full((N, 5, 2), np.nan, np.float32)
FOLDS, ONES = np.array([0, 0, 1, 1]), np.ones((N, 3), np.float32)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": LABELS.astype(np.int32)}, r"labels is int32 \[12\]"),
        ({"labels": LABELS[1:]}, r"labels is int64 \[11\]"),
        ({"labels": LABELS[:, None]}, r"labels is int64 \[12, 1\]"),
        ({"labels": LABELS + 1}, "labels are not all below 3"),
        ({"labels": LABELS - 1}, "labels are not all below 3"),
        ({"labels": None}, "no labels"),
        ({"labels": LABELS.astype(object)}, "not an array of booleans"),
        ({"identities": np.array(["a", "b", "b"])}, "an identity is there twice"),
        ({"identities": np.array(["a", "b", "c", "d"])}, "4 identities, but pack.json says otherwise"),
        ({"identities": np.arange(3)}, "identities is int64"),
        ({"is_test": LABELS}, "is_test is int64"),
        ({"crc32": np.zeros(N - 1, np.uint32)}, r"is_test is bool \[12\]"),
        ({"crc32": np.zeros(0, np.uint32)}, "is_test is bool"),
        ({"landmarks": NOT_A_NUMBER}, "a landmark is not finite"),
        ({"landmarks": np.zeros((N, 4, 2), np.float32)}, r"landmarks is float32 \[12, 4, 2\]"),
        ({"crop_boxes": ONES * [1, 1, 0]}, "crop_boxes is float64"),
        ({"crop_boxes": ONES * np.array([1, 1, 0], np.float32)}, "a crop box is not finite, or has no area"),
        ({"subset_0": np.array([3])}, "a subset is not part of the test split"),
        ({"subset_0": np.array([N])}, "subset_0 are not all below 12"),
        ({"subset_0": None}, "no subset_0"),
        ({"subsets": np.array(["val", "val"])}, "a subset is there twice"),
        ({"subsets": np.array(["val"])}, "a pack has no subset_1"),
        ({"pairs_left": np.array([0, 1, 2, M])}, "pairs_left are not all below 6"),
        ({"pairs_right": np.array([0, 1, 2, -1])}, "pairs_right are not all below 6"),
        ({"pairs_right": FOLDS[1:]}, r"pairs_right is int64 \[3\]"),
        ({"pairs_fold": FOLDS + 1}, "a fold has no pairs"),
        ({"pairs_fold": FOLDS * 2**40}, "pairs_fold are not all below 4"),
        ({"pairs_crc32": np.zeros(M + 1, np.uint32)}, "does not hold 7 images"),
        ({"pairs_trained_on": None}, "no pairs_trained_on"),
        ({"evil": FOLDS}, "a pack has no evil"),
    ],
    ids=str,
)
def test_arrays_that_do_not_fit_are_refused(pack: Path, changes: dict[str, Any], said: str) -> None:
    rewrite(pack, **changes)
    with pytest.raises(DataError, match=said) as refusal:
        read(pack)
    assert str(pack) in str(refusal.value)
    assert "again" in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"format": "facedistill pack 1"},
            "this version, facedistill pack 2.*make it again: facedistill data",
        ),
        ({"format": None}, "the format of this version"),
        ({"of": "lfw"}, "the format of this version"),
        ({"of": {"x": float("inf")}}, "is not intact"),
        ({"size": "8"}, "the format of this version"),
        ({"size": 8.0}, "the format of this version"),
        ({"counts": {"images": -1}}, "the format of this version"),
        ({"counts": {"images": True}}, "the format of this version"),
        ({"counts": {"images": N + 1}}, "12 images, but pack.json says otherwise"),
        ({"bytes": {"images.npy": 0}}, "the format of this version"),
        ({"bytes": {"images.npy": 0, "faces.npz": 0, "../../secret": 0}}, "the format of this version"),
        ({"bytes": {"images.npy": 2432, "faces.npz": 1}}, r"faces\.npz has \d+ bytes, not 1\."),
        ({"sha256": "0" * 64}, r"faces\.npz is not what was written"),
        ({"more": "x" * 10**6}, "more than 1000000 bytes"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_pack_json_that_does_not_fit_is_refused(pack: Path, changes: dict[str, Any], said: str) -> None:
    seal(pack, **changes)
    with pytest.raises(DataError, match=said) as refusal:
        read(pack)
    assert str(pack) in str(refusal.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 10**5, "1" * 5000, "\xff", '{"size": 1e999}'], ids=repr)
def test_a_pack_json_that_is_not_one(pack: Path, text: str) -> None:
    (pack / "pack.json").write_text(text, "latin-1")
    with pytest.raises(DataError, match=r"pack\.json"):
        Packed("packed", str(pack)).identity()


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_or_cut_is_named_by_the_identity_too(pack: Path, name: str) -> None:
    source = Packed("packed", str(pack))
    os.truncate(pack / name, (pack / name).stat().st_size - 1 - (name == "pack.json"))
    with pytest.raises(DataError, match=rf"{pack / name}.*again"):
        source.identity()
    (pack / name).unlink()
    with pytest.raises(DataError, match=rf"{pack / name}.*again"):
        source.identity()


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        Packed("packed", str(tmp_path / "nowhere")).identity()


def mutated(content: bytes, draw: np.random.Generator) -> bytes:
    """Some bytes flipped, overwritten, cut out or put in."""
    changed = bytearray(content)
    for _ in range(draw.integers(1, 4)):
        at, length = int(draw.integers(len(changed) + 1)), int(draw.integers(1, 9))
        kind = draw.integers(4)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << int(draw.integers(8))
        elif kind == 1:
            changed[at : at + length] = draw.bytes(min(length, len(changed) - at))
        elif kind == 2:
            del changed[at : at + length * 20]
        else:
            changed[at:at] = draw.bytes(length)
    return bytes(changed)


def leave(pack: Path) -> None:
    """Leave a pack as it was mutated."""


COUNTS = [50, pytest.param(200, marks=pytest.mark.slow)]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("then", [leave, seal])
@pytest.mark.parametrize("name", FILES)
def test_a_mutated_pack_is_right_or_refused(
    pack: Path, faces_to_pack: FaceSet, tmp_path: Path, name: str, then: Callable[[Path], None], count: int
) -> None:
    """As it arrived, or with a pack.json that was made to fit."""
    shutil.copytree(pack, tmp_path / "copy")  # pixels of the pack are linked to the store
    pack, refusals = tmp_path / "copy", []
    original, about = (pack / name).read_bytes(), (pack / "pack.json").read_bytes()
    draw = np.random.default_rng(FILES.index(name))
    for _ in range(count):
        (pack / "pack.json").write_bytes(about)
        (pack / name).write_bytes(mutated(original, draw))
        try:
            if name != "pack.json":
                then(pack)
            found = read(pack)
            assert found.pairs is not None
            for images in (found.images, found.pairs.images):
                assert isinstance(images, Mapped)
                verify(images)
        except FacedistillError as error:
            refusals.append(str(error))
            continue
        assert len(found.images) == len(found.labels) == N
        assert found.labels.max() < len(found.identities) == 3
        if name != "pack.json":
            assert_same(found, faces_to_pack)
    assert len(refusals) > count * (0.5 if name == "pack.json" else 0.9)
    assert all(str(pack) in refusal for refusal in refusals)


@pytest.mark.parametrize("count", [100, pytest.param(400, marks=pytest.mark.slow)])
def test_a_mutated_array_is_refused_or_fits(pack: Path, count: int) -> None:
    """With a zip and a pack.json that are made to fit: the faces may be others, but never inconsistent."""
    with ZipFile(pack / "faces.npz") as file:
        members = {name: file.read(name) for name in file.namelist()}
    draw, refused = np.random.default_rng(0), 0
    for number in range(count):
        with ZipFile(pack / "faces.npz", "w") as file:
            for i, (name, content) in enumerate(members.items()):
                file.writestr(name, mutated(content, draw) if i == number % len(members) else content)
        seal(pack)
        try:
            found = read(pack)
        except DataError:
            refused += 1
            continue
        pairs = found.pairs
        assert pairs is not None
        assert found.landmarks is not None
        assert {len(found.labels), len(found.images), len(found.is_test), len(found.landmarks)} == {N}
        assert set(found.labels.tolist()) <= set(range(len(found.identities)))
        assert set(np.concatenate([pairs.left, pairs.right]).tolist()) <= set(range(M))
        assert set(found.is_test.view(np.uint8).tolist()) <= {0, 1}
        json.dumps(found.identities)
    assert count / 2 < refused < count
