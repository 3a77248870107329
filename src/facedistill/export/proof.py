"""What a network, or a file made of it, scores: the same faces, counted by the same evaluation, whatever runs it."""

import abc
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facedistill.config.groups import ImageConfig
from facedistill.config.schema import Config
from facedistill.data.faces import Pairs
from facedistill.data.loading.datamodule import FaceData, pair_batches
from facedistill.data.loading.views import FaceBatch
from facedistill.data.sources.verification_set import protocol_source
from facedistill.errors import DataError
from facedistill.evaluation.contracts import interval
from facedistill.evaluation.evaluation import Evaluation
from facedistill.evaluation.scoring import embeddings, pair_similarity, scores_of
from facedistill.metrics.pairs import FALSE_ACCEPTS, verification_metrics
from facedistill.models.network import NetworkOutput
from facedistill.runs.exported import Judged

Answer = Callable[[Tensor], Tensor]  # RGB pixels uint8 [N, 3, S, S] → what a model of its kind gives
CPU = torch.device("cpu")
WARM, TIMED, SECONDS = 10, 100, 20.0  # images, and how long they may take
RATES = FALSE_ACCEPTS[1:]


class Scored(NamedTuple):
    """A score, %, and all answers [N, D] that it is made of."""

    score: float
    answers: NDArray[np.float32]

    def cosine(self, other: "Scored") -> float:
        """The mean cosine of the answers with those of another model to the same images."""
        one, two = (part.answers.astype(np.float64) for part in (self, other))
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
        return float(np.mean((one * two).sum(1) / np.maximum(lengths, 1e-30)))


class Cuts(NamedTuple):
    """See ``thresholds``, ``tar`` and ``of_thresholds`` of ``Judged``."""

    thresholds: dict[str, float]
    tar: dict[str, float]
    of: str


class Judge(abc.ABC):
    """Scores models on the same images.

    Attributes:
        metric, of: see ``Judged``.
    """

    metric: str
    of: str

    @abc.abstractmethod
    def score(self, answer: Answer) -> Scored:
        """What a model scores, and what it answered."""

    @abc.abstractmethod
    def judged(self, network: Scored) -> Judged:
        """How good the network itself is, once it was the last to be scored."""

    def cuts(self, answer: Answer, scored: Scored) -> Cuts:
        """From which cosine on a model takes two faces for one person's; empty where there are no pairs."""
        return Cuts({}, {}, "")


class PairJudge(Judge):
    """Ten-fold accuracy of the pairs of a protocol, each embedding that of an image and of its mirror.

    Thresholds are those of plain embeddings: applications rarely ask twice.
    """

    metric = "pairs"

    def __init__(self, config: Config, trained_on: set[str]) -> None:
        """``config``: its data are those of the protocol, its images those of the network."""
        source = protocol_source(config.data)
        self._config, self._trained_on = config, trained_on
        self.pairs = source.protocol(config.image.resize, Path(config.cache_dir).expanduser(), trained_on)
        self._new = ~self.pairs.trained_on
        self.of = f"the {int(self._new.sum()):,} pairs of {config.data['name']}"
        same, fold = self.pairs.same[self._new], self.pairs.fold[self._new]
        if len(np.unique(same)) < 2 or len(np.unique(fold)) < 2:
            raise DataError(
                f"{config.data['name']}: of its {len(self._new):,} pairs {len(same):,} show nobody who was trained on, "
                "which is too few to score by: name others, pairs=FOLDER"
            )

    def score(self, answer: Answer) -> Scored:
        both = embeddings(answer, pair_batches(self.pairs, self._config), CPU, "concat")
        plain = both[:, : both.shape[1] // 2]
        accuracy = self._verified(both)["pairs"]
        assert accuracy is not None
        return Scored(accuracy, plain / np.maximum(np.linalg.norm(plain, axis=1, keepdims=True), 1e-30))

    def seen_by(self, image: ImageConfig) -> "PairJudge":
        """The same pairs as another recognizer sees them."""
        return PairJudge(replace(self._config, image=image), self._trained_on)

    def _verified(self, embedding: NDArray[np.float32]) -> dict[str, float | None]:
        similarity = pair_similarity(embedding, self.pairs)[self._new]
        return verification_metrics(similarity, self.pairs.same[self._new], self.pairs.fold[self._new])

    def judged(self, network: Scored) -> Judged:
        count = int(self._new.sum())
        low, high = interval(network.score / 100, count)
        return Judged(self.metric, self.of, count, network.score, 100 * low, 100 * high)

    def cuts(self, answer: Answer, scored: Scored) -> Cuts:
        return Cuts(*at_rates(scored.answers, self.pairs), self.of)


class TaskJudge(Judge):
    """What the task of a run measures, on the test split of its data."""

    def __init__(self, config: Config, evaluation: Evaluation, data: FaceData, kind: str) -> None:
        self._evaluation, self._data, self._kind, self._config = evaluation, data, kind, config
        self.metric = config.task.metric
        self.of = f"the test split of {config.data['name']}"

    def score(self, answer: Answer) -> Scored:
        answers: list[NDArray[np.float32]] = []

        def network(images: Tensor) -> NetworkOutput:
            found = answer(images).float()
            answers.append(found.flatten(1).numpy())
            return _as_output(self._kind, found)

        def measure(batch: FaceBatch) -> None:
            self._evaluation.measure(network, batch)

        scores = scores_of(self._evaluation, measure, self._data.val_dataloader(), CPU)
        return Scored(scores[self.metric], np.concatenate(answers))

    def judged(self, network: Scored) -> Judged:
        each = self._evaluation.per_sample().astype(np.float64)
        if self.metric in ("top1", "rank1"):
            low, high = (100 * bound for bound in interval(network.score / 100, len(each)))
        else:
            reach = 1.96 * float(each.std(ddof=1)) / len(each) ** 0.5
            low, high = network.score - reach, network.score + reach
        return Judged(self.metric, self.of, len(each), network.score, low, high)

    def cuts(self, answer: Answer, scored: Scored) -> Cuts:
        """Of the data's own pairs of people who were not trained on."""
        pairs = self._data.faces.pairs
        if pairs is None or self._kind != "embedding" or len(np.unique(pairs.same[~pairs.trained_on])) < 2:
            return super().cuts(answer, scored)
        embedding = embeddings(answer, pair_batches(pairs, self._config), CPU)
        return Cuts(
            *at_rates(embedding, pairs), f"{int((~pairs.trained_on).sum()):,} pairs of {self._config.data['name']}"
        )


class LikenessJudge(Judge):
    """How like a network a model answers to faces of which nothing is known: mean cosine, %."""

    metric = "cosine"

    def __init__(self, batches: Iterable[FaceBatch], of: str) -> None:
        self._batches, self.of = batches, of
        self._network: Scored | None = None

    def score(self, answer: Answer) -> Scored:
        answers = np.concatenate([answer(batch.images).float().flatten(1).numpy() for batch in self._batches])
        scored = Scored(100.0, answers)
        if self._network is None:
            self._network = scored
        return scored._replace(score=100 * scored.cosine(self._network))

    def judged(self, network: Scored) -> Judged:
        return Judged(self.metric, self.of, len(network.answers), network.score, network.score, network.score)


def at_rates(embedding: NDArray[np.float32], pairs: Pairs) -> tuple[dict[str, float], dict[str, float]]:
    """By rate of false accepts: the threshold of a cosine, and the share of pairs of one person accepted there, %."""
    new = ~pairs.trained_on
    found = verification_metrics(pair_similarity(embedding, pairs)[new], pairs.same[new], pairs.fold[new])
    thresholds = {rate: found[f"threshold_at_far_{rate}"] for rate in RATES}
    return (
        {rate: value for rate, value in thresholds.items() if value is not None},
        {rate: value for rate in RATES if (value := found[f"tar_at_far_{rate}"]) is not None},
    )


def _as_output(kind: str, answer: Tensor) -> NetworkOutput:
    none = answer.new_empty(len(answer), 0)
    return NetworkOutput(
        answer if kind == "embedding" else none,
        answer if kind == "logits" else none,
        answer if kind == "landmarks" else none.view(len(answer), 0, 2),
    )


def latency(answer: Callable[[], object]) -> tuple[float, float]:
    """Median and 95th percentile of the milliseconds that one image takes, after some that warm up."""
    for _ in range(WARM):
        answer()
    seconds: list[float] = []
    while len(seconds) < TIMED and sum(seconds) < SECONDS:
        start = time.perf_counter()
        answer()
        seconds.append(time.perf_counter() - start)
    return 1000 * float(np.median(seconds)), 1000 * float(np.percentile(seconds, 95))
