"""Five landmarks as people write them down, and what is checked of them."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.faces import LANDMARKS
from facedistill.data.files.alignment import likeness
from facedistill.data.files.text_lists import finite
from facedistill.errors import DataError

# The minimum over the 25,978 faces of LFW and MTFL is 0.85; the maximum with left and right, or x and y, swapped, 0.56.
LEAST_LIKENESS = 0.7


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
    for name, (x, y) in zip(LANDMARKS, points.tolist(), strict=True):
        if not (-0.5 <= x <= image.width - 0.5 and -0.5 <= y <= image.height - 0.5):
            raise DataError(f"the {name} ({x:g}, {y:g}) is outside of the image of {image.width}×{image.height} pixels")
    if likeness(points) < LEAST_LIKENESS:
        order = f"{', '.join(LANDMARKS)} (left is left in the image; x comes before y)"
        raise DataError(f"no face has such landmarks. Their order: {order}")
