"""People's own faces: one folder an identity, as CASIA-WebFace and LFW are laid out."""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from facedistill.data.source import FaceSet, Source, is_test_sample
from facedistill.data.store import Columns, open_or_make
from facedistill.errors import DataError
from facedistill.files import hash_of

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
MIN_PIXELS = 8  # a side shorter than this shows no face
MAX_PIXELS = 100_000_000  # a header that promises more is taken for an attack, not for a photograph
_READ_AT_ONCE = 256


@dataclass(frozen=True)
class _Photo:
    identity: str
    path: Path
    size: int
    modified: int


@dataclass
class IdentityFolders(Source):
    """``root/<identity>/<image>``. The identities and the split come from the files.

    Attributes:
        root: the folder of folders.
        min_images: identities with fewer images are left out (and counted).
        on_error: ``raise`` at the first file that can't be used, or ``skip`` and count it.
    """

    name: str
    root: str
    min_images: int
    on_error: str

    def __post_init__(self) -> None:
        if self.on_error not in ("raise", "skip"):
            raise DataError(f"data.on_error={self.on_error}: choices are raise, skip")
        if self.min_images < 1:
            raise DataError("data.min_images must be at least 1")
        self._skipped = 0
        self._few = 0

    def identity(self) -> dict[str, Any]:
        # names and sizes of the files, not their place or date: a copy of the data is the same data
        files = [(photo.identity, photo.path.name, photo.size) for photo in self._photos]
        return {"source": "identity_folders", "files": hash_of(files, 32), "images": len(files)}

    def faces(self, size: int, cache_dir: Path) -> FaceSet:
        photos = self._photos
        dates = [(photo.identity, photo.path.name, photo.size, photo.modified) for photo in photos]
        path = cache_dir / f"{self.name}-{hash_of([size, str(self._root), dates])}"
        stored = open_or_make(path, len(photos), size, lambda: self._read(photos, size), f"reading {self._root}")
        kept = [photos[i] for i in stored.columns["photo"]]
        unreadable = len(photos) - len(kept)
        if unreadable and self.on_error == "raise":
            unread = sorted(set(range(len(photos))) - set(stored.columns["photo"].tolist()))
            _decode(photos[unread[0]].path, size)  # raises what is wrong with it
        names = sorted({photo.identity for photo in kept})
        number = {name: i for i, name in enumerate(names)}
        labels = np.array([number[photo.identity] for photo in kept])
        tests = np.array([is_test_sample(f"{photo.identity}/{photo.path.name}") for photo in kept])
        if len(names) < 2:
            raise DataError(f"{self._root}: only images of {names[0]} could be read; a classifier takes two identities")
        if tests.all() or not tests.any():
            raise DataError(
                f"{self._root}: all of its {len(kept)} images fall on one side of the 80/20 split; it takes more images"
            )
        counts = {
            "images": len(kept),
            "identities": len(names),
            "skipped": self._skipped + unreadable,
            "identities_below_min_images": self._few,
        }
        return FaceSet(stored.images, labels, tests, names, counts=counts)

    @property
    def _root(self) -> Path:
        return Path(self.root).expanduser()

    @cached_property
    def _photos(self) -> list[_Photo]:
        """Every image of every identity with enough of them, sorted by identity and file name."""
        root = self._root
        if not root.is_dir():
            what = "is a file: unpack it and name the folder" if root.exists() else "does not exist"
            raise DataError(f"data.root={root} {what}")
        with os.scandir(root) as entries:
            folders = sorted((Path(entry.path) for entry in entries if entry.is_dir()), key=lambda path: path.name)
        if not folders:
            raise DataError(f"data.root={root} holds no folder: one folder an identity is expected")
        folders = self._without_twins(folders, lambda path: _plain(path.name))
        found = {folder.name: self._photos_of(folder) for folder in folders}
        enough = {name: photos for name, photos in found.items() if len(photos) >= self.min_images}
        self._few = len(found) - len(enough)
        if len(enough) < 2:
            raise DataError(
                f"data.root={root}: {len(enough)} identities with at least {self.min_images} images; "
                f"a classifier takes two. {len(found)} folders were found: name their parent, or lower data.min_images"
            )
        return [photo for photos in enough.values() for photo in photos]

    def _photos_of(self, folder: Path) -> list[_Photo]:
        with os.scandir(folder) as entries:
            paths = sorted(
                (Path(entry.path) for entry in entries if Path(entry.name).suffix.lower() in SUFFIXES),
                key=lambda path: path.name,
            )
        if not paths:
            self._refuse(f"{folder} holds no image ({', '.join(sorted(SUFFIXES))})")
        paths = self._without_twins(paths, lambda path: _plain(path.stem))
        photos = []
        for path in paths:
            try:
                stat = path.stat()
            except OSError as error:  # a link to nothing
                self._refuse(f"{path}: {error.strerror}")
                continue
            photos.append(_Photo(folder.name, path, stat.st_size, stat.st_mtime_ns))
        return photos

    def _without_twins(self, paths: list[Path], name: Callable[[Path], str]) -> list[Path]:
        """Refuse (or skip) a path whose name differs from another's only in case, accents' coding or suffix."""
        ordered = sorted(paths, key=lambda path: (name(path), path.name))
        twins = [(one, other) for one, other in pairwise(ordered) if name(one) == name(other)]
        for one, other in twins:
            self._refuse(f"{one} and {other} have the same name: rename or remove one")
        dropped = {other for _, other in twins}
        return [path for path in paths if path not in dropped]

    def _refuse(self, complaint: str) -> None:
        if self.on_error == "raise":
            raise DataError(f"{complaint}. To leave such things out: data.on_error=skip")
        self._skipped += 1

    def _read(self, photos: list[_Photo], size: int) -> Iterator[tuple[NDArray[np.uint8], Columns]]:
        def read(photo: _Photo) -> NDArray[np.uint8] | None:
            try:
                return _decode(photo.path, size)
            except DataError:
                if self.on_error == "raise":
                    raise
                return None

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(photos), _READ_AT_ONCE):
                images = list(pool.map(read, photos[start : start + _READ_AT_ONCE]))
                good = [(start + i, image) for i, image in enumerate(images) if image is not None]
                if good:
                    numbers, pixels = zip(*good, strict=True)
                    yield np.stack(pixels), {"photo": np.array(numbers)}


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _decode(path: Path, size: int) -> NDArray[np.uint8]:
    """The centre square of an image at ``size`` × ``size`` pixels, RGB whatever the file has.

    Raises:
        DataError: names the file and what is wrong with it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a file that is off in its metadata alone
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(f"{path}: {image.width}×{image.height} pixels, more than any photograph")
                if min(image.size) < MIN_PIXELS:
                    raise DataError(f"{path}: {image.width}×{image.height} pixels, too small to show a face")
                upright = ImageOps.exif_transpose(image)
                if upright.mode.startswith("I"):  # 16 bits a pixel: Pillow would clip them, not scale them
                    upright = Image.fromarray((np.asarray(upright) >> 8).clip(0, 255).astype(np.uint8))
                fitted = ImageOps.fit(upright.convert("RGB"), (size, size), Image.Resampling.BILINEAR)
                return np.asarray(fitted)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        why = "is empty" if path.exists() and path.stat().st_size == 0 else f"is not a readable image ({error})"
        raise DataError(f"{path} {why}. To leave such files out: data.on_error=skip") from error
