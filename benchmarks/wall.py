"""Of a run's wall time, how much is training steps and the final scoring.

    python benchmarks/wall.py

The study of 20 minutes (cells of tables 1, 2, 4 and 5, and what they stand on), under one seed and then under another,
as `facedistill train -m` makes it, a run a core, in a temporary folder, with an offline run in Weights & Biases. The
second seed finds the teachers and their banks, as do all that follow.

A run begins when it is claimed and ends with its record. Its steps are what its history says of its epochs; the scoring
ends when the scores of every sample are written. The rest is opening faces, teachers and banks, pictures, and W&B's
end. Below: of the sweep's time on all cores, planning and cores that have nothing to do included.
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

WORDS = ["experiments=core", "logger.mode=offline"]


def parts_of(run: RunFolder) -> list[float]:
    """Seconds of a run: before its steps, its steps, the final scoring, after it."""
    assert run.record is not None
    begun, trained, scored, ended = (
        (run.directory / name).stat().st_mtime for name in (OWNER, HISTORY, SAMPLE_SCORES, RECORD)
    )
    return [trained - begun - run.record.seconds, run.record.seconds, scored - trained, ended - scored]


def share(part: float, whole: float) -> str:
    """Seconds, and what they are of others."""
    return f"{part:.0f} ({100 * part / whole:.0f} %)"


def main() -> None:
    """Measure and print."""
    runs: list[list[str]] = []
    sweeps: list[list[str]] = []
    with tempfile.TemporaryDirectory() as temporary:
        paths = [f"runs_dir={temporary}/runs", f"cache_dir={temporary}/cache"]
        known: set[Path] = set()
        for seed in (0, 1):
            seconds = seconds_of("-m", "facedistill.train", "-m", *WORDS, f"seed={seed}", *paths)
            made = [run for run in find_runs(Path(temporary) / "runs") if run.directory not in known]
            known |= {run.directory for run in made}
            before, steps, scoring, after = (sum(part) for part in zip(*map(parts_of, made), strict=True))
            whole, cores = before + steps + scoring + after, seconds * (os.cpu_count() or 1)
            parts = (before, steps, scoring, after, steps + scoring)
            runs.append([f"{seed}, {len(made)} runs", *(share(part, whole) for part in parts)])
            sweeps.append([str(seed), f"{seconds:.0f}", f"{cores:.0f}", share(steps + scoring, cores)])
    print_table(["seed", "before, s", "steps", "final scoring", "after", "steps and scoring"], runs)
    print_table(["seed", "sweep, s", "on all cores", "of these steps and scoring"], sweeps)


if __name__ == "__main__":
    main()
