"""Exact scores on one device: every sample counts once."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from facedistill.config.schema import Config
from facedistill.data.faces import Pairs, kind_of
from facedistill.data.loading.datamodule import FaceData, pair_batches
from facedistill.data.loading.on_device import Batch
from facedistill.data.loading.views import FaceBatch
from facedistill.data.sources.verification_set import protocol_source
from facedistill.distill.teacher import Teacher
from facedistill.evaluation.evaluation import Evaluation, Scores
from facedistill.metrics.pairs import errors_at, similarity_metrics, verification_metrics
from facedistill.models.backbone import Backbone
from facedistill.system.progress import progress_bar

PROBE_SAMPLES = 512  # of the test split: enough to notice wrong weights or wrong data, cheap at any size
Metrics = dict[str, float | None]
Measure = Callable[[FaceBatch], None]


class Probe(NamedTuple):
    """What a network scored on the first test samples: the metric of its task, %."""

    metric: str
    value: float
    samples: int
    higher_is_better: bool


def device_for(accelerator: str) -> torch.device:
    """The device on which this process trains and scores: of several processes each has its own."""
    best = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator == "cpu" or best is None:
        return torch.device("cpu")
    return torch.device(best.type, int(os.environ.get("LOCAL_RANK", "0")) % torch.accelerator.device_count())


def _watched(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches, beside a bar on a terminal that says how long they will take yet."""
    with progress_bar() as bar:
        yield from bar.track(batches, description="scoring")


@torch.no_grad()
def scores_of(evaluation: Evaluation, measure: Measure, batches: Iterable[Batch], device: torch.device) -> Scores:
    """The scores over ``batches``, each of which ``measure`` has a network answer and ``evaluation`` count."""
    evaluation.to(device).reset()
    for batch in _watched(batches):
        measure(batch.to(device))
    return evaluation.scores()


def probe(evaluation: Evaluation, measure: Measure, data: FaceData, device: torch.device) -> Probe:
    """A network's score on the first test samples."""
    indices = data.faces.test[:PROBE_SAMPLES]
    metric = evaluation.config.task.metric
    value = scores_of(evaluation, measure, data.test_loader(indices), device)[metric]
    return Probe(metric, value, len(indices), bool(evaluation.metric.higher_is_better))


@torch.no_grad()
def embeddings(
    backbone: Callable[[Tensor], Tensor], batches: Iterable[Batch], device: torch.device, flip: str = "none"
) -> NDArray[np.float32]:
    """L2-normalized K of every sample, float32 [N, width], in order; ``flip`` adds the mirror (width × 2 if concat).

    Raises:
        AssertionError: a sample is missing or counted twice.
    """
    parts, indices = [], []
    for batch in _watched(batches):
        shown = batch.to(device)
        embedding = backbone(shown.images).float()
        if flip != "none":
            mirrored = backbone(shown.images.flip(3)).float()
            embedding = torch.cat([embedding, mirrored], 1) if flip == "concat" else embedding + mirrored
        parts.append(F.normalize(embedding, dim=1).cpu())
        indices.append(shown.indices.cpu())
    assert torch.equal(torch.cat(indices), torch.arange(sum(len(part) for part in indices)))
    return torch.cat(parts).numpy()


def pair_similarity(
    embedding: NDArray[np.float32], pairs: Pairs, gallery: NDArray[np.float32] | None = None
) -> NDArray[np.float64]:
    """Cosine of every pair [P] from L2-normalized embeddings [M, D]; with a ``gallery`` the left one is from there."""
    left = embedding if gallery is None else gallery
    similarity: NDArray[np.float64] = (left[pairs.left].astype(np.float64) * embedding[pairs.right]).sum(1)
    return similarity


class FinalScores(NamedTuple):
    """Metrics by name (%, or a threshold; None: too few pairs to tell), and of every pair [P] its similarity and
    whether it is the same person, empty where there are no pairs.
    """

    metrics: Metrics
    similarity: NDArray[np.float64] = np.zeros(0)
    same: NDArray[np.bool_] = np.zeros(0, bool)


def final_scores(
    config: Config,
    evaluation: Evaluation,
    measure: Measure,
    backbone: Backbone,
    data: FaceData,
    device: torch.device,
    gallery: NDArray[np.float32] | None = None,
) -> FinalScores:
    """The scores over the test split, over its named parts, and, where the source has pairs, those of verification.

    With a ``gallery``, the L2-normalized embeddings [M, D] of the images of the pairs by the teacher that is imitated,
    also the scores of that teacher (``…_teacher``), and of probes of the student's in its gallery (``…_gallery``):
    whether faces that the teacher has enrolled are still found.

    Pairs with a person who was trained on are left out; where that leaves not both kinds of pairs, there are none of
    these scores. ``evaluation`` is left with the whole test split.
    """
    faces = data.faces
    parts: Metrics = {}
    for name, indices in faces.subsets.items():
        scores = scores_of(evaluation, measure, data.test_loader(indices), device)
        parts |= {f"{metric}_{name}": value for metric, value in scores.items()}
    whole = scores_of(evaluation, measure, data.val_dataloader(), device)
    metrics: Metrics = {**whole, "test_samples": float(len(faces.test)), **parts}
    pairs = faces.pairs
    if pairs is None or config.task.needs == "landmarks":
        return FinalScores(metrics)
    new = ~pairs.trained_on
    if len(np.unique(pairs.same[new])) < 2:
        return FinalScores(metrics)
    own = embeddings(backbone, pair_batches(pairs, config), device)
    similarity, same, fold = pair_similarity(own, pairs)[new], pairs.same[new], pairs.fold[new]
    metrics |= verification_metrics(similarity, same, fold)
    if gallery is not None:
        for name, found in {
            "teacher": pair_similarity(gallery, pairs),
            "gallery": pair_similarity(own, pairs, gallery),
        }.items():
            verified = verification_metrics(found[new], same, fold)
            metrics |= {f"{metric}_{name}": value for metric, value in verified.items()}
    return FinalScores(metrics, similarity, same)


def protocol_scores(
    config: Config, teacher: Teacher, flip: str, trained_on: set[str], threshold: float | None = None
) -> dict[str, Metrics]:
    """Scores over the pairs of ``config.data``: over all, and without those of people trained on, where there are any.

    Of pairs of one kind only the similarities are described. With a ``threshold``, also how often it is wrong.

    Raises:
        DataError: the source has no pairs, or an image of them can't be used.
    """
    device = device_for(config.trainer.accelerator)
    torch.set_num_threads(config.trainer.threads)
    pairs = protocol_source(config.data).protocol(config.image.resize, Path(config.cache_dir).expanduser(), trained_on)
    teacher.to(device)
    embedding = embeddings(lambda images: teacher(images).embedding, pair_batches(pairs, config), device, flip)
    similarity, new = pair_similarity(embedding, pairs), ~pairs.trained_on
    parts = {f"{len(new)} pairs": np.ones_like(new)}
    if not new.all():
        parts[f"{new.sum()} pairs of people who were not trained on"] = new
    found: dict[str, Metrics] = {}
    for title, part in parts.items():
        values, same = similarity[part], pairs.same[part]
        metrics: Metrics = dict(verification_metrics(values, same, pairs.fold[part]))
        if kind := kind_of(same):
            title = f"{title}, all {kind}: accuracy, AUC, EER and TAR mean nothing without both kinds"
            metrics = dict(similarity_metrics(values))
        if threshold is not None:
            metrics |= errors_at(values, same, threshold)
        found[title] = metrics
    return found
