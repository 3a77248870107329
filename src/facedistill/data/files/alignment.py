"""Faces brought into a square: by their five landmarks, or as a square around them was cut.

Points are in pixels with the centre of the first at 0, as landmarks are written. A square is given by its edges: the
first pixel reaches from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from facedistill.errors import DataError

# where ArcFace (Deng et al. 2019) and its successors put the landmarks in an image of 112 × 112 pixels
ARCFACE_TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
ARCFACE_SIZE = 112
# Pixels of the image across one that is stored: of an image with twice as many or more, blocks are averaged first, or
# a photograph of 100 megapixels would take seconds.
_ENOUGH = 4
ALIGNMENTS = ("none", "centre", "similarity", "box")
MOST_MARGIN = 4
MIN_BOX = 8  # pixels


@dataclass(frozen=True)
class Alignment:
    """What a source shows of an image; part of the identity of a run.

    ``none``: all of it, with black where it is no square. ``centre``: its centre square. ``similarity``: the landmarks
    on ArcFace's template. ``box``: the square about a box, whose side is 1 + ``margin`` times the box's longer one.

    Raises:
        DataError: there is no such alignment, or the margin is none.
    """

    name: str
    margin: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in ALIGNMENTS:
            raise DataError(f"data.alignment={self.name}: choices are {', '.join(ALIGNMENTS)}")
        if not isinstance(self.margin, int | float) or not 0 <= self.margin <= MOST_MARGIN:
            raise DataError(f"data.margin={self.margin} must be a number from 0 to {MOST_MARGIN}")

    @property
    def identity(self) -> list[Any]:
        """The name, and the margin where it counts."""
        return [self.name, *([float(self.margin)] if self.name == "box" else [])]

    @property
    def takes(self) -> str | None:
        """What has to be known of every image: ``landmarks``, ``boxes`` or nothing."""
        return {"similarity": "landmarks", "box": "boxes"}.get(self.name)

    def show(
        self, image: Image.Image, size: int, known: NDArray[np.floating] | None
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64] | None]:
        """The square of an image.

        Args:
            image: RGB.
            known: what the alignment ``takes``: landmarks [5, 2], or left, top, width and height of the box [4].

        Returns:
            uint8 [size, size, 3], and left, top, side of what it shows; None where it was turned.

        Raises:
            DataError: the landmarks are none of a face, or the box is none on this image.
        """
        if self.name == "similarity":
            assert known is not None
            return align(image, known, size), None
        if self.name == "centre":
            side = min(image.size)
            pixels = np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR))
            return pixels, np.array([(image.width - side) / 2, (image.height - side) / 2, side])
        if self.name == "none":
            frame = whole(*image.size)
        else:
            assert known is not None
            frame = about_box(known.tolist(), self.margin, image)
        return cut_square(image, *frame, size), np.array(frame)


def whole(width: int, height: int) -> tuple[float, float, float]:
    """(left, top, side) of the smallest square that holds a whole image."""
    side = max(width, height)
    return (width - side) / 2, (height - side) / 2, side


def about_box(box: Sequence[float], margin: float, image: Image.Image) -> tuple[float, float, float]:
    """(left, top, side) of the square about a box (left, top, width, height); see ``Alignment``.

    Raises:
        DataError: it is too small for a face, or not on the image.
    """
    left, top, *lengths = box
    x, y, longer = left + lengths[0] / 2, top + lengths[1] / 2, max(lengths)
    inside = 0 <= x <= image.width and 0 <= y <= image.height
    if not inside or min(lengths) < MIN_BOX or longer > 2 * max(image.size):
        raise DataError(f"no box of a face on {image.width}×{image.height} pixels")
    side = longer * (1 + margin)
    return x - side / 2, y - side / 2, side


def similarity(points: NDArray[np.floating], template: NDArray[np.floating]) -> NDArray[np.float64]:
    """The rotation, scale and shift (no reflection) that bring ``points`` nearest to ``template``.

    Least squares (Umeyama 1991), which for points of a plane is a division of complex numbers.

    Args:
        points, template: [5, 2], (x, y).

    Returns:
        m [2, 3]: ``points @ m[:, :2].T + m[:, 2]`` is near ``template``.

    Raises:
        DataError: all points are at one place, or every turn of them is as near as another.
    """
    source, target = points[:, 0] + 1j * points[:, 1], template[:, 0] + 1j * template[:, 1]
    if likeness(points, template) < 1e-6:
        raise DataError("the landmarks do not lie as those of a face")
    spread = source - source.mean()
    turn = np.vdot(spread, target) / np.vdot(spread, spread).real
    shift = target.mean() - turn * source.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def likeness(points: NDArray[np.floating], template: NDArray[np.floating] = ARCFACE_TEMPLATE) -> float:
    """How much of ``template`` a similarity of ``points`` explains: 1 all of it, 0 nothing or points at one place."""
    one, other = (p[:, 0] + 1j * p[:, 1] for p in (points - points.mean(axis=0), template - template.mean(axis=0)))
    spread = np.linalg.norm(one) * np.linalg.norm(other)
    return float(abs(np.vdot(one, other)) / spread) if spread else 0.0


def align(image: Image.Image, points: NDArray[np.floating], size: int) -> NDArray[np.uint8]:
    """Turn, scale and shift a face so that its landmarks fall on ArcFace's template, scaled to ``size``.

    Args:
        image: RGB.
        points: [5, 2], (x, y) in pixels of ``image``.

    Returns:
        uint8 [size, size, 3]; black where the image ends.

    Raises:
        DataError: see ``similarity``.
    """
    # Pillow counts from the edge of the first pixel
    m = similarity(points + 0.5, (ARCFACE_TEMPLATE + 0.5) * (size / ARCFACE_SIZE))
    shrink = 1 / math.hypot(m[0, 0], m[1, 0])
    blocks = max(1, int(shrink / _ENOUGH))
    # Bilinear sampling looks at four pixels however much the image shrinks, so a finer grid is sampled and averaged.
    # Against exact areas, of 160 pixels brought to 48, this errs by 0.6 grey levels, averaging blocks first by 2.6.
    fine = math.ceil(shrink / blocks)
    back = np.linalg.inv(m[:, :2])
    affine = np.column_stack([back / fine, -back @ m[:, 2]]) / blocks
    reduced = image.reduce(blocks)
    warped = reduced.transform(
        (size * fine, size * fine), Image.Transform.AFFINE, tuple(affine.ravel()), Image.Resampling.BILINEAR
    )
    return np.asarray(warped.reduce(fine))


def cut_square(image: Image.Image, left: float, top: float, side: float, size: int) -> NDArray[np.uint8]:
    """The square of ``side`` pixels at (left, top), which may reach beyond the image: it is black there.

    Args:
        image: RGB.
        left, top, side: edges, in pixels of ``image``.

    Returns:
        uint8 [size, size, 3].
    """
    blocks = max(1, int(side / size / _ENOUGH))
    reduced = image.reduce(blocks)
    left, top, side = left / blocks, top / blocks, side / blocks
    x, y = math.floor(left) - 1, math.floor(top) - 1  # one pixel more on each side, for interpolation at the edge
    part = reduced.crop((x, y, math.ceil(left + side) + 1, math.ceil(top + side) + 1))
    box = (left - x, top - y, left - x + side, top - y + side)
    return np.asarray(part.resize((size, size), Image.Resampling.BILINEAR, box))
