"""Rendered faces as a source; they are rendered on first use, then kept."""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedistill.data.faces import FOLDS, FaceSet, Pairs, Samples
from facedistill.data.files.store import Stored
from facedistill.data.sources.source import MOST_SEED, Source, is_test_sample
from facedistill.data.synthetic import RENDERER_VERSION, render_faces
from facedistill.data.synthetic.kernels import Integers
from facedistill.data.synthetic.rendering import Rendered, stored
from facedistill.errors import DataError
from facedistill.system.files import hash_of

FIRST_PAIR_IDENTITY = 1_000_000  # people of the pairs are numbered from here, so none of them is ever trained on
PEOPLE_PER_FOLD = 12
IMAGES_PER_PERSON = 8
MOST_IMAGES, MOST_PAIRS = 1_000_000, 10_000  # to be rendered; in a fold


@dataclass
class SyntheticFaces(Source):
    """``num_identities`` people with ``images_per_identity`` rendered images each; see ``data.synthetic``.

    Raises ``DataError`` if there are fewer than two people or images, or an odd number of pairs per fold.
    """

    name: str
    num_identities: int
    images_per_identity: int
    pairs_per_fold: int
    seed: int

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name != "name" and not isinstance(value, int):
                raise DataError(f"data.{name}={value} must be a whole number")
        if not 0 <= self.seed <= MOST_SEED:
            raise DataError(f"data.seed={self.seed} must lie in 0 … 2^63 − 1")
        if self.num_identities < 2 or self.images_per_identity < 2:
            raise DataError("data.num_identities and data.images_per_identity must be at least 2")
        if self.num_identities >= FIRST_PAIR_IDENTITY:
            raise DataError(f"data.num_identities must be below {FIRST_PAIR_IDENTITY}")
        if self.num_identities * self.images_per_identity > MOST_IMAGES:
            raise DataError(f"data.num_identities × data.images_per_identity must be at most {MOST_IMAGES:,} images")
        if not 2 <= self.pairs_per_fold <= MOST_PAIRS or self.pairs_per_fold % 2:
            raise DataError(
                f"data.pairs_per_fold must be even, 2 … {MOST_PAIRS:,}: half of the pairs are of one person"
            )

    def identity(self) -> dict[str, Any]:
        settings = {name: value for name, value in asdict(self).items() if name != "name"}
        return {"source": "synthetic", "renderer": RENDERER_VERSION, **settings}

    def faces(self, size: int, cache_dir: Path) -> FaceSet:
        people, shots = self._people_and_shots
        found = self._stored(people, shots, size, cache_dir, "faces")
        names, is_test = self._names, self.samples(cache_dir).is_test
        counts = {"images": len(people), "identities": self.num_identities, "skipped": 0}
        pairs = self.protocol(size, cache_dir, set(names))
        landmarks = found.columns["landmarks"].astype(np.float32)
        crop_boxes = np.tile(np.array([0, 0, size], np.float32), (len(people), 1))  # the whole image
        return FaceSet(found.items, people, is_test, names, pairs, landmarks, crop_boxes, counts=counts)

    def samples(self, cache_dir: Path) -> Samples:
        (people, shots), names = self._people_and_shots, self._names
        tests = [is_test_sample(f"{names[i]}/{j}") for i, j in zip(people, shots, strict=True)]
        return Samples(people, np.array(tests), has_identities=True, has_landmarks=True, has_eyes=True)

    @property
    def _names(self) -> list[str]:
        return [f"person-{i:05d}" for i in range(self.num_identities)]

    @property
    def _people_and_shots(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        people, shots = np.arange(self.num_identities), np.arange(self.images_per_identity)
        return np.repeat(people, len(shots)), np.tile(shots, len(people))

    def protocol(self, size: int, cache_dir: Path, trained_on: set[str]) -> Pairs:
        people = np.repeat(np.arange(FOLDS * PEOPLE_PER_FOLD), IMAGES_PER_PERSON)
        samples = np.tile(np.arange(IMAGES_PER_PERSON), FOLDS * PEOPLE_PER_FOLD)
        found = self._stored(people + FIRST_PAIR_IDENTITY, samples, size, cache_dir, "pairs")
        chosen = [pair for fold in range(FOLDS) for pair in self._pairs_of(fold)]
        left, right, same, fold = map(np.array, zip(*chosen, strict=True))
        return Pairs(found.items, left, right, same, fold, trained_on=np.zeros(len(same), np.bool_))

    def _pairs_of(self, fold: int) -> list[tuple[int, int, bool, int]]:
        draw = np.random.Generator(np.random.Philox(key=[self.seed, fold]))
        pairs = []
        for k in range(self.pairs_per_fold):
            same = k % 2 == 0
            person, other = draw.choice(PEOPLE_PER_FOLD, size=2, replace=False) + fold * PEOPLE_PER_FOLD
            first, second = draw.choice(IMAGES_PER_PERSON, size=2, replace=False)
            left, right = person * IMAGES_PER_PERSON + first, (person if same else other) * IMAGES_PER_PERSON + second
            pairs.append((int(left), int(right), same, fold))
        return pairs

    def _stored(
        self, people: NDArray[np.int64], samples: NDArray[np.int64], size: int, cache_dir: Path, what: str
    ) -> Stored:
        key = hash_of([RENDERER_VERSION, self.seed, size, people.tolist(), samples.tolist()])
        path, render = cache_dir / f"synthetic-{what}-{key}", partial(_rendered, self.seed, size=size)
        return stored(path, render, (people, samples), size, what)


def _rendered(seed: int, people: Integers, samples: Integers, *, size: int) -> Rendered:
    faces = render_faces(seed, people, samples, size)
    return faces.images, {"landmarks": faces.landmarks}
