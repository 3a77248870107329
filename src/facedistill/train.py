"""Train one cell, or with -m every cell of a sweep, and everything that it depends on.

facedistill train [-m] [group=choice ...] [key=value ...]

  facedistill train rate=8 init=full target=soft              one cell
  facedistill train rate=8 init=full target=soft plan=true    show what it depends on; train nothing
  facedistill train -m rate=2,4,8 init=scratch,full target=soft seed=0,1,2
                                                              a sweep: every combination of the values
  facedistill train -m experiments=table1                     a table of the paper
  facedistill train data=identity_folders data.root=FOLDER    your own faces

README.md explains the words, docs/ the details. What is complete is not trained again; what was interrupted resumes.
--cfg job shows the configuration that the words make. Exit status 0: everything is complete; 2: something was refused
or failed; 130 or 143: it was stopped.
"""

import argparse
import gc
import logging
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from facedistill.cli import run_command
from facedistill.config.choices import files_of
from facedistill.config.compose import checked, compose_config, understood
from facedistill.config.words import GROUPS, check_form, quoted
from facedistill.errors import ConfigError, FacedistillError, NotUnderstoodError
from facedistill.runs.data_identity import Identities
from facedistill.runs.ensure import ensure
from facedistill.runs.plan import check_data, check_tree, plan, stands_on_files, tree
from facedistill.runs.run import Run
from facedistill.sweep.progress_table import score_line
from facedistill.sweep.scheduler import refuse, report_failures, run_sweep
from facedistill.system.signals import stop_on_signals
from facedistill.system.terminal import REFUSED, Output

identities: Identities = {}  # of the data of this command's cells


def train_cell(node: DictConfig) -> None:
    """Train a cell in this process; an error of ours is one line, and in a sweep it does not stop the other cells."""
    hydra = HydraConfig.get()
    if run := plan_cell(list(hydra.overrides.task), node, hydra.job.num if hydra.mode == RunMode.MULTIRUN else None):
        try:
            run_cell(run)
        except FacedistillError as error:
            refuse(run.words, error)


def plan_cell(words: Sequence[str], node: DictConfig | None = None, number: int | None = None) -> Run | None:
    """The run of a cell, once it is known that it can be trained; None: it can't, or only its plan was asked for.

    Args:
        node: what Hydra composed of the words, where it has done so.
        number: of the cell in its sweep, from 0.

    Raises:
        NotUnderstoodError: where Hydra has not found it before; other cells have most of their words in common.
    """
    try:
        with understood(words):
            config = compose_config(words) if node is None else checked(node, words)
        run = plan(words, config, identities)
        check_data(run)
        if stands_on_files(run) or (run.config.plan and not run.is_complete):
            check_tree(run)
        if run.config.plan:
            title = "" if number is None else f"cell {number + 1}/{run.config.cells} "
            Output().print_whole(tree(run, title))
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
        if node is None and isinstance(error, NotUnderstoodError):
            raise
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
    Output().print_text(f"{run.name}: {score_line(run)}")


def import_train_run() -> Callable[[Run, str], None]:
    """``fit.train_run``, imported late: torch and Lightning take seconds, and what is complete needs neither."""
    gc.disable()  # a quarter of those seconds is garbage collection that finds nothing
    from facedistill.training.fit import train_run

    gc.enable()
    gc.freeze()
    return train_run


def main(words: Sequence[str]) -> int:
    """The exit status: 2 if a cell could not be trained, 130 or 143 if it was stopped."""
    return run_command(words, None, _train)


class _Options(argparse.ArgumentParser):
    """What may stand between the words: a sweep, or a way to look at a configuration without training."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False)
        self.add_argument("overrides", nargs="*")
        self.add_argument("--multirun", "-m", action="store_true")
        self.add_argument("--help", "-h", action="store_true")
        self.add_argument("--cfg", "-c", choices=["job", "hydra", "all"])
        self.add_argument("--package", "-p")
        self.add_argument("--resolve", action="store_true")
        self.add_argument(
            "--info", "-i", choices=["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]
        )

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; options are -m, --help, --cfg job and --info defaults, words are KEY=VALUE")


def _train(words: list[str]) -> int:
    stop_on_signals()
    identities.clear()
    logging.raiseExceptions = False  # Hydra logs what it shows, and a reader may leave
    logging.getLogger("hydra._internal.core_plugins.basic_launcher").setLevel(logging.WARNING)  # a line for every cell
    logging.getLogger("matplotlib.font_manager").setLevel(logging.WARNING)  # a line for every new user
    for word in words:
        if word.startswith("-") and "=" in word and not word.startswith(("--cfg=", "--package=", "--info=")):
            check_form([word])
    options = _Options().parse_intermixed_args(words)
    sweeps = options.multirun and not (options.help or options.cfg or options.info)
    overrides = [quoted(word, sweeps) for word in options.overrides]
    with understood(options.overrides, sweeps):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        if options.help:
            print(__doc__, "Groups and their choices:", sep="\n")
            print(*(f"  {group}: {', '.join(sorted(files_of(group)))}" for group in GROUPS), sep="\n")
            print("\nAll keys, with the values that the words of this command give them:\n")
            hydra.show_cfg("config", overrides, "job", None, options.resolve)
        elif options.cfg:
            hydra.show_cfg("config", overrides, options.cfg, options.package, options.resolve)
        elif options.info:
            hydra.show_info(options.info, "config", overrides)
        elif options.multirun:
            hydra.multirun("config", train_cell, [*overrides, "hydra.mode=MULTIRUN"])
        else:
            hydra.run("config", train_cell, [*overrides, "hydra.mode=RUN"])
    return REFUSED if report_failures() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
