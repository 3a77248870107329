"""What a source asks of images of identities, whatever form they come in."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class Layout(abc.ABC):
    """N images in a fixed order, by number. What the attributes say is known once ``prepare`` has been called.

    Attributes:
        kind: what the form is called.
        path: the folder or the file.
        identities: names, in the order of their labels; some may have no image.
        labels: int64 [N], of identities.
        notes: what a person should know.
    """

    kind: str
    path: Path
    identities: list[str]
    labels: NDArray[np.int64]
    notes: Sequence[str] = ()

    @abc.abstractmethod
    def prepare(self, cache_dir: Path) -> None:
        """Find the images; an index that takes long to make is kept in ``cache_dir``. Raises ``DataError``."""

    @abc.abstractmethod
    def name(self, number: int) -> str:
        """``identity/image``: decides the side of the split, and is looked up in lists of landmarks."""

    @abc.abstractmethod
    def place(self, number: int) -> str:
        """Where an image lies, for a complaint about it."""

    @abc.abstractmethod
    def open(self, number: int) -> Image.Image:
        """An image, upright and RGB. Raises ``DataError`` with its place."""

    @abc.abstractmethod
    def contents(self, min_images: int) -> dict[str, Any]:
        """What the images of identities with enough of them are, wherever they lie; part of the identity of a run.

        JSON-able, and cheap: there need have been no ``prepare``.
        """

    @abc.abstractmethod
    def stamp(self, numbers: NDArray[np.int64]) -> Any:
        """What changes with every change of some images, dates included: pixels kept from before are stale then."""

    def enough(self, min_images: int) -> NDArray[np.int64]:
        """The images of identities with at least ``min_images`` of them, int64 [M], ascending."""
        return np.flatnonzero(np.bincount(self.labels, minlength=1)[self.labels] >= min_images)


class FileLayout(Layout):
    """All images in one file, ``path``."""

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Of what the file holds; cheap."""

    def contents(self, min_images: int) -> dict[str, Any]:
        return {"file": self.fingerprint, "min_images": min_images}

    def stamp(self, numbers: NDArray[np.int64]) -> list[Any]:
        date = self.path.stat().st_mtime_ns
        return [str(self.path), date, self.fingerprint, hashlib.sha256(numbers.tobytes()).hexdigest()]
