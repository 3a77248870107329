"""The checkpoint a run resumes from: the end of the last whole epoch, whole or the one before."""

import io
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from facedistill.system.files import write_aside


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes aside, then renames: Lightning's own moves a temporary file from another disk, which can be cut."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = io.BytesIO()  # torch's own writer hides a full disk behind a RuntimeError
        torch.save(checkpoint, buffer)
        with write_aside(Path(path)) as part:
            part.write_bytes(buffer.getbuffer())


def epoch_end_checkpoint(path: Path) -> pl.callbacks.ModelCheckpoint:
    """Save to ``path`` at the end of every training epoch, over the one before."""
    return pl.callbacks.ModelCheckpoint(
        dirpath=path.parent,
        filename=path.stem,
        save_top_k=1,
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
