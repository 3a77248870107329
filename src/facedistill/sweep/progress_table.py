"""The table that a person watches while a sweep works: which run, how far, how good, how long yet."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import suppress
from statistics import StatisticsError, mean
from types import TracebackType
from typing import NamedTuple

from rich.live import Live
from rich.markup import escape
from rich.table import Table

from facedistill.runs.run import HISTORY, Run, read_history
from facedistill.sweep.jobs import Job
from facedistill.system.decoration import Display
from facedistill.system.terminal import Output
from facedistill.system.text import shown

REFRESH = 1.0  # seconds
_TO_COME = 4  # runs shown that wait for their turn


class Progress(NamedTuple):
    """Epochs done and in all, the task's metric on the test split, seconds left; None: not known yet."""

    done: int
    epochs: int
    metric: float | None
    left: float | None


def progress_of(run: Run) -> Progress:
    """How far a run is, by the history that it keeps, whichever process trains it."""
    epochs, rows = len(run.config.epoch_rates), read_history(run.directory)
    try:
        seconds = mean(row["seconds"] for row in rows)
        since = max(0.0, time.time() - (run.directory / HISTORY).stat().st_mtime)
    except (OSError, KeyError, StatisticsError):
        return Progress(0, epochs, None, None)
    name = f"test/{run.config.task.metric}"
    metric = next((row[name] for row in reversed(rows) if name in row), None)
    return Progress(len(rows), epochs, metric, max(0.0, (epochs - len(rows)) * seconds - since))


def score_line(run: Run) -> str:
    """The metric of a finished run's task, and of its pairs, in a line."""
    metrics = run.record.metrics
    values = ((name, metrics.get(name)) for name in (run.config.task.metric, "pairs"))
    return ", ".join(f"{name} {value:.2f}" for name, value in values if value is not None)


class Forecast:
    """How long runs will take, by those that were trained before them in this sweep."""

    def __init__(self) -> None:
        self._took: dict[tuple[str, int], list[float]] = defaultdict(list)

    def add(self, run: Run, seconds: float) -> None:
        """Count a run that has taken some seconds."""
        self._took[_kind(run)].append(seconds)

    def left(self, jobs: Sequence[Job], to_come: Sequence[Run]) -> float | None:
        """Seconds until all are trained, with as many at a time as now; None: nothing to go by yet."""
        if not self._took:
            return None
        now = time.monotonic()
        work = sum(map(self._expected, to_come))
        work += sum(max(0.0, self._expected(job.run) - (now - job.started)) for job in jobs)
        return work / max(1, len(jobs))

    def _expected(self, run: Run) -> float:
        """The mean of runs of its task and rate, or else of all."""
        alike = self._took.get(_kind(run)) or [took for kind in self._took.values() for took in kind]
        return mean(alike)


def _kind(run: Run) -> tuple[str, int]:
    return run.config.task.name, run.config.rate


class ProgressTable:
    """Lines on stdout for what has ended; under them, on a terminal, the table of what is running."""

    def __init__(self, cells: Sequence[Run], runs: Sequence[Run]) -> None:
        """``cells``: what was asked for; ``runs``: these and what they stand on."""
        self._titles = {cell.name: f"cell {number}/{len(cells)} " for number, cell in enumerate(cells, start=1)}
        self._count, self._complete = len(runs), 0
        self._console = Output()
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._shown = 0.0
        self._forecast = Forecast()
        self._left: float | None = None
        self._display = Display("the progress of the sweep")

    def __enter__(self) -> ProgressTable:
        if self._console.is_terminal:
            self._display.show(self._live.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(Exception):
            self._live.stop()

    def ended(self, run: Run, seconds: float | None = None) -> None:
        """A run is complete; ``seconds``: how long it took, if it was trained here."""
        self._complete += 1
        line = f"{self._titles.get(run.name, '')}{run.name}: {score_line(run)}"
        if seconds is not None:
            self._forecast.add(run, seconds)
            if not self._console.is_terminal:
                line += f" ({self._complete} of {self._count} runs{_about(self._left)})"
        self._display.show(lambda: self._console.print_text(line))

    def failed(self, run: Run, why: str) -> None:
        line = f"{self._titles.get(run.name, '')}{run.name} failed: {why}"
        self._display.show(lambda: self._console.print_text(line, style="red"))

    def show(self, jobs: Sequence[Job], to_come: Sequence[Run], elsewhere: Collection[str], failed: int) -> None:
        """The table as it is now, once a second."""
        if time.monotonic() > self._shown + REFRESH:
            self._shown = time.monotonic()
            self._left = self._forecast.left(jobs, to_come)
            if self._live.is_started:
                self._display.show(
                    lambda: self._live.update(self.table(jobs, to_come, elsewhere, failed), refresh=True)
                )

    def table(self, jobs: Sequence[Job], to_come: Sequence[Run], elsewhere: Collection[str], failed: int) -> Table:
        """What is running, here and elsewhere, and what comes next."""
        waiting = [run for run in to_come if run.name not in elsewhere]
        counts = [f"{self._complete} of {self._count} runs complete", f"{len(jobs)} running"]
        counts += [f"{len(elsewhere)} by other processes"] if elsewhere else []
        counts += [f"{len(waiting)} to come"] + ([f"{failed} failed"] if failed else [])
        table = Table(
            "run",
            "state",
            "epoch",
            "metric",
            "left",
            box=None,
            caption=" · ".join(counts) + _about(self._left),
            caption_justify="left",
        )
        for job in jobs:
            self._row(table, job.run, "running here" + (f", GPU {','.join(job.gpus)}" if job.gpus else ""))
        for run in to_come:
            if run.name in elsewhere:
                self._row(table, run, "running elsewhere")
        for run in waiting[:_TO_COME]:
            table.add_row(escape(shown(run.title)), "to come", "", "", "")
        if len(waiting) > _TO_COME:
            table.add_row(f"… and {len(waiting) - _TO_COME} more", "", "", "", "")
        return table

    def _row(self, table: Table, run: Run, state: str) -> None:
        done, epochs, metric, left = progress_of(run)
        score = "" if metric is None else f"{run.config.task.metric} {metric:.2f}"
        table.add_row(escape(shown(run.title)), state, f"{done}/{epochs}", score, "" if left is None else _clock(left))


def _clock(seconds: float) -> str:
    """Minutes and seconds, and hours where there are any."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _about(left: float | None) -> str:
    return "" if left is None else f", about {_clock(left)} left"
