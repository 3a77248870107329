"""What a trained run leaves: exact scores, published weights, pictures, its record."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from facedistill import __version__
from facedistill.config.schema import TEACHER
from facedistill.data.loading.datamodule import FaceData
from facedistill.distill.axes import TeacherOnAxes
from facedistill.distill.teacher import REFERENCE_IMAGES, reference_of
from facedistill.evaluation.pictures import curves, roc_curve, save_pictures
from facedistill.evaluation.scoring import Metrics, device_for, final_scores, probe
from facedistill.metrics.pairs import roc
from facedistill.models.cost import latency, multiply_adds
from facedistill.models.network import Network
from facedistill.models.weights import save_weights
from facedistill.runs.record import Record
from facedistill.runs.run import Run
from facedistill.runs.sample_scores import SampleScores
from facedistill.system.decoration import decoration
from facedistill.system.files import sha256
from facedistill.tasks.base import ScheduledModule
from facedistill.training.callbacks.history import Epoch
from facedistill.training.teachers import gallery_of

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "timm", "albumentations", "numpy")


def publish(run: Run, module: ScheduledModule, history: Sequence[Epoch], data: FaceData) -> Record:
    """Score a trained network, write its weights and pictures, and give the record of its run."""
    config, network, evaluation = run.config, module.network, module.evaluation
    if not config.task.classifies:
        network.classifier = None  # it served the target
    device = device_for(config.trainer.accelerator)
    module.to(device).eval()
    about = {
        "model": config.network,
        "rate": config.rate,
        "image": asdict(config.image),
        **({"bands": True} if config.task.bands else {}),
        "num_identities": len(data.faces.identities),
        "run": run.identity,
        "probe": probe(evaluation, module.measure, data, device)._asdict(),
    }
    teacher = module.teachers.get(TEACHER)
    gallery = gallery_of(run, teacher, data) if config.task.imitates and teacher else None
    axes = teacher.axes if isinstance(teacher, TeacherOnAxes) else None
    final = final_scores(config, evaluation, module.measure, network.backbone, data, device, gallery)
    per_sample = evaluation.per_sample()
    identity = data.faces.clusters[evaluation.of_samples(data)][: len(per_sample)]
    SampleScores(per_sample, final.similarity.astype(np.float32), final.same, identity).save(run.directory)
    module.cpu()
    few = data.centre_crops(data.faces.test[:REFERENCE_IMAGES])
    save_weights(run.weights, network, about, reference_of(network, few.student_images), axes)
    missing: list[str] = []
    with decoration("the picture of its curves", missing):
        save_pictures({"curves": curves(history, config.task.metric, run.name)}, run.directory)
    with decoration("pictures of test faces", missing):
        save_pictures(evaluation.pictures(network, data), run.directory)
    if len(final.same):
        with decoration("the picture of its ROC", missing):
            far, tar, _ = roc(final.similarity, final.same)
            title = "pairs of people who were not trained on"
            save_pictures({"roc": roc_curve(far, tar, title)}, run.directory)
    weights = {name: term.final_weight for name, term in module.terms.items()}
    return replace(describe(run, network, history, final.metrics, data), without=missing, target_weights=weights)


def describe(run: Run, network: Network, history: Sequence[Epoch], metrics: Metrics, data: FaceData) -> Record:
    """The record of a run whose weights are written."""
    config = run.config
    seconds = sum(row["seconds"] for row in history)
    teacher = run.parents.get("teacher")
    return Record(
        identity=run.identity,
        name=run.name,
        role=run.role,
        group=config.group,
        overrides=list(run.words),
        recipe=run.recipe,
        config=config,
        parents={role: parent.name for role, parent in run.parents.items()},
        metrics=metrics,
        teacher_score=teacher.record.score if isinstance(teacher, Run) else None,
        history=list(history),
        data={**data.faces.counts, "train": len(data.faces.train), "test": len(data.faces.test)},
        params=sum(p.numel() for p in network.backbone.parameters()),
        params_with_classifier=sum(p.numel() for p in network.parameters()),
        macs=multiply_adds(network.backbone, *config.student_size),
        weights_bytes=run.weights.stat().st_size,
        weights_sha256=sha256(run.weights),
        latency_ms=latency(network.backbone, *config.student_size),
        seconds=seconds,
        images_per_second=len(history) * len(data.faces.train) / seconds,
        versions={"facedistill": __version__, "python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
        device={
            "accelerator": config.trainer.accelerator,
            "name": torch.cuda.get_device_name() if torch.cuda.is_available() else processor(),
            "threads": torch.get_num_threads(),
        },
    )


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The model of the CPU, or where the system does not name it the architecture, and the number of cores."""
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{next(iter(models), '') or platform.processor() or platform.machine()}, {os.cpu_count()} cores"
