"""The rounds of a source that has new faces in every epoch, each with what the teachers say of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from facedistill.config.groups import FLOAT32, ImageConfig
from facedistill.data.faces import FaceSet
from facedistill.data.files.store import Batches, Item, Mapped, open_or_make, remove
from facedistill.data.loading.augment import Upright
from facedistill.data.loading.datamodule import EVAL_BATCH, FaceData
from facedistill.data.loading.rounds import Banks
from facedistill.data.loading.samplers import Keys
from facedistill.data.loading.views import Views
from facedistill.data.sources.source import Round
from facedistill.distill.bank import KINDS, SIDES, VERSION, Answered, kept_as
from facedistill.distill.teacher import Teacher, autocast_for
from facedistill.system.files import hash_of

MOST_KEPT = 1_000_000  # faces of a source whose rounds stay in the cache for other runs


class Asked(NamedTuple):
    """A teacher of rounds.

    Attributes:
        pixels: in which it sees faces; None: the student's own.
        about: everything that decides what it says of a face.
    """

    teacher: Teacher
    pixels: ImageConfig | None
    about: Mapping[str, Any]


@dataclass
class TaughtRounds:
    """Prepares rounds: their faces are rendered and the teachers asked once, in the view that the epoch has of them.

    What no student had a part in is kept for other runs of the same source and teacher; of what this student moved
    the round before is removed.

    Attributes:
        kind: in which embeddings are kept, ``float16`` or ``float32``.
        precision: in which teachers answer, a ``trainer.precision``.
        keeps: whether there is room to keep rounds at all.
    """

    data: FaceData
    asked: Mapping[str, Asked]
    device: torch.device
    cache_dir: Path
    size: int
    kind: str
    precision: str
    keeps: bool
    _passing: list[Mapped] = field(default_factory=list)

    def __call__(self, of: Round, view: int) -> tuple[FaceSet, Banks]:
        faces = of.faces(self.size, self.cache_dir)
        before, made = self._passing, [faces.images]
        keys = [(index, view) for index in range(len(faces.images))]
        views, banks = self.data.views_of(faces), {}
        for role, asked in self.asked.items():
            answers = self._answers(asked, of, views, keys)
            made.append(answers)
            banks[role] = Answered(np.arange(len(keys)), answers)
        passing = of.depends_on_student or not self.keeps
        self._passing = [one for one in made if isinstance(one, Mapped) and passing]
        for one in before:
            if one.path not in {other.path for other in self._passing}:
                remove(one)
        return faces, banks

    def end(self) -> None:
        """Remove what no other run needs."""
        for one in self._passing:
            remove(one)
        self._passing = []

    def _answers(self, asked: Asked, of: Round, views: Views, keys: Keys) -> Mapped:
        """K_T of every face of a round, from the cache or found now, [N, width]."""
        item = Item((asked.teacher.width,), KINDS[self.kind], "embedding", "embeddings")
        about = {**asked.about, "version": VERSION, "kind": self.kind, "width": asked.teacher.width, "round": of.key}
        about |= {"view": keys[0][1]} if asked.pixels is None else {}
        about |= {} if self.precision == FLOAT32 else {"precision": self.precision}
        path = self.cache_dir / f"round-{hash_of(about)}"
        asked.teacher.to(self.device)

        def batches(start: int) -> Batches:
            for images in self._seen(asked.pixels, of, views, keys, start):
                with autocast_for(self.precision, self.device):
                    embedding = asked.teacher(images.to(self.device)).embedding.float()
                start += len(embedding)
                yield start, kept_as(embedding.cpu().numpy(), self.kind), {}

        return open_or_make(path, len(keys), item, batches, f"teacher, round {of.number}").items

    def _seen(
        self,
        pixels: ImageConfig | None,
        of: Round,
        views: Views,
        keys: Keys,
        start: int,
    ) -> Iterator[torch.Tensor]:
        """Batches of the faces from ``start`` on as a teacher sees them: as the student does, or upright and whole."""
        if pixels is None:
            for first in range(start, len(keys), EVAL_BATCH):
                yield views[keys[first : first + EVAL_BATCH]].images
            return
        upright = Upright(pixels.crop)
        for images in of.images(pixels.resize, start):
            yield Views(unlabelled(images), upright)[[(index, SIDES[0]) for index in range(len(images))]].images


def unlabelled(images: NDArray[np.uint8]) -> FaceSet:
    """Faces [N, size, size, 3] of which nothing is known."""
    return FaceSet(images, np.zeros(len(images), np.int64), np.zeros(len(images), np.bool_), [])
