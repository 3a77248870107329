"""Data sets of identities: what sources need from them, however their files are laid out."""

import abc
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.files.faults import Faults
from facedistill.data.files.listing import ImageFile, Listing
from facedistill.data.files.photos import decode_photo, open_photo
from facedistill.system.files import hash_of_lines

TRAIN = "train"  # the part of a split that is trained on


class Layout(abc.ABC):
    """N images in a fixed order, addressed by number. The attributes are valid after ``prepare``.

    Attributes:
        kind: the name of the layout.
        path: the folder or the file.
        identities: names, in the order of their labels; some may have no image.
        labels: int64 [N], the identity of each image.
        parts: str [N], the part of the data set's own split that each image is in, as ``TRAIN``; None: it has no split.
        counts: how many of other things there are or were passed over.
        notes: remarks for people.
    """

    kind: str
    path: Path
    identities: list[str]
    labels: NDArray[np.int64]
    parts: NDArray[np.str_] | None = None
    counts: Mapping[str, int] = MappingProxyType({})
    notes: Sequence[str] = ()

    @abc.abstractmethod
    def prepare(self, cache_dir: Path) -> None:
        """Find the images; an index that is slow to make is kept in ``cache_dir``. Raises ``DataError``."""

    @abc.abstractmethod
    def name(self, number: int) -> str:
        """``identity/image``: decides the side of the split, and is the name in lists of annotations."""

    @abc.abstractmethod
    def location(self, number: int) -> str:
        """Where an image is, for error messages."""

    @abc.abstractmethod
    def open(self, number: int) -> Image.Image:
        """An image, upright and RGB. Raises ``DataError`` with its location."""

    @abc.abstractmethod
    def contents(self, min_images: int) -> dict[str, Any]:
        """What identifies the images of identities with enough of them, on any disk; part of the identity of a run.

        JSON-able and cheap; works without ``prepare``.
        """

    @abc.abstractmethod
    def stamp(self, numbers: NDArray[np.int64]) -> Any:
        """Changes whenever these images change, or their paths or dates: decoded pixels are then out of date."""

    @cached_property
    def by_name(self) -> dict[str, int]:
        """The number of every image by its name in files of annotations."""
        return {self.name(number): number for number in range(len(self.labels))}

    def enough(self, min_images: int) -> NDArray[np.int64]:
        """The images of identities with at least ``min_images`` of them, int64 [M], ascending."""
        return np.flatnonzero(np.bincount(self.labels, minlength=1)[self.labels] >= min_images)


class FileLayout(Layout):
    """All images in one file, ``path``."""

    fingerprint: str  # identifies the contents of the file
    image: Callable[[int], bytes]  # an image file, by its number; set by ``prepare``

    def open(self, number: int) -> Image.Image:
        return decode_photo(self.image(number), self.location(number))

    def contents(self, min_images: int) -> dict[str, Any]:
        return {"file": self.fingerprint, "min_images": min_images}

    def stamp(self, numbers: NDArray[np.int64]) -> list[Any]:
        date = self.path.stat().st_mtime_ns
        return [str(self.path), date, self.fingerprint, hashlib.sha256(numbers.tobytes()).hexdigest()]


class FilesLayout(Layout):
    """Every image in a file of its own, named by its path below the folder ``path``; read by the constructor."""

    counts: Counter[str]
    _files: list[ImageFile]

    def __init__(self, path: Path, faults: Faults) -> None:
        self.path, self._faults = path, faults
        self._listing = Listing(faults)
        self.counts = self._listing.counts
        self._prefix = len(str(path).rstrip("/")) + 1

    def prepare(self, cache_dir: Path) -> None:
        """Nothing to do: the folders have been read already."""

    def name(self, number: int) -> str:
        return self._files[number].path[self._prefix :]

    def location(self, number: int) -> str:
        return self._files[number].path

    def file(self, number: int) -> ImageFile:
        return self._files[number]

    def open(self, number: int) -> Image.Image:
        return open_photo(Path(self._files[number].path))

    def contents(self, min_images: int) -> dict[str, Any]:
        numbers = self.enough(min_images)
        return {"files": self.hash_of_files(numbers), "images": len(numbers)}

    def hash_of_files(self, numbers: Iterable[int]) -> str:
        """Hash of the names and sizes of images, not of their dates: a copy of the data is the same data."""
        return hash_of_lines(f"{self.name(number)}/{self._files[number].size}" for number in numbers)

    def stamp(self, numbers: NDArray[np.int64]) -> list[str]:
        dates = hash_of_lines(str(self._files[number].modified) for number in numbers)
        return [str(self.path), self.hash_of_files(numbers), dates]

    def _set_identities(self, people: Mapping[str, Sequence[ImageFile]]) -> None:
        self.identities = list(people)
        self._files = [file for files in people.values() for file in files]
        self.labels = np.repeat(np.arange(len(people)), [len(files) for files in people.values()])
