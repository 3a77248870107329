"""Runs are trained once, after what they stand on, and by one process."""

import errno
import multiprocessing
import os
import re
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from filelock import FileLock

from facedistill.errors import BusyError, DataError, DiskError, RunError, WeightsError
from facedistill.runs.ensure import ensure
from facedistill.runs.plan import plan
from facedistill.runs.run import Run
from made_records import complete

Planner = Callable[..., Run]


def parent(run: Run, role: str) -> Run:
    found = run.parents[role]
    assert isinstance(found, Run)
    return found


def everything(run: Run) -> Iterator[Run]:
    yield run
    for found in run.parents.values():
        if isinstance(found, Run):
            yield from everything(found)


class Trainer:
    """Completes runs, and remembers in which order."""

    def __init__(self, fail: str = "", error: Exception | None = None) -> None:
        self.trained: list[str] = []
        self.titles: list[str] = []
        self._fail, self._error = fail, error or RuntimeError("cut")

    def __call__(self, run: Run, title: str) -> None:
        assert all(found.is_complete for found in run.parents.values()), "an ancestor is not there yet"
        self.trained.append(run.identity)
        self.titles.append(title)
        if self._fail and run.name.startswith(self._fail):
            raise self._error
        complete(run)


def test_ancestors_are_trained_first_and_each_once(planned: Planner) -> None:
    run, train = planned("init=fitnet", "target=soft"), Trainer()
    ensure(run, train, "cell 1/5 ")
    hint, teacher = parent(run, "init"), parent(run, "teacher")
    assert train.trained == [teacher.identity, hint.identity, run.identity]
    assert all(title.startswith("cell 1/5 ") for title in train.titles)
    assert ["teacher" in title for title in train.titles] == [True, False, False]
    assert "init" in train.titles[1]
    assert all(found.is_complete for found in everything(run))


def test_nothing_is_trained_for_a_complete_run_even_if_its_ancestors_are_gone(planned: Planner) -> None:
    run = planned("init=full", "target=soft")
    complete(run)
    train = Trainer()
    ensure(run, train)
    assert train.trained == []


def test_what_is_there_is_not_trained_again(planned: Planner) -> None:
    run = planned("init=full", "target=soft")
    complete(parent(run, "teacher"))
    train = Trainer()
    ensure(run, train)
    assert train.trained == [parent(run, "init").identity, run.identity]


@pytest.mark.parametrize("fail", ["teacher", "classify-r8-full"])
def test_a_run_that_fails_is_not_complete_and_can_be_trained_again(planned: Planner, fail: str) -> None:
    run = planned("rate=8", "init=full", "target=soft")
    with pytest.raises(RuntimeError, match="cut"):
        ensure(run, Trainer(fail))
    assert not run.is_complete
    assert parent(run, "init").is_complete is (fail != "teacher")
    train = Trainer()
    ensure(run, train)  # no lock is left
    assert run.is_complete
    assert len(train.trained) == (3 if fail == "teacher" else 1)


@pytest.mark.parametrize("error", [WeightsError("a.pt is truncated"), DataError("no faces"), RunError("cut")])
def test_a_run_that_is_refused_before_its_first_epoch_leaves_no_folder(planned: Planner, error: Exception) -> None:
    run = planned("init=full")
    with pytest.raises(type(error)):
        ensure(run, Trainer("classify-r4-full", error))
    assert parent(run, "init").is_complete
    assert run.directory.exists() is isinstance(error, RunError)  # there the same command may finish it


@pytest.mark.parametrize("left", ["metrics.csv", "last.ckpt"])
def test_a_run_that_is_refused_after_its_first_epoch_keeps_what_it_has(planned: Planner, left: str) -> None:
    run = planned()
    run.directory.mkdir(parents=True)
    (run.directory / left).touch()
    with pytest.raises(WeightsError):
        ensure(run, Trainer("classify", WeightsError("a.pt is truncated")))
    assert {path.name for path in run.directory.iterdir()} >= {left, "owner.json"}


def test_what_a_killed_process_left_half_written_is_gone_when_the_run_is_made(planned: Planner) -> None:
    run = planned("rate=8")
    run.directory.mkdir(parents=True)
    for name in (".roc.png.x1.part", "last.ckpt", "notes.part"):
        (run.directory / name).touch()
    ensure(run, complete)
    left = {path.name for path in run.directory.iterdir()}
    assert left >= {"last.ckpt", "notes.part", "record.json"}
    assert ".roc.png.x1.part" not in left


def test_a_full_disk_is_an_error_of_ours_with_the_directory(planned: Planner) -> None:
    run = planned()
    with pytest.raises(DiskError, match=rf"{run.name}.*No space left.*the runs.*runs_dir=FOLDER"):
        ensure(run, Trainer("classify", OSError(28, "No space left on device")))
    assert not run.is_complete


def test_threads_train_a_shared_ancestor_once(planned: Planner) -> None:
    cells = [planned("rate=8", "target=soft", f"target.alpha={alpha}") for alpha in (1, 2, 3)]
    train = Trainer()

    def slowly(run: Run, title: str) -> None:
        time.sleep(0.3)
        train(run, title)

    threads = [threading.Thread(target=ensure, args=(cell, slowly)) for cell in cells]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert all(cell.is_complete for cell in cells)
    assert sorted(train.trained) == sorted({parent(cells[0], "teacher").identity, *(cell.identity for cell in cells)})


def write_down(run: Run, title: str) -> None:
    time.sleep(0.5)
    with (run.directory / "made.txt").open("a") as file:
        file.write("made\n")
    complete(run)


def ensure_from_words(words: list[str]) -> None:
    ensure(plan(words), write_down)


def test_two_processes_train_a_shared_ancestor_once(planned: Planner) -> None:
    words = [[*planned("target=soft", f"target.alpha={alpha}").words] for alpha in (1, 2)]
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=ensure_from_words, args=(each,)) for each in words]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0]
    for found in everything(plan(words[0])):
        assert (found.directory / "made.txt").read_text() == "made\n"


@pytest.mark.parametrize("role", ["", "teacher"])
def test_what_another_process_is_training_is_not_waited_for_where_that_is_not_wanted(
    planned: Planner, role: str
) -> None:
    cell = planned("rate=8", "target=soft")
    busy = parent(cell, role) if role else cell
    busy.directory.mkdir(parents=True)
    train = Trainer()
    with FileLock(busy.lock), pytest.raises(BusyError, match=busy.name):
        ensure(cell, train, wait=False)
    assert train.trained == ([] if role else [parent(cell, "teacher").identity])


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError("no flock")])
def test_a_disk_without_locks_is_refused(planned: Planner, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise error

    train = Trainer()
    monkeypatch.setattr(FileLock, "acquire", refuses)
    with pytest.raises(RunError, match=r"this disk has no file locks .*runs_dir="):
        ensure(planned("rate=8"), train)
    assert train.trained == []


def test_a_process_that_waits_says_for_which_and_how_long(
    planned: Planner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = planned("rate=8")
    cell.directory.mkdir(parents=True)
    cell.claim()
    monkeypatch.setattr("facedistill.runs.ensure.REMIND_EVERY", 0.2)
    lock = FileLock(cell.lock, thread_local=False)
    lock.acquire()
    timer = threading.Timer(0.5, lock.release)
    timer.start()
    ensure(cell, Trainer())
    timer.join()
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 4
    expected = rf"process {os.getpid()} on .+, for \d+ s is training {cell.name}: waiting for it"
    assert all(re.fullmatch(expected, line) for line in lines), lines
