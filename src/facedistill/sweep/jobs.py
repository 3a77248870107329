"""A run trained in a process of its own: forked from a server that has imported torch, or a fresh interpreter."""

import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from facedistill.errors import BusyError, FacedistillError
from facedistill.runs.ensure import ensure
from facedistill.runs.run import LOG, OWNER, Run
from facedistill.system.cores import JOBS_AT_A_TIME
from facedistill.system.files import disk_of
from facedistill.system.signals import stop_on_signals
from facedistill.system.terminal import REFUSED, say
from facedistill.system.text import escape_unprintable

BUSY = os.EX_TEMPFAIL  # the exit status of a job whose run another process is training
SWEEPER = "FACEDISTILL_SWEEPER"  # tells a worker which process started it
GRACE = 30.0  # seconds that a job has to end in order
# Lightning's and Slurm's words to the ranks of another job
_OF_RANKS = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED")


class Job:
    """The process that trains a run, and what it prints, in ``log.txt`` of the run's directory."""

    def __init__(self, run: Run, gpus: list[str]) -> None:
        """Start it. ``gpus``: those that it sees; none: all. Raises ``DiskError`` if its log can't be written."""
        self.run, self.gpus = run, gpus
        self.log = run.directory / LOG
        self.started = time.monotonic()
        with disk_of("the runs", "runs_dir=FOLDER", run.directory):
            run.directory.mkdir(parents=True, exist_ok=True)
            self.log.touch()
        self._process = self._fresh() if run.config.trainer.world_size > 1 else self._forked()

    def _forked(self) -> BaseProcess:
        process = server().Process(target=_work, args=(self.run, self.log, _told(self.gpus), os.getpid()))
        process.start()
        return process

    def _fresh(self) -> subprocess.Popen[bytes]:
        """Ranks are started by doing the command again, so it must name this run alone."""
        environment = {name: value for name, value in os.environ.items() if name not in _OF_RANKS} | _told(self.gpus)
        environment[SWEEPER] = str(os.getpid())
        command = [sys.executable, "-m", "facedistill.worker", *self.run.words]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches every process of a terminal; the sweeper passes it on
            )

    @property
    def status(self) -> int | None:
        """Its exit status; None while it works."""
        if isinstance(self._process, subprocess.Popen):
            return self._process.poll()
        return self._process.exitcode

    def stop(self) -> None:
        self._process.terminate()

    def join(self, seconds: float) -> None:
        """Wait until it has ended; after ``seconds`` it is killed."""
        end = time.monotonic() + seconds
        while self.status is None and time.monotonic() < end:
            time.sleep(0.05)
        if self.status is None:
            self._process.kill()

    def last_lines(self, count: int = 5) -> list[str]:
        """The end of what it printed."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()][-count:]

    def forget_refused(self) -> None:
        """Remove the directory of a run that was refused before it began, with the log that says why."""
        if self.status == REFUSED and not (self.run.directory / OWNER).exists():
            self.log.unlink(missing_ok=True)
            with suppress(OSError):
                self.run.directory.rmdir()


def server() -> ForkServerContext:
    """Forks of a process that has imported everything and started nothing: an import takes seconds, a fork does not."""
    context = multiprocessing.get_context("forkserver")
    # the family is found by its name when a network is built; with it comes what all of them import of timm
    context.set_forkserver_preload(["facedistill.training.fit", "facedistill.models.families.resnet"])
    return context


def _told(gpus: Sequence[str]) -> dict[str, str]:
    """What the environment of a job says: its GPUs, and how many jobs work at a time."""
    visible = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
    return {**visible, JOBS_AT_A_TIME: os.environ.get(JOBS_AT_A_TIME, "1")}


def _work(run: Run, log: Path, told: Mapping[str, str], sweeper: int) -> None:
    """The job itself; its exit status says how it ended."""
    with log.open("ab", buffering=0) as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    escape_unprintable()
    stop_on_signals()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the sweeper passes it on
    threading.Thread(target=end_with, args=(sweeper,), daemon=True).start()
    os.environ.update(told)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    from facedistill.training.fit import train_run

    try:
        ensure(run, train_run, wait=False)
    except BusyError:
        sys.exit(BUSY)
    except FacedistillError as error:
        say(f"facedistill: {error}")
        sys.exit(REFUSED)


def end_with(sweeper: int) -> None:
    """End this process once the one that started it is gone, so that nothing trains unwatched."""
    with suppress(OSError):
        while True:
            os.kill(sweeper, 0)  # is it there?
            time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def available_gpus(accelerator: str) -> list[str]:
    """The GPUs of this machine by the names that CUDA_VISIBLE_DEVICES knows; asked for without importing torch."""
    if accelerator not in ("auto", "gpu", "cuda"):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False).stdout
    return [str(number) for number, line in enumerate(listed.splitlines()) if line.startswith("GPU ")]
