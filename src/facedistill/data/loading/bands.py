"""The band about the eyes of a face: what a periocular recognizer sees (arXiv 2012.06746: 48 × 128 pixels of 128²)."""

import cv2
import numpy as np
from numpy.typing import NDArray

from facedistill.config.groups import band_size

# Where the centres of the eyes come to lie, as shares of the band's width and height: the paper does not say. A band is
# two eye distances wide, from temple to temple. Brows are within the 0.45 eye distances above the eyes, lower lids and
# the root of the nose within the 0.3 below.
LEFT, RIGHT, DOWN = 0.25, 0.75, 0.6


def band_of(image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The band of a view of a face: a similarity brings the eyes to their places.

    It shows nothing that the view does not: beyond the view's edge, its last pixels go on.

    Args:
        image: uint8 [crop, crop, 3].
        landmarks: [5, 2], in pixels of it; the first two are the centres of the eyes, which must differ.

    Returns:
        uint8 [height, crop, 3], see ``band_size``.
    """
    height, width = band_size(len(image))
    turn, shift = _from_band(landmarks, len(image))
    back = np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    band = cv2.warpAffine(image, back, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(band, np.uint8)


def in_band(landmarks: NDArray[np.floating], crop: int) -> NDArray[np.float64]:
    """Landmarks of a face [5, 2] in pixels of its band, the centre of the first at 0."""
    turn, shift = _from_band(landmarks, crop)
    moved = (landmarks @ [1, 1j] - shift) / turn
    return np.stack([moved.real, moved.imag], axis=1)


def _from_band(landmarks: NDArray[np.floating], crop: int) -> tuple[complex, complex]:
    """The similarity z → turn · z + shift of points x + iy from the band to where the landmarks are."""
    height, width = band_size(crop)
    left, right = (complex(x * width - 0.5, DOWN * height - 0.5) for x in (LEFT, RIGHT))
    one, other = (complex(*eye) for eye in landmarks[:2].tolist())
    turn = (other - one) / (right - left)
    return turn, one - turn * left
