"""Of a run's wall time, how much is training steps and the final scoring.

    python benchmarks/wall.py

The study of 20 minutes under one seed (cells of tables 1, 2, 4 and 5, and what they stand on), as `facedistill train
-m` makes it, a run a core, in a temporary folder, with an offline run in Weights & Biases.

A run begins when it is claimed and ends with its record. Its steps are what its history says of its epochs. Before
them it opens faces and teachers, and makes the views of a bank that nobody has made, each from its lock to its last
file; checkpoints between epochs are counted there, too. The final scoring is all from the end of the last epoch to the
file with the scores of every sample: with it a row for W&B, a checkpoint and the score that is published with weights.
After it pictures are drawn, and W&B's run ends. The last column has planning in it, and cores that have nothing to do.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from measure import print_table, seconds_of

from facedistill.runs.folders import RunFolder, find_runs
from facedistill.runs.record import RECORD
from facedistill.runs.run import HISTORY, OWNER
from facedistill.runs.sample_scores import SAMPLE_SCORES

WORDS = ["experiments=core", "seed=0", "logger.mode=offline"]


def parts_of(run: RunFolder) -> list[float]:
    """Seconds of a run: before its steps, its steps, the final scoring, after it."""
    assert run.record is not None
    begun, trained, scored, ended = (
        (run.directory / name).stat().st_mtime for name in (OWNER, HISTORY, SAMPLE_SCORES, RECORD)
    )
    return [trained - begun - run.record.seconds, run.record.seconds, scored - trained, ended - scored]


def seconds_of_banks(cache: Path) -> float:
    """Of all views that were made."""
    made = cache.glob("bank-*/view-*.npz")
    return sum(view.stat().st_mtime - view.with_suffix(".lock").stat().st_mtime for view in made)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as temporary:
        cache, folder = Path(temporary) / "cache", Path(temporary) / "runs"
        seconds = seconds_of("-m", "facedistill.train", "-m", *WORDS, f"runs_dir={folder}", f"cache_dir={cache}")
        parts = [parts_of(run) for run in find_runs(folder)]
        banks = seconds_of_banks(cache)
    before, steps, scoring, after = (sum(part) for part in zip(*parts, strict=True))
    whole, cores = before + steps + scoring + after, seconds * (os.cpu_count() or 1)
    named = {
        "banks": banks,
        "else before": before - banks,
        "steps": steps,
        "final scoring": scoring,
        "after": after,
        "steps and scoring": steps + scoring,
        "with the banks": steps + scoring + banks,
    }
    print_table(
        [f"{len(parts)} runs", "s", "% of their time", "% of all cores"],
        [
            [name, f"{part:.0f}", f"{100 * part / whole:.1f}", f"{100 * part / cores:.1f}"]
            for name, part in named.items()
        ],
    )
    print(f"the runs {whole:.0f} s, the sweep {seconds:.0f} s, on all cores {cores:.0f} s")


if __name__ == "__main__":
    main()
