"""What tests ask of runs that they train: cut after an epoch, and all of their history that no clock says."""

import pytest

from facedistill.runs.ensure import ensure
from facedistill.runs.record import Record
from facedistill.runs.run import Run
from facedistill.training import fit
from facedistill.training.callbacks.checkpoint import BoundCheckpointIO


class Cut(Exception):
    """Stands for a power cut."""


def cut_after_first_epoch(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train a run of two epochs or more, whose ancestors are there, until its first checkpoint is written."""
    written = BoundCheckpointIO.save_checkpoint

    def interrupted(*args: object, **kwargs: object) -> None:
        written(*args, **kwargs)  # type: ignore[arg-type]
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(BoundCheckpointIO, "save_checkpoint", interrupted)
        with pytest.raises(Cut):
            ensure(run, fit.train_run)
    assert run.checkpoint.exists()
    assert not run.is_complete
    assert len(run.config.epoch_rates) > 1


def curve(record: Record) -> list[dict[str, float]]:
    """The history without what a clock says."""
    timed = ("seconds", "images_per_second")
    return [{name: value for name, value in row.items() if name not in timed} for row in record.history]
