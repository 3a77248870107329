"""People's own faces: one folder an identity, as CASIA-WebFace and LFW are laid out."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from facedistill.data.photos import ON_ERROR, SUFFIXES, data_folder, open_photo, refusal, store_photos
from facedistill.data.source import FaceSet, Source, is_test_sample
from facedistill.data.store import Stored
from facedistill.errors import DataError
from facedistill.files import hash_of


@dataclass(frozen=True)
class Photo:
    """An image file of ``identity`` (the name of its folder), with its size in bytes and date in ns."""

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
        if self.on_error not in ON_ERROR:
            raise DataError(f"data.on_error={self.on_error}: choices are raise, skip")
        if not isinstance(self.min_images, int) or self.min_images < 1:
            raise DataError(f"data.min_images={self.min_images} must be a whole number, at least 1")
        self._skipped = 0
        self._few = 0

    def identity(self) -> dict[str, Any]:
        return {"source": "identity_folders", "files": files_hash(self._photos), "images": len(self._photos)}

    def faces(self, size: int, cache_dir: Path) -> FaceSet:
        photos = self._photos
        stored = self._stored(photos, size, cache_dir / self.name, self.on_error)
        kept = [photos[i] for i in stored.columns["photo"]]
        names = sorted({photo.identity for photo in kept})
        number = {name: i for i, name in enumerate(names)}
        labels = np.array([number[photo.identity] for photo in kept])
        tests = np.array([is_test_sample(f"{photo.identity}/{photo.path.name}") for photo in kept])
        if len(names) < 2:
            raise DataError(f"{self._folder}: only images of {names[0]} could be read; a classifier takes two people")
        if tests.all() or not tests.any():
            raise DataError(
                f"{self._folder}: all of its {len(kept)} images fall on one side of the 80/20 split: it takes more"
            )
        counts = {
            "images": len(kept),
            "identities": len(names),
            "skipped": self._skipped + len(photos) - len(kept),
            "identities_below_min_images": self._few,
        }
        return FaceSet(stored.images, labels, tests, names, counts=counts)

    @property
    def _folder(self) -> Path:
        """The folder of folders."""
        return data_folder(self.root)

    def _pixels(self, photo: Photo, size: int) -> NDArray[np.uint8]:
        """The centre square of a photo at ``size`` × ``size`` pixels. Raises ``DataError``, naming the file."""
        return np.asarray(ImageOps.fit(open_photo(photo.path), (size, size), Image.Resampling.BILINEAR))

    def _pixels_depend_on(self) -> list[str]:
        """What decides ``_pixels`` besides the file of the photo."""
        return []

    def _stored(self, photos: list[Photo], size: int, path: Path, on_error: str | None) -> Stored:
        """The pixels of ``photos`` in the store whose name begins with ``path``; see ``store_photos``."""
        dates = [(photo.identity, photo.path.name, photo.size, photo.modified) for photo in photos]
        key = hash_of([size, str(self._folder), dates, *self._pixels_depend_on()])
        return store_photos(
            path.with_name(f"{path.name}-{key}"),
            len(photos),
            size,
            lambda number: (self._pixels(photos[number], size), {}),
            on_error,
            f"reading {self._folder}",
        )

    @cached_property
    def _photos(self) -> list[Photo]:
        """Every image of every identity with enough of them, sorted by identity and file name."""
        enough = [photos for photos in self._everyone.values() if len(photos) >= self.min_images]
        self._few = len(self._everyone) - len(enough)
        if len(enough) < 2:
            raise DataError(
                f"data.root={self.root}: {len(enough)} identities with at least {self.min_images} images; a classifier "
                f"takes two. {len(self._everyone)} folders were found: name their parent, or lower data.min_images"
            )
        return [photo for photos in enough for photo in photos]

    @cached_property
    def _everyone(self) -> dict[str, list[Photo]]:
        """The images of every identity, sorted by identity and file name."""
        root = self._folder
        with os.scandir(root) as entries:
            folders = sorted((Path(entry.path) for entry in entries if entry.is_dir()), key=lambda path: path.name)
        if not folders:
            raise DataError(f"{root} holds no folder: one folder an identity is expected")
        folders = self._without_twins(folders, lambda path: _plain(path.name))
        return {folder.name: self._photos_of(folder) for folder in folders}

    def _photos_of(self, folder: Path) -> list[Photo]:
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
            photos.append(Photo(folder.name, path, stat.st_size, stat.st_mtime_ns))
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
            raise refusal(complaint)
        self._skipped += 1


def files_hash(photos: list[Photo]) -> str:
    """Of names and sizes of files, not of their place or date: a copy of the data is the same data."""
    return hash_of([(photo.identity, photo.path.name, photo.size) for photo in photos], 32)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
