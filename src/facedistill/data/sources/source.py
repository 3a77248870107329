"""What a data source is, and what it gives: faces with identities, split into train and test."""

from __future__ import annotations

import abc
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from facedistill.config.build import build
from facedistill.data.files.store import Mapped
from facedistill.errors import DataError

# "left" is left in the image; a mirrored face swaps left and right
LANDMARKS = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")
MIRRORED = (1, 0, 2, 4, 3)
TEST_FRACTION = 0.2  # the paper splits every set 80 / 20 at random over samples


@dataclass(frozen=True)
class Pairs:
    """A verification protocol in the manner of LFW: is it the same person in both images?

    Attributes:
        images: uint8 [M, size, size, 3], RGB.
        left, right: int64 [P], indices into ``images``.
        same: bool [P].
        fold: int64 [P], 0 … folds − 1; people of one fold are in no other.
        trained_on: bool [P], pairs with a person who is among the set's identities.
    """

    images: NDArray[np.uint8] | Mapped
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]
    trained_on: NDArray[np.bool_]


@dataclass(frozen=True)
class FaceSet:
    """Faces ready to be read, in a fixed order.

    Attributes:
        images: uint8 [N, size, size, 3], RGB, mapped from one file.
        labels: int64 [N], identity of each image, 0 … C − 1; zeros where the source has no identities.
        is_test: bool [N], the 20 % that is never trained on.
        identities: the C names; none where the source has landmarks only.
        pairs: a verification protocol in the manner of LFW, where the source has one.
        landmarks: float32 [N, 5, 2], (x, y) of ``LANDMARKS``, pixels of the stored image (the centre of the first
            is 0), where the source has them.
        crop_boxes: float32 [N, 3], (left, top, side) of the square of the original image that the stored one shows:
            edges, in the original's pixels. With ``landmarks`` only.
        subsets: parts of the test split by name, as indices int64, where they are scored by themselves too.
        counts: what was found and what was left out, for the run's record.
    """

    images: NDArray[np.uint8] | Mapped
    labels: NDArray[np.int64]
    is_test: NDArray[np.bool_]
    identities: list[str]
    pairs: Pairs | None = None
    landmarks: NDArray[np.float32] | None = None
    crop_boxes: NDArray[np.float32] | None = None
    subsets: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def train(self) -> NDArray[np.int64]:
        """Indices of the training samples."""
        return np.flatnonzero(~self.is_test)

    @property
    def test(self) -> NDArray[np.int64]:
        """Indices of the test samples."""
        return np.flatnonzero(self.is_test)


class Source(abc.ABC):
    """Where faces come from. A new source is a subclass in one file and a yaml in conf/data."""

    name: str

    @abc.abstractmethod
    def identity(self) -> dict[str, Any]:
        """What decides the pixels and labels (not where they lie); part of the identity of a run.

        Cheap: called to plan a sweep. Raises ``DataError`` where the data is missing.
        """

    @abc.abstractmethod
    def faces(self, size: int, cache_dir: Path) -> FaceSet:
        """All faces at ``size`` × ``size`` pixels, prepared on the first call and kept in ``cache_dir``."""

    def protocol(self, size: int, cache_dir: Path, trained_on: set[str]) -> Pairs:
        """The source's pairs alone, where it has a verification protocol; ``trained_on``: names of identities.

        Raises:
            DataError: it has none.
        """
        raise DataError(f"data={self.name} has no pairs to verify: protocol=lfw has")


def build_source(data: dict[str, Any]) -> Source:
    """The source that a ``conf/data`` node names."""
    named = {"root": str(data["root"])} if "root" in data else {}  # a folder 2020 is a number to Hydra
    return cast(Source, build({**data, **named}))


def is_test_sample(name: str) -> bool:
    """The side of the split on which a sample falls, by its name alone: adding others never moves it."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") < TEST_FRACTION * 2**64
