"""Train one run, and nothing that it stands on: what a sweep starts where several processes train a run together.

facedistill worker WORD ...

Lightning starts the other ranks of this machine by doing this command again. With trainer.num_nodes=M the command is
given on each of M machines, which share the disk of runs_dir, by srun or torchrun, or with MASTER_ADDR, MASTER_PORT and
NODE_RANK (0 … M − 1) set. The first rank alone holds the run's lock.
Exit status 0: it is complete; 75: another process is training it; 2: it can't be trained, as the last line says.
"""

import logging
import os
import sys
import threading
from collections.abc import Sequence
from functools import partial

from facedistill.cli import run_command
from facedistill.errors import BusyError, RunError
from facedistill.runs.ensure import ensure
from facedistill.runs.plan import plan
from facedistill.runs.run import Run
from facedistill.sweep.jobs import BUSY, SWEEPER, end_with
from facedistill.system.signals import end_with_parent, stop_on_signals
from facedistill.system.terminal import say


def main(words: Sequence[str]) -> int:
    return run_command(words, __doc__, _work, bare=False)


def _work(words: list[str]) -> int:
    stop_on_signals()
    if not is_first():
        end_with_parent(os.getppid())
    elif SWEEPER in os.environ:
        threading.Thread(target=end_with, args=(int(os.environ[SWEEPER]),), daemon=True).start()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    run = plan(words)
    for role, parent in run.parents.items():
        if isinstance(parent, Run) and not parent.is_complete:
            raise RunError(f"its {role} is not complete: {parent.name}. `facedistill train` makes all of it")
    from facedistill.training.fit import train_run

    train_rank = partial(train_run, starts_ranks=True)
    try:
        if is_first():
            ensure(run, train_rank, wait=False)
        else:
            train_rank(run, "")
    except BusyError as error:
        say(f"facedistill: {error}")
        return BUSY
    return 0


def is_first() -> bool:
    """Whether this is rank 0, by what Lightning, torchrun and Slurm tell a process of itself."""
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK", "RANK", "SLURM_PROCID"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
