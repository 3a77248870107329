"""One line for a person who waits: which cell, which epoch, the last metrics, time left."""

from contextlib import suppress
from typing import Any

import pytorch_lightning as pl
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from facedistill.system.decoration import Display
from facedistill.system.progress import Bar
from facedistill.system.terminal import Output
from facedistill.system.text import shown

_BESIDE_THE_TITLE = 47  # columns for the bar, `epoch 30/30 · nrmse 14.01 left`, and the clock


class RunProgress(pl.Callback):
    """A bar over the whole run, not one an epoch: what is left is what people ask."""

    def __init__(self, title: str, metric: str) -> None:
        self._title, self._metric = title, metric
        self._bar: Bar | None = None
        self._display = Display("the progress bar")

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self._display.show(lambda: self._start(trainer))

    def _start(self, trainer: pl.Trainer) -> None:
        steps = int(trainer.num_training_batches)
        total = steps * (trainer.max_epochs or 0)
        console = Output(stderr=True)
        title = Text(shown(self._title))
        title.truncate(max(20, console.width - _BESIDE_THE_TITLE), overflow="ellipsis")
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=6),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(
                compact=True, elapsed_when_finished=True, table_column=Column(no_wrap=True, min_width=5)
            ),
            console=console,
        )
        self._task: TaskID = self._bar.add_task(
            title.plain, total=total, completed=trainer.current_epoch * steps, status=self._status(trainer)
        )
        self._bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if bar := self._bar:
            self._display.show(lambda: bar.advance(self._task))

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if bar := self._bar:
            self._display.show(lambda: bar.update(self._task, status=self._status(trainer)))

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _status(self, trainer: pl.Trainer) -> str:
        metric = trainer.callback_metrics.get(f"test/{self._metric}")
        score = "" if metric is None else f" · {self._metric} {float(metric):.2f}"
        last = trainer.max_epochs or 0
        clock = "left" if trainer.current_epoch + 1 < last else "took"
        return f"epoch {min(trainer.current_epoch + 1, last)}/{last}{score} {clock}"

    def _stop(self) -> None:
        if self._bar:
            with suppress(Exception):
                self._bar.stop()
            self._bar = None
