"""What a command takes before it works: its imports, a plan, and all up to the first training step.

    python benchmarks/startup.py

Whole processes, from their start to their end: the median of five, and the ways take turns. The plan is that of a
verification student from a distilled one: four runs, none of them made. The training step is the first one of a student
alone, on embedded faces that are rendered already; the process ends with it. A command imports
`facedistill.training.fit` with garbage collection off, which is why its first step can come sooner than the
import by itself. The system has the files in memory, and runs and faces are in a temporary folder. Two minutes on two
cores.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from functools import partial
from pathlib import Path

from measure import alternating, print_table, seconds_of

REPETITIONS = 5
# The command as it is, but for a hook: what it imports late is still imported late.
UP_TO_THE_FIRST_STEP = """
import os, sys
from facedistill import train

import_train_run = train.import_train_run

def import_and_end_early():
    train_run = import_train_run()
    from facedistill.tasks.base import ScheduledModule
    ScheduledModule.on_train_batch_end = lambda *_: os._exit(0)
    return train_run

train.import_train_run = import_and_end_early
train.main(sys.argv[1:])
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as top:
        os.environ["TMPDIR"] = top  # a process that ends early leaves temporary files
        paths = [f"runs_dir={top}/runs", f"cache_dir={top}/cache", "logger=csv"]
        chain = ["task=verify", "rate=8", "init=distill", "target=soft"]
        student = ["rate=8", "target=none", "schedule.epochs=1"]
        commands = {
            "`python -c pass`": ["-c", "pass"],
            "`import torch`": ["-c", "import torch"],
            "`import facedistill.training.fit`": ["-c", "import facedistill.training.fit"],
            "`facedistill.train … plan=true`": ["-m", "facedistill.train", *chain, *paths, "plan=true"],
            "`facedistill.train …`, up to the first step": ["-c", UP_TO_THE_FIRST_STEP, *student, *paths],
        }
        for words in commands.values():  # renders, and brings the files into memory
            seconds_of(*words)
        found = alternating({name: partial(seconds_of, *words) for name, words in commands.items()}, REPETITIONS)
        assert not list(Path(top).glob("runs/*/record.json")), "a run went on beyond its first step"
    print_table(["process", "seconds"], [[name, f"{statistics.median(taken):.2f}"] for name, taken in found.items()])


if __name__ == "__main__":
    main()
