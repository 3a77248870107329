"""Which run a sweep trains when, what it does about those that fail or run elsewhere, and where its jobs run."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from filelock import FileLock
from rich.console import Console
from rich.live import Live

from facedistill.errors import ConfigError, DiskError
from facedistill.runs.run import Run
from facedistill.sweep import scheduler
from facedistill.sweep.jobs import BUSY, Job, available_gpus
from facedistill.sweep.progress_table import Forecast, ProgressTable, progress_of
from facedistill.sweep.scheduler import Sweep, run_all
from kinds import Planner
from made_records import complete

METRICS = {"top1": 1.0, "nrmse": 1.0}


class FakeJob:
    """Is polled a few times, then completes its run, or ends as ``fates`` says."""

    trained: list[str]
    at_once: list[int]
    working: list[FakeJob]
    fates: dict[str, int]
    stopped: list[str]

    def __init__(self, run: Run, gpus: list[str]) -> None:
        for parent in run.parents.values():
            assert parent.is_complete
        self.run, self.gpus, self._polls = run, gpus, 3
        self.started = time.monotonic()
        self._fate: int | None = None
        run.directory.mkdir(parents=True, exist_ok=True)
        self.trained.append(run.name)
        self.working.append(self)
        self.at_once.append(len(self.working))
        assert len({gpu for job in self.working for gpu in job.gpus}) == sum(len(job.gpus) for job in self.working)

    @property
    def status(self) -> int | None:
        self._polls -= 1
        if self._polls > 0:
            return None
        if self in self.working:
            self.working.remove(self)
        if self._fate is None:
            self._fate = self.fates.pop(self.run.name, 0)
            if self._fate == 0:
                complete(self.run, metrics=METRICS)
        return self._fate

    def last_lines(self) -> list[str]:
        return ["one", "two"]

    def forget_refused(self) -> None:
        pass

    def stop(self) -> None:
        self.stopped.append(self.run.name)

    def join(self, seconds: float) -> None:
        assert self.run.name in self.stopped


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeJob.trained, FakeJob.at_once, FakeJob.working, FakeJob.fates, FakeJob.stopped = [], [], [], {}, []
    monkeypatch.setattr(scheduler, "Job", FakeJob)
    monkeypatch.setattr(scheduler, "POLL_EVERY", 0.001)
    monkeypatch.setattr(scheduler, "POLL_OTHERS_EVERY", 0.02)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def cells(planned: Planner) -> list[Run]:
    """Four cells on two ancestors that are no cells: the teacher, and W_S0 of rate 8."""
    return [
        planned(*words)
        for words in (
            ["rate=8", "init=full", "target=soft"],
            ["rate=8", "init=full", "target=none"],
            ["rate=4", "target=soft"],
            ["rate=2"],
        )
    ]


def names(runs: list[Run]) -> set[str]:
    return {run.name for run in runs}


@pytest.mark.parametrize("n_jobs", [1, 2, 5])
def test_everything_is_trained_once_ancestors_first_and_n_jobs_at_a_time(cells: list[Run], n_jobs: int) -> None:
    assert run_all(cells, n_jobs) == {}
    assert sorted(FakeJob.trained) == sorted(set(FakeJob.trained))
    assert len(FakeJob.trained) == 6
    assert all(cell.is_complete for cell in cells)
    assert max(FakeJob.at_once) == min(n_jobs, 3)  # teacher, W_S0 and rate 2 stand on nothing
    FakeJob.trained.clear()
    assert run_all(cells, n_jobs) == {}
    assert FakeJob.trained == []


def test_what_is_complete_brings_no_ancestors(cells: list[Run]) -> None:
    cells[0].directory.mkdir(parents=True)
    complete(cells[0], metrics=METRICS)
    run_all(cells[:1], 1)
    assert FakeJob.trained == []


def test_a_failure_stops_only_what_stands_on_it(cells: list[Run]) -> None:
    teacher = cells[0].parents["teacher"]
    FakeJob.fates = {teacher.name: 2}
    failed = run_all(cells, 2)
    assert failed[teacher.name] == ["one", "two"]
    assert names(cells) - failed.keys() == names([cells[1], cells[3]])
    assert failed[cells[2].name] == [f"not trained: it stands on {teacher.name}"]
    assert cells[1].is_complete
    assert cells[3].is_complete
    assert run_all(cells, 2) == {}  # the same command goes on
    assert all(cell.is_complete for cell in cells)


def test_a_run_whose_directory_can_not_be_made_has_failed_and_the_others_go_on(
    cells: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Job(FakeJob):
        def __init__(self, run: Run, gpus: list[str]) -> None:
            if run is cells[3]:
                raise DiskError("No space left on device")
            super().__init__(run, gpus)

    monkeypatch.setattr(scheduler, "Job", Job)
    assert run_all(cells, 1) == {cells[3].name: ["No space left on device"]}
    assert all(cell.is_complete for cell in cells[:3])


def test_a_run_that_another_process_took_first_is_tried_again(cells: list[Run]) -> None:
    FakeJob.fates = {cells[3].name: BUSY}
    assert run_all(cells[3:], 1) == {}
    assert FakeJob.trained == [cells[3].name] * 2


def test_what_another_process_trains_is_waited_for_or_taken_over(cells: list[Run]) -> None:
    teacher, alone = cells[2].parents["teacher"], cells[3]
    assert isinstance(teacher, Run)
    locks = []
    for run in (teacher, alone):
        run.directory.mkdir(parents=True)
        locks.append(FileLock(run.lock, thread_local=False))
        locks[-1].acquire()

    def other_process() -> None:
        complete(teacher, metrics=METRICS)
        for lock in locks:  # it completed the teacher, and dies over the other
            lock.release()

    timer = threading.Timer(0.3, other_process)
    timer.start()
    assert run_all(cells[2:], 2) == {}
    timer.join()
    assert sorted(FakeJob.trained) == sorted([cells[2].name, alone.name])


def test_jobs_get_gpus_of_their_own(cells: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,GPU-abc,7")
    assert run_all(cells, None, gpus_per_job=2) == {}  # FakeJob checks that no two share one
    assert max(FakeJob.at_once) == 2
    with pytest.raises(ConfigError, match=r"gpus_per_job=5: there are 4 GPUs"):
        run_all([*cells], None, gpus_per_job=5)
    with pytest.raises(ConfigError, match=r"n_jobs=0 must be at least 1"):
        run_all(cells, 0)


@pytest.mark.parametrize(("status", "begun", "kept"), [(2, False, False), (2, True, True), (1, False, True)])
def test_a_job_whose_run_was_refused_leaves_no_folder(planned: Planner, status: int, begun: bool, kept: bool) -> None:
    run = planned()
    run.directory.mkdir(parents=True)
    job = SimpleNamespace(run=run, log=run.directory / "log.txt", status=status)
    job.log.write_text("facedistill: a.pt is truncated")
    if begun:
        run.claim()
    Job.forget_refused(job)  # type: ignore[arg-type]
    assert run.directory.exists() is kept


def test_the_gpus_of_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: GPU-1)'\necho 'GPU 1: A (UUID: GPU-2)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert available_gpus("auto") == ["0", "1"]
    assert available_gpus("cpu") == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert available_gpus("gpu") == ["1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert available_gpus("auto") == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    program.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert available_gpus("auto") == []


def test_whatever_ends_a_sweep_ends_its_jobs(cells: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise SystemExit(143)

    monkeypatch.setattr(ProgressTable, "show", stopped)
    with pytest.raises(SystemExit):
        run_all(cells, 2)
    assert FakeJob.stopped == FakeJob.trained
    assert len(FakeJob.trained) == 2


def test_the_table_says_how_far_a_run_is(cells: list[Run]) -> None:
    run = cells[3]
    assert progress_of(run) == (0, len(run.config.epoch_rates), None, None)
    run.directory.mkdir(parents=True)
    (run.directory / "metrics.csv").write_text("epoch,test/top1,seconds\n0,10.0,60\n1,12.5,80\n")
    done, epochs, metric, left = progress_of(run)
    assert (done, metric) == (2, 12.5)
    assert left == pytest.approx((epochs - 2) * 70, abs=5)
    (run.directory / "metrics.csv").write_text("epoch,test/top1,seconds\n0,,60\n1,12.5,80\n2,,70\n")
    assert progress_of(run)[:3] == (3, epochs, 12.5), "of the last epoch that was scored"
    (run.directory / "metrics.csv").write_text("epoch,seconds\n0,60\n1,80\n")
    assert progress_of(run)[:3] == (2, epochs, None)
    (run.directory / "metrics.csv").write_text("epoch,test/top1,seconds\n0,10.0,60\n1,12.5,80\n")
    queue = Sweep.of(cells)
    job = FakeJob(run, ["1"])
    waiting = [one for one in queue.to_come if one is not run]
    table = ProgressTable(cells, queue.runs).table([job], waiting, {waiting[0].name}, 0)  # type: ignore[list-item]
    columns = [list(column.cells) for column in table.columns]
    assert columns[0][:2] == [run.title, waiting[0].title]
    assert columns[1][:3] == ["running here, GPU 1", "running elsewhere", "to come"]
    assert columns[2][0] == f"2/{epochs}"
    assert columns[3][0] == "top1 12.50"
    assert table.caption == "0 of 6 runs complete · 1 running · 1 by other processes · 4 to come"


class Working(NamedTuple):
    run: Run
    started: float


def test_the_time_left_is_forecast_by_runs_of_the_same_kind(cells: list[Run]) -> None:
    small = cells[0]
    large = next(run for run in cells if run.config.rate != small.config.rate)
    forecast = Forecast()
    assert forecast.left([], cells) is None
    forecast.add(small, 10.0)
    forecast.add(small, 20.0)
    assert forecast.left([], [small, large]) == pytest.approx(15 + 15)  # of its kind nothing is known
    forecast.add(large, 100.0)
    assert forecast.left([], [small, large, large]) == pytest.approx(15 + 200)
    now = time.monotonic()
    jobs = [Working(large, now - 40), Working(small, now - 60)]
    assert forecast.left(jobs, [large]) == pytest.approx((60 + 0 + 100) / 2, abs=1)  # type: ignore[arg-type]


def test_lines_of_a_log_say_how_far_a_sweep_is(cells: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    progress = ProgressTable(cells, Sweep.of(cells).runs)
    run = cells[3]
    run.directory.mkdir(parents=True)
    complete(run, metrics=METRICS)
    progress.ended(run)
    progress.ended(run, 10.0)
    progress.show([], cells[:2], set(), 0)
    progress.ended(run, 10.0)
    plain, first, second = capsys.readouterr().out.splitlines()
    assert plain.endswith("top1 1.00")
    assert first.endswith("top1 1.00 (2 of 6 runs)")
    assert second.endswith("top1 1.00 (3 of 6 runs, about 0:20 left)")


def test_a_table_that_can_not_be_shown_stops_no_sweep(
    cells: list[Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    for name in ("start", "stop", "update"):
        monkeypatch.setattr(Live, name, broken)
    monkeypatch.setattr(Console, "print", broken)
    monkeypatch.setattr(Console, "is_terminal", True)
    assert run_all(cells, 2) == {}
    assert all(run.is_complete for run in cells)
    (line,) = capsys.readouterr().err.splitlines()
    assert "without the progress of the sweep: OSError" in line


def test_what_a_job_printed_and_a_name_are_shown_as_text(
    cells: list[Run], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "title", "[red]a\x1b[31m\nb")
    progress = ProgressTable(cells, Sweep.of(cells).runs)
    progress.failed(cells[0], "[bold]no\x1b]0;title\x07 \udce9")
    Console(width=200).print(progress.table([], cells[:1], set(), 0))
    found = capsys.readouterr().out
    assert "failed: [bold]no\\x1b]0;title\\x07 \\xe9" in found
    assert "[red]a\\x1b[31m\\nb" in found
    assert "\x1b" not in found
