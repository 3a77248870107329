"""What a data source is, and what it gives: faces with identities, split into train and test."""

from __future__ import annotations

import abc
import hashlib
from pathlib import Path
from typing import Any, cast

from facedistill.config.build import build
from facedistill.data.faces import FaceSet, Pairs
from facedistill.errors import DataError

TEST_FRACTION = 0.2  # the paper splits every set 80 / 20 at random over samples


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
    return cast(Source, build("source", {**data, **named}))


def is_test_sample(name: str) -> bool:
    """The side of the split on which a sample falls, by its name alone: adding others never moves it."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") < TEST_FRACTION * 2**64
