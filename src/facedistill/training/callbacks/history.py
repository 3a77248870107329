"""Every metric of every epoch, in the checkpoint (so that a resumed run has them all) and in metrics.csv."""

import csv
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, distributed

from facedistill.system.files import write_aside
from facedistill.tracking.wandb_run import WandbRun

Epoch = dict[str, float]
ADD_UP_EVERY = 50  # batches; between them nothing is computed


class History(pl.Callback):
    """Collects a row an epoch: mean training losses, test metrics if it was scored, learning rate, seconds, images/s.

    The file is rewritten whole at each epoch's end: after a crash it has each finished epoch once, which an
    appending logger can't promise.
    """

    def __init__(self, csv_file: Path, dashboard: WandbRun) -> None:
        self.rows: list[Epoch] = []
        self._dashboard = dashboard
        self._csv_file = csv_file

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        # now: at the epoch's end the scheduler has already moved on
        self._learning_rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        self._pending: list[tuple[int, dict[str, Tensor]]] = []
        self._sums: dict[str, Tensor] = {}
        self._scores: Epoch = {}
        self._images = 0
        self._training = 0.0
        self._started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember the losses; they are added up at times, and nothing is brought to the host."""
        if trainer.is_global_zero:
            self._dashboard.open()
        self._pending.append((len(batch.labels), outputs))
        if len(self._pending) == ADD_UP_EVERY:
            self._add_up()
        self._training = time.perf_counter() - self._started

    def _add_up(self) -> None:
        counts = [count for count, _ in self._pending]
        for name in self._pending[0][1] if self._pending else ():
            values = torch.stack([outputs[name].detach() for _, outputs in self._pending])
            self._sums[name] = self._sums.get(name, 0) + values @ values.new_tensor(counts)
        self._images += sum(counts)
        self._pending = []

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._scores = {name: float(value) for name, value in trainer.callback_metrics.items()}

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Complete the row, after the test metrics are in."""
        self._add_up()
        row: Epoch = {"epoch": trainer.current_epoch, "lr": self._learning_rate}
        sums, images = torch.stack(list(self._sums.values())), torch.tensor(self._images, device=module.device)
        if trainer.world_size > 1:  # a term has the mean over the whole batch, or over the rank's share of it
            distributed.all_reduce(sums)
            distributed.all_reduce(images)
        row |= {f"train/{name}": float(total) / int(images) for name, total in zip(self._sums, sums, strict=True)}
        row |= self._scores
        row["seconds"] = time.perf_counter() - self._started
        row["images_per_second"] = int(images) / self._training
        self.rows.append(row)
        if not trainer.is_global_zero:
            return
        with write_aside(self._csv_file) as part, part.open("w", newline="") as file:
            columns = max((list(each) for each in self.rows), key=len)  # of an epoch that was scored, if there is one
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)
        self._dashboard.log(row)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
