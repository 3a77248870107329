"""A sweep is killed at random moments, started several times at once, stopped, and given a full disk: nothing is lost.

Everything here goes through the command, as its user types it.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from facedistill.models.weights import read_weights
from facedistill.runs.plan import plan
from facedistill.runs.run import Run
from made_records import all_records
from tiny import RUN
from trained_runs import curve

TINY = [*RUN, "trainer.progress=true"]
GRID = ["rate=4,8", "init=scratch,full", "target=none,soft,hidden"]
CELLS = 12
RUNS = CELLS + 1  # and the teacher: W_S0 is a cell
LIMIT = 240


def start(runs: Path, *words: str, mark: str = "", **more: Any) -> subprocess.Popen[str]:
    """The command in a session of its own; ``mark`` is found in the environment of whatever it starts."""
    flags, others = [word for word in words if word == "-m"], [word for word in words if word != "-m"]
    paths = [f"runs_dir={runs}", f"cache_dir={runs.parent}/cache"]
    line = [sys.executable, "-m", "facedistill.train", *flags, *TINY, *paths, *others]
    environment = os.environ | {"FAULT_TEST": mark}
    return subprocess.Popen(
        line,
        env=environment,
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **more,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=LIMIT)
    return process.returncode, said


def marked(mark: str) -> list[int]:
    """Every process that a marked command has left or is, but zombies."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if f"FAULT_TEST={mark}\0" in (folder / "environ").read_text(errors="replace"):
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def outcome(runs: Path) -> dict[str, tuple[Any, ...]]:
    """What every complete run found: metrics, history without its clock, weights."""
    found = {}
    for record in all_records(runs):
        weights = read_weights(runs / record.name / "weights.safetensors").tensors
        found[record.name] = (record.metrics, curve(record), weights)
    return found


def same(one: dict[str, tuple[Any, ...]], other: dict[str, tuple[Any, ...]]) -> None:
    assert one.keys() == other.keys()
    for name, (metrics, history, weights) in one.items():
        assert other[name][:2] == (metrics, history)
        assert all(torch.equal(weights[key], tensor) for key, tensor in other[name][2].items())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("undisturbed") / "runs"
    status, said = finish(start(runs, "-m", *GRID))
    assert status == 0, said
    assert len(outcome(runs)) == RUNS
    return runs


@pytest.mark.slow
def test_a_sweep_has_the_bits_of_cells_made_one_by_one(undisturbed: Path, tmp_path: Path) -> None:
    status, said = finish(start(tmp_path / "runs", "rate=8", "init=full", "target=soft"))
    assert status == 0, said
    alone, swept = outcome(tmp_path / "runs"), outcome(undisturbed)
    assert len(alone) == 3
    same(alone, {name: swept[name] for name in alone})


def disturb(runs: Path, mark: str, draw: random.Random) -> str:
    """Start the sweep and kill something of it once it trains; what it was. A sweep that is left to itself ends."""
    process = start(runs, "-m", *GRID, "hydra.launcher.n_jobs=2", mark=mark)
    try:
        while process.poll() is None and not holders(mark):
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 1.5))
        how = draw.choice([signal.SIGKILL, signal.SIGTERM])
        makers, others = holders(mark), [number for number in marked(mark) if number != process.pid]
        victims = {"the parent": [process.pid], "the holder of a lock": makers, "some process": others}
        who = draw.choice([kind for kind, found in victims.items() if found])
        try:
            os.kill(draw.choice(victims[who]), how)
        except ProcessLookupError:
            return "nobody"
        finish(process)
        return f"{who} by {how.name}"
    finally:
        process.kill()
        process.wait()


def holders(mark: str) -> list[int]:
    return [number for number in marked(mark) if holds_a_lock(number)]


def holds_a_lock(process: int) -> bool:
    """By the system's own list of locks."""
    return any(f" {process} " in line for line in Path("/proc/locks").read_text().splitlines())


def gone(mark: str, seconds: float = 90) -> bool:
    """Whether every marked process ends."""
    end = time.monotonic() + seconds
    while marked(mark) and time.monotonic() < end:
        time.sleep(0.2)
    return not marked(mark)


def survives(undisturbed: Path, tmp_path: Path, moments: int, seed: int) -> list[str]:
    """Disturb a sweep so often, or until nothing of it is left to disturb, then let it end; what was killed."""
    victims: list[str] = []
    draw, runs, mark = random.Random(seed), tmp_path / "runs", f"{tmp_path}"
    completed: dict[str, tuple[int, bytes]] = {}
    for moment in range(moments):
        victim = disturb(runs, mark, draw)
        assert gone(mark), f"orphans after moment {moment}, {victim}"
        victims += [victim] if victim != "nobody" else []
        for record in runs.glob("*/record.json"):
            now = (record.stat().st_mtime_ns, record.read_bytes())
            assert completed.setdefault(record.parent.name, now) == now, f"{record} was made again"
        print(f"moment {moment}: {victim}, {len(completed)} of {RUNS} complete")
        if len(completed) == RUNS:
            break
    status, said = finish(start(runs, "-m", *GRID, mark=mark))
    assert status == 0, said
    for name, (time_of, content) in completed.items():
        record = runs / name / "record.json"
        assert (record.stat().st_mtime_ns, record.read_bytes()) == (time_of, content)
    same(outcome(undisturbed), outcome(runs))
    assert gone(mark)
    for lock in runs.glob("*/lock"):
        FileLock(lock).acquire(timeout=0).lock.release()
    left = [path.name for path in runs.rglob("*") if path.suffix in (".part", ".ckpt")]
    assert left == []
    return victims


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="needs Linux's list of locks")
@pytest.mark.slow
def test_a_sweep_survives_three_faults(undisturbed: Path, tmp_path: Path) -> None:
    assert survives(undisturbed, tmp_path, 3, seed=0)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="needs Linux's list of locks")
def test_a_sweep_survives_thirty_faults(undisturbed: Path, tmp_path: Path) -> None:
    """In as many sweeps as that takes, for one that is done has nobody left to kill. Every kind is among them."""
    victims: list[str] = []
    sweeps = 0
    while len(victims) < 30:
        sweeps += 1
        folder = tmp_path / f"{sweeps}"
        folder.mkdir()
        victims += survives(undisturbed, folder, 30 - len(victims), seed=sweeps)
    print(f"{len(victims)} faults in {sweeps} sweeps")
    kinds = [f"{who} by {how}" for who in ("the parent", "the holder of a lock") for how in ("SIGKILL", "SIGTERM")]
    assert set(victims) >= set(kinds)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_a_sweep(undisturbed: Path, tmp_path: Path, count: int) -> None:
    runs = tmp_path / "runs"
    words = ["rate=8", "init=scratch,full", "target=none,soft", "hydra.launcher.n_jobs=1"]
    processes = [start(runs, "-m", *words) for _ in range(count)]
    ended = [finish(process) for process in processes]
    assert [status for status, _ in ended] == [0] * count, ended
    shared, swept = outcome(runs), outcome(undisturbed)
    same({name: swept[name] for name in shared}, shared)
    logs = {log.parent.name: log.read_text() for log in runs.glob("*/log.txt")}
    assert len(logs) == len(shared) == 5
    trained = {name: text.count("`Trainer.fit` stopped") + text.count(" took ") for name, text in logs.items()}
    assert set(trained.values()) == {1}, trained


@pytest.mark.slow
def test_a_failing_cell_does_not_stop_the_others(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    words = ["rate=8", "init=scratch", "target=none", "task.learning_rates.random=[0.1],[1e20]"]
    status, said = finish(start(runs, "-m", *words, "hydra.launcher.n_jobs=2"))
    assert status == 2
    [failed] = [name for name in (path.name for path in runs.glob("*/")) if name not in outcome(runs)]
    assert f"1 failed:\n  {failed}\n" in said
    assert "the loss is not finite" in said.split("1 failed:")[1]
    assert len(outcome(runs)) == 1


@pytest.mark.parametrize(
    ("number", "status", "sweep"),
    [
        pytest.param(signal.SIGINT, 130, True, marks=pytest.mark.slow),
        (signal.SIGTERM, 143, False),
        pytest.param(signal.SIGINT, 130, False, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 143, True, marks=pytest.mark.slow),
    ],
)
def test_a_signal_leaves_what_can_be_gone_on_with(tmp_path: Path, number: int, status: int, sweep: bool) -> None:
    runs = tmp_path / "runs"
    words = [*(["-m"] if sweep else []), "rate=8", "init=scratch", "target=none", "schedule.epochs=60"]
    process = start(runs, *words, mark=str(tmp_path))
    wait_for(runs, "*/last.ckpt", process)
    process.send_signal(number)
    ended, said = finish(process)
    assert ended == status, said
    assert said.count("the same command resumes") == 1
    assert "Traceback" not in said
    assert gone(str(tmp_path))
    assert len(list(runs.glob("*/last.ckpt"))) == 1
    assert not list(runs.glob("*/record.json"))


def wait_for(runs: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + LIMIT
    while not list(runs.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def limited(size: int) -> Any:
    """No file may grow beyond ``size`` bytes: what a write to a full disk meets, without a disk to fill."""

    def limit() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.slow
@pytest.mark.parametrize("sweep", [True, False])
def test_a_full_disk_fails_the_cell_and_it_goes_on_with_room(undisturbed: Path, tmp_path: Path, sweep: bool) -> None:
    runs = tmp_path / "runs"
    words: Sequence[str] = [*(["-m"] if sweep else []), "rate=8", "init=full", "target=soft"]
    (tmp_path / "cache").symlink_to(undisturbed.parent / "cache")
    status, said = finish(start(runs, *words, preexec_fn=limited(30_000)))
    assert status == 2, said
    assert "Nothing complete was damaged" in said
    assert "Traceback" not in said
    assert outcome(runs) == {}
    status, said = finish(start(runs, *words))
    assert status == 0, said
    swept = outcome(undisturbed)
    same({name: swept[name] for name in outcome(runs)}, outcome(runs))


def test_the_record_of_every_cell_is_that_of_its_plan(undisturbed: Path) -> None:
    words = [*TINY, f"runs_dir={undisturbed}", "rate=8", "init=full", "target=soft"]
    run = plan(words)
    assert isinstance(run, Run)
    assert run.record.recipe == run.recipe
