"""Whether faces lie where recognizers expect them, as the detector sees it: a recognizer says nothing if they don't."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from facedistill.data.files.alignment import ARCFACE_SIZE, ARCFACE_TEMPLATE
from facedistill.data.files.detector import detect, is_there
from facedistill.data.sources.photo_source import PhotoSource
from facedistill.errors import DataError

LOOKED_AT = 80  # images, evenly spaced: seconds
# What EdgeFace-XS gets right of 160 pairs of LFW, in %: 100 at 0.12, aligned; 98.8 at 0.21, a quarter smaller; 99.4 at
# 0.28, a quarter larger; 80.6 at 0.36, moved by 12 pixels of 112; 71.9 at 0.39, half as large.
FARTHEST = 0.3
LEAST_FOUND = 0.5


@dataclass(frozen=True)
class Placement:
    """Of some images.

    Attributes:
        images: how many.
        found: in how many of them there is a face.
        distance: the median over these of the mean distance of their landmarks from ArcFace's template, in distances
            between its eyes; NaN where there are none.
    """

    images: int
    found: int
    distance: float

    def __str__(self) -> str:
        where = f", {self.distance:.2f} eye distances from where recognizers expect them" if self.found else ""
        return f"faces in {self.found:,} of {self.images:,} images{where}"

    @property
    def complaint(self) -> str | None:
        """Why recognizers fail on these faces, and what to do; None: it is not."""
        if self.found >= LEAST_FOUND * self.images and self.distance <= FARTHEST:
            return None
        return (
            f"{self}, at most {FARTHEST} in at least half of them: recognizers fail on such images. "
            "data.alignment=detect finds the faces and aligns them; data.landmarks=FILE does so by a list"
        )


def judge_placement(source: PhotoSource, count: int) -> str:
    """In a few words, where the faces of a source lie whose ``inventory`` has ``count`` images.

    Raises ``DataError`` where recognizers fail on them.
    """
    if not is_there():
        return "not judged, as there is no detector: pip install 'facedistill[photos]', or look at the sheet"
    placement = placement_of(source, count)
    if placement.complaint:
        raise DataError(placement.complaint)
    return str(placement)


def placement_of(source: PhotoSource, count: int) -> Placement:
    """By ``LOOKED_AT`` of its images; those that can't be read are passed over. The detector must be installed."""

    def distance(number: int) -> float | None:
        try:
            square, _ = source.to_square(number, source.open(number), ARCFACE_SIZE)
        except DataError:
            return None
        faces = detect(Image.fromarray(square))
        return float(np.linalg.norm(faces[0] - ARCFACE_TEMPLATE, axis=1).mean()) if len(faces) else np.inf

    numbers = np.unique(np.linspace(0, count - 1, LOOKED_AT).astype(int)).tolist()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        seen = np.array([found for found in pool.map(distance, numbers) if found is not None])
    found = seen[np.isfinite(seen)] / np.linalg.norm(ARCFACE_TEMPLATE[0] - ARCFACE_TEMPLATE[1])
    return Placement(len(seen), len(found), float(np.median(found)) if len(found) else np.nan)
