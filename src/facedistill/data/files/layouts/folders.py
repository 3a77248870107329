"""One folder per identity, as in CASIA-WebFace and LFW: ``<folder>/<identity>/<image>``."""

import os
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.files.faults import Faults
from facedistill.data.files.layouts.layout import Layout
from facedistill.data.files.photos import SUFFIXES, open_photo, refuse_archive
from facedistill.errors import DataError
from facedistill.system.files import hash_of_lines


class _Photo(NamedTuple):
    identity: str  # the name of its folder
    file: str
    path: str
    size: int  # bytes
    modified: int  # ns


class FolderLayout(Layout):
    """All images, sorted by the names of folder and file. Links are followed.

    Raises ``DataError`` if there is no folder; and unless ``faults`` skips them, for a folder without an image, two
    names that differ only in case, in the encoding of accents or in the suffix, or a broken link.
    """

    kind = "folders"

    def __init__(self, path: Path, faults: Faults) -> None:
        self.path, self._faults = path, faults
        people = self._photos_by_identity()
        self.identities = list(people)
        self._photos = [photo for photos in people.values() for photo in photos]
        self.labels = np.repeat(np.arange(len(people)), [len(photos) for photos in people.values()])

    def prepare(self, cache_dir: Path) -> None:
        """Nothing to do: the folders have been read already."""

    def name(self, number: int) -> str:
        photo = self._photos[number]
        return f"{photo.identity}/{photo.file}"

    def location(self, number: int) -> str:
        return self._photos[number].path

    def open(self, number: int) -> Image.Image:
        return open_photo(Path(self._photos[number].path))

    def contents(self, min_images: int) -> dict[str, Any]:
        numbers = self.enough(min_images)
        return {"files": self.hash_of_files(numbers), "images": len(numbers)}

    def hash_of_files(self, numbers: Iterable[int]) -> str:
        """Hash of the names and sizes of images, not of their dates: a copy of the data is the same data."""
        return hash_of_lines(f"{self.name(number)}/{self._photos[number].size}" for number in numbers)

    def stamp(self, numbers: NDArray[np.int64]) -> list[str]:
        dates = hash_of_lines(str(self._photos[number].modified) for number in numbers)
        return [str(self.path), self.hash_of_files(numbers), dates]

    def _photos_by_identity(self) -> dict[str, list[_Photo]]:
        with os.scandir(self.path) as entries:
            folders = [entry for entry in entries if entry.is_dir()]
        if not folders:
            refuse_archive(self.path)
            raise DataError(f"{self.path} holds no folder: one folder per identity is expected")
        return {folder.name: self._photos_of(folder) for folder in self._sorted(folders, _plain)}

    def _photos_of(self, folder: os.DirEntry[str]) -> list[_Photo]:
        with os.scandir(folder) as entries:
            files = [entry for entry in entries if f".{entry.name.rpartition('.')[2]}".lower() in SUFFIXES]
        if not files:
            self._faults.add(f"{folder.path} holds no image ({', '.join(sorted(SUFFIXES))})")
        photos = []
        for file in self._sorted(files, lambda name: _plain(name.rpartition(".")[0])):
            try:
                stat = file.stat()
            except OSError as error:  # a broken link
                self._faults.add(f"{file.path}: {error.strerror}")
                continue
            photos.append(_Photo(folder.name, file.name, file.path, stat.st_size, stat.st_mtime_ns))
        return photos

    def _sorted(self, entries: list[os.DirEntry[str]], plain: Callable[[str], str]) -> list[os.DirEntry[str]]:
        """Sorted by name; of entries with the same ``plain`` name, only the first."""
        first: dict[str, os.DirEntry[str]] = {}
        for entry in sorted(entries, key=lambda entry: entry.name):
            other = first.setdefault(plain(entry.name), entry)
            if other is not entry:
                self._faults.add(f"{other.path} and {entry.path} have the same name: rename or remove one")
        return list(first.values())


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
