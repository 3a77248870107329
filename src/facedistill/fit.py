"""Make one run: data, network, teacher, fit, exact numbers, published weights, record."""

from __future__ import annotations

import platform
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.flop_counter import FlopCounterMode

from facedistill import __version__
from facedistill.callbacks.checkpoint import AtomicCheckpointIO, epoch_end_checkpoint
from facedistill.callbacks.finite import FiniteLoss
from facedistill.callbacks.history import Epoch, History
from facedistill.callbacks.progress import RunProgress
from facedistill.config import Config, build
from facedistill.data.module import FaceData
from facedistill.distill.target import Target
from facedistill.distill.teacher import PROBE_SAMPLES, FrozenTeacher
from facedistill.errors import RunError
from facedistill.evaluate import classification_metrics, count_correct, device_for
from facedistill.models.network import Network, build_network
from facedistill.models.weights import load_into, read_weights, save_weights
from facedistill.reporting.pictures import save_pictures
from facedistill.reporting.wandb_run import WandbRun
from facedistill.runs import Run, WeightsFile
from facedistill.tasks.base import ScheduledModule

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "timm", "albumentations", "numpy")


def make(run: Run, title: str) -> None:
    """Train ``run`` from its last whole epoch, or from the start, and complete it.

    Raises:
        RunError: the loss is not finite, or it was interrupted; then the run is not complete.
    """
    config = run.config
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = FaceData.of(config)
    network = build_network(config.network, config.rate, len(data.faces.identities))
    initialize(network, run)
    teacher = load_teacher(run, data)
    module: ScheduledModule = build(
        {"_target_": config.task._target_},
        config=config,
        network=network,
        teacher=teacher,
        targets=build_targets(config, network, teacher),
    )
    with WandbRun(run) as dashboard:
        history = History(run.directory / "metrics.csv", dashboard)
        trainer = build_trainer(run, [FiniteLoss(), history], title)
        resume = run.checkpoint if run.checkpoint.exists() else None
        with quiet():
            trainer.fit(module, data, ckpt_path=resume, weights_only=True)
        if trainer.interrupted or trainer.current_epoch < len(config.learning_rates):
            raise RunError(f"{run.name} was interrupted; the same command goes on from the last whole epoch")
        record = publish(run, network, history.rows, data)
        dashboard.summarize(record)
    run.complete(record)
    run.checkpoint.unlink(missing_ok=True)


def publish(run: Run, network: Network, rows: Sequence[Epoch], data: FaceData) -> dict[str, Any]:
    """Score a trained network, write its weights and pictures, and give the record of its run."""
    config = run.config
    device = device_for(config.trainer.accelerator)
    if config.task.name == "hint":  # no output layer has been trained yet
        metrics, probed = {"hint_error": rows[-1]["test/hint_error"]}, None
    else:
        metrics, probed = classification_metrics(network, data, device), probe(network, data, device)
    about = {
        "model": config.network,
        "rate": config.rate,
        "image": asdict(config.image),
        "num_identities": len(data.faces.identities),
        "run": run.identity,
        "probe": probed,
    }
    network.cpu().eval()
    save_weights(run.weights, network, about)
    save_pictures(run, network, data, rows)
    return describe(run, network, rows, metrics, data)


def initialize(network: Network, run: Run) -> None:
    """Start from the weights of the ``init`` ancestor, where the run has one.

    Its classifier is taken along where it tells the same identities apart.
    """
    parent = run.parents.get("init")
    if parent is None:
        return
    tensors, _ = read_weights(parent.weights)
    if isinstance(parent, WeightsFile):
        backbone = {name.removeprefix("backbone."): value for name, value in tensors.items()}
        backbone = {name: value for name, value in backbone.items() if not name.startswith("classifier.")}
        if not any(name.startswith("net.") for name in backbone):  # a bare timm state_dict
            load_into(network.backbone.net, backbone, parent.weights)
        else:
            load_into(network.backbone, backbone, parent.weights)
    else:
        load_into(network, tensors, parent.weights)


def load_teacher(run: Run, data: FaceData) -> FrozenTeacher | None:
    """The frozen teacher that the run stands on, once it has shown that it does what its file says."""
    parent = run.parents.get("teacher")
    if parent is None:
        return None
    num_identities = len(data.faces.identities)
    teacher = FrozenTeacher.load(parent.weights, run.config.teacher.model, num_identities)
    measured = probe(teacher.network, data, device_for(run.config.trainer.accelerator))
    teacher.check(measured["correct"], measured["samples"], num_identities, parent.weights)
    return teacher


def probe(network: Network, data: FaceData, device: torch.device) -> dict[str, int]:
    """A network's right answers among the first test samples."""
    loader = data.test_loader(data.faces.test[:PROBE_SAMPLES])
    right, seen = count_correct(network.to(device), loader, device)
    return {"correct": right, "samples": seen}


def build_targets(config: Config, network: Network, teacher: FrozenTeacher | None) -> dict[str, Target]:
    """The terms of the configured target."""
    if teacher is None:
        return {}
    widths = {
        "student_width": network.backbone.width,
        "teacher_width": teacher.network.backbone.width,
    }
    return {name: build(term, **widths) for name, term in config.target.active().items()}


def build_trainer(run: Run, callbacks: list[pl.Callback], title: str) -> pl.Trainer:
    """A Trainer for one device that can be cut at any moment."""
    config = run.config
    if config.trainer.progress:
        callbacks = [*callbacks, RunProgress(f"{title}{run.title}", config.task.metric)]
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # costs time, guards debugging
    return pl.Trainer(
        accelerator=config.trainer.accelerator,
        devices=1,
        precision=config.trainer.precision,  # type: ignore[arg-type]
        deterministic="warn",  # exact on CPUs; some of the GPU's operations have no exact form
        max_epochs=len(config.learning_rates),
        callbacks=[*callbacks, epoch_end_checkpoint(run.checkpoint)],
        plugins=[AtomicCheckpointIO()],
        logger=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tempfile.gettempdir(),
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning's hints for people who write training loops are none for people who run them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning_fabric")
        yield


def describe(
    run: Run, network: Network, rows: Sequence[Epoch], metrics: dict[str, float], data: FaceData
) -> dict[str, Any]:
    """The record: everything a table or a figure will ever ask of this run."""
    config = run.config
    crop = config.image.crop
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.backbone.eval()(torch.zeros(1, 3, crop, crop))
    seconds = sum(row["seconds"] for row in rows)
    teacher = run.parents.get("teacher")
    taught = teacher.record["metrics"].get("top1") if isinstance(teacher, Run) else None
    return {
        "identity": run.identity,
        "name": run.name,
        "role": run.role,
        "group": config.group,
        "overrides": list(run.words),
        "recipe": run.recipe,
        "config": asdict(config),
        "parents": {role: parent.name for role, parent in run.parents.items()},
        "metrics": metrics,
        "teacher_top1": taught,
        "history": list(rows),
        "data": {**data.faces.counts, "train": len(data.faces.train), "test": len(data.faces.test)},
        "params": sum(p.numel() for p in network.backbone.parameters()),
        "params_with_classifier": sum(p.numel() for p in network.parameters()),
        "macs": counter.get_total_flops() // 2,
        "weights_bytes": run.weights.stat().st_size,
        "seconds": seconds,
        "images_per_second": len(rows) * len(data.faces.train) / seconds,
        "versions": {"facedistill": __version__, "python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
        "device": {
            "accelerator": config.trainer.accelerator,
            "name": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
            "threads": torch.get_num_threads(),
        },
    }
