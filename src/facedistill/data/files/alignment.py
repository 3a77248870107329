"""Images to squares: aligned by five landmarks, or cropped.

Points are in pixels with the centre of the first pixel at 0, as landmarks are annotated. Squares are given by their
edges: the first pixel reaches from 0 to 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from facedistill.data.files.photos import full_size, reduction
from facedistill.errors import DataError

# the landmarks in an aligned image of 112 × 112 pixels (ArcFace, Deng et al. 2019)
ARCFACE_TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
ARCFACE_SIZE = 112
# the means of the landmarks in CelebA's aligned images, as its list has them
CELEBA_TEMPLATE = np.array([[69.0, 111], [108, 111], [88, 136], [72, 152], [105, 152]])
CELEBA_SIZE = (178, 218)
# Pixels of the image per stored pixel and axis. An image with at least twice as many is first reduced by averaging
# blocks, or a photograph of 100 megapixels would take seconds.
_ENOUGH = 4
ALIGNMENTS = ("none", "centre", "similarity", "celeba", "box")
MOST_MARGIN = 4
MIN_BOX = 8  # pixels


@dataclass(frozen=True)
class Alignment:
    """How an image becomes a square; part of the identity of a run.

    ``none``: the whole image, padded with black. ``centre``: its centre square. ``similarity``: landmarks moved to
    ArcFace's template. ``celeba``: the same of an image that CelebA aligned, of whatever size, where the landmarks of
    all faces are about ``CELEBA_TEMPLATE``. ``box``: the square around a box, 1 + ``margin`` times as long as the box's
    longer side.

    Raises ``DataError`` if there is no such alignment, or the margin is not a number from 0 to 4.
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
        """The name, and the margin if it matters."""
        return [self.name, float(self.margin)] if self.name == "box" else [self.name]

    @property
    def needs(self) -> str | None:
        """The annotation that every image must have: ``landmarks``, ``boxes`` or None."""
        return {"similarity": "landmarks", "box": "boxes"}.get(self.name)

    @property
    def framing(self) -> tuple[str, float]:
        """See ``Source.framing``."""
        kinds = {"none": "whole", "centre": "centre", "box": "box"}
        return kinds.get(self.name, "template"), 1 + float(self.margin) if self.name == "box" else 1.0

    @property
    def to_template(self) -> bool:
        """Whether the landmarks of every face come to the same places, so that there are none left to learn."""
        return self.name in ("similarity", "celeba")

    def apply(
        self, image: Image.Image, size: int, annotation: NDArray[np.floating] | None
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64] | None]:
        """The square of an image.

        Args:
            image: RGB; it may be a reduced photograph.
            annotation: what the alignment ``needs``, in pixels of the photograph: landmarks [5, 2], or left, top, width
                and height of the box [4].

        Returns:
            uint8 [size, size, 3], and its crop box (left, top, side) in the photograph; None where it was rotated.

        Raises ``DataError`` if the landmarks are not those of a face, the box is not one of a face in this image, or
        the image has not the shape of those that CelebA aligned.
        """
        if self.name == "centre":
            width, height = full_size(image)
            side = min(width, height)
            pixels = np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR))
            return pixels, np.array([(width - side) / 2, (height - side) / 2, side])
        if self.name == "celeba":
            return align(image, celeba_landmarks(*full_size(image)), size), None
        if self.name == "none":
            crop_box = enclosing_square(*full_size(image))
        else:
            assert annotation is not None
            if self.name == "similarity":
                return align(image, annotation, size), None
            crop_box = square_around(annotation.tolist(), self.margin, image)
        return cut_square(image, *crop_box, size), np.array(crop_box)


def celeba_landmarks(width: int, height: int) -> NDArray[np.float64]:
    """Where the landmarks of a face that CelebA aligned are, [5, 2], in an image of this size.

    Raises ``DataError`` unless it has the shape of those.
    """
    scale = width / CELEBA_SIZE[0]
    if abs(height - scale * CELEBA_SIZE[1]) > 1:
        expected = "×".join(map(str, CELEBA_SIZE))
        raise DataError(f"{width}×{height} pixels, but an image that CelebA aligned has {expected}, or is scaled")
    return (CELEBA_TEMPLATE + 0.5) * scale - 0.5


def enclosing_square(width: int, height: int) -> tuple[float, float, float]:
    """(left, top, side) of the smallest square that encloses an image."""
    side = max(width, height)
    return (width - side) / 2, (height - side) / 2, side


def square_around(box: Sequence[float], margin: float, image: Image.Image) -> tuple[float, float, float]:
    """(left, top, side) around a box (left, top, width, height). Raises ``DataError`` unless a face may be in it."""
    left, top, width, height = box
    x, y, longer = left + width / 2, top + height / 2, max(width, height)
    right, bottom = full_size(image)
    inside = 0 <= x <= right and 0 <= y <= bottom
    if not inside or min(width, height) < MIN_BOX or longer > 2 * max(right, bottom):
        raise DataError(f"not a box of a face in an image of {right}×{bottom} pixels")
    side = longer * (1 + margin)
    return x - side / 2, y - side / 2, side


def similarity(points: NDArray[np.floating], template: NDArray[np.floating]) -> NDArray[np.float64]:
    """The rotation, scale and shift (no reflection) that bring ``points`` closest to ``template``, both [5, 2], (x, y).

    Least squares (Umeyama 1991), which in the plane is a division of complex numbers. Returns m [2, 3]:
    ``points @ m[:, :2].T + m[:, 2]`` is close to ``template``. Raises ``DataError`` if the points coincide, or all
    rotations of them fit equally well.
    """
    source, target = points[:, 0] + 1j * points[:, 1], template[:, 0] + 1j * template[:, 1]
    if likeness(points, template) < 1e-6:
        raise DataError("the landmarks are not arranged like those of a face")
    centred = source - source.mean()
    rotation = np.vdot(centred, target) / np.vdot(centred, centred).real  # and scale
    shift = target.mean() - rotation * source.mean()
    return np.array([[rotation.real, -rotation.imag, shift.real], [rotation.imag, rotation.real, shift.imag]])


def in_template(points: NDArray[np.floating], size: int) -> NDArray[np.float64]:
    """Where the landmarks of faces [N, 5, 2] come to lie in images that ``align`` makes of them, in pixels of these."""
    places = ((ARCFACE_TEMPLATE + 0.5) * (size / ARCFACE_SIZE) - 0.5) @ [1, 1j]
    source = points @ np.array([1, 1j])
    centred = source - source.mean(axis=1, keepdims=True)
    rotation = (centred.conj() @ places) / (abs(centred) ** 2).sum(axis=1)
    moved = places.mean() + rotation[:, None] * centred
    return np.stack([moved.real, moved.imag], axis=-1)


def likeness(points: NDArray[np.floating], template: NDArray[np.floating] = ARCFACE_TEMPLATE) -> float:
    """How well a similarity maps ``points`` to ``template``: 1 exactly, 0 not at all, or the points coincide."""
    one, other = (p[:, 0] + 1j * p[:, 1] for p in (points - points.mean(axis=0), template - template.mean(axis=0)))
    spread = np.linalg.norm(one) * np.linalg.norm(other)
    return float(abs(np.vdot(one, other)) / spread) if spread else 0.0


def align(
    image: Image.Image, points: NDArray[np.floating], size: int, template: NDArray[np.floating] | None = None
) -> NDArray[np.uint8]:
    """Move a face by the ``similarity`` of its landmarks to ArcFace's template, scaled to ``size``, or to another.

    Args:
        image: RGB.
        points: [5, 2], (x, y) in pixels of the photograph.
        template: [5, 2], in pixels of the square.

    Returns uint8 [size, size, 3]; black beyond the image.
    """
    # Pillow measures from the edge of the first pixel
    places = (ARCFACE_TEMPLATE + 0.5) * (size / ARCFACE_SIZE) if template is None else template + 0.5
    m = similarity((points + 0.5) / reduction(image), places)
    shrink = 1 / math.hypot(m[0, 0], m[1, 0])
    blocks = max(1, int(shrink / _ENOUGH))
    # Bilinear sampling reads four pixels however much the image shrinks, so a finer grid is sampled and averaged. From
    # 160 pixels to 48, this differs from exact averages by 0.6 grey levels; averaging blocks first, by 2.6.
    fine = math.ceil(shrink / blocks)
    back = np.linalg.inv(m[:, :2])
    affine = np.column_stack([back / fine, -back @ m[:, 2]]) / blocks
    reduced = image.reduce(blocks)
    warped = reduced.transform(
        (size * fine, size * fine), Image.Transform.AFFINE, tuple(affine.ravel()), Image.Resampling.BILINEAR
    )
    return np.asarray(warped.reduce(fine))


def cut_square(image: Image.Image, left: float, top: float, side: float, size: int) -> NDArray[np.uint8]:
    """The square of ``side`` pixels at (left, top), edges in pixels of the photograph, as uint8 [size, size, 3].

    It is black beyond the image.
    """
    left, top, side = left / reduction(image), top / reduction(image), side / reduction(image)
    blocks = max(1, int(side / size / _ENOUGH))
    reduced = image.reduce(blocks)
    left, top, side = left / blocks, top / blocks, side / blocks
    x, y = math.floor(left) - 1, math.floor(top) - 1  # one pixel more on each side, for interpolation at the edge
    part = reduced.crop((x, y, math.ceil(left + side) + 1, math.ceil(top + side) + 1))
    box = (left - x, top - y, left - x + side, top - y + side)
    return np.asarray(part.resize((size, size), Image.Resampling.BILINEAR, box))
