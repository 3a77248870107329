"""A student beside the teacher that it imitates, on the pairs of a protocol."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from facedistill.config.schema import TEACHER, Config
from facedistill.data.loading.datamodule import pair_batches
from facedistill.data.sources.verification_set import protocol_source
from facedistill.distill.axes import concatenated_on_axes
from facedistill.distill.teacher import NetworkTeacher, Teacher
from facedistill.evaluation.scoring import Metrics, device_for, embeddings, pair_similarity
from facedistill.metrics.pairs import verification_metrics
from facedistill.models.weights import read_weights
from facedistill.runs.run import Run, WeightsFile
from facedistill.training.teachers import load_teacher


def pair_scores(run: Run, config: Config) -> Mapping[str, Metrics]:
    """Of the ``teacher``, of the ``student``, and of probes of the student's in the teacher's ``gallery``.

    Each embedding is that of an image and of its mirror image, one after the other.

    Args:
        config: its data are those of the protocol.

    Raises:
        DataError: the source has no pairs, or an image of them can't be used.
    """
    threads, parent = config.trainer.threads, run.parents[TEACHER]
    torch.set_num_threads(threads)
    device = device_for(config.trainer.accelerator)
    source, cache = protocol_source(config.data), Path(config.cache_dir).expanduser()
    own = parent.pixels if isinstance(parent, WeightsFile) else None
    seen = {"student": run.config.image, "teacher": own or run.config.image}
    networks: dict[str, Teacher] = {"teacher": load_teacher(parent, 0, threads)}
    networks["student"] = NetworkTeacher.load(run.weights, run.config.network, run.config.rate)
    found = {}
    for name, network in networks.items():
        network.to(device)
        pairs = source.protocol(seen[name].resize, cache, set())
        batches = pair_batches(pairs, replace(config, image=seen[name]))
        found[name] = embeddings(lambda images, of=network: of(images).embedding, batches, device, "concat")  # type: ignore[misc]
    similarity = {name: pair_similarity(embedding, pairs) for name, embedding in found.items()}
    axes = read_weights(run.weights).axes
    gallery = found["teacher"] if axes is None else concatenated_on_axes(found["teacher"], axes)
    similarity["gallery"] = pair_similarity(found["student"], pairs, gallery)
    return {name: verification_metrics(values, pairs.same, pairs.fold) for name, values in similarity.items()}
