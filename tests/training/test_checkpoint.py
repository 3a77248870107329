"""A checkpoint is bound to its run: what is damaged or of another run is set aside, and nothing of it is loaded."""

from __future__ import annotations

import os
import pickle
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from facedistill.errors import RunError
from facedistill.runs.run import Run
from facedistill.training.callbacks.checkpoint import BoundCheckpointIO, checkpoint_to_resume
from facedistill.training.trainer import build_trainer
from kinds import Planner

STATE = {"epoch": 3, "state_dict": {"a": torch.arange(1000.0)}}


@pytest.fixture
def run(planned: Planner) -> Run:
    """Interrupted after an epoch."""
    run = planned("rate=8")
    BoundCheckpointIO(run.identity).save_checkpoint(STATE, run.checkpoint)
    return run


def test_what_is_saved_is_resumed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert checkpoint_to_resume(run) == run.checkpoint
    found = BoundCheckpointIO(run.identity).load_checkpoint(run.checkpoint)
    assert found["epoch"] == 3
    assert torch.equal(found["state_dict"]["a"], STATE["state_dict"]["a"])
    assert [path.name for path in run.directory.iterdir()] == ["last.ckpt"]
    assert capsys.readouterr().err == ""


def test_a_run_without_a_checkpoint_begins(planned: Planner, capsys: pytest.CaptureFixture[str]) -> None:
    assert checkpoint_to_resume(planned("rate=8")) is None
    assert capsys.readouterr().err == ""


def rest(path: Path) -> bytes:
    return path.read_bytes().partition(b"\n")[2]


def under_the_old_line(run: Run, state: Any) -> None:
    line = run.checkpoint.read_bytes().partition(b"\n")[0]
    torch.save(state, run.checkpoint)
    run.checkpoint.write_bytes(line + b"\n" + run.checkpoint.read_bytes())


def flipped(run: Run) -> None:
    content = bytearray(run.checkpoint.read_bytes())
    content[-2000] ^= 1
    run.checkpoint.write_bytes(content)


def replaced(change: Callable[[Path], Any]) -> Callable[[Run], None]:
    def replace(run: Run) -> None:
        run.checkpoint.unlink()
        change(run.checkpoint)

    return replace


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))


OTHERS: dict[str, tuple[Callable[[Run], Any], str]] = {
    "of another seed": (
        lambda run: BoundCheckpointIO("0123456789ab").save_checkpoint(STATE, run.checkpoint),
        "not of this run",
    ),
    "with zeroed weights": (
        lambda run: under_the_old_line(run, {**STATE, "state_dict": {"a": torch.zeros(1000)}}),
        "is damaged",
    ),
    "of an earlier version": (lambda run: torch.save(STATE, run.checkpoint), "not of this run"),
    "a bit is another": (flipped, "is damaged"),
    "cut": (lambda run: os.truncate(run.checkpoint, 1000), "is damaged"),
    "cut in its line": (lambda run: os.truncate(run.checkpoint, 20), "not of this run"),
    "longer": (lambda run: run.checkpoint.write_bytes(run.checkpoint.read_bytes() + b"x"), "is damaged"),
    "without its line": (lambda run: run.checkpoint.write_bytes(rest(run.checkpoint)), "not of this run"),
    "empty": (lambda run: run.checkpoint.write_bytes(b""), "not of this run"),
    "code": (lambda run: run.checkpoint.write_bytes(pickle.dumps(print)), "not of this run"),
    "a zip bomb": (replaced(bomb), "not of this run"),
    "a folder": (replaced(Path.mkdir), "not a regular file"),
    "a pipe": (replaced(os.mkfifo), "not a regular file"),
    "a device": (replaced(lambda path: path.symlink_to("/dev/zero")), "not a regular file"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_is_set_aside_and_the_run_begins_anew(run: Run, other: str, capsys: pytest.CaptureFixture[str]) -> None:
    change, reason = OTHERS[other]
    change(run)
    assert checkpoint_to_resume(run) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{run.checkpoint} is set aside as last.ckpt.set-aside, and the run begins anew: ")
    assert reason in line
    assert [path.name for path in run.directory.iterdir()] == ["last.ckpt.set-aside"]
    assert checkpoint_to_resume(run) is None
    BoundCheckpointIO(run.identity).save_checkpoint(STATE, run.checkpoint)
    assert checkpoint_to_resume(run) == run.checkpoint


def test_lightning_loads_no_other_either(run: Run) -> None:
    with pytest.raises(RunError, match="not of this run"):
        BoundCheckpointIO("0123456789ab").load_checkpoint(run.checkpoint)


def test_slurms_checkpoint_of_another_run_is_not_looked_for(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning resumes from what lies in its root folder; that of temporary files is everybody's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "hpc_ckpt_1.ckpt").touch()
    assert build_trainer(run, [], "")._checkpoint_connector._hpc_resume_path is None
