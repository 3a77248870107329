"""Images of identities, in any of the layouts of ``files.layouts``: CASIA-WebFace, MS-Celeb-1M, people's own."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.files.aligned import AlignedImages
from facedistill.data.files.alignment import Alignment
from facedistill.data.files.layouts.find import find_layout
from facedistill.data.files.layouts.folders import SPLITS
from facedistill.data.files.layouts.layout import TRAIN, Layout
from facedistill.data.files.roots import data_folder
from facedistill.data.sources.photo_source import Inventory, PhotoSource
from facedistill.data.sources.source import is_test_sample
from facedistill.errors import DataError


@dataclass
class IdentityImages(PhotoSource):
    """Identities, and the split if it has none of its own, come from the names of the images.

    Attributes:
        root: a folder of folders, a .rec or .tsv file, a list of labels, or a folder that holds one of these files.
        min_images: identities with fewer images are left out (and counted).
        alignment, margin: see ``Alignment``.
        landmarks, boxes: files of these, relative to ``root``, see ``read_annotations``; for the alignment that needs
            them.
        on_error: ``raise`` at the first file that can't be used, or ``skip`` and count it.
        split, nested: see ``FolderLayout``.
    """

    name: str
    root: str
    min_images: int
    alignment: str
    margin: float
    landmarks: str | None
    boxes: str | None
    on_error: str
    split: str = field(default="random", kw_only=True)
    nested: bool = field(default=False, kw_only=True)
    decode: str = field(default="auto", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._alignment = Alignment(self.alignment, self.margin)
        check_min_images(self.min_images)
        if self.split not in SPLITS:
            raise DataError(f"data.split={self.split}: choices are {', '.join(SPLITS)}")
        if not isinstance(self.nested, bool):
            raise DataError(f"data.nested={self.nested}: choices are true, false")
        self._annotations_name = self.landmarks if self._alignment.needs == "landmarks" else self.boxes
        if self._alignment.needs and not self._annotations_name:
            raise DataError(
                f"data.alignment={self.alignment} needs data.{self._alignment.needs}=FILE, a file in data.root with a "
                "line per image: identity/image, then numbers of pixels"
            )

    @property
    def framing(self) -> tuple[str, float]:
        return self._alignment.framing

    def identity(self) -> dict[str, Any]:
        return {
            "source": "identity_images",
            "form": self._layout.kind,
            **self._layout.contents(self.min_images),
            **self._aligned.identity,
        }

    def inventory(self, cache_dir: Path) -> Inventory:
        self._layout.prepare(cache_dir)
        self._numbers = self._layout.enough(self.min_images)
        if self._alignment.needs:  # reports errors of the list before images are read
            self._numbers = self._numbers[list(map(self._has_annotation, self._numbers.tolist()))]
        labels = self._layout.labels[self._numbers]
        count = len(np.unique(labels))
        counts = {"identities_below_min_images": len(self._layout.identities) - count}
        counts |= {name: number for name, number in self._layout.counts.items() if number}
        counts |= self._aligned.counts
        if count < 2:
            expected = "one folder per identity is expected, or a list of labels, data.root=LIST"
            cure = "lower data.min_images" if len(self._layout.identities) > 1 else expected
            raise DataError(
                f"data.root={self.root}: {count} identities with at least {self.min_images} images; a classifier needs "
                f"two. {len(self._layout.identities)} were found in {self._layout.kind}: {cure}"
            )
        is_test, subsets = self._split()
        return Inventory(
            kind=self._layout.kind,
            path=self._layout.path,
            available=(len(self._layout.labels), len(np.unique(self._layout.labels))),
            identities=self._layout.identities,
            labels=labels,
            is_test=is_test,
            stamp=[self._layout.stamp(self._numbers), self._aligned.stamp],
            split="80/20 split" if self._layout.parts is None else "split by folders",
            subsets=subsets,
            counts=counts,
            notes=[*self._layout.notes, *self._aligned.notes],
        )

    def _split(self) -> tuple[NDArray[np.bool_], dict[str, NDArray[np.bool_]]]:
        """Whether each image is of the test split, and if that has several parts, which of them are in each."""
        if self._layout.parts is None:
            return np.array([is_test_sample(self._layout.name(number)) for number in self._numbers]), {}
        parts = self._layout.parts[self._numbers]
        subsets = {str(part): parts == part for part in np.unique(parts[parts != TRAIN])}
        return parts != TRAIN, subsets if len(subsets) > 1 else {}

    def open(self, number: int) -> Image.Image:
        return self._layout.open(int(self._numbers[number]))

    def to_square(self, number: int, image: Image.Image, size: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        return self._aligned.square(int(self._numbers[number]), image, size), {}

    @cached_property
    def _layout(self) -> Layout:
        return find_layout(self.root, self.faults, self.split, self.nested)

    @cached_property
    def _aligned(self) -> AlignedImages:
        layout = self._layout
        return AlignedImages(layout, self._alignment, self._annotations_path, self.on_error)

    @property
    def _annotations_path(self) -> Path | None:
        """The file of annotations, where the alignment needs one."""
        if not self._alignment.needs:
            return None
        top = Path(self.root).expanduser()
        path = (top if top.is_dir() else data_folder(str(top.parent))) / str(self._annotations_name)
        if not path.is_file():
            otherwise = "name another, or use data.alignment=centre, which needs none"
            raise DataError(f"data.{self._alignment.needs}: {path} does not exist: {otherwise}")
        return path

    def _has_annotation(self, number: int) -> bool:
        """False, and a fault, where the list has none, or a bad one."""
        try:
            self._aligned.annotation(number)
        except DataError as error:
            self.faults.add(error)
            return False
        return True


def check_min_images(min_images: int) -> None:
    """Raise ``DataError`` unless it is a whole number from 1."""
    if not isinstance(min_images, int) or min_images < 1:
        raise DataError(f"data.min_images={min_images} must be a whole number, at least 1")
