"""Many runs, several at a time: each once, as soon as what it stands on is complete."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from facedistill.errors import ConfigError, DiskError, FacedistillError
from facedistill.runs.run import Run
from facedistill.sweep.jobs import BUSY, GRACE, Job, available_gpus
from facedistill.sweep.progress_table import ProgressTable
from facedistill.system.cores import JOBS_AT_A_TIME
from facedistill.system.files import is_held
from facedistill.system.terminal import Output
from facedistill.system.text import shown

failures: list[list[str]] = []  # of this process: what could not be trained, and the last lines that it printed
POLL_EVERY = 0.2  # seconds
POLL_OTHERS_EVERY = 1.0  # seconds, of what other processes are training


def run_sweep(cells: Sequence[Run], n_jobs: int | None, gpus_per_job: int) -> None:
    """Train cells in processes of their own; see ``run_all``."""
    try:
        failures.extend([name, *lines] for name, lines in run_all(cells, n_jobs, gpus_per_job).items())
    except FacedistillError as error:
        refuse([], error)


def refuse(words: Sequence[str], error: FacedistillError) -> None:
    """Say why a cell is not trained."""
    Output(stderr=True).print_text(f"facedistill: {error}", style="red")
    failures.append([shown(" ".join(word for word in words if not word.startswith("cells=")))])  # no word of theirs


def report_failures() -> bool:
    """Whether anything failed; where it is more than what was just printed, list it all together."""
    if len(failures) > 1 or any(len(lines) > 1 for lines in failures):
        listed = ["\n    ".join(map(shown, lines)) for lines in failures]
        Output().print(f"{len(failures)} failed:", *listed, sep="\n  ", style="red", markup=False)
    return bool(failures)


@dataclass
class Sweep:
    """Runs in the order in which they can be trained, and what became of them.

    ``failed``: the last lines of what each failed run printed. ``elsewhere``: runs that other processes are training,
    and when to look at them again.
    """

    runs: list[Run]
    to_come: list[Run] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    failed: dict[str, list[str]] = field(default_factory=dict)
    elsewhere: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, cells: Sequence[Run]) -> Sweep:
        """The cells and everything that they stand on, each once, ancestors first."""
        runs: dict[str, Run] = {}
        for cell in cells:
            for run in _with_ancestors(cell):
                runs.setdefault(run.name, run)
        return cls(list(runs.values()), [run for run in runs.values() if not run.is_complete])


def _with_ancestors(run: Run) -> Iterator[Run]:
    if not run.is_complete:
        for parent in run.parents.values():
            if isinstance(parent, Run):
                yield from _with_ancestors(parent)
    yield run


def run_all(cells: Sequence[Run], n_jobs: int | None = None, gpus_per_job: int = 1) -> dict[str, list[str]]:
    """Train runs and whatever they stand on, ``n_jobs`` at a time; show the progress.

    A run that fails does not stop the others, only those that stand on it. One that another process is training is
    left to it, and taken over if that dies. Whatever ends this process ends its jobs.

    Args:
        n_jobs: None: one for every share of the GPUs, or of the cores where there is none.
        gpus_per_job: of the machine's GPUs; more than one for runs of several processes.

    Returns:
        What failed, by the name of the run: the last lines that it printed.
    """
    sweep = Sweep.of(cells)
    gpus = available_gpus(cells[0].config.trainer.accelerator) if cells else []
    shares = _shares(gpus, n_jobs, gpus_per_job, sweep.to_come)
    free = list(shares)
    os.environ[JOBS_AT_A_TIME] = str(len(shares))
    with ProgressTable(cells, sweep.runs) as progress:
        for complete in (run for run in sweep.runs if run.is_complete):
            progress.ended(complete)
        try:
            while sweep.to_come or sweep.jobs:
                for job in [job for job in sweep.jobs if job.status is not None]:
                    sweep.jobs.remove(job)
                    free.append(job.gpus)
                    _ended(sweep, job, progress)
                while free and (run := _next(sweep, progress)):
                    sweep.to_come.remove(run)
                    try:
                        sweep.jobs.append(Job(run, free[0]))
                    except DiskError as error:
                        sweep.failed[run.name] = [str(error)]
                        progress.failed(run, str(error))
                    else:
                        free.pop(0)
                progress.show(sweep.jobs, sweep.to_come, sweep.elsewhere.keys(), len(sweep.failed))
                time.sleep(POLL_EVERY)
        finally:
            for job in sweep.jobs:
                job.stop()
            for job in sweep.jobs:
                job.join(GRACE)
    return sweep.failed


def _shares(gpus: list[str], n_jobs: int | None, gpus_per_job: int, runs: Sequence[Run]) -> list[list[str]]:
    """The GPUs of every job that may work at a time; without GPUs, nothing is shared out but the cores."""
    if n_jobs is not None and n_jobs < 1:
        raise ConfigError(f"hydra.launcher.n_jobs={n_jobs} must be at least 1")
    if not gpus:
        threads = max((run.config.trainer.threads * run.config.trainer.world_size for run in runs), default=1)
        return [[] for _ in range(n_jobs or max(1, (os.cpu_count() or 1) // threads))]
    if not 1 <= gpus_per_job <= len(gpus):
        raise ConfigError(f"hydra.launcher.gpus_per_job={gpus_per_job}: there are {len(gpus)} GPUs")
    shares = [gpus[start : start + gpus_per_job] for start in range(0, len(gpus) - gpus_per_job + 1, gpus_per_job)]
    wanted = n_jobs or len(shares)
    return [shares[number % len(shares)] for number in range(wanted)]  # more jobs than shares: they share GPUs


def _next(sweep: Sweep, progress: ProgressTable) -> Run | None:
    """A run that can be trained now: what it stands on is complete, and nobody else is training it."""
    now = time.monotonic()
    for run in list(sweep.to_come):
        parents = [parent for parent in run.parents.values() if isinstance(parent, Run)]
        missing = [parent for parent in parents if parent.name in sweep.failed]
        if missing:
            sweep.to_come.remove(run)
            sweep.failed[run.name] = [f"not trained: it stands on {missing[0].name}"]
            continue
        if sweep.elsewhere.get(run.name, 0) > now or not all(parent.is_complete for parent in parents):
            continue
        if run.is_complete:
            sweep.to_come.remove(run)
            sweep.elsewhere.pop(run.name, None)
            progress.ended(run)
            continue
        if is_held(run.lock):
            sweep.elsewhere[run.name] = now + POLL_OTHERS_EVERY
            continue
        sweep.elsewhere.pop(run.name, None)
        return run
    return None


def _ended(sweep: Sweep, job: Job, progress: ProgressTable) -> None:
    if job.run.is_complete:
        progress.ended(job.run, time.monotonic() - job.started)
    elif job.status == BUSY:
        sweep.to_come.append(job.run)
    else:
        lines = job.last_lines() or [f"its process ended with status {job.status}"]
        job.forget_refused()
        sweep.failed[job.run.name] = lines
        progress.failed(job.run, lines[-1])
