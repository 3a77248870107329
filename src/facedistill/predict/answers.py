"""Photos through a model, batch by batch, and what its answers mean."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from facedistill.data.faces import LANDMARKS
from facedistill.errors import ConfigError, DataError, WeightsError
from facedistill.predict.faces import Face, NoFace, Points, as_taken, open_face
from facedistill.predict.session import Session
from facedistill.runs.exported import Exported

BATCH = 32
USUAL_FAR = 1e-3
TOP = 3  # names of a face
_BAR_FROM = 13  # photos
_NAMED = 5
_ROUNDING = 1e-6  # similarities are of float32


@dataclass
class Remarks:
    """What is to be said of photos: those that were left out, and those with several faces."""

    without_face: int = 0
    unreadable: int = 0
    lines: Counter[str] = field(default_factory=Counter)
    first: list[str] = field(default_factory=list)

    @property
    def left_out(self) -> int:
        return self.without_face + self.unreadable

    def add(self, kind: str, line: str) -> None:
        self.lines[kind] += 1
        if self.lines[kind] <= _NAMED:
            self.first.append(line)

    def leave_out(self, error: DataError) -> None:
        if isinstance(error, NoFace):
            self.without_face += 1
        else:
            self.unreadable += 1
        self.add(type(error).__name__, str(error))

    def summary(self) -> list[str]:
        """The first of each kind, how many more there are, and how many were left out."""
        lines = list(self.first)
        if more := sum(self.lines.values()) - len(self.first):
            lines.append(f"and {more:,} more such photos")
        parts = [(self.without_face, "without a face"), (self.unreadable, "that can't be used")]
        if self.left_out:
            lines.append(f"left out: {', '.join(f'{count:,} {what}' for count, what in parts if count)}")
        return lines


def answered(
    paths: Sequence[str], session: Session, framed: bool, needs_all: bool, threads: int, remarks: Remarks
) -> Iterator[tuple[list[Face], NDArray[np.float32]]]:
    """The faces in photos with the answers to them, some photos at a time.

    Raises:
        DataError: a photo has no face or can't be used, where all are needed; else that is a remark.
    """

    def attempt(path: str) -> Face | DataError:
        try:
            return open_face(path, session.exported, framed)
        except DataError as error:
            return error

    with ExitStack() as stack:
        pool, bar, task = stack.enter_context(ThreadPoolExecutor(threads)), None, None
        if len(paths) >= _BAR_FROM:
            from facedistill.system.progress import progress_bar

            bar = stack.enter_context(progress_bar())
            task = bar.add_task("looking at photos", total=len(paths))
        for first in range(0, len(paths), BATCH):
            faces = []
            for found in pool.map(attempt, paths[first : first + BATCH]):
                if isinstance(found, Face):
                    faces.append(found)
                elif needs_all:
                    raise found
                else:
                    remarks.leave_out(found)
                if isinstance(found, Face) and found.found > 1:
                    remarks.add("several", f"{found.path} shows {found.found} faces: the largest is taken")
            if bar is not None and task is not None:
                bar.advance(task, len(paths[first : first + BATCH]))
            if faces:
                yield faces, session(as_taken(faces, session.exported.input))


@dataclass(frozen=True)
class Threshold:
    """The similarity from which on two faces are one person's.

    Attributes:
        far: the rate of false accepts by which it was chosen; None: a person named it.
        tar: the share of the pairs of one person that reach it, %; ``of``: of which pairs.
    """

    value: float
    far: float | None = None
    tar: float | None = None
    of: str = ""

    @classmethod
    def of_export(cls, exported: Exported, value: float | None, far: float | None) -> Threshold | None:
        """``value`` itself, or the export's by its rate of false accepts; None: it has none.

        Raises:
            ConfigError: it has none at this rate.
            WeightsError: its rates are no numbers.
        """
        if value is not None:
            return cls(value)
        judged = exported.judged
        try:
            rates = {float(rate): rate for rate in judged.thresholds}
        except ValueError as error:
            raise WeightsError(
                f"{exported.name} has thresholds at rates that are no numbers: export it again"
            ) from error
        if not all(0 < rate <= 1 for rate in rates):
            raise WeightsError(f"{exported.name} has thresholds at rates that are none: export it again")
        if not rates:
            if far is not None:
                raise ConfigError(f"far={far:g}: {exported.name} has no threshold, {no_threshold(exported)}")
            return None
        usual = USUAL_FAR if any(math.isclose(rate, USUAL_FAR) for rate in rates) else min(rates)
        wanted = usual if far is None else far
        for rate, key in rates.items():
            if math.isclose(rate, wanted):
                return cls(judged.thresholds[key], rate, judged.tar.get(key), judged.of_thresholds)
        choices = ", ".join(f"{rate:g}" for rate in sorted(rates))
        raise ConfigError(f"far={far:g}: {exported.name} has thresholds for {choices}")

    def accepts(self, similarity: float) -> bool:
        return similarity >= self.value - _ROUNDING

    def verdict(self, similarity: float) -> str:
        return SAME if self.accepts(similarity) else DIFFERENT

    def false_accepts(self, one: str, several: str) -> str:
        """How many pairs of two people reach it: ``of 1,000 pairs of two people at most 1 reaches it``."""
        assert self.far is not None
        total = max(100, 10 ** math.ceil(-math.log10(self.far) - 1e-9))
        count = f"{self.far * total:.4g}"
        return f"of {total:,} pairs of two people at most {count} {one if count == '1' else several}"

    def meaning(self, similarity: float) -> str:
        """A sentence; empty where a person named it."""
        if self.far is None:
            return ""
        if self.accepts(similarity):
            words = self.false_accepts("is this similar", "are this similar")
        elif self.tar is not None:
            words = f"of 100 pairs of one person {self.tar:.1f} reach the threshold"
        else:
            words = self.false_accepts("reaches the threshold", "reach the threshold")
        return f"{words.capitalize()}{self.on}."

    @property
    def on(self) -> str:
        return f" (on {self.of})" if self.of else ""


SAME, DIFFERENT = "same person", "different people"


def no_threshold(exported: Exported) -> str:
    """What to do about an export without a threshold; pairs are of whole faces, so that one of bands has none."""
    again = "export it again with pairs=FOLDER, or " if exported.input.height == exported.input.width else ""
    return f"so that it can't say who is the same person: {again}threshold=0.3"


def similarities(embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cosines of embeddings [N, D] with each other, [N, N]."""
    rows = embeddings.astype(np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    cosines: NDArray[np.float64] = (rows @ rows.T).clip(-1, 1)
    return cosines


def likely_names(logits: NDArray[np.float32], names: Sequence[str]) -> list[tuple[str, float]]:
    """The ``TOP`` names of a face and their probabilities."""
    values = np.exp(logits.astype(np.float64) - logits.max())
    values /= values.sum()
    return [(names[i], float(values[i])) for i in np.argsort(-values, kind="stable")[:TOP]]


def landmarks_in_photo(answer: NDArray[np.float32], face: Face) -> Points:
    """Landmarks [5, 2] from −1 to 1, edge to edge of the model's image → pixels of the photograph."""
    height, width = face.pixels.shape[:2]
    return face.in_photo((answer.astype(np.float64) + 1) / 2 * [width, height] - 0.5)


def landmarks_line(points: Points) -> str:
    return ", ".join(f"{name} {x:.1f} {y:.1f}" for name, (x, y) in zip(LANDMARKS, points.tolist(), strict=True))


def names_line(likely: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {100 * share:.1f} %" for name, share in likely)
