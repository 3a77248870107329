"""Many cells and many runs: what a plan, `facedistill runs` and `facedistill report` take of them.

    python benchmarks/many.py

The plan is of a sweep of 2,025 cells (rates 2, 4, 8; three initializations; three targets; 75 seeds), none of which is
trained. The runs are 5,000 records that nobody trained, those of table 4 under one seed
after another, each with a history of 20 epochs and scores of 1,000 test samples, as files in a temporary folder (under
1 GB). Every command runs once, as a process of its own, start included; the system has the files in memory. Peak
memory is that of the process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from measure import print_table

from facedistill.runs.plan import plan, runs_of
from facedistill.runs.record import Record
from facedistill.runs.sample_scores import SampleScores

CELLS, RUNS, EPOCHS, SAMPLES, IDENTITIES = 2_000, 5_000, 20, 1_000, 100
SWEPT = ["rate=2,4,8", "init=scratch,full,fitnet", "target=none,hidden,soft"]
OF_ONE_SEED = [
    f"task=verify task.options.mining=semihard rate={rate} init={init} target={target}"
    for rate in (2, 4, 8)
    for init in ("pretrain", "undistilled", "distill")
    for target in ("none", "hidden", "soft")
]


def write_runs(folder: Path) -> None:
    """Records of ``RUNS`` runs, cell after cell, with other scores under every seed."""
    draw = np.random.default_rng(0)
    found = {run.identity: run for words in OF_ONE_SEED for run in runs_of(plan([*words.split(), "seed=0"]))}
    for number, run in enumerate(islice(cycle(found.values()), RUNS)):
        seed = number // len(found)
        right = draw.random(SAMPLES) < draw.uniform(0.6, 0.9)
        score = 100 * right.astype(np.float32)
        metrics: dict[str, float | None] = {run.config.task.metric: float(score.mean())}
        record = Record(
            identity=f"{number:012x}",
            name=run.name.replace(f"s0-{run.identity}", f"s{seed}-{number:012x}"),
            role=run.role,
            overrides=[*run.words, f"seed={seed}"],
            recipe={**run.recipe, "seed": seed},
            config=replace(run.config, seed=seed),
            parents={},
            metrics=metrics,
            history=[{"epoch": epoch, "train/loss": 1.0 / (epoch + 1)} for epoch in range(EPOCHS)],
            data={"train": 8, "test": SAMPLES},
            params=1,
            params_with_classifier=1,
            macs=1,
            weights_bytes=1,
            weights_sha256="",
            latency_ms=1.0,
            seconds=1.0,
            images_per_second=1.0,
            versions={},
            device={},
        )
        nothing = np.empty(0, np.float32)
        identity = np.arange(SAMPLES, dtype=np.int64) % IDENTITIES
        (folder / record.name).mkdir(parents=True)
        SampleScores(score, nothing, nothing.astype(np.bool_), identity).save(folder / record.name)
        record.write(folder / record.name)


def taken_by(*words: str) -> list[str]:
    """Seconds of a command, and its peak in MB."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(words)}: status {os.waitstatus_to_exitcode(status)}")
    return [f"{time.perf_counter() - start:.1f}", f"{usage.ru_maxrss * 1024 / 1e6:,.0f}"]


def rows(top: Path) -> Iterator[list[str]]:
    seeds = -(-CELLS // 27)
    paths = [f"runs_dir={top}/planned", f"cache_dir={top}/cache"]
    words = ["facedistill.train", "-m", *SWEPT, f"seed=range(0,{seeds})", *paths, "plan=true"]
    yield [f"a plan of {27 * seeds:,} cells", *taken_by(*words)]
    write_runs(top / "runs")
    yield [f"`facedistill runs` of {RUNS:,}", *taken_by("facedistill.runs", f"runs_dir={top}/runs")]
    report = ["facedistill.report", f"runs_dir={top}/runs", f"out={top}/reports"]
    yield [f"`facedistill report` of {RUNS:,}", *taken_by(*report)]


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        print_table(["command", "seconds", "peak MB"], rows(Path(temporary)))


if __name__ == "__main__":
    main()
