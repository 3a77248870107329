"""Train one cell of the sweep, or with -m a sweep, and whatever it stands on."""

from __future__ import annotations

import gc
import logging
import sys
import time
from collections.abc import Callable, Sequence
from typing import cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console

from facedistill.compose import CONFIG_DIR, checked, quoted
from facedistill.errors import BusyError, FacedistillError
from facedistill.pipeline import check_buildable, ensure, plan, tree
from facedistill.runs import Run

console = Console(soft_wrap=True, highlight=False)
RETRY = 1.0  # seconds between looks at what other processes are making
failed: list[str] = []
put_off: list[tuple[Run, int]] = []


@hydra.main(config_path=str(CONFIG_DIR), config_name="config", version_base="1.3")
def train(node: DictConfig) -> None:
    """One cell. An error of ours is one line, and in a sweep it does not stop the other cells."""
    hydra_config = HydraConfig.get()
    words = cast(list[str], list(hydra_config.overrides.task))
    try:
        run = plan(words, checked(node))
    except FacedistillError as error:
        refuse(words, error)
        return
    attempt(run, hydra_config.job.num if hydra_config.mode == RunMode.MULTIRUN else None)


def attempt(run: Run, number: int | None) -> None:
    """Make a cell; one of a sweep that another process is making is put off, so that processes share a sweep."""
    try:
        make_cell(run, number)
    except BusyError:
        assert number is not None
        put_off.append((run, number))
    except FacedistillError as error:
        refuse(run.words, error)


def refuse(words: Sequence[str], error: FacedistillError) -> None:
    """Say why a cell is not made."""
    console.print(f"facedistill: {error}", style="red", markup=False)
    failed.append(" ".join(words))


def make_what_was_put_off() -> None:
    """The cells that another process was making: it has finished them, or they are made here."""
    waited = False
    while put_off:
        cells = put_off.copy()
        put_off.clear()
        for run, number in cells:
            attempt(run, number)
        if len(put_off) == len(cells):
            if not waited:
                console.print(f"other processes are making the last {len(cells)} cells: waiting for them")
                waited = True
            time.sleep(RETRY)


def make_cell(run: Run, number: int | None) -> None:
    """Make a cell, or print its plan; ``number`` is its place in a sweep.

    Raises:
        BusyError: it is one of a sweep, and another process is making it.
    """
    title = "" if number is None else f"cell {number + 1}/{run.config.cells} "
    if run.config.plan:
        console.print(tree(run, title))
        return
    if not run.is_complete:
        make = import_make()
        logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
        check_buildable(run)
        ensure(run, make, title, wait=number is None)
    console.print(f"{title}{run.name}: {said(run)}", markup=False)


def import_make() -> Callable[[Run, str], None]:
    """``fit.make``, imported late: torch and Lightning take seconds, and a plan or a complete run needs neither."""
    gc.disable()  # a quarter of those seconds is garbage collection that finds nothing
    from facedistill.fit import make

    gc.enable()
    gc.freeze()
    return make


def said(run: Run) -> str:
    """The metric of a finished run's task, and of its pairs, in a line."""
    metrics = run.record["metrics"]
    return ", ".join(f"{name} {metrics[name]:.2f}" for name in (run.config.task.metric, "pairs") if name in metrics)


def main() -> None:
    """The command; exit status 2 if a cell could not be made."""
    sys.argv[1:] = map(quoted, sys.argv[1:])
    train()
    make_what_was_put_off()
    if len(failed) > 1:
        console.print(f"{len(failed)} cells failed:", *failed, sep="\n  ", style="red", markup=False)
    sys.exit(2 if failed else 0)


if __name__ == "__main__":
    main()
