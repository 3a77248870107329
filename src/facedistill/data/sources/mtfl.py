"""MTFL (Zhang et al. 2014): faces with five landmarks marked by hand, for alignment."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.files.alignment import cut_square, enclosing_square
from facedistill.data.files.faults import located
from facedistill.data.files.formats.mtfl_lists import (
    POINTS,
    PUBLISHED,
    PUBLISHED_ORDER,
    TRAIN,
    Row,
    csv_rows,
    published_rows,
)
from facedistill.data.files.landmarks import check_face, five_points
from facedistill.data.files.listing import ImageFile, Listing
from facedistill.data.files.photos import full_size, open_photo
from facedistill.data.files.roots import data_folder
from facedistill.data.sources.photo_source import Inventory, PhotoSource
from facedistill.errors import DataError
from facedistill.system.files import hash_of, sha256

BOXES = ("landmarks", "image")
# Chosen by eye: 2.2 times the landmarks' extent cuts off many chins, and 3.0 exceeds most of AFLW's photographs.
SIDE = 2.6
SHIFT, SCALE = 0.08, 0.1  # maxima, as fractions of the side


class _Face(NamedTuple):
    """A row of the annotations; ``points``: float64 [5, 2]; ``shape``: of the image, where the row says it."""

    location: str
    split: str
    file: str
    shape: tuple[int, int] | None
    points: NDArray[np.float64]


@dataclass
class Mtfl(PhotoSource):
    """``root/<images>/<file>`` with landmarks in a csv, or as published; no identities. See ``mtfl_lists``.

    Rows of images that are not there are left out, and counted.

    MTFL has no boxes by a detector. ``box=landmarks`` derives them from the true landmarks, for training and for
    testing: errors are those of a network that knows roughly where the face is. So that boxes don't give the landmarks
    away, they are shifted and scaled by amounts that depend on the file's name alone.

    Attributes:
        annotations: relative to ``root``; a csv with columns split, file, width, height (of the upright image) and x, y
            of ``LANDMARKS`` as leye_x … rmouth_y. Rows of split ``train`` (in any case) are trained on; every other
            split belongs to the test split, and is a subset of it. Without it, training.txt and testing.txt are read.
        images: relative to ``root``; as published, ``root`` itself where there is no such folder.
        box: ``landmarks``, or ``image`` for the whole image, padded with black.
        on_error: ``raise`` at the first row or image that can't be used, or ``skip`` and count it.
    """

    name: str
    root: str
    annotations: str
    images: str
    box: str
    on_error: str
    decode: str = field(default="auto", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._listing = Listing(self.faults)
        if self.box not in BOXES:
            raise DataError(f"data.box={self.box}: choices are {', '.join(BOXES)}")

    @property
    def framing(self) -> tuple[str, float]:
        return ("landmarks", SIDE) if self.box == "landmarks" else ("whole", 1.0)

    def identity(self) -> dict[str, Any]:
        faces = self._faces
        return {
            "source": "mtfl",
            "box": [self.box, SIDE, SHIFT, SCALE],
            "annotations": {path.name: sha256(path) for path in self._lists} if self._published else sha256(self._csv),
            "files": hash_of([(face.file, self._files[face.file].size) for face in faces], 32),
            "images": len(faces),
        }

    def inventory(self, cache_dir: Path) -> Inventory:
        splits = np.array([face.split for face in self._faces])
        is_test = splits != TRAIN
        if is_test.all() or not is_test.any():
            missing = "split train" if is_test.all() else "a split other than train"
            raise DataError(f"{self._lists[-1]}: no usable row of {missing}")
        dates = [self._files[face.file].modified for face in self._faces]
        return Inventory(
            kind="MTFL's lists and images" if self._published else "a csv of landmarks",
            path=self._folder,
            available=(len(splits), 0),
            identities=[],
            labels=np.zeros(len(splits), np.int64),
            is_test=is_test,
            stamp=[str(self._folder), dates, self.identity()],
            has_landmarks=True,
            split="split of the lists" if self._published else "split of the csv",
            subsets={str(split): splits == split for split in np.unique(splits[is_test])},
            counts={"listed_images_not_there": self._not_there, **self._listing.counts},
            notes=[*self._notes, *self._listing.notes],
        )

    def open(self, number: int) -> Image.Image:
        face = self._faces[number]
        with located(face.location):
            return open_photo(self._folder / face.file)

    def to_square(self, number: int, image: Image.Image, size: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        face = self._faces[number]
        with located(f"{face.location}: {self._folder / face.file}"):
            if face.shape and full_size(image) != face.shape:
                actual, annotated = ("×".join(map(str, shape)) for shape in (full_size(image), face.shape))
                raise DataError(f"{actual} pixels, not {annotated}")
            check_face(face.points, image)
        square = box_around(face.points, face.file) if self.box == "landmarks" else enclosing_square(*full_size(image))
        crop_box = np.array(square, np.float32)  # rounded before it is used, so that it leads back exactly
        left, top, side = crop_box.tolist()
        landmarks = (face.points + 0.5 - [left, top]) * (size / side) - 0.5
        return cut_square(image, left, top, side, size), {"landmarks": landmarks, "crop_boxes": crop_box}

    @property
    def _csv(self) -> Path:
        return data_folder(self.root) / self.annotations

    @cached_property
    def _published(self) -> bool:
        if self._csv.exists():
            return False
        if not any((self._csv.parent / name).exists() for name in PUBLISHED):
            lists = " and ".join(PUBLISHED)
            raise DataError(
                f"{self._csv} does not exist, nor do {lists}: name a csv of landmarks, data.annotations=FILE"
            )
        return True

    @property
    def _lists(self) -> list[Path]:
        return [self._csv.parent / name for name in PUBLISHED] if self._published else [self._csv]

    @property
    def _folder(self) -> Path:
        top = data_folder(self.root)
        return top if self._published and not (top / self.images).is_dir() else data_folder(self.root, self.images)

    @cached_property
    def _files(self) -> dict[str, ImageFile]:
        """The images by their paths within the folder."""
        found = chain.from_iterable(found.images for found in self._listing.walk(str(self._folder)))
        return {Path(entry.path).relative_to(self._folder).as_posix(): ImageFile.of(entry) for entry in found}

    @cached_property
    def _faces(self) -> list[_Face]:
        """The usable rows, in order. If an image has several rows, none of them is, as any could be wrong."""
        rows: Iterable[Row]
        if self._published:
            rows, order = published_rows(self._csv.parent)
            self._notes = [] if order == PUBLISHED_ORDER else [f"landmarks are in the order {order}"]
        else:
            rows, self._notes = csv_rows(self._csv), []
        faces: dict[str, _Face] = {}
        bad: set[str] = set()  # files, and locations of lines that name none
        splits = {TRAIN: TRAIN}  # in lower case: as it is first written
        absent: set[str] = set()
        for location, columns, values in rows:
            row = dict(zip(columns, values, strict=False))
            named = row.get("file")
            file = location if named is None else self._file(named)
            if file is None:
                absent.add(str(named))
                continue
            try:
                with located(location):
                    if len(values) != len(columns):
                        raise DataError(f"{len(values)} values for the {len(columns)} columns")
                    if file in faces:
                        raise DataError(f"a second row for {file}")
                    split = row["split"].strip()
                    faces[file] = self._face(location, file, splits.setdefault(split.lower(), split), row)
            except DataError as error:
                if file not in bad:
                    self.faults.add(error)
                bad.add(file)
        if absent and not faces and not bad:
            raise DataError(
                f"{self._folder} holds none of the {len(absent)} images that {self._lists[-1]} names, as "
                f"{min(absent)}: name their folder, data.images=NAME (or .)"
            )
        self._not_there = len(absent)
        return [face for file, face in faces.items() if file not in bad]

    def _file(self, named: str) -> str | None:
        """The path in the folder of an image as a list names it, which may be that on another machine."""
        parts = named.strip().replace("\\", "/").split("/")
        paths = ("/".join(parts[i:]) for i in range(len(parts)))
        return next((path for path in paths if path in self._files), None)

    def _face(self, location: str, file: str, split: str, row: dict[str, str]) -> _Face:
        if not split:
            raise DataError("the split is empty")
        shape = None
        if "width" in row:
            try:
                shape = int(row["width"]), int(row["height"])
            except ValueError as error:
                raise DataError(f"width or height is not a whole number ({error})") from error
        return _Face(location, split, file, shape, five_points([row[column] for column in POINTS]))


def box_around(points: NDArray[np.float64], name: str) -> tuple[float, float, float]:
    """(left, top, side) of a square like one by a detector, edges in pixels; see ``Mtfl``.

    ``SIDE`` times the larger extent of the landmarks, around the centre of their bounding box; then shifted by up to
    ``SHIFT`` of the side each way and scaled by up to ``SCALE``, drawn from the hash of ``name``.
    """
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    right, down, larger = (int.from_bytes(digest[i : i + 8], "big") / 2**63 - 1 for i in (0, 8, 16))
    low, high = points.min(axis=0), points.max(axis=0)
    side = SIDE * float((high - low).max())
    x, y = ((low + high) / 2 + 0.5).tolist()
    grown = side * (1 + SCALE * larger)
    return x + SHIFT * side * right - grown / 2, y + SHIFT * side * down - grown / 2, grown
