"""Packed faces: a self-contained folder, which can be copied to another machine.

============== ========================================================================================================
``images.npy`` uint8 [N, size, size, 3]
``pairs.npy``  uint8 [M, size, size, 3], the images of the verification protocol, if there is one
``faces.npz``  crc32 uint32 [N], labels int64 [N], is_test bool [N], identities text [C]; if they are known, landmarks
               float32 [N, 5, 2] and crop_boxes float32 [N, 3]; subsets text [K], and subset_0 … int64 [any]; with
               ``pairs.npy`` pairs_crc32 uint32 [M], pairs_left, pairs_right, pairs_fold int64 [P], pairs_same,
               pairs_trained_on bool [P]. See ``FaceSet`` and ``Pairs``
``pack.json``  the identity of the source, size, counts, bytes of the other files, SHA-256 of ``faces.npz``. Written
               last: without it, the folder is not a pack
============== ========================================================================================================
"""

import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pydantic import BaseModel, NonNegativeInt, ValidationError

from facedistill.data.faces import LANDMARKS, FaceSet, Pairs, Samples, check_kinds, person
from facedistill.data.files.faults import located
from facedistill.data.files.formats.npz import read_npz
from facedistill.data.files.photo_store import Decoded, Images
from facedistill.data.files.roots import data_folder
from facedistill.data.files.store import Columns, Mapped, image_of, open_or_make, verify, verify_once
from facedistill.data.sources.source import Source
from facedistill.errors import DataError
from facedistill.system.files import disk_of, hash_of, open_regular, sha256, write_aside, write_json

IMAGES, PAIRS, FACES, MANIFEST = "images.npy", "pairs.npy", "faces.npz", "pack.json"
AGAIN = "Copy the pack again, or make it again: facedistill data data=… pack=true"
_MADE_AGAIN = "The same command makes it again"
_FORMAT = "facedistill pack 2"
_MAX_MANIFEST = 1_000_000  # bytes
_COPIED_AT_ONCE = 256


class _Manifest(BaseModel, strict=True):
    """pack.json; ``of`` is the identity of the source."""

    format: str
    of: dict[str, Any]
    size: NonNegativeInt
    counts: dict[str, NonNegativeInt]
    bytes: dict[str, NonNegativeInt]
    sha256: str


@dataclass
class Packed(Source):
    """A folder written by ``write_pack``, or a copy of it."""

    name: str
    root: str

    def identity(self) -> dict[str, Any]:
        _, manifest = self._manifest()
        return {"source": "packed", "of": manifest.of, "faces": manifest.sha256}

    def samples(self, cache_dir: Path) -> Samples:
        return self.faces(self._manifest()[1].size, cache_dir).samples

    def check_size(self, size: int) -> None:
        folder, manifest = self._manifest()
        if size != manifest.size:
            actual = manifest.size
            raise DataError(f"{folder} holds images of {actual} pixels, not {size}: image.resize={actual}")

    def faces(self, size: int, cache_dir: Path) -> FaceSet:
        """All faces. Raises ``DataError`` unless all pixels are what was written; see ``store.verify_once``."""
        folder, manifest = self._manifest()
        self.check_size(size)
        if sha256(folder / FACES) != manifest.sha256:
            raise DataError(f"{folder / FACES} is not what was written. {AGAIN}")
        return _face_set(folder, manifest)

    def protocol(self, size: int, cache_dir: Path, trained_on: set[str]) -> Pairs:
        """The pairs of the pack, which doesn't have the names of the people in them.

        If a network was trained on identities of the pack, ``Pairs.trained_on`` is that of the source, else False.
        """
        faces = self.faces(size, cache_dir)
        if faces.pairs is None:
            raise DataError(f"data.root={self.root} was packed without pairs to verify")
        with located(f"data.root={self.root}"):
            check_kinds(faces.pairs.same, faces.pairs.fold)
        if set(map(person, trained_on)).isdisjoint(map(person, faces.identities)):
            return replace(faces.pairs, trained_on=np.zeros(len(faces.pairs.same), np.bool_))
        return faces.pairs

    def verify(self) -> None:
        """Raise ``DataError`` unless all of the pack is what was written."""
        folder, manifest = self._manifest()
        check_pixels(self.faces(manifest.size, folder))

    def _manifest(self) -> tuple[Path, _Manifest]:
        """The folder and its manifest. Raises ``DataError`` if a file is missing or has another size."""
        folder = data_folder(self.root)
        manifest = _read_manifest(folder / MANIFEST)
        for name, size in manifest.bytes.items():
            path = folder / name
            if not path.is_file():
                raise DataError(f"{path} does not exist. {AGAIN}")
            if path.stat().st_size != size:
                raise DataError(f"{path} has {path.stat().st_size} bytes, not {size}. {AGAIN}")
        return folder, manifest


def pack_folder(source: Source, size: int, cache_dir: Path) -> Path:
    """The folder for the packed faces of a source at ``size`` pixels."""
    return cache_dir / f"{source.name}-{size}px-{hash_of(source.identity())}-pack"


def write_pack(faces: FaceSet, identity: Mapping[str, Any], folder: Path) -> None:
    """Pack the faces of a source with this ``identity``, and verify the pack.

    Pixels are linked if the disk allows it, or else copied. If interrupted, the next call resumes. An existing pack is
    replaced. Raises ``DataError`` if the pixels differ from what the source wrote, or the disk has no room;
    ``DiskError`` if it can't be written.
    """
    with disk_of("the cache", "cache_dir=FOLDER", folder):
        _write_pack(faces, identity, folder)


def _write_pack(faces: FaceSet, identity: Mapping[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    arrays: dict[str, Any] = {
        "crc32": _link_or_copy(faces.images, folder / IMAGES),
        "labels": faces.labels,
        "is_test": faces.is_test,
        "identities": np.array(faces.identities, np.str_),
        "subsets": np.array(list(faces.subsets), np.str_),
    }
    arrays |= {f"subset_{number}": indices for number, indices in enumerate(faces.subsets.values())}
    arrays |= {name: getattr(faces, name) for name in ("landmarks", "crop_boxes") if getattr(faces, name) is not None}
    if faces.pairs is not None:
        arrays["pairs_crc32"] = _link_or_copy(faces.pairs.images, folder / PAIRS)
        arrays |= {f"pairs_{name}": getattr(faces.pairs, name) for name in _OF_PAIRS}
    with write_aside(folder / FACES) as part, part.open("wb") as file:
        np.savez(file, **arrays)
    files = [IMAGES, FACES] if faces.pairs is None else [IMAGES, FACES, PAIRS]
    manifest = _Manifest(
        format=_FORMAT,
        of=dict(identity),
        size=faces.images.shape[1],
        counts=faces.counts,
        bytes={name: (folder / name).stat().st_size for name in files},
        sha256=sha256(folder / FACES),
    )
    _face_set(folder, manifest)  # raises if they could not be read again
    write_json(folder / MANIFEST, manifest.model_dump())


def _link_or_copy(images: Images, path: Path) -> NDArray[np.uint32]:
    """Make ``path`` a file of these images, verified against their checksums, which are returned."""
    linked = False
    if isinstance(images, Mapped):
        assert images.checksums is not None
        checksums = images.checksums
        with suppress(OSError):  # another disk, a disk without links, or an existing file
            os.link(images.path, path)
        linked = path.exists() and path.samefile(images.path)
    elif isinstance(images, Decoded):
        checksums = images.checksums
    else:
        checksums = np.array([zlib.crc32(image.tobytes()) for image in images], np.uint32)
    try:
        _compare(Mapped(path, len(images), image_of(images.shape[1]), checksums), verify, _MADE_AGAIN)
    except DataError:
        if linked:
            raise
        _copy(images, checksums, path)
    return checksums


def _copy(images: Images, checksums: NDArray[np.uint32], path: Path) -> None:
    """Copy images by filling a store, which resumes after a kill and verifies what it has written."""

    def batches(start: int) -> Iterator[tuple[int, NDArray[np.uint8], Columns]]:
        for first in range(start, len(images), _COPIED_AT_ONCE):
            batch = images[first : first + _COPIED_AT_ONCE]
            yield first + len(batch), batch, {}

    path.unlink(missing_ok=True)
    aside = path.with_name(f".{path.stem}-{zlib.crc32(checksums.tobytes()):08x}")  # specific to these images
    for other in path.parent.glob(f".{path.stem}-*"):
        if not other.name.startswith(aside.name):
            other.unlink()  # left by a pack that was never finished
    stored = open_or_make(aside, len(images), image_of(images.shape[1]), batches, f"copying to {path}")
    assert stored.items.checksums is not None
    if isinstance(images, Mapped) and (stored.items.checksums != checksums).any():
        _compare(images, verify, _MADE_AGAIN)  # raises, with the first image that differs
        raise DataError(f"{images.path} differed between two reads. Is its disk failing?")
    stored.items.path.replace(path)
    for suffix in (".npz", ".lock"):
        aside.with_name(aside.name + suffix).unlink(missing_ok=True)


def _read_manifest(path: Path) -> _Manifest:
    try:
        with open_regular(path) as file:
            text = file.read(_MAX_MANIFEST + 1)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}. A folder without it is not a pack. {AGAIN}") from error
    if len(text) > _MAX_MANIFEST:
        raise DataError(f"{path} has more than {_MAX_MANIFEST} bytes. {AGAIN}")
    try:
        content = json.loads(text)
        json.dumps(content, allow_nan=False)  # 1e999 is read as infinite
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not intact ({error}). {AGAIN}") from error
    try:
        manifest = _Manifest.model_validate(content)
        if manifest.format == _FORMAT and set(manifest.bytes) in ({IMAGES, FACES}, {IMAGES, FACES, PAIRS}):
            return manifest
    except ValidationError:
        pass
    raise DataError(f"{path} does not have the format of this version, {_FORMAT}. {AGAIN}")


class _Arrays:
    """The arrays of faces.npz, each checked as it is taken, because files are not trusted."""

    def __init__(self, path: Path) -> None:
        self._path, self.left = path, read_npz(path)

    def take(self, name: str, dtype: DTypeLike, *shape: int | None) -> NDArray[Any]:
        """An array of this type and shape; None stands for any length."""
        array = self.left.pop(name, None)
        self.check(array is not None, f"no {name}")
        assert array is not None
        of_type = array.dtype.kind == "U" if dtype is np.str_ else array.dtype == dtype
        wanted = tuple(have if want is None else want for want, have in zip(shape, array.shape, strict=False))
        fits = len(shape) == array.ndim and wanted == array.shape
        self.check(of_type and fits, f"{name} is {array.dtype} {list(array.shape)}, which does not fit the others")
        return array

    def indices(self, name: str, below: int, *shape: int | None) -> NDArray[np.int64]:
        """An array of whole numbers from 0 to ``below`` − 1."""
        array = self.take(name, np.int64, *shape)
        self.check(not array.size or (array.min() >= 0 and array.max() < below), f"{name} are not all below {below}")
        return array

    def check(self, condition: object, message: str) -> None:
        """Raise ``DataError`` unless the condition holds."""
        if not condition:
            raise DataError(f"{self._path}: {message}. {AGAIN}")


_OF_PAIRS = ("left", "right", "same", "fold", "trained_on")


def _face_set(folder: Path, manifest: _Manifest) -> FaceSet:
    arrays = _Arrays(folder / FACES)
    checksums = arrays.take("crc32", np.uint32, None)
    count = len(checksums)
    identities: list[str] = arrays.take("identities", np.str_, None).tolist()
    arrays.check(len(set(identities)) == len(identities), "an identity is there twice")
    is_test = arrays.take("is_test", np.bool_, count)
    names: list[str] = arrays.take("subsets", np.str_, None).tolist()
    subsets = {name: arrays.indices(f"subset_{number}", count, None) for number, name in enumerate(names)}
    arrays.check(len(subsets) == len(names), "a subset is there twice")
    arrays.check(all(is_test[indices].all() for indices in subsets.values()), "a subset is not part of the test split")
    landmarks, crop_boxes = None, None
    if "landmarks" in arrays.left:
        landmarks = arrays.take("landmarks", np.float32, count, len(LANDMARKS), 2)
        arrays.check(np.isfinite(landmarks).all(), "a landmark is not finite")
    if "crop_boxes" in arrays.left:
        crop_boxes = arrays.take("crop_boxes", np.float32, count, 3)
        good = np.isfinite(crop_boxes).all() and (crop_boxes[:, 2] > 0).all()
        arrays.check(good, "a crop box is not finite, or has no area")
    for name, number in (("images", count), ("identities", len(identities))):
        arrays.check(manifest.counts.get(name, number) == number, f"{number} {name}, but {MANIFEST} says otherwise")
    faces = FaceSet(
        _verified(folder / IMAGES, manifest.size, checksums),
        labels=arrays.indices("labels", max(1, len(identities)), count),
        is_test=is_test,
        identities=identities,
        pairs=_pairs(arrays, folder / PAIRS, manifest.size) if PAIRS in manifest.bytes else None,
        landmarks=landmarks,
        crop_boxes=crop_boxes,
        subsets=subsets,
        counts=manifest.counts,
    )
    arrays.check(not arrays.left, f"a pack has no {', '.join(arrays.left)}")
    return faces


def _pairs(arrays: _Arrays, path: Path, size: int) -> Pairs:
    checksums = arrays.take("pairs_crc32", np.uint32, None)
    same = arrays.take("pairs_same", np.bool_, None)
    count = len(same)
    fold = arrays.indices("pairs_fold", count, count)
    arrays.check(count and np.bincount(fold).all(), "a fold has no pairs")
    return Pairs(
        _verified(path, size, checksums),
        left=arrays.indices("pairs_left", len(checksums), count),
        right=arrays.indices("pairs_right", len(checksums), count),
        same=same,
        fold=fold,
        trained_on=arrays.take("pairs_trained_on", np.bool_, count),
    )


def check_pixels(faces: FaceSet) -> None:
    """Compare all pixels of a pack with their checksums. Raises ``DataError`` with the first image that differs."""
    for images in (faces.images, faces.pairs.images if faces.pairs else None):
        if isinstance(images, Mapped):
            _compare(images, verify, AGAIN)


def _verified(path: Path, size: int, checksums: NDArray[np.uint32]) -> Mapped:
    images = Mapped(path, len(checksums), image_of(size), checksums)
    _compare(images, verify_once, AGAIN)
    return images


def _compare(images: Mapped, compare: Callable[[Mapped], None], remedy: str) -> None:
    try:
        compare(images)
    except DataError as error:
        raise DataError(f"{error}. {remedy}") from error
