"""The interface of data sources: faces with identities or landmarks, split into train and test."""

import abc
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from facedistill.config.build import build, find_type
from facedistill.data.faces import FaceSet, Pairs, Samples
from facedistill.errors import DataError

MOST_SEED = 2**63 - 1  # of rendered faces
TEST_FRACTION = 0.2  # the paper splits every data set 80/20, at random over samples


class Round(abc.ABC):
    """Training faces of some epochs.

    Attributes:
        depends_on_student: on how well it imitated the round before; else every run has the same ones.
        key: stands for what decides their pixels, whatever their size.
    """

    number: int
    depends_on_student: bool

    @property
    @abc.abstractmethod
    def key(self) -> str: ...

    @abc.abstractmethod
    def faces(self, size: int, cache_dir: Path) -> FaceSet:
        """The N faces of the round at ``size`` × ``size`` pixels, kept in ``cache_dir``."""

    @abc.abstractmethod
    def images(self, size: int, start: int) -> Iterator[NDArray[np.uint8]]:
        """The same from ``start`` on in batches [n, size, size, 3], in order, and not kept."""


class Source(abc.ABC):
    """A data source. A new one is a subclass in its own module and a yaml in conf/data."""

    name: str
    merges: ClassVar[bool] = False  # whether data.root may name several folders

    @property
    def framing(self) -> tuple[str, float]:
        """How a face in a photograph becomes one of its images: the kind and the side of a ``Framing``."""
        return "whole", 1.0

    @abc.abstractmethod
    def identity(self) -> dict[str, Any]:
        """What decides pixels and labels, wherever they are stored; part of the identity of a run.

        Cheap, as it is called to plan a sweep. Raises ``DataError`` if the data is missing.
        """

    @abc.abstractmethod
    def faces(self, size: int, cache_dir: Path) -> FaceSet:
        """All faces at ``size`` × ``size`` pixels, prepared on the first call and kept in ``cache_dir``."""

    def check_size(self, size: int) -> None:
        """Raise ``DataError`` where it is known before they are read that there are no faces of this size."""
        return None  # photographs are resized

    def samples(self, cache_dir: Path) -> Samples | None:
        """What names and lists say of the samples, without decoding any; None: that is known of ``faces`` alone.

        Raises ``DataError`` if they can't be trained on.
        """
        return None

    @property
    def pair_notes(self) -> list[str]:
        """Remarks for people on how its pairs are scored. Raises ``DataError`` if these can't be read."""
        return []

    @property
    def epochs_per_round(self) -> int | None:
        """After how many epochs there are other training faces, as many as before; None: never."""
        return None

    def in_round(self, number: int, imitated: NDArray[np.float32] | None) -> "Round":
        """The training faces of a round, where the source has rounds.

        ``imitated``: float32 [N], how well the student imitated those of the round before: cos(K_S, K_T); where that
        round ``asks_back``.
        """
        raise NotImplementedError(f"data={self.name} has no rounds")

    def asks_back(self, number: int) -> bool:
        """Whether the round after this one depends on how well the student imitates its faces."""
        return False

    @property
    def has_protocol(self) -> bool:
        """Whether there are pairs to verify."""
        return type(self).protocol is not Source.protocol

    def protocol(self, size: int, cache_dir: Path, trained_on: set[str]) -> Pairs:
        """The pairs alone; ``trained_on``: names of identities. Raises ``DataError`` if the source has no pairs."""
        raise DataError(f"data={self.name} has no pairs to verify: protocol=lfw has")


def build_source(data: dict[str, Any]) -> Source:
    """The source that a ``conf/data`` node names. Raises ``DataError`` if it takes one folder and several are named."""
    named = data.get("root")
    if isinstance(named, list):
        if not find_type("source", data).merges:
            raise DataError(
                f"data={data['name']} takes one folder, data.root=FOLDER. Several: data=photos, faces alone"
            )
        return cast(Source, build("source", {**data, "root": list(map(str, named))}))
    roots = {"root": str(named)} if "root" in data else {}  # a folder 2020 is a number to Hydra
    return cast(Source, build("source", {**data, **roots}))


def is_test_sample(name: str, share: float = TEST_FRACTION) -> bool:
    """Whether a sample belongs to the test split, by its name alone: adding others never moves it.

    What is tested at one ``share`` is tested at every larger one.
    """
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64
