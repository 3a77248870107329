"""Make one run: data, network, teacher, fit, exact numbers, published weights, record."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import distributed

from facedistill import __version__
from facedistill.config.schema import Config
from facedistill.data.loading.datamodule import FaceData, read_faces
from facedistill.data.loading.view_schedule import banked_views
from facedistill.distill.bank import Bank, BankMaker
from facedistill.distill.teacher import PROBE_SAMPLES, NetworkTeacher, Probe
from facedistill.errors import RunError
from facedistill.evaluate import device_for, final_scores, measured
from facedistill.evaluation.pictures import curves, roc_curve, save_pictures
from facedistill.metrics.pairs import roc
from facedistill.models.cost import latency, multiply_adds
from facedistill.models.network import Network
from facedistill.models.weights import load_backbone, load_into, read_weights, save_weights
from facedistill.runs.run import Run, WeightsFile
from facedistill.runs.sample_scores import SampleScores
from facedistill.system.files import sha256
from facedistill.tasks.assemble import build_module, build_targets, published_network, training_network
from facedistill.tasks.base import ScheduledModule
from facedistill.tracking.wandb_run import WandbRun
from facedistill.training.callbacks.checkpoint import AtomicCheckpointIO, epoch_end_checkpoint
from facedistill.training.callbacks.finite import FiniteLoss
from facedistill.training.callbacks.history import Epoch, History
from facedistill.training.callbacks.progress import RunProgress

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "timm", "albumentations", "numpy")
WORKER = "facedistill.worker"


def train_run(run: Run, title: str) -> None:
    """Train ``run`` from its last whole epoch, or from the start, and complete it.

    Where several processes do this together, each calls it; the first alone scores the network and writes.

    Raises:
        RunError: the loss is not finite, or it was interrupted; then the run is not complete. Or there is no compiler.
    """
    config = run.config
    prepare_compiler(config)
    torch.set_num_threads(config.trainer.threads)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = FaceData.of(config)
    network = training_network(config, count_identities(config, config.identities_data))
    initialize(network, run)
    with torch.random.fork_rng(devices=[]):  # a teacher that is asked draws numbers, and one with a bank may not be
        teachers = load_teachers(run, data)
    module = build_module(config, network, teachers, build_targets(config, network, teachers))
    with WandbRun(run) as dashboard:
        history = History(run.directory / "metrics.csv", dashboard)
        trainer = build_trainer(run, [FiniteLoss(), history], title)
        resume = run.checkpoint if run.checkpoint.exists() else None
        with quiet():
            trainer.fit(module, data, ckpt_path=resume, weights_only=True)
        if trainer.interrupted or trainer.current_epoch < len(config.epoch_rates):
            raise RunError(f"{run.name} was interrupted; the same command goes on from the last whole epoch")
        if distributed.is_initialized():  # from here on metrics and samplers are those of one process
            distributed.barrier()
            distributed.destroy_process_group()
        if not trainer.is_global_zero:
            return
        record = publish(run, module, history.rows, data)
        dashboard.summarize(record)
    run.complete(record)
    run.checkpoint.unlink(missing_ok=True)


def publish(run: Run, module: ScheduledModule, rows: Sequence[Epoch], data: FaceData) -> dict[str, Any]:
    """Score a trained network, write its weights and pictures, and give the record of its run."""
    config, network = run.config, module.network
    if not config.task.classifies:
        network.classifier = None  # it served the target
    device = device_for(config.trainer.accelerator)
    about = {
        "model": config.network,
        "rate": config.rate,
        "image": asdict(config.image),
        "num_identities": len(data.faces.identities),
        "run": run.identity,
        "probe": probe(module, data, device)._asdict(),
    }
    scored = final_scores(module, data, device)
    sample_scores = SampleScores(module.sample_scores(data), scored.similarity.astype(np.float32), scored.same)
    sample_scores.save(run.directory)
    module.cpu().eval()
    save_weights(run.weights, network, about)
    pictures = {"curves": curves(rows, config.task.metric, run.name), **module.pictures(data)}
    if len(scored.same):
        far, tar, _ = roc(scored.similarity, scored.same)
        pictures["roc"] = roc_curve(far, tar, "pairs of people who were not trained on")
    save_pictures(pictures, run.directory)
    return describe(run, network, rows, scored.metrics, data)


def count_identities(config: Config, data: dict[str, Any]) -> int:
    """How many identities a ``conf/data`` node has."""
    return len(read_faces(config, data).identities)


def initialize(network: Network, run: Run) -> None:
    """Start from the weights of the ``init`` ancestor, where the run has one.

    Its output layers are taken along where they say the same: the landmarks, or the same identities.
    """
    parent = run.parents.get("init")
    if parent is None:
        return
    tensors, _ = read_weights(parent.weights)
    config = run.config
    if isinstance(parent, WeightsFile) and config.task.name == "teacher":
        load_backbone(network.backbone, tensors, parent.weights)
        return
    assert parent.config is not None
    known = parent.config.identities_data
    taken = {"backbone", "regressor"} | ({"classifier"} if known == config.identities_data else set())
    own = network.state_dict()
    given = {name: value for name, value in tensors.items() if name.split(".")[0] in taken and name in own}
    new = {name: value for name, value in own.items() if not name.startswith("backbone.")}
    load_into(network, {**new, **given}, parent.weights)


def load_teachers(run: Run, data: FaceData) -> dict[str, NetworkTeacher]:
    """The frozen teachers that the run stands on, each once it has shown that it does what its file says.

    Where the run has banks, its training batches bring what they hold.
    """
    config, views = run.config, banked_views(run.config)
    teachers: dict[str, NetworkTeacher] = {}
    banks: list[Bank] = []
    for role, parent in run.parents.items():
        if role == "init":
            continue
        assert parent.config is not None
        parents_data = FaceData.of(parent.config)
        count = len(parents_data.faces.identities)
        teacher = NetworkTeacher.load(parent.weights, published_network(parent.config, count))
        device, cache = device_for(config.trainer.accelerator), Path(config.cache_dir).expanduser()
        maker = BankMaker(teacher, data, device, cache, config.target.bank, about_bank(run, parent, device))
        if views is None or not maker.is_there(views):  # a bank was made by a teacher that had shown it
            teacher.check(probe(build_module(parent.config, teacher.network), parents_data, device), parent.weights)
        if views is not None:
            banks.append(maker.open(views))
        teachers[role] = teacher
    data.recall(banks)
    return teachers


def about_bank(run: Run, teacher: Run | WeightsFile, device: torch.device) -> dict[str, Any]:
    """Everything that decides what the bank of a run's teacher holds."""
    config = run.config
    return {
        "teacher": sha256(teacher.weights),
        "data": dict(run.data),
        "image": asdict(config.image),
        "seed": config.seed,
        "device": device.type,
        "threads": config.trainer.threads,
    }


def probe(module: ScheduledModule, data: FaceData, device: torch.device) -> Probe:
    """A network's score on the first test samples."""
    indices = data.faces.test[:PROBE_SAMPLES]
    metric = module.config.task.metric
    value = measured(module, data.test_loader(indices), device)[metric]
    return Probe(metric, value, len(indices), bool(module.metric.higher_is_better))


def prepare_compiler(config: Config) -> None:
    """Have torch.compile begin anew: what it makes depends on what the process had it compile before.

    Raises:
        RunError: there is no C++ compiler, which it needs, for a GPU too; it would say so in a traceback.
    """
    if not config.trainer.compile:
        return
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if not shutil.which(compiler):
        raise RunError(f"trainer.compile=true needs a C++ compiler, and there is no {compiler}: install it, or set CXX")
    torch.compiler.reset()


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning's hints for people who write training loops are none for people who run them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning_fabric")
        yield


@quiet()
def build_trainer(run: Run, callbacks: list[pl.Callback], title: str) -> pl.Trainer:
    """A Trainer that can be cut at any moment."""
    config = run.config
    if config.trainer.progress:
        callbacks = [*callbacks, RunProgress(f"{title}{run.title}", config.task.metric)]
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # costs time, guards debugging
    return pl.Trainer(
        accelerator=config.trainer.accelerator,
        devices=config.trainer.devices,
        num_nodes=config.trainer.num_nodes,
        strategy=_strategy(run),
        sync_batchnorm=config.trainer.sync_batchnorm,
        precision=config.trainer.precision,  # type: ignore[arg-type]
        deterministic="warn",  # exact on CPUs; some of the GPU's operations have no exact form
        max_epochs=len(config.epoch_rates),
        callbacks=[*callbacks, epoch_end_checkpoint(run.checkpoint)],
        plugins=[AtomicCheckpointIO()],
        logger=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tempfile.gettempdir(),
    )


def _strategy(run: Run) -> str:
    """Lightning's name of how processes train together.

    Raises:
        RunError: Lightning would start the other processes by doing this one's command again, which makes more than
            this run; or there is no SyncBatchNorm here.
    """
    config = run.config
    if config.trainer.sync_batchnorm and device_for(config.trainer.accelerator).type != "cuda":
        raise RunError("trainer.sync_batchnorm=true works on GPUs only, and there is none here")
    processes = config.trainer.devices * config.trainer.num_nodes
    if processes == 1:
        return "auto"
    command = sys.modules["__main__"].__spec__
    if command is None or command.name != WORKER:
        raise RunError(
            f"{run.name} takes {processes} processes, and they take a command of their own: "
            f"python -m {WORKER} {shlex.join(run.words)}"
        )
    # the student's layers behind the hint get no gradient
    return "ddp_find_unused_parameters_true" if config.task.name == "hint" else "ddp"


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The model of the CPU, where the system tells it, or its architecture; and how many cores there are."""
    told = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.is_file() else []
    models = [line.partition(":")[2].strip() for line in told if line.startswith("model name")]
    return f"{next(iter(models), '') or platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def describe(
    run: Run, network: Network, rows: Sequence[Epoch], metrics: dict[str, float | None], data: FaceData
) -> dict[str, Any]:
    """The record: everything a table or a figure will ever ask of this run."""
    config = run.config
    seconds = sum(row["seconds"] for row in rows)
    teacher = run.parents.get("teacher")
    taught = teacher.record["metrics"][teacher.config.task.metric] if isinstance(teacher, Run) else None
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
        "teacher_score": taught,
        "history": list(rows),
        "data": {**data.faces.counts, "train": len(data.faces.train), "test": len(data.faces.test)},
        "params": sum(p.numel() for p in network.backbone.parameters()),
        "params_with_classifier": sum(p.numel() for p in network.parameters()),
        "macs": multiply_adds(network.backbone, config.image.crop),
        "weights_bytes": run.weights.stat().st_size,
        "weights_sha256": sha256(run.weights),
        "latency_ms": latency(network.backbone, config.image.crop),
        "seconds": seconds,
        "images_per_second": len(rows) * len(data.faces.train) / seconds,
        "versions": {"facedistill": __version__, "python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
        "device": {
            "accelerator": config.trainer.accelerator,
            "name": torch.cuda.get_device_name() if torch.cuda.is_available() else processor(),
            "threads": torch.get_num_threads(),
        },
    }
