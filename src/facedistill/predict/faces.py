"""From photographs to the images that a model takes: the face is found and framed as in training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.files.alignment import (
    ARCFACE_SIZE,
    ARCFACE_TEMPLATE,
    Alignment,
    align,
    cut_square,
    enclosing_square,
    similarity,
)
from facedistill.data.files.detector import detect, detector_name
from facedistill.data.files.photos import full_size, open_photo
from facedistill.errors import DataError, WeightsError
from facedistill.runs.exported import Exported, Framing, ImageInput

KINDS = ("template", "landmarks", "box", "centre", "whole")
MOST_SIDE = 10  # times the extent of the landmarks, or the side of the face's box
# Of the detector's boxes of 300 faces of LFW and MTFL, in extents of their landmarks: the longer side, and how far the
# centre lies above that of the landmarks. Medians; eight of ten lie within 6 % of the side.
BOX_SIDE, BOX_ABOVE = 2.66, 0.17
_ROUNDED = 0.01  # pixels by which a template may differ from ArcFace's and still be it
Points = NDArray[np.float64]  # [K, 2], x and y in pixels; 0 is the centre of the first


class NoFace(DataError):
    """A photograph in which no face was found."""


@dataclass(frozen=True)
class Face:
    """A face as a model takes it.

    Attributes:
        path: of its photograph, as it was named.
        pixels: RGB, uint8 [height, width, 3].
        back: [2, 3], from pixels of that image to those of the photograph.
        points: the landmarks that were found in the photograph; None: no face was looked for.
        found: how many faces there were, of which it is the largest.
    """

    path: str
    pixels: NDArray[np.uint8]
    back: NDArray[np.float64]
    points: Points | None = None
    found: int = 1

    def in_photo(self, points: Points) -> Points:
        """Points in pixels of the model's image → pixels of the photograph."""
        moved: Points = points @ self.back[:, :2].T + self.back[:, 2]
        return moved

    @property
    def corners(self) -> Points:
        """Of the model's image, in pixels of the photograph, [4, 2]."""
        bottom, right = (length - 0.5 for length in self.pixels.shape[:2])
        return self.in_photo(np.array([[-0.5, -0.5], [right, -0.5], [right, bottom], [-0.5, bottom]]))


def check_framing(exported: Exported, framed: bool) -> None:
    """Raise ``WeightsError`` for a framing that there is not, ``DataError`` where its detector is missing."""
    framing = exported.framing
    if framing.kind not in KINDS or exported.input.colour not in ("rgb", "bgr"):
        raise WeightsError(
            f"{exported.name} is framed by {framing.kind}, {exported.input.colour}, unknown to this version"
        )
    if framing.looks_for_faces and framing.kind != "template" and not 0 < framing.side <= MOST_SIDE:
        raise WeightsError(f"{exported.name} frames a face by {framing.side:g} times its extent: export it again")
    if framing.looks_for_faces and not framed:
        try:
            detector_name()
        except DataError as error:
            raise DataError(f"{error}. framed=true: for faces that are cut and aligned already") from error


def open_face(path: str, exported: Exported, framed: bool) -> Face:
    """The largest face in a photograph. Raises ``NoFace``, or ``DataError`` for what is no image, with the file."""
    image = open_photo(Path(path))
    try:
        return frame(path, image, exported.framing, exported.input, framed)
    except NoFace:
        raise
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def frame(path: str, image: Image.Image, framing: Framing, taken: ImageInput, framed: bool = False) -> Face:
    """The face in an RGB image as a model takes it.

    ``box`` had the boxes of a data set in training; here it is about where this detector's box would be, by
    ``BOX_SIDE`` and ``BOX_ABOVE``.

    Args:
        framed: the image is a face already, of the size that the model takes, or the square from whose centre that is
            cut, of any size.

    Raises:
        NoFace: there is none.
    """
    size, top, left = framing.resize, _margin(framing.resize, taken.height), _margin(framing.resize, taken.width)
    if framed and full_size(image) == (taken.width, taken.height):
        return Face(path, np.asarray(image), np.eye(2, 3))
    if framed or not framing.looks_for_faces:
        name = "centre" if framing.kind == "centre" and not framed else "none"
        pixels, box = Alignment(name).apply(image, size, None)
        x, y, side = (box if box is not None else np.array(enclosing_square(*full_size(image)))).tolist()
        return Face(path, _cut(pixels, top, left, taken), _back(x, y, side / size, top, left))
    faces = detect(image)
    if not len(faces):
        raise NoFace(
            f"{path}: no face was found. It has to be upright, and not too small; for a face that is cut and aligned "
            "already: framed=true"
        )
    points = faces[0]
    if framing.kind == "template":
        template = np.array(framing.template, np.float64) + np.array([left, top])
        arcface = (ARCFACE_TEMPLATE + 0.5) * (size / ARCFACE_SIZE) - 0.5
        if np.allclose(template, arcface, rtol=0, atol=_ROUNDED):
            template = arcface
            pixels = align(image, points, size)  # bit by bit what training saw
        else:
            pixels = align(image, points, size, template)
        m = similarity(points + 0.5, template + 0.5)
        turned = np.linalg.inv(m[:, :2])
        back = np.column_stack([turned, turned @ (np.array([left, top]) + 0.5 - m[:, 2]) - 0.5])
    else:
        is_box = framing.kind == "box"
        x, y, side = square_around(points, framing.side * (BOX_SIDE if is_box else 1), BOX_ABOVE * is_box)
        pixels, back = cut_square(image, x, y, side, size), _back(x, y, side / size, top, left)
    return Face(path, _cut(pixels, top, left, taken), back, points, len(faces))


def square_around(points: Points, times: float, above: float = 0) -> tuple[float, float, float]:
    """(left, top, side) of a square around landmarks, edges; ``times`` and ``above`` are in extents of these."""
    low, high = points.min(axis=0), points.max(axis=0)
    extent = float((high - low).max())
    side = times * extent
    x, y = ((low + high) / 2 + 0.5 - side / 2).tolist()
    return x, y - above * extent, side


def as_taken(faces: list[Face], taken: ImageInput) -> NDArray[Any]:
    """The faces as a model takes them, [N, 3, height, width]."""
    pixels = np.stack([face.pixels for face in faces]).transpose(0, 3, 1, 2)
    if taken.colour == "bgr":
        pixels = pixels[:, ::-1]
    if taken.pixel == "uint8":
        return np.ascontiguousarray(pixels)
    mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (taken.mean, taken.std))
    return np.ascontiguousarray((pixels.astype(np.float32) - mean) / std)


def _margin(size: int, crop: int) -> int:
    return (size - crop) // 2


def _cut(pixels: NDArray[np.uint8], top: int, left: int, taken: ImageInput) -> NDArray[np.uint8]:
    return np.ascontiguousarray(pixels[top : top + taken.height, left : left + taken.width])


def _back(x: float, y: float, scale: float, top: int, left: int) -> NDArray[np.float64]:
    """Of a square at (x, y), edges, each of whose pixels is ``scale`` pixels of the photograph."""
    return np.array([[scale, 0, x + scale * (left + 0.5) - 0.5], [0, scale, y + scale * (top + 0.5) - 0.5]])
