"""Sources of photographs: they are listed, then each is decoded to a square, once or whenever it is read."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.faces import FaceSet, Samples
from facedistill.data.files.faults import Faults
from facedistill.data.files.photo_store import DECODED, Images, decoded_photos, keeps_pixels, store_photos
from facedistill.data.judgement import complaints_of_any_task
from facedistill.data.sources.source import Source
from facedistill.errors import DataError
from facedistill.system.files import hash_of

_STORE_FORMAT = (
    3  # raise it when columns or pixels change: in 2, 12-bit grey was dark; in 1, crop_boxes had another name
)


@dataclass(frozen=True)
class Inventory:
    """The N images of a source in a fixed order, before any of them is decoded.

    Attributes:
        kind: the kind of files, for people.
        path: the folder or the file, or several, for people.
        available: number of images and of identities, including identities that have too few images to be used.
        identities: names, in the order of their labels; empty where the source has none.
        labels: int64 [N], of identities.
        is_test: bool [N].
        stamp: JSON-able; changes whenever the pixels may.
        has_landmarks: whether its faces do.
        has_eyes: whether it is known where the eyes are, though there are no landmarks.
        split: the name of the split.
        subsets: bool [N] by name; see FaceSet.
        counts: how many of other things there are or were left out.
        notes: remarks for people.
    """

    kind: str
    path: Path | str
    available: tuple[int, int]
    identities: list[str]
    labels: NDArray[np.int64]
    is_test: NDArray[np.bool_]
    stamp: Any
    has_landmarks: bool = False
    has_eyes: bool = False
    split: str = "80/20 split"
    subsets: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def samples(self) -> Samples:
        has_eyes = self.has_landmarks or self.has_eyes
        return Samples(self.labels, self.is_test, bool(self.identities), self.has_landmarks, self.split, has_eyes)


def tested_only(labels: NDArray[np.int64], is_test: NDArray[np.bool_]) -> dict[str, int]:
    """For counts: test images of people nobody trains on, about whom no classifier can be right; empty if none are."""
    unknown = ~np.isin(labels[is_test], labels[~is_test])
    return {"test_images_of_unseen_people": int(unknown.sum())} if unknown.any() else {}


class PhotoSource(Source):
    """A source of images in files.

    Attributes:
        on_error: ``raise`` at the first image that can't be used, or ``skip`` and count it.
        decode: its images ``once``, and keep their pixels; ``always``, whenever one is read; or ``auto``: once, where
            they take at most half of the room on the disk. Pixels are the same.
        has_pairs: whether its faces have a verification protocol.
    """

    on_error: str
    decode: str
    has_pairs: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.faults = Faults(self.on_error)
        if self.decode not in DECODED:
            raise DataError(f"data.decode={self.decode}: choices are {', '.join(DECODED)}")

    @abc.abstractmethod
    def inventory(self, cache_dir: Path) -> Inventory:
        """The images; called once. Raises ``DataError`` if they can't be trained on."""

    @abc.abstractmethod
    def open(self, number: int) -> Image.Image:
        """One of the N images, upright and RGB. Raises ``DataError`` with its location."""

    @abc.abstractmethod
    def to_square(self, number: int, image: Image.Image, size: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Its square, uint8 [size, size, 3], with ``landmarks`` and ``crop_boxes`` if known; raises as ``open``."""

    def aligned_by(self, numbers: NDArray[np.int64], size: int) -> NDArray[np.float32] | None:
        """See ``FaceSet``, of some of the images; only after ``inventory``."""
        return None

    def samples(self, cache_dir: Path) -> Samples:
        return self.inventory(cache_dir).samples

    def faces(self, size: int, cache_dir: Path) -> FaceSet:
        inventory = self.inventory(cache_dir)
        names, path = inventory.identities, inventory.path
        store = cache_dir / f"{self.name}-{hash_of([_STORE_FORMAT, size, inventory.stamp])}"
        count, square, named = len(inventory.labels), partial(self._square, size=size), f"data={self.name}"
        images: Images
        if keeps_pixels(self.decode, store, count, size, named):
            images, columns = store_photos(store, count, size, square, self.on_error, f"reading {path}")
        else:
            images, columns = decoded_photos(store, count, size, square, self.on_error, named)
        kept = columns["photo"]
        identities, labels = np.unique(inventory.labels[kept], return_inverse=True)
        is_test = inventory.is_test[kept]
        for complaint in complaints_of_any_task(replace(inventory.samples, labels=labels, is_test=is_test)):
            raise DataError(f"{path}: {complaint}")
        columns = {name: column.astype(np.float32) for name, column in columns.items() if name != "photo"}
        return FaceSet(
            images,
            labels=labels.astype(np.int64),
            is_test=is_test,
            identities=[names[identity] for identity in identities] if names else [],
            subsets={name: np.flatnonzero(part[kept]) for name, part in inventory.subsets.items()},
            counts={
                "images": len(kept),
                "identities": len(identities) if names else 0,
                "skipped": self.faults.count + len(inventory.labels) - len(kept),
                **inventory.counts,
                **tested_only(labels, is_test),
            },
            landmarks=columns.get("landmarks"),
            crop_boxes=columns.get("crop_boxes"),
            aligned_by=self.aligned_by(kept, size),
        )

    def _square(self, number: int, size: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        return self.to_square(number, self.open(number), size)
