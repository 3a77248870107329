"""Train one cell of the sweep, or with -m a sweep, and whatever it stands on."""

import gc
import logging
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console

from facedistill.cli import REFUSED
from facedistill.config.choices import CONFIG_DIR
from facedistill.config.compose import checked, quoted
from facedistill.errors import ConfigError, FacedistillError
from facedistill.runs.ensure import ensure
from facedistill.runs.plan import check_data, check_tree, plan, tree
from facedistill.runs.run import Run
from facedistill.sweep.progress_table import score_line
from facedistill.sweep.scheduler import refuse, report_failures, run_sweep
from facedistill.system.signals import stop_on_signals
from facedistill.system.text import escape_unprintable

console = Console(soft_wrap=True, highlight=False)


def train_cell(node: DictConfig) -> None:
    """Train a cell in this process; an error of ours is one line, and in a sweep it does not stop the other cells."""
    if run := plan_cell(node):
        try:
            run_cell(run)
        except FacedistillError as error:
            refuse(run.words, error)


def plan_cell(node: DictConfig) -> Run | None:
    """The run of a cell, once it is known that it can be trained; None: it can't, or only its plan was asked for."""
    hydra_config = HydraConfig.get()
    words = cast(list[str], list(hydra_config.overrides.task))
    try:
        run = plan(words, checked(node))
        check_data(run)
        if run.config.plan:
            in_sweep = hydra_config.mode == RunMode.MULTIRUN
            title = f"cell {hydra_config.job.num + 1}/{run.config.cells} " if in_sweep else ""
            Console(width=10_000, highlight=False).print(tree(run, title))  # a name is not cut
            return None
        if not run.is_complete:
            if run.config.trainer.num_nodes > 1:
                raise ConfigError(
                    "trainer.num_nodes: this command starts processes on one machine; on several, each is given "
                    f"`facedistill worker {shlex.join(words)}`, see its --help"
                )
            check_tree(run)
        return run
    except FacedistillError as error:
        refuse(words, error)
        return None


def run_cell(run: Run) -> None:
    """Train a run in this process, with its own bar; where it takes several processes, in fresh ones."""
    if not run.is_complete:
        if run.config.trainer.world_size > 1:
            run_sweep([run], 1, run.config.trainer.world_size)
            return
        logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
        ensure(run, import_train_run())
    console.print(f"{run.name}: {score_line(run)}", markup=False)


def import_train_run() -> Callable[[Run, str], None]:
    """``fit.train_run``, imported late: torch and Lightning take seconds, and a plan needs neither."""
    gc.disable()  # a quarter of those seconds is garbage collection that finds nothing
    from facedistill.training.fit import train_run

    gc.enable()
    gc.freeze()
    return train_run


def main(words: Sequence[str]) -> int:
    """The exit status: 2 if a cell could not be trained, 130 or 143 if it was stopped."""
    escape_unprintable()
    stop_on_signals()
    sys.argv = [sys.argv[0], *map(quoted, words)]
    hydra.main(config_path=str(CONFIG_DIR), config_name="config", version_base="1.3")(train_cell)()
    return REFUSED if report_failures() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
