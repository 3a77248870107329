"""MTFL (Zhang et al. 2014): faces with five landmarks marked by hand, for alignment."""

import csv
import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.files.alignment import cut_square, enclosing_square
from facedistill.data.files.faults import located
from facedistill.data.files.landmarks import check_face, five_points
from facedistill.data.files.photos import full_size, open_photo
from facedistill.data.files.roots import data_folder
from facedistill.data.files.text_lists import lines_of
from facedistill.data.sources.photo_source import Inventory, PhotoSource
from facedistill.errors import DataError
from facedistill.system.files import hash_of, sha256

BOXES = ("landmarks", "image")
# Chosen by eye: 2.2 times the landmarks' extent cuts off many chins, and 3.0 exceeds most of AFLW's photographs.
SIDE = 2.6
SHIFT, SCALE = 0.08, 0.1  # maxima, as fractions of the side
TRAIN = "train"
_POINTS = [f"{name}_{axis}" for name in ("leye", "reye", "nose", "lmouth", "rmouth") for axis in "xy"]
_COLUMNS = ["split", "file", "width", "height", *_POINTS]


class _Face(NamedTuple):
    """A row of the annotations; ``points``: float64 [5, 2]."""

    location: str
    split: str
    file: str
    shape: tuple[int, int]
    points: NDArray[np.float64]


@dataclass
class Mtfl(PhotoSource):
    """``root/<images>/<file>`` with landmarks in a csv; no identities.

    MTFL has no boxes by a detector. ``box=landmarks`` derives them from the true landmarks, for training and for
    testing: errors are those of a network that knows roughly where the face is. So that boxes don't give the landmarks
    away, they are shifted and scaled by amounts that depend on the file's name alone.

    Attributes:
        annotations: relative to ``root``; a csv with columns split, file, width, height (of the upright image) and x, y
            of ``LANDMARKS`` as leye_x … rmouth_y. Rows of split ``train`` are trained on; every other split belongs to
            the test split, and is a subset of it.
        images: relative to ``root``.
        box: ``landmarks``, or ``image`` for the whole image, padded with black.
        on_error: ``raise`` at the first row or image that can't be used, or ``skip`` and count it.
    """

    name: str
    root: str
    annotations: str
    images: str
    box: str
    on_error: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.box not in BOXES:
            raise DataError(f"data.box={self.box}: choices are {', '.join(BOXES)}")

    def identity(self) -> dict[str, Any]:
        faces = self._faces
        return {
            "source": "mtfl",
            "box": [self.box, SIDE, SHIFT, SCALE],
            "annotations": sha256(self._csv),
            "files": hash_of([(face.file, self._files[face.file].st_size) for face in faces], 32),
            "images": len(faces),
        }

    def inventory(self, cache_dir: Path) -> Inventory:
        splits = np.array([face.split for face in self._faces])
        is_test = splits != TRAIN
        if is_test.all() or not is_test.any():
            missing = "split train" if is_test.all() else "a split other than train"
            raise DataError(f"{self._csv}: no usable row of {missing}")
        dates = [self._files[face.file].st_mtime_ns for face in self._faces]
        return Inventory(
            "a csv of landmarks",
            self._folder,
            (len(splits), 0),
            [],
            np.zeros(len(splits), np.int64),
            is_test,
            [str(self._folder), dates, self.identity()],
            True,
            "split of the csv",
            {str(split): splits == split for split in np.unique(splits[is_test])},
        )

    def open(self, number: int) -> Image.Image:
        face = self._faces[number]
        with located(face.location):
            return open_photo(self._folder / face.file)

    def to_square(self, number: int, image: Image.Image, size: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        face = self._faces[number]
        with located(f"{face.location}: {self._folder / face.file}"):
            if full_size(image) != face.shape:
                actual, annotated = ("×".join(map(str, shape)) for shape in (full_size(image), face.shape))
                raise DataError(f"{actual} pixels, not {annotated}")
            check_face(face.points, image)
        square = box_around(face.points, face.file) if self.box == "landmarks" else enclosing_square(*face.shape)
        crop_box = np.array(square, np.float32)  # rounded before it is used, so that it leads back exactly
        left, top, side = crop_box.tolist()
        landmarks = (face.points + 0.5 - [left, top]) * (size / side) - 0.5
        return cut_square(image, left, top, side, size), {"landmarks": landmarks, "crop_boxes": crop_box}

    @property
    def _csv(self) -> Path:
        return data_folder(self.root) / self.annotations

    @property
    def _folder(self) -> Path:
        return data_folder(self.root, self.images)

    @cached_property
    def _files(self) -> dict[str, os.stat_result]:
        with os.scandir(self._folder) as entries:
            return {entry.name: entry.stat() for entry in entries if entry.is_file()}

    @cached_property
    def _faces(self) -> list[_Face]:
        """The usable rows, in order. If an image has several rows, none of them is, as any could be wrong."""
        path = self._csv
        faces: dict[str, _Face] = {}
        bad: set[str] = set()  # files, and locations of lines that name none
        rows = csv.reader(line for _, line in lines_of(path))
        try:
            header = next(rows, [])
            if missing := [column for column in _COLUMNS if column not in header]:
                raise DataError(f"{path}, line 1: no column {', '.join(missing)}")
            for values in rows:
                if not values:
                    continue
                location = f"{path}, line {rows.line_num}"
                row = dict(zip(header, values, strict=False))
                file = row.get("file", location)
                try:
                    with located(location):
                        if len(values) != len(header):
                            raise DataError(f"{len(values)} values for the {len(header)} columns of line 1")
                        if file in faces:
                            raise DataError(f"a second row for {file}")
                        faces[file] = self._face(location, row)
                except DataError as error:
                    if file not in bad:
                        self.faults.add(error)
                    bad.add(file)
        except csv.Error as error:
            raise DataError(f"{path}, line {rows.line_num}: {error}") from error
        return [face for file, face in faces.items() if file not in bad]

    def _face(self, location: str, row: dict[str, str]) -> _Face:
        if row["file"] not in self._files:
            raise DataError(f"{self._folder / row['file']} does not exist")
        split = row["split"].strip()
        if not split:
            raise DataError("the split is empty")
        try:
            shape = int(row["width"]), int(row["height"])
        except ValueError as error:
            raise DataError(f"width or height is not a whole number ({error})") from error
        return _Face(location, split, row["file"], shape, five_points([row[column] for column in _POINTS]))


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
