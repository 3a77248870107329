"""Rendered faces as a source; they are rendered on first use, then kept."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedistill.data.faces import FOLDS, FaceSet, Pairs, Samples
from facedistill.data.files.store import Batches, Columns, Stored, image_of, open_or_make
from facedistill.data.sources.source import Source, is_test_sample
from facedistill.data.synthetic import RENDERER_VERSION, render_faces
from facedistill.errors import DataError
from facedistill.system.files import hash_of
from facedistill.system.signals import end_with_parent

FIRST_PAIR_IDENTITY = 1_000_000  # people of the pairs are numbered from here, so none of them is ever trained on
PEOPLE_PER_FOLD = 12
IMAGES_PER_PERSON = 8
MOST_IMAGES, MOST_PAIRS = 1_000_000, 10_000  # to be rendered; in a fold
_RENDER_AT_ONCE = 64
_ALONE = 2**20  # pixels that this process renders before others have started


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
        stored = self._stored(people, shots, size, cache_dir, "faces")
        names, is_test = self._names, self.samples(cache_dir).is_test
        counts = {"images": len(people), "identities": self.num_identities, "skipped": 0}
        pairs = self.protocol(size, cache_dir, set(names))
        landmarks = stored.columns["landmarks"].astype(np.float32)
        crop_boxes = np.tile(np.array([0, 0, size], np.float32), (len(people), 1))  # the whole image
        return FaceSet(stored.items, people, is_test, names, pairs, landmarks, crop_boxes, counts=counts)

    def samples(self, cache_dir: Path) -> Samples:
        people, shots = self._people_and_shots
        tests = [is_test_sample(f"{self._names[i]}/{j}") for i, j in zip(people, shots, strict=True)]
        return Samples(people, np.array(tests), has_identities=True, has_landmarks=True)

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
        stored = self._stored(people + FIRST_PAIR_IDENTITY, samples, size, cache_dir, "pairs")
        chosen = [pair for fold in range(FOLDS) for pair in self._pairs_of(fold)]
        left, right, same, fold = map(np.array, zip(*chosen, strict=True))
        return Pairs(stored.items, left, right, same, fold, trained_on=np.zeros(len(same), np.bool_))

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
        path = cache_dir / f"synthetic-{what}-{key}"
        return rendered(path, _faces, self.seed, (people, samples), size, what)


Renderer = Callable[..., tuple[NDArray[np.uint8], Columns]]  # seed, arrays [n], size → images and their columns


def _faces(
    seed: int, people: NDArray[np.int64], samples: NDArray[np.int64], size: int
) -> tuple[NDArray[np.uint8], Columns]:
    faces = render_faces(seed, people, samples, size)
    return faces.images, {"landmarks": faces.landmarks}


def rendered(
    path: Path, render: Renderer, seed: int, what: Sequence[NDArray[np.int64]], size: int, called: str
) -> Stored:
    """The store at ``path`` (without suffix), rendered first where it is not there, many images by a process a core.

    Args:
        render: a function of a module, as other processes import it.
        what: arrays [N] that say what each image shows.
        called: what the images are, for the progress line.
    """
    count = len(what[0])

    def make(start: int) -> Batches:
        ends = [*range(start + _RENDER_AT_ONCE, count, _RENDER_AT_ONCE), count]
        parts = [[column[first:end] for column in what] for first, end in pairwise([start, *ends])]
        if (count - start) * size**2 <= _ALONE:
            for end, part in zip(ends, parts, strict=True):
                yield end, *render(seed, *part, size)
            return
        spawn = multiprocessing.get_context("spawn")  # forking hangs once torch has started threads
        with ProcessPoolExecutor(
            os.cpu_count(), mp_context=spawn, initializer=end_with_parent, initargs=(os.getpid(),)
        ) as pool:
            rendering = [pool.submit(render, seed, *part, size) for part in parts]
            for end, done in zip(ends, rendering, strict=True):
                yield end, *done.result()

    return open_or_make(path, count, image_of(size), make, f"rendering {count} {called} of {size} px")
