"""Of a run's wall time, how much is training steps and the final scoring.

    python benchmarks/wall.py
    python benchmarks/wall.py experiments=[table1,table2,table3,table4,table5]    hours

The study of 20 minutes under one seed (cells of tables 1, 2, 4 and 5, and what they stand on), or what the words name,
as `facedistill train -m` makes it, a run a core, in a temporary folder, with an offline run in Weights & Biases. A run
begins when it is claimed and ends with its record. Its steps are what its history says of its epochs; the scoring ends
when the scores of every sample are written. The rest is opening faces, teachers and banks, pictures, and W&B's end.
Below: of the sweep's time on all cores, planning and cores that have nothing to do included.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from measure import print_table, seconds_of

from facedistill.runs.folders import find_runs
from facedistill.runs.record import RECORD
from facedistill.runs.run import HISTORY, OWNER
from facedistill.runs.sample_scores import SAMPLE_SCORES

WORDS = ["seed=0", "logger.mode=offline"]


def parts_of(run: Path, training: float) -> list[float]:
    """Seconds of a run: before its steps, its steps, the final scoring, after it."""
    begun, trained, scored, ended = ((run / name).stat().st_mtime for name in (OWNER, HISTORY, SAMPLE_SCORES, RECORD))
    return [trained - begun - training, training, scored - trained, ended - scored]


def main() -> None:
    """Measure and print."""
    words = sys.argv[1:] or ["experiments=core"]
    with tempfile.TemporaryDirectory() as temporary:
        paths = [f"runs_dir={temporary}/runs", f"cache_dir={temporary}/cache"]
        seconds = seconds_of("-m", "facedistill.train", "-m", *words, *WORDS, *paths)
        runs = [(run.directory, run.record) for run in find_runs(Path(temporary) / "runs") if run.record is not None]
        parts = [parts_of(directory, record.seconds) for directory, record in runs]
    before, steps, scoring, after = (sum(column) for column in zip(*parts, strict=True))
    whole, on_cores = before + steps + scoring + after, seconds * (os.cpu_count() or 1)

    def share(part: float, of: float) -> str:
        return f"{part:.0f} ({100 * part / of:.0f} %)"

    print_table(
        [f"{len(runs)} runs, s", "before", "steps", "final scoring", "after", "steps and scoring"],
        [["", *(share(part, whole) for part in (before, steps, scoring, after, steps + scoring))]],
    )
    print_table(
        ["sweep, s", "on all cores", "of these steps and scoring"],
        [[f"{seconds:.0f}", f"{on_cores:.0f}", share(steps + scoring, on_cores)]],
    )


if __name__ == "__main__":
    main()
