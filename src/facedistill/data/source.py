"""What a data source is, and what it gives: faces with identities, split into train and test."""

from __future__ import annotations

import abc
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from facedistill.config import build

TEST_FRACTION = 0.2  # the paper splits every set 80 / 20 at random over samples


@dataclass(frozen=True)
class Pairs:
    """A verification protocol in the manner of LFW: is it the same person in both images?

    Attributes:
        images: uint8 [M, size, size, 3], RGB.
        left, right: int64 [P], indices into ``images``.
        same: bool [P].
        fold: int64 [P], 0 … folds − 1; people of one fold are in no other.
    """

    images: NDArray[np.uint8]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]


@dataclass(frozen=True)
class FaceSet:
    """Faces ready to be read, in a fixed order.

    Attributes:
        images: uint8 [N, size, size, 3], RGB, mapped from one file.
        labels: int64 [N], identity of each image, 0 … C − 1.
        is_test: bool [N], the 20 % that is never trained on.
        identities: the C names.
        pairs: a verification protocol on other people, where the source has one.
        counts: what was found and what was left out, for the run's record.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    is_test: NDArray[np.bool_]
    identities: list[str]
    pairs: Pairs | None = None
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


def build_source(data: dict[str, Any]) -> Source:
    """The source that a ``conf/data`` node names."""
    return cast(Source, build(data))


def is_test_sample(name: str) -> bool:
    """The side of the split on which a sample falls, by its name alone: adding others never moves it."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") < TEST_FRACTION * 2**64
