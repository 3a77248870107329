"""The cells of a sweep as jobs of Slurm: made once, cancelled, queued again. `make test-slurm` brings one up."""

from __future__ import annotations

import csv
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from facedistill.models.weights import read_weights
from made_records import all_records
from tiny import RUN
from trained_runs import curve

# A test submits jobs, so a Slurm must be meant for it: the one of cluster.sh is told by SLURM_CONF.
reason = "SLURM_CONF names no Slurm: make test-slurm"
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(not (shutil.which("sbatch") and "SLURM_CONF" in os.environ), reason=reason),
]

PAGE = (Path(__file__).parents[2] / "docs" / "gpus-and-clusters.md").read_text()
TINY = [*RUN, "schedule.epochs=20", "trainer.accelerator=cpu", "trainer.progress=true"]
GRID = ["rate=4,8", "init=scratch", "target=none,soft"]
LIMIT = 180  # seconds for a test


@pytest.fixture(autouse=True)
def _in_time_and_leaving_no_job() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError(f"not done in {LIMIT} s; the queue: {slurm('squeue', '--noheader')}")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    slurm("scancel", "--user", str(os.getuid()))
    until(lambda: not slurm("squeue", "--noheader"))


def slurm(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def start(runs: Path, *words: str) -> subprocess.Popen[str]:
    paths = [f"runs_dir={runs}", f"cache_dir={runs.parent}/cache"]
    line = [sys.executable, "-m", "facedistill.train", "-m", "hydra/launcher=slurm", *TINY, *paths, *words]
    return subprocess.Popen(line, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(command: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        said, _ = command.communicate(timeout=LIMIT)
    finally:
        command.kill()
    return command.returncode, said


def logs(runs: Path) -> list[str]:
    """What every job printed."""
    return [
        "".join(path.read_text() for path in sorted(folder.glob("*_log.*")))
        for folder in sorted((runs / ".submitit").iterdir())
        if any(folder.glob("*_log.*"))
    ]


def outcome(runs: Path) -> dict[str, tuple[Any, ...]]:
    """What every complete run found: metrics, history without its clock, weights as bytes."""
    found = {}
    for record in all_records(runs):
        tensors = read_weights(runs / record.name / "weights.safetensors").tensors
        weights = {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
        found[record.name] = (record.metrics, curve(record), weights)
    return found


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, ...]]:
    """The sweep made without Slurm, by the launcher of one machine."""
    runs = tmp_path_factory.mktemp("here") / "runs"
    line = [
        sys.executable,
        "-m",
        "facedistill.train",
        "-m",
        *TINY,
        *GRID,
        f"runs_dir={runs}",
        "hydra.launcher.n_jobs=2",
    ]
    done = subprocess.run([*line, f"cache_dir={runs.parent}/cache"], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stdout
    assert len(outcome(runs)) == 5
    return outcome(runs)


def test_the_documented_command_trains_every_cell_by_a_job_and_has_the_bits_of_one_machine(
    here: dict[str, tuple[Any, ...]], tmp_path: Path
) -> None:
    [line] = re.findall(r"^(facedistill train -m hydra/launcher=slurm .*)$", PAGE, re.MULTILINE)
    words = ["-m", *shlex.split(line)]
    assert words[-3:] == GRID
    paths = [f"runs_dir={tmp_path}/runs", f"cache_dir={tmp_path}/cache"]
    done = subprocess.run([sys.executable, *words, *TINY, *paths], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcome(tmp_path / "runs") == here
    said = logs(tmp_path / "runs")
    assert len(said) == 4
    assert sum("teacher teacher r1" in log for log in said) == 1


def test_an_ancestor_is_made_by_one_job_while_another_waits(here: dict[str, tuple[Any, ...]], tmp_path: Path) -> None:
    status, said = finish(start(tmp_path / "runs", "rate=4,8", "target=soft"))
    assert status == 0, said
    one, other = sorted(logs(tmp_path / "runs"), key=lambda log: "waiting for it" in log)
    assert "teacher teacher r1" in one
    assert "teacher teacher r1" not in other
    assert re.search("is making teacher-r1-.*: waiting for it", other)
    made = outcome(tmp_path / "runs")
    assert len(made) == 3
    assert made == {name: here[name] for name in made}


def test_a_cell_that_fails_is_told_and_the_other_is_made(tmp_path: Path) -> None:
    status, said = finish(start(tmp_path / "runs", "task.learning_rates.random=[1e20],[0.1]", "schedule.epochs=1"))
    assert status == 2, said
    [told] = re.findall(r"as job (\S+) says", said)
    [log] = (tmp_path / "runs/.submitit" / told).glob("*.out")
    assert "the loss is not finite" in log.read_text()
    [record] = all_records(tmp_path / "runs")
    assert record.recipe["learning_rates"][0] == 0.1


def test_a_job_trains_one_run_by_two_processes(tmp_path: Path) -> None:
    words = ["rate=4", "target=none", "schedule.epochs=1", "trainer=ddp", "hydra.launcher.cpus_per_task=2"]
    status, said = finish(start(tmp_path / "runs", *words))
    assert status == 0, said
    [record] = all_records(tmp_path / "runs")
    assert "MEMBER: 2/2" in (tmp_path / "runs" / record.name / "log.txt").read_text()


def test_a_plan_takes_no_job(tmp_path: Path) -> None:
    status, said = finish(start(tmp_path / "runs", *GRID, "plan=true"))
    assert status == 0, said
    assert said.count("to be trained") == 6
    assert not (tmp_path / "runs/.submitit").exists()


def cut(runs: Path) -> tuple[str, list[str]]:
    """Wait until a run has been trained for some epochs: its job, and what a clock said of every epoch so far."""

    def begun() -> list[list[str]]:
        return [clock(path) for path in runs.glob("*/metrics.csv") if (path.parent / "last.ckpt").exists()]

    seconds = until(lambda: next((rows for rows in begun() if len(rows) >= 2), None))
    job = until(lambda: slurm("squeue", "--noheader", "--states=RUNNING", "--format=%i").split())[0]
    return job, seconds


def clock(path: Path) -> list[str]:
    with path.open() as file:
        return [row["seconds"] for row in csv.DictReader(file)]


def test_a_job_that_is_cancelled_is_made_by_the_same_command(here: dict[str, tuple[Any, ...]], tmp_path: Path) -> None:
    command = start(tmp_path / "runs", *GRID)
    job, _ = cut(tmp_path / "runs")
    slurm("scancel", job)
    status, said = finish(command)
    assert status == 2, said
    assert f"Job {job}" in said
    until(lambda: not slurm("squeue", "--noheader"), LIMIT)
    assert len(outcome(tmp_path / "runs")) < 5
    status, said = finish(start(tmp_path / "runs", *GRID))
    assert status == 0, said
    assert outcome(tmp_path / "runs") == here


@pytest.mark.parametrize("how", [["scontrol", "requeue"], ["scancel", "--signal=USR2"]], ids=["requeue", "preempted"])
def test_a_job_that_is_queued_again_goes_on_from_the_last_whole_epoch(
    here: dict[str, tuple[Any, ...]], tmp_path: Path, how: list[str]
) -> None:
    command = start(tmp_path / "runs", "rate=4", "target=none")
    job, seconds = cut(tmp_path / "runs")
    slurm(*how, job)
    until(lambda: "PENDING" in slurm("squeue", "--noheader", "--format=%T"))
    slurm("scontrol", "update", f"job={job}", "StartTime=now")  # Slurm would let it wait for two minutes
    status, said = finish(command)
    assert status == 0, said
    [record] = all_records(tmp_path / "runs")
    kept = [str(row["seconds"]) for row in record.history[: len(seconds)]]
    assert kept[:-1] == seconds[:-1]
    assert outcome(tmp_path / "runs") == {record.name: here[record.name]}
