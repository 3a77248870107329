"""A loss that is not a number stops the run and names the batch."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from facedistill.data.loading.datamodule import FaceData
from facedistill.errors import RunError

CHECK_EVERY = 50  # batches; between checks nothing is computed


class FiniteLoss(pl.Callback):
    """Raises ``RunError`` at the first batch whose loss is NaN or infinite, without a synchronization per step."""

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._losses: list[Tensor] = []
        self._seen = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._losses.append(outputs["loss"])
        if len(self._losses) == CHECK_EVERY:
            self._check(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Check before the checkpoint of this epoch is written."""
        self._check(trainer)

    def _check(self, trainer: pl.Trainer) -> None:
        finite = torch.isfinite(torch.stack(self._losses)).tolist() if self._losses else []
        first, self._losses = self._seen, []
        self._seen += len(finite)
        if all(finite):
            return
        first += finite.index(False)
        data: FaceData = trainer.datamodule  # type: ignore[attr-defined]
        samples = data.train_batches.batches(trainer.current_epoch)[first]
        shown = ", ".join(str(index) for index in samples[:8]) + (", …" if len(samples) > 8 else "")
        raise RunError(
            f"the loss is not finite at epoch {trainer.current_epoch}, batch {first} (samples {shown}). "
            "The run is not complete; a lower learning rate (task.learning_rates) is the usual cure"
        )
