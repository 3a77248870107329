"""Data sets of identities: what sources need from them, however their files are laid out."""

import abc
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.files.photos import decode_photo


class Layout(abc.ABC):
    """N images in a fixed order, addressed by number. The attributes are valid after ``prepare``.

    Attributes:
        kind: the name of the layout.
        path: the folder or the file.
        identities: names, in the order of their labels; some may have no image.
        labels: int64 [N], the identity of each image.
        notes: remarks for people.
    """

    kind: str
    path: Path
    identities: list[str]
    labels: NDArray[np.int64]
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
