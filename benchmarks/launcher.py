"""A sweep by the local launcher against the same cells one after the other in one process.

    python benchmarks/launcher.py [TABLE …]

First tables of the embedded faces with one seed, all five or those that are named, as one sweep: a run a core with one
thread each, and then one run at a time with a thread a core. Then 13 runs of one epoch on 24 pixels, one at a time:
what a process of its own costs a run. Both ways share rendered faces, and each has its own folder of runs, in a
temporary folder. All five tables take an hour on two cores.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CORES = os.cpu_count() or 1
TINY = [
    *("data.num_identities=4", "data.images_per_identity=12", "data.pairs_per_fold=2", "image.resize=24"),
    *("image.crop=20", "model.width=16", "teacher.model.width=16", "task.batch_size=8", "schedule.epochs=1"),
    *("rate=4,8", "init=scratch,full", "target=none,soft,hidden"),
]
FEW = "data.images_per_identity=60"
LOCAL, BASIC = "hydra/launcher=local", "hydra/launcher=basic"


def swept(top: Path, name: str, *words: str) -> float:
    """Seconds of a sweep whose runs are kept in ``top/name``."""
    paths = [f"runs_dir={top}/{name}", f"cache_dir={top}/cache", "logger=csv"]
    start = time.perf_counter()
    with (top / f"{name}.log").open("a") as log:
        command = [sys.executable, "-m", "facedistill.train", "-m", *words, *paths]
        subprocess.run(command, check=True, stdout=log, stderr=log)
    return time.perf_counter() - start


def between_records(runs: Path) -> float:
    """Seconds from one record to the next, on average: the first one's start is left out."""
    times = sorted(record.stat().st_mtime for record in runs.glob("*/record.json"))
    return (times[-1] - times[0]) / (len(times) - 1)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        top = Path(temporary)
        swept(top, "warm", *TINY, LOCAL)  # renders, and brings the imports into the disk cache
        swept(top, "rendering", "data=synthetic,synthetic_large", "rate=8", "schedule.epochs=1", FEW, LOCAL)
        tables = sys.argv[1:] or list("12345")
        words = f"experiments=[{','.join(f'table{table}' for table in tables)}]"
        together = swept(top, "together", words, FEW, LOCAL)
        after = swept(top, "after", words, FEW, BASIC, f"trainer.threads={CORES}")
        print(f"| tables | {CORES} runs at a time, one thread each | one run at a time, {CORES} threads | times |")
        print("|---|---|---|---|")
        print(f"| {' '.join(tables)} | {together:.0f} s | {after:.0f} s | {after / together:.2f} |\n", flush=True)
        swept(top, "forked", *TINY, LOCAL, "hydra.launcher.n_jobs=1")
        swept(top, "inside", *TINY, BASIC)
        forked, inside = between_records(top / "forked"), between_records(top / "inside")
        print("| one epoch, one at a time | seconds a run |\n|---|---|")
        print(f"| a process each | {forked:.2f} |\n| all in one process | {inside:.2f} |\n")
        print(f"The launcher costs {forked - inside:.2f} s a run after the first.")


if __name__ == "__main__":
    main()
