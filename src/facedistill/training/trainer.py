"""The Trainer of a run: it can be stopped at any moment."""

import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy

from facedistill.config.build import find_type
from facedistill.config.schema import Config
from facedistill.data.sources.source import build_source
from facedistill.errors import RunError
from facedistill.evaluation.scoring import device_for
from facedistill.runs.run import Run
from facedistill.training.callbacks.checkpoint import BoundCheckpointIO, epoch_end_checkpoint
from facedistill.training.callbacks.progress import RunProgress


def prepare_compiler(config: Config) -> None:
    """Have torch.compile begin anew: its earlier work changes its results. Raises ``RunError`` without a compiler."""
    if not config.trainer.compile:
        return
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if not shutil.which(compiler):
        raise RunError(f"trainer.compile=true needs a C++ compiler, and there is no {compiler}: install it, or set CXX")
    torch.compiler.reset()


def check_precision(config: Config) -> None:
    """Raise ``RunError`` where the GPU that trains does not have the precision that is asked for."""
    device, precision = device_for(config.trainer.accelerator), config.trainer.precision
    if precision != "bf16-mixed" or device.type != "cuda":
        return
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name(device)
        raise RunError(f"{name} has no bf16: use trainer.precision=32-true, or trainer.precision=16-mixed")


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Lightning's hints for people who write training loops."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning_fabric")
        yield


@quiet()
def build_trainer(run: Run, callbacks: list[pl.Callback], title: str, starts_ranks: bool = False) -> pl.Trainer:
    """A Trainer that can be stopped at any moment; ``starts_ranks``: see ``train_run``."""
    config = run.config
    if config.trainer.progress:
        callbacks = [*callbacks, RunProgress(f"{title}{run.title}", config.task.metric)]
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # costs time, guards debugging
    return pl.Trainer(
        accelerator=config.trainer.accelerator,
        devices=config.trainer.devices,
        num_nodes=config.trainer.num_nodes,
        strategy=_strategy(run, starts_ranks),
        precision=config.trainer.precision,  # type: ignore[arg-type]
        deterministic="warn",  # exact on CPUs; some of the GPU's operations have no exact form
        max_epochs=len(config.epoch_rates),
        reload_dataloaders_every_n_epochs=int(build_source(config.data).epochs_per_round is not None),
        check_val_every_n_epoch=max(1, config.trainer.score_every),
        limit_val_batches=None if config.trainer.score_every else 0,
        callbacks=[*callbacks, epoch_end_checkpoint(run.checkpoint)],
        plugins=[BoundCheckpointIO(run.identity)],
        logger=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=run.directory,  # where Lightning looks for a checkpoint of Slurm's
    )


class _NothingToAverage(DDPStrategy):
    """Of a module of which every parameter that is trained is one rank's own: DDP would refuse it."""

    def configure_ddp(self) -> None:
        """Leave it as it is."""


def _strategy(run: Run, starts_ranks: bool) -> str | DDPStrategy:
    """How processes train together.

    Raises:
        RunError: Lightning would start the other processes by doing this one's command again, which trains more than
            this run.
    """
    config = run.config
    if config.trainer.world_size == 1:
        return "auto"
    if not starts_ranks:
        raise RunError(
            f"{run.name} takes {config.trainer.world_size} processes, and they take a command of their own: "
            f"facedistill worker {shlex.join(run.words)}"
        )
    if config.trainer.splits_classes and config.starts_from_recognizer and not config.finetunes:
        return _NothingToAverage()
    uses_all = find_type("task", {"type": config.task.type}).uses_all_parameters
    return "ddp" if uses_all else "ddp_find_unused_parameters_true"
