"""Rendered faces, live and as presentation attacks, before the cameras of several domains."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedistill.data.faces import ATTACK, HELD_OUT, LIVE, FaceSet, Samples
from facedistill.data.sources.source import MOST_SEED, Source
from facedistill.data.sources.synthetic import MOST_IMAGES
from facedistill.data.synthetic import RENDERER_VERSION
from facedistill.data.synthetic.attacks import KINDS
from facedistill.data.synthetic.camera import DOMAINS
from facedistill.data.synthetic.kernels import Integers
from facedistill.data.synthetic.presentation import PRESENTATION_VERSION, render_presentations
from facedistill.data.synthetic.rendering import Rendered, stored
from facedistill.errors import DataError
from facedistill.system.files import hash_of

FIRST_PERSON = 2_000_000  # no recognizer of rendered faces, nor its pairs, has seen anybody from here
TESTED = (3, 4)  # of every five people: they are on the test side in every domain


@dataclass
class SyntheticSpoof(Source):
    """``num_people`` people with ``images`` live images in each of the ``domains``, and as many attacks.

    The kinds of attacks take turns. People of the test split are never trained on, and nobody is in the domain
    ``held_out``: of that, only those of the test split are shown. See ``data.synthetic.presentation``.

    Raises ``DataError`` if nothing is left to train on or to test, or there is no such domain.
    """

    name: str
    num_people: int
    images: int
    domains: Sequence[str]
    held_out: str
    seed: int

    def __post_init__(self) -> None:
        for name in ("num_people", "images", "seed"):
            if type(value := getattr(self, name)) is not int or value < 0:
                raise DataError(f"data.{name}={value} must be a whole number, not negative")
        if self.seed > MOST_SEED:
            raise DataError(f"data.seed={self.seed} must lie in 0 … 2^63 − 1")
        if not isinstance(self.domains, list | tuple):
            raise DataError(f"data.domains={self.domains} must be a list: data.domains={_listed(DOMAINS)}")
        self.domains = list(self.domains)
        known = ", ".join(DOMAINS)
        for domain in self.domains:
            if domain not in DOMAINS or self.domains.count(domain) > 1:
                raise DataError(f"data.domains={_listed(self.domains)}: choices, each once, are {known}")
        if self.held_out not in self.domains:
            choices = ", ".join(f"data.held_out={domain}" for domain in self.domains)
            raise DataError(f"data.held_out={self.held_out} is none of data.domains. Choices: {choices or known}")
        if len(self.domains) < 3:
            raise DataError(
                f"data.domains={_listed(self.domains)} without data.held_out={self.held_out} leaves fewer than two "
                f"domains to train on: data.domains={_listed(DOMAINS)}"
            )
        if self.num_people < 5 or self.images < 1:
            raise DataError(
                f"data.num_people={self.num_people} must be at least 5, of whom two are tested, and "
                f"data.images={self.images} at least 1"
            )
        if self.num_people * self.images * len(self.domains) * 2 > MOST_IMAGES:
            raise DataError(f"data.num_people × data.images × domains × 2 must be at most {MOST_IMAGES:,} images")

    def identity(self) -> dict[str, Any]:
        settings = {name: value for name, value in asdict(self).items() if name != "name"}
        return {"source": "spoof", "renderer": [RENDERER_VERSION, PRESENTATION_VERSION], **settings}

    def faces(self, size: int, cache_dir: Path) -> FaceSet:
        table = self._table
        key = hash_of([RENDERER_VERSION, PRESENTATION_VERSION, self.seed, size, *(part.tolist() for part in table)])
        path, render = cache_dir / f"synthetic-spoof-{key}", partial(_rendered, self.seed, size=size)
        images = stored(path, render, table, size, "live faces and attacks").items
        people, trained = table[0] - FIRST_PERSON, [name for name in self.domains if name != self.held_out]
        numbers = {list(DOMAINS).index(name): place for place, name in enumerate(trained)}
        domains = np.array([numbers.get(number, HELD_OUT) for number in table[2].tolist()])
        is_test = np.isin(people % 5, TESTED)
        used = is_test | (domains != HELD_OUT)
        labels = np.where(table[3] == 0, LIVE, ATTACK)
        counts = {"images": int(used.sum()), "identities": self.num_people, "skipped": 0}
        return FaceSet(
            images,
            labels,
            is_test,
            ["attack", "live"],
            counts=counts,
            people=people,
            domains=domains,
            domain_names=tuple(trained),
            used=used,
        )

    def samples(self, cache_dir: Path) -> Samples:
        people, _, domains, kinds = self._table
        is_test = np.isin((people - FIRST_PERSON) % 5, TESTED)
        used = is_test | (domains != list(DOMAINS).index(self.held_out))
        labels = np.where(kinds == 0, LIVE, ATTACK)[used]
        return Samples(labels, is_test[used], has_identities=False, has_landmarks=False, has_liveness=True)

    @property
    def _table(self) -> list[NDArray[np.int64]]:
        """Of every image the person, the number of the image, of the domain and of the kind: by people first."""
        domains = [list(DOMAINS).index(domain) for domain in self.domains]
        shape = (self.num_people, self.images, len(domains), 2)
        person, image, domain, attack = (index.ravel() for index in np.indices(shape))
        number = np.array(domains)[domain]
        turn = person * self.images + image + number * 3  # another kind in every domain
        kinds = np.where(attack == 1, 1 + turn % (len(KINDS) - 1), 0)
        return [person + FIRST_PERSON, image, number, kinds]


def _rendered(
    seed: int, people: Integers, samples: Integers, domains: Integers, kinds: Integers, *, size: int
) -> Rendered:
    return render_presentations(seed, people, samples, domains, kinds, size), {}


def _listed(names: Any) -> str:
    return f"[{','.join(map(str, names))}]"
