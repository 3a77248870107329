"""Five landmarks as people write them down, and what is checked of them."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.faces import LANDMARKS, MIRRORED
from facedistill.data.files.alignment import ARCFACE_TEMPLATE, likeness
from facedistill.data.files.photos import full_size
from facedistill.data.files.text_lists import finite
from facedistill.errors import DataError

# The minimum over the 25,978 faces of LFW and MTFL is 0.85; the maximum with left and right, or x and y, swapped, 0.56.
LEAST_LIKENESS = 0.7
_ORDER = f"{', '.join(LANDMARKS)} (left is left in the image; x comes before y)"
_EACH, _AXES = np.arange(10).reshape(5, 2), np.arange(10).reshape(2, 5).T
# the ten numbers of a list in the order of LANDMARKS, x before y
OUR_ORDER = "x1 y1 … x5 y5"
ORDERS = {
    OUR_ORDER: _EACH,
    "x1 … x5 y1 … y5": _AXES,
    "x1 y1 … x5 y5, with left and right of the person": _EACH[list(MIRRORED)],
    "x1 … x5 y1 … y5, with left and right of the person": _AXES[list(MIRRORED)],
    "y1 x1 … y5 x5": _EACH[:, ::-1],
    "y1 … y5 x1 … x5": _AXES[:, ::-1],
}


def five_points(words: Sequence[str]) -> NDArray[np.float64]:
    """``LANDMARKS``, float64 [5, 2], from ten words. Raises ``DataError`` unless these are numbers, with two eyes."""
    if len(words) != 2 * len(LANDMARKS):
        raise DataError(f"{len(words)} values, expected x y of {', '.join(LANDMARKS)}")
    points = np.array(finite(words)).reshape(-1, 2)
    check_eyes(points)
    return points


def check_eyes(points: NDArray[np.float64]) -> None:
    """Raise ``DataError`` if both eyes are at one point: their distance is the unit of errors."""
    if math.dist(points[0], points[1]) < 1:
        raise DataError("both eyes are at one point")


def check_face(points: NDArray[np.float64], image: Image.Image) -> None:
    """Raise ``DataError`` if a landmark is outside of the image, or they are not a face's, or in another order."""
    width, height = full_size(image)
    for name, (x, y) in zip(LANDMARKS, points.tolist(), strict=True):
        if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
            raise DataError(f"the {name} ({x:g}, {y:g}) is outside of the image of {width}×{height} pixels")
    if likeness(points) < LEAST_LIKENESS:
        raise DataError(f"no face has such landmarks. Their order: {_ORDER}")


def order_of(numbers: NDArray[np.float64]) -> tuple[int, str]:
    """Where the landmarks of faces, most of which are upright, begin in [N, 10 or more], and their order in ``ORDERS``.

    Raises ``DataError`` if no ten numbers are faces in any order.
    """
    last = numbers.shape[1] - _EACH.size
    forms = {(start, name): numbers[:, start + order] for start in range(last + 1) for name, order in ORDERS.items()}
    upright = {form: np.median(_turned_likeness(points).real) for form, points in forms.items()}
    best = max(upright, key=upright.__getitem__)
    if upright[best] >= LEAST_LIKENESS:
        return best
    if np.median(np.abs(_turned_likeness(forms[last, OUR_ORDER]))) < LEAST_LIKENESS:
        raise DataError(f"no face has such landmarks. Their order: {_ORDER}")
    return last, OUR_ORDER  # faces that lie on their side


def _turned_likeness(points: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Of each of [N, 5, 2]: ``likeness``, multiplied by its rotation, which is 1 of an upright face."""
    with np.errstate(all="ignore"):  # five equal points, and numbers like 1e300
        one, other = points @ [1, 1j], ARCFACE_TEMPLATE @ [1, 1j]
        one, other = one - one.mean(-1, keepdims=True), other - other.mean()
        turned: NDArray[np.complex128] = one @ other.conj() / (np.linalg.norm(one, axis=-1) * np.linalg.norm(other))
        turned[~np.isfinite(turned)] = 0
    return turned
