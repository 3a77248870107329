"""The images of a layout as squares, aligned by landmarks that a detector finds once."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.files.alignment import align
from facedistill.data.files.detector import LONGEST, detect, detector_name
from facedistill.data.files.layouts.layout import Layout
from facedistill.data.files.store import Batches, Item, open_or_make
from facedistill.errors import DataError
from facedistill.system.files import hash_of

_FACE = Item((5, 2), "<f8", "face", "faces")
_READ_AT_ONCE = 256
_NAMED = 3


class DetectedImages:
    """Images by their numbers in ``layout``, and the faces in them by numbers of their own.

    Attributes:
        counts, notes: of the images that ``find`` has looked at.
    """

    file = None  # it needs none

    def __init__(self, layout: Layout, every_face: bool) -> None:
        self.layout, self._every_face = layout, every_face
        self.counts: dict[str, int] = {}
        self.notes: Sequence[str] = ()
        self._landmarks = np.empty((0, 5, 2))

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the squares besides the images, on any disk."""
        return {"alignment": self.stamp}

    @property
    def stamp(self) -> list[Any]:
        """What decides the pixels of a square besides the image."""
        return ["detect", detector_name(), LONGEST, *(["every face"] if self._every_face else [])]

    def find(self, numbers: Sequence[int], cache_dir: Path, name: str) -> list[tuple[int, int]]:
        """The faces in some of the images: (image, face), by image; the largest alone, or from large to small.

        All images are looked at in the first call, and what is found is kept in ``cache_dir``. An image that can't be
        read counts as one with a face: who opens it says why. Raises ``DataError`` if there is no face at all.
        """
        count = len(self.layout.labels)
        key = hash_of([self.layout.stamp(np.arange(count)), detector_name(), LONGEST])
        path, description = cache_dir / f"{name}-faces-{key}", f"looking for faces in {self.layout.path}"
        stored = open_or_make(path, count, _FACE, self._look, description)
        self._landmarks, images = np.asarray(stored.items), stored.columns["image"]
        first, after = (np.searchsorted(images, numbers, side) for side in ("left", "right"))
        without = [number for number, one, end in zip(numbers, first, after, strict=True) if one == end]
        several = int((after - first > 1).sum())
        found = {"photos_without_a_face": len(without), "photos_with_several_faces": several}
        self.counts = {title: number for title, number in found.items() if number}
        if without:
            named = ", ".join(map(self.layout.location, without[:_NAMED]))
            more = f" and {len(without) - _NAMED:,} more" if len(without) > _NAMED else ""
            self.notes = [f"no face was found in {named}{more}"]
        last = after if self._every_face else np.minimum(after, first + 1)
        return [
            (number, face)
            for number, *ends in zip(numbers, first, last, strict=True)
            for face in range(*map(int, ends))
        ]

    def square(self, number: int, face: int, image: Image.Image, size: int) -> NDArray[np.uint8]:
        """The square of a face, uint8 [size, size, 3]. Raises ``DataError`` if its image could not be read before."""
        landmarks = self._landmarks[face]
        if np.isnan(landmarks).any():
            location = self.layout.location(number)
            raise DataError(f"{location} could not be read when faces were looked for, now it can: touch {location}")
        return align(image, landmarks, size)

    def _look(self, start: int) -> Batches:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for first in range(start, len(self.layout.labels), _READ_AT_ONCE):
                numbers = range(first, min(first + _READ_AT_ONCE, len(self.layout.labels)))
                faces = list(pool.map(self._faces, numbers))
                images = np.repeat(np.array(numbers), [len(found) for found in faces])
                yield numbers.stop, np.concatenate(faces), {"image": images}

    def _faces(self, number: int) -> NDArray[np.float64]:
        try:
            image = self.layout.open(number)
        except DataError:
            return np.full((1, 5, 2), np.nan)
        return detect(image)
