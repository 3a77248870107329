"""Rendered faces by their latents, new ones in every round: what SynthDistill (arXiv 2308.14852) trains on."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedistill.config.groups import MOST_EPOCHS
from facedistill.data.faces import FaceSet, Samples
from facedistill.data.sources.source import MOST_SEED, Round, Source
from facedistill.data.synthetic import RENDERER_VERSION, Latents, latents_of, render_latents
from facedistill.data.synthetic.kernels import Array, Integers
from facedistill.data.synthetic.randomness import Stream, normals
from facedistill.data.synthetic.rendering import Rendered, rendered, stored
from facedistill.errors import DataError
from facedistill.system.files import hash_of

SAMPLINGS = ("dynamic", "static", "fixed")
MOST_A_ROUND = 1_000_000
MOST_MOVE = 10.0
TEST_ROUND = 2**30
DEVIATION = np.float32(0.28867513)  # of a value that is uniform in [0, 1]: √(1/12)


@dataclass
class LatentFaces(Source):
    """Faces by their latents, w: who it is and how it is photographed (see ``Latents``), in rounds of some epochs.

    Attributes:
        faces_per_round: to train on.
        epochs_a_round: in which they are seen; the paper sees a face once.
        test_faces: on which student and teacher are compared; never trained on.
        sampling: latents of each round are drawn anew (``static``); so are those of rounds 0, 2, 4 …, and rounds
            between have the latents of the round before, moved by ``step`` · (cos(K_S, K_T) + 1) / 2 · ε, the farther
            the better the student imitated the face (``dynamic``); or every round is round 0 (``fixed``).
        step: c; ε has the deviation that latents themselves have. What would leave their range comes back as from a
            mirror, so that they stay uniform.
        aligned: landmarks come to ArcFace's template, where recognizers of photographs expect them.
        seed: of the faces; not the seed of a run.

    Raises ``DataError`` for what is out of range.
    """

    name: str
    faces_per_round: int
    epochs_a_round: int
    test_faces: int
    sampling: str
    step: float
    aligned: bool
    seed: int

    def __post_init__(self) -> None:
        for key in ("faces_per_round", "test_faces", "seed"):
            if type(getattr(self, key)) is not int:
                raise DataError(f"data.{key}={getattr(self, key)} must be a whole number")
        if not (2 <= self.faces_per_round <= MOST_A_ROUND and 2 <= self.test_faces <= MOST_A_ROUND):
            raise DataError(f"data.faces_per_round and data.test_faces must lie in 2 … {MOST_A_ROUND:,}")
        if type(self.epochs_a_round) is not int or not 1 <= self.epochs_a_round <= MOST_EPOCHS:
            raise DataError(f"data.epochs_a_round={self.epochs_a_round} must be a whole number, 1 … {MOST_EPOCHS:,}")
        if not 0 <= self.seed <= MOST_SEED:
            raise DataError(f"data.seed={self.seed} must lie in 0 … 2^63 − 1")
        if self.sampling not in SAMPLINGS:
            raise DataError(f"data.sampling={self.sampling}: choices are {', '.join(SAMPLINGS)}")
        if type(self.step) not in (int, float) or not 0 <= self.step <= MOST_MOVE:
            raise DataError(f"data.step={self.step} must be a number from 0 to {MOST_MOVE:g}")
        if not isinstance(self.aligned, bool):
            raise DataError(f"data.aligned={self.aligned}: choices are true, false")

    @property
    def framing(self) -> tuple[str, float]:
        return ("template" if self.aligned else "whole"), 1.0

    def identity(self) -> dict[str, Any]:
        settings = {name: value for name, value in asdict(self).items() if name != "name"}
        if self.sampling != "dynamic":
            del settings["step"]
        if self.sampling == "fixed":
            del settings["epochs_a_round"]
        return {"source": "latent", "renderer": RENDERER_VERSION, **settings}

    def samples(self, cache_dir: Path) -> Samples:
        is_test = np.repeat([False, True], [self.faces_per_round, self.test_faces])
        labels = np.zeros(len(is_test), np.int64)
        return Samples(labels, is_test, has_identities=False, has_landmarks=False)

    def faces(self, size: int, cache_dir: Path) -> FaceSet:
        """Those of round 0, and then those to test on."""
        train, test = self._drawn(0, self.faces_per_round), self._drawn(TEST_ROUND, self.test_faces)
        latents = Latents(*(np.concatenate(both) for both in zip(train, test, strict=True)))
        rounds = np.repeat([0, TEST_ROUND], [self.faces_per_round, self.test_faces])
        indices = np.concatenate([np.arange(self.faces_per_round), np.arange(self.test_faces)])
        path = cache_dir / f"latent-{hash_of([*self._drawn_by, size, self.faces_per_round, self.test_faces])}"
        arguments = (*latents, rounds, indices)
        images = stored(path, self._renderer(size), arguments, size, "faces").items
        samples = self.samples(cache_dir)
        return FaceSet(images, samples.labels, samples.is_test, [], counts={"images": len(images), "skipped": 0})

    @property
    def epochs_per_round(self) -> int | None:
        return None if self.sampling == "fixed" else self.epochs_a_round

    def in_round(self, number: int, imitated: NDArray[np.float32] | None) -> "LatentRound":
        return LatentRound(self, number, self._latents(number, imitated), self._is_moved(number))

    def asks_back(self, number: int) -> bool:
        return self._is_moved(number + 1)

    def _is_moved(self, number: int) -> bool:
        return self.sampling == "dynamic" and number % 2 == 1

    def _latents(self, number: int, imitated: NDArray[np.float32] | None) -> Latents:
        if not self._is_moved(number):
            return self._drawn(number, self.faces_per_round)
        assert imitated is not None, "the round before asked for it"
        before, indices = self._drawn(number - 1, self.faces_per_round), np.arange(self.faces_per_round)
        far = np.float32(self.step) * (imitated + np.float32(1)) * np.float32(0.5)
        noise = normals(self.seed, Stream.MOVE, np.full_like(indices, number), indices, sum(p.shape[1] for p in before))
        parts = np.split(noise, [before.identity.shape[1]], axis=1)
        return Latents(*(moved(part, far, along) for part, along in zip(before, parts, strict=True)))

    def _drawn(self, number: int, count: int) -> Latents:
        """Latents that nothing is known of: of nobody that another source renders."""
        people = np.arange(count, dtype=np.int64) + ((number + 1) << 32)
        return latents_of(self.seed, people, np.zeros_like(people))

    @property
    def _drawn_by(self) -> list[Any]:
        return [RENDERER_VERSION, self.seed, self.aligned]

    def _renderer(self, size: int) -> Any:
        return partial(_render, seed=self.seed, size=size, aligned=self.aligned)


@dataclass
class LatentRound(Round):
    """The faces of a round to train on."""

    source: LatentFaces
    number: int
    latents: Latents
    depends_on_student: bool

    @cached_property
    def key(self) -> str:
        own = [sha256(part.tobytes()).hexdigest() for part in self.latents] if self.depends_on_student else []
        return hash_of([*self.source._drawn_by, self.number, self.source.faces_per_round, *own])

    def faces(self, size: int, cache_dir: Path) -> FaceSet:
        path = cache_dir / f"latent-round-{self.key}-{size}"
        images = stored(path, self.source._renderer(size), self._arguments, size, f"faces of round {self.number}").items
        labels = np.zeros(len(images), np.int64)
        return FaceSet(images, labels, np.zeros(len(images), np.bool_), [])

    def images(self, size: int, start: int) -> Iterator[NDArray[np.uint8]]:
        for images, _ in rendered(self.source._renderer(size), self._arguments, size, start):
            yield images

    @property
    def _arguments(self) -> tuple[NDArray[Any], ...]:
        indices = np.arange(self.source.faces_per_round)
        return (*self.latents, np.full_like(indices, self.number), indices)


def moved(latents: Array, far: Array, noise: Array) -> Array:
    """w + far · ε of latents [N, D] in [0, 1], ``far`` [N], along noise [N, D] of deviation 1; mirrored at 0 and 1."""
    off = np.abs(latents + far[:, None] * (noise * DEVIATION))
    beyond = off - np.floor(off * np.float32(0.5)) * np.float32(2)
    found: Array = np.minimum(beyond, np.float32(2) - beyond)
    return found


def _render(
    identity: Array, scene: Array, rounds: Integers, indices: Integers, *, seed: int, size: int, aligned: bool
) -> Rendered:
    return render_latents(Latents(identity, scene), seed, rounds, indices, size, aligned).images, {}
