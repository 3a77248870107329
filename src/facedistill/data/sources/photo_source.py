"""Sources of photographs: found first, then each brought into its square, once, into the store."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.faces import FaceSet
from facedistill.data.files.faults import Faults
from facedistill.data.files.photos import store_photos
from facedistill.data.sources.source import Source
from facedistill.errors import DataError
from facedistill.system.files import hash_of


@dataclass(frozen=True)
class Inventory:
    """What a source has, before one of its images is decoded: N of them in a fixed order.

    Attributes:
        form: in which form, in a word.
        path: where.
        there: images and identities that there are, also those that are left out for having too few images.
        identities: names, in the order of their labels; none where the source has landmarks only.
        labels: int64 [N], of identities.
        is_test: bool [N].
        stamp: JSON-able; changes whenever the pixels may.
        split: what the split is called.
        subsets: bool [N] by name; see FaceSet.
        counts: what else was found or left out.
        notes: what a person should know.
    """

    form: str
    path: Path
    there: tuple[int, int]
    identities: list[str]
    labels: NDArray[np.int64]
    is_test: NDArray[np.bool_]
    stamp: Any
    split: str = "80/20 split"
    subsets: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()


class PhotoSource(Source):
    """A source whose images come from files.

    ``on_error``: ``raise`` at the first image that can't be used, or ``skip`` and count it.
    """

    on_error: str

    def __post_init__(self) -> None:
        self.faults = Faults(self.on_error)

    @abc.abstractmethod
    def inventory(self, cache_dir: Path) -> Inventory:
        """What is there; asked for once. Raises ``DataError`` where it can't be trained on."""

    @abc.abstractmethod
    def open(self, number: int) -> Image.Image:
        """One of the N images, upright and RGB. Raises ``DataError`` with its place."""

    @abc.abstractmethod
    def show(self, number: int, image: Image.Image, size: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """What is shown of it, uint8 [size, size, 3], with its ``landmarks`` and ``crop_boxes`` where they are known.

        Raises:
            DataError: with its place.
        """

    def faces(self, size: int, cache_dir: Path) -> FaceSet:
        found = self.inventory(cache_dir)
        stored = store_photos(
            cache_dir / f"{self.name}-{hash_of([size, found.stamp])}",
            len(found.labels),
            size,
            lambda number: self.show(number, self.open(number), size),
            self.on_error,
            f"reading {found.path}",
        )
        kept = stored.columns["photo"]
        people, labels = np.unique(found.labels[kept], return_inverse=True)
        tests = found.is_test[kept]
        if found.identities and len(people) < 2:
            raise DataError(f"{found.path}: images of {len(people)} identities are usable; a classifier takes two")
        if tests.all() or not tests.any():
            sides = f"all of its {len(kept)} usable images fall on one side of the {found.split}"
            raise DataError(f"{found.path}: {sides}: it takes more")
        given = {name: column.astype(np.float32) for name, column in stored.columns.items() if name != "photo"}
        return FaceSet(
            stored.items,
            labels=labels.astype(np.int64),
            is_test=tests,
            identities=[found.identities[person] for person in people] if found.identities else [],
            subsets={name: np.flatnonzero(part[kept]) for name, part in found.subsets.items()},
            counts={
                "images": len(kept),
                "identities": len(people) if found.identities else 0,
                "skipped": self.faults.count + len(found.labels) - len(kept),
                **found.counts,
            },
            landmarks=given.get("landmarks"),
            crop_boxes=given.get("crop_boxes"),
        )
