"""Of a sweep's time on the cores, how much is training.

    python benchmarks/wall.py

The study of 20 minutes under one seed (cells of tables 1, 2, 4 and 5, and what they stand on), as `facedistill train
-m` makes it, a run a core, in a temporary folder: planning, rendering, start, banks, scoring, pictures and an offline
run in Weights & Biases included. Training is what the records of the runs say of their epochs.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from measure import print_table, seconds_of

from facedistill.runs.folders import find_runs

WORDS = ["experiments=core", "seed=0", "logger.mode=offline"]


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        paths = [f"runs_dir={temporary}/runs", f"cache_dir={temporary}/cache"]
        seconds = seconds_of("-m", "facedistill.train", "-m", *WORDS, *paths)
        records = [run.record for run in find_runs(Path(temporary) / "runs") if run.record is not None]
    on_cores, training = seconds * (os.cpu_count() or 1), sum(record.seconds for record in records)
    numbers = [len(records), seconds, on_cores, training, 100 * training / on_cores]
    print_table(["runs", "seconds", "seconds of the cores", "training", "%"], [[f"{number:.0f}" for number in numbers]])


if __name__ == "__main__":
    main()
