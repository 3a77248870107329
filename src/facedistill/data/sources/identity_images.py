"""Images of identities: CASIA-WebFace, MS-Celeb-1M, people's own; in any of the forms of ``data.forms``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.files.alignment import Alignment
from facedistill.data.files.annotations import Annotation, read_annotations
from facedistill.data.files.faults import located
from facedistill.data.files.layouts.find import find_layout
from facedistill.data.files.layouts.layout import Layout
from facedistill.data.files.photos import check_face, data_folder
from facedistill.data.sources.photo_source import Inventory, PhotoSource
from facedistill.data.sources.source import is_test_sample
from facedistill.errors import DataError
from facedistill.system.files import sha256


@dataclass
class IdentityImages(PhotoSource):
    """Identities and the split come from the names of the images.

    Attributes:
        root: a folder of folders, a .rec or a .tsv file, or a folder with one of these.
        min_images: identities with fewer images are left out (and counted).
        alignment, margin: see ``Alignment``.
        landmarks, boxes: lists of these, see ``read_annotations``, relative to ``root``; for the alignment that takes them.
        on_error: ``raise`` at the first file that can't be used, or ``skip`` and count it.
    """

    name: str
    root: str
    min_images: int
    alignment: str
    margin: float
    landmarks: str | None
    boxes: str | None
    on_error: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self._alignment = Alignment(self.alignment, self.margin)
        check_min_images(self.min_images)
        if self._alignment.takes and not self._list_name:
            raise DataError(
                f"data.alignment={self.alignment} takes data.{self._alignment.takes}=FILE, a list in data.root with a "
                "line an image: identity/image, then numbers of pixels"
            )

    def identity(self) -> dict[str, Any]:
        lists = {self._alignment.takes: sha256(self._list)} if self._alignment.takes else {}
        return {
            "source": "identity_images",
            "form": self._layout.kind,
            **self._layout.contents(self.min_images),
            "alignment": self._alignment.identity,
            **lists,
        }

    def inventory(self, cache_dir: Path) -> Inventory:
        self._layout.prepare(cache_dir)
        self._numbers = self._layout.enough(self.min_images)
        labels = self._layout.labels[self._numbers]
        people = len(np.unique(labels))
        if self._alignment.takes:
            self._annotations  # noqa: B018 - its faults are told before images are read
        if people < 2:
            raise DataError(
                f"data.root={self.root}: {people} identities with at least {self.min_images} images; a classifier "
                f"takes two. {len(self._layout.identities)} were found in {self._layout.kind}: name their parent, or lower "
                "data.min_images"
            )
        return Inventory(
            self._layout.kind,
            self._layout.path,
            (len(self._layout.labels), len(np.unique(self._layout.labels))),
            self._layout.identities,
            labels,
            np.array([is_test_sample(self._layout.name(number)) for number in self._numbers]),
            [self._layout.stamp(self._numbers), self._shown_by],
            counts={"identities_below_min_images": len(self._layout.identities) - people},
            notes=self._layout.notes,
        )

    def open(self, number: int) -> Image.Image:
        return self._layout.open(int(self._numbers[number]))

    def show(self, number: int, image: Image.Image, size: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        return self._square(int(self._numbers[number]), image, size), {}

    def _square(self, number: int, image: Image.Image, size: int) -> NDArray[np.uint8]:
        """An image of the form in its square."""
        if not self._alignment.takes:
            with located(self._layout.place(number)):
                return self._alignment.show(image, size, None)[0]
        row = self._row(number)
        with located(f"{row.place}: {self._layout.place(number)}"):
            if self._alignment.takes == "landmarks":
                check_face(row.values, image)
            return self._alignment.show(image, size, row.values)[0]

    @property
    def _shown_by(self) -> list[Any]:
        """What decides the pixels besides the image."""
        return [self._alignment.identity, sha256(self._list) if self._alignment.takes else ""]

    @cached_property
    def _layout(self) -> Layout:
        return find_layout(self.root, self.faults)

    @property
    def _list_name(self) -> str | None:
        return {"landmarks": self.landmarks, "boxes": self.boxes}[self._alignment.takes or "boxes"]

    @property
    def _list(self) -> Path:
        """The list that the alignment takes."""
        top = Path(self.root).expanduser()
        path = (top if top.is_dir() else data_folder(str(top.parent))) / str(self._list_name)
        if not path.is_file():
            otherwise = "name another, or take data.alignment=centre, which needs none"
            raise DataError(f"data.{self._alignment.takes}: {path} does not exist: {otherwise}")
        return path

    def _row(self, number: int) -> Annotation:
        name = self._layout.name(number)
        row = self._annotations.get(name)
        if row is None:
            raise DataError(f"{self._list} has no line for {self._layout.place(number)}, named {name}")
        if isinstance(row, str):
            raise DataError(row)
        return row

    @cached_property
    def _annotations(self) -> dict[str, Annotation | str]:
        takes = self._alignment.takes
        assert takes is not None
        return read_annotations(self._list, takes, self._by_name, self._layout.path, self.on_error)

    @cached_property
    def _by_name(self) -> dict[str, int]:
        """Every image of the form, by the name it has in lists."""
        return {self._layout.name(number): number for number in range(len(self._layout.labels))}


def check_min_images(min_images: int) -> None:
    """Raises ``DataError``."""
    if not isinstance(min_images, int) or min_images < 1:
        raise DataError(f"data.min_images={min_images} must be a whole number, at least 1")
