"""A sweep of students: with their targets banked, with the teacher live, and with no teacher at all.

    python benchmarks/sweep.py

The 18 students of the paper's table 4 (rates 2, 4, 8 × two initializations × no, hidden, soft target) on few faces and
a short schedule, as `python -m facedistill.train -m` makes them: a whole process, a run a core, start and plan too;
on the long schedule of the table, training is more of it. Without a teacher 18 students of the same rates and
initializations train on the task's loss alone; three learning rates, nearly the same, make three runs of each. What the
students stand on is made before, once for all repetitions, as are the rendered faces. Banks are not: making them is
part of the banked way's time. The ways take turns, each time in a copy of the same folder; all of it is temporary. Of
the seconds, and of the ratios within a repetition, the median is given. Under six minutes on two cores.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from measure import alternating, print_table, seconds_of

EPOCHS, REPETITIONS, STUDENTS, IMAGES = 1, 2, 18, 60
NONE = "no target"
STUDENT = ["task=verify", "rate=2,4,8", "init=pretrain,distill", "task.options.mining=semihard"]
WAYS = {
    NONE: [*STUDENT, "target=none", "task.learning_rates.initialized=[0.01],[0.010001],[0.010002]"],
    "banked, `target.views=all`": [*STUDENT, "target=none,hidden,soft", "target.views=all"],
    "live, `target.views=live`": [*STUDENT, "target=none,hidden,soft", "target.views=live"],
}
_GRIDS = [
    "{task: verify, rate: 1, init: teacher, task.options.mining: semihard}",
    '{task: verify, rate: "2,4,8", init: scratch, task.options.mining: semihard}',
    '{task: classify, rate: "2,4,8", init: full, target: soft, target.views: "all,live"}',  # the live way's own
]
ANCESTORS = f"+hydra.sweeper.grids.ancestors=[{','.join(_GRIDS)}]"


def swept(top: Path, runs: str, words: list[str]) -> float:
    """Seconds of a sweep whose runs are kept in ``top/runs``."""
    paths = [f"runs_dir={top}/{runs}", f"cache_dir={top}/cache", "logger=csv", f"schedule.epochs={EPOCHS}"]
    paths += [f"data.images_per_identity={IMAGES}"]
    return seconds_of("-m", "facedistill.train", "-m", *words, *paths)


def students(top: Path, words: list[str]) -> float:
    """Seconds of a way whose students and banks are not there, and all else is."""
    for bank in (top / "cache").glob("bank-*"):
        shutil.rmtree(bank)
    shutil.copytree(top / "ancestors", top / "runs")
    seconds = swept(top, "runs", words)
    made = len(list(top.glob("runs/*/record.json"))) - len(list(top.glob("ancestors/*/record.json")))
    assert made == STUDENTS, f"{made} runs were made"
    shutil.rmtree(top / "runs")
    return seconds


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        top = Path(temporary)
        swept(top, "ancestors", [ANCESTORS])
        ways: dict[str, Callable[[], float]] = {name: partial(students, top, words) for name, words in WAYS.items()}
        found = alternating(ways, REPETITIONS)
    print(f"{STUDENTS} students, schedule.epochs={EPOCHS}, {REPETITIONS} repetitions\n")
    rows = []
    for name, seconds in found.items():
        ratio = statistics.median(one / none for one, none in zip(seconds, found[NONE], strict=True))
        rows.append([name, f"{statistics.median(seconds):.1f}", f"{ratio:.2f}"])
    print_table(["way", "seconds", "times no target"], rows)


if __name__ == "__main__":
    main()
