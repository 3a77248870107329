"""Scores of a run by test sample and pair: error bars over samples, error curves and ROCs are made of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedistill.data.files.formats.npz import read_npz
from facedistill.errors import DataError
from facedistill.system.files import open_regular, write_aside

SAMPLE_SCORES = "sample_scores.npz"
MOST = 2**28  # bytes of the arrays: scores of some 10 million samples


class SampleScores(NamedTuple):
    """Of a run's test split and of its pairs, in order; empty where there are none.

    Attributes:
        score: [N], what the score of the task is the mean of, %: 100 or 0 for right or wrong, or the NRMSE of a face.
        similarity: [P], the cosine of a pair.
        same: [P], whether it is of one person.
        identity: [N], the label of the sample's identity; where the data has no identities, and in a file that says
            nothing of them, every sample has one of its own.
    """

    score: NDArray[np.float32]
    similarity: NDArray[np.float32]
    same: NDArray[np.bool_]
    identity: NDArray[np.int64]

    def save(self, directory: Path) -> None:
        """Write them into a run's directory, whole or not at all."""
        with write_aside(directory / SAMPLE_SCORES) as part, part.open("wb") as file:
            np.savez_compressed(file, **self._asdict())

    @classmethod
    def read(cls, directory: Path) -> SampleScores | None:
        """Those of a run; None: there are none, or the file is damaged."""
        try:
            with open_regular(directory / SAMPLE_SCORES) as file:
                stored = read_npz(file, MOST)
            stored.setdefault("identity", np.arange(stored["score"].size))
            found = cls(*(stored[name] for name in cls._fields))
        except (OSError, DataError, KeyError):
            return None
        shaped = all(part.ndim == 1 for part in found) and len(found.similarity) == len(found.same)
        shaped = shaped and len(found.score) == len(found.identity)
        typed = found.score.dtype == found.similarity.dtype == np.float32 and found.same.dtype == np.bool_
        typed = typed and found.identity.dtype == np.int64
        finite = shaped and typed and all(bool(np.isfinite(part).all()) for part in found)
        return found if finite else None
