"""Train one cell of the sweep, or with -m a sweep, and whatever it stands on."""

from __future__ import annotations

import gc
import logging
import shlex
import sys
from collections.abc import Callable
from typing import cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console

from facedistill.config.compose import CONFIG_DIR, checked, quoted
from facedistill.errors import ConfigError, FacedistillError
from facedistill.runs.plan import check_buildable, ensure, plan, tree
from facedistill.runs.run import Run
from facedistill.sweep.jobs import processes_of
from facedistill.sweep.progress_table import score
from facedistill.sweep.scheduler import refuse, run_sweep, told_failures
from facedistill.system.signals import stop_on_signals

LOCAL = "hydra_plugins.facedistill_hydra.launcher.LocalLauncher"
console = Console(soft_wrap=True, highlight=False)


@hydra.main(config_path=str(CONFIG_DIR), config_name="config", version_base="1.3")
def train(node: DictConfig) -> Run | None:
    """One cell. An error of ours is one line, and in a sweep it does not stop the other cells.

    Returns:
        In a sweep on this machine the cell, for its launcher to make.
    """
    hydra_config = HydraConfig.get()
    sweeps = hydra_config.mode == RunMode.MULTIRUN
    words = cast(list[str], list(hydra_config.overrides.task))
    try:
        run = plan(words, checked(node))
        if run.config.plan:
            title = f"cell {hydra_config.job.num + 1}/{run.config.cells} " if sweeps else ""
            console.print(tree(run, title))
            return None
        if not run.is_complete:
            if run.config.trainer.num_nodes > 1:
                raise ConfigError(
                    "trainer.num_nodes: this command starts processes on one machine; on several, each is given "
                    f"`python -m facedistill.worker {shlex.join(words)}`, see its --help"
                )
            check_buildable(run)
        if sweeps and hydra_config.launcher._target_ == LOCAL:
            return run
        run_cell(run)
    except FacedistillError as error:
        refuse(words, error)
    return None


def run_cell(run: Run) -> None:
    """Make a cell in this process, with its own bar; where it takes several processes, in fresh ones."""
    if not run.is_complete:
        if processes_of(run.config) > 1:
            run_sweep([run], 1, processes_of(run.config))
            return
        logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
        ensure(run, import_train_run())
    console.print(f"{run.name}: {score(run)}", markup=False)


def import_train_run() -> Callable[[Run, str], None]:
    """``fit.train_run``, imported late: torch and Lightning take seconds, and a plan or a complete run needs neither."""
    gc.disable()  # a quarter of those seconds is garbage collection that finds nothing
    from facedistill.training.fit import train_run

    gc.enable()
    gc.freeze()
    return train_run


def main() -> None:
    """The command; exit status 2 if a cell could not be made, 130 or 143 if it was stopped."""
    stop_on_signals()
    sys.argv[1:] = map(quoted, sys.argv[1:])
    train()
    sys.exit(2 if told_failures() else 0)


if __name__ == "__main__":
    main()
