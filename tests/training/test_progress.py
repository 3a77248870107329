"""The bar over a run: it shows how far a training is, and never ends it."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest

from facedistill.system.progress import progress_bar
from facedistill.training.callbacks.progress import RunProgress


def trained(title: str) -> None:
    """The calls of a training of two epochs with three batches each."""
    trainer: Any = SimpleNamespace(
        is_global_zero=True, num_training_batches=3, max_epochs=2, current_epoch=0, callback_metrics={"test/top1": 12.5}
    )
    module: Any = None
    bar = RunProgress(title, "top1")
    bar.on_train_start(trainer, module)
    for epoch in range(2):
        trainer.current_epoch = epoch
        for batch in range(3):
            bar.on_train_batch_end(trainer, module, None, None, batch)
        bar.on_train_epoch_end(trainer, module)
    bar.on_train_end(trainer, module)


def test_a_line_says_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    trained("classify [red]r4\x1b[31m")
    said = capsys.readouterr().err
    assert "classify [red]r4\\x1b[31m" in said
    assert "epoch 2/2 · top1 12.50 took" in said


class Broken(io.TextIOWrapper):
    """A stream that fails."""

    error: Exception = ValueError()

    def write(self, text: str) -> int:
        raise self.error

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), OSError(5, "Input/output error"), ValueError()])
def test_it_ends_no_training(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    stream = Broken(io.BytesIO(), encoding="utf-8")
    stream.error = error
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", stream)
    trained("classify r4")
    with progress_bar() as bar:
        assert list(bar.track(range(3))) == [0, 1, 2]
        bar.refresh()
