"""The checkpoint a run resumes from: the end of the last whole epoch, whole or the one before.

A line in front of what torch writes says of which run it is, and has the SHA-256 of the rest.
"""

import hashlib
import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from facedistill.errors import RunError
from facedistill.runs.run import Run
from facedistill.system.decoration import reason_of
from facedistill.system.files import open_regular, write_aside
from facedistill.system.terminal import say

SET_ASIDE = ".set-aside"  # at the end of the name of a checkpoint that is not resumed from


class BoundCheckpointIO(TorchCheckpointIO):
    """Checkpoints of the run with an identity.

    Written aside, then renamed: Lightning's own moves a temporary file from another disk, which can be cut.
    """

    def __init__(self, identity: str) -> None:
        self._identity = identity

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = io.BytesIO()  # torch's own writer hides a full disk behind a RuntimeError
        torch.save(checkpoint, buffer)
        content = buffer.getbuffer()
        with write_aside(Path(path)) as part, part.open("wb") as file:
            file.write(_first_line(self._identity, content))
            file.write(content)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """Raises ``RunError`` for one of another run, or that is not what was written; nothing of it is loaded then."""
        with open_regular(Path(path)) as file:
            said, content = file.readline(200), file.read()
        if said != _first_line(self._identity, content):
            of_this_run = said.startswith(_first_words(self._identity))
            raise RunError(f"{path} is {'damaged' if of_this_run else 'not of this run'}")
        checkpoint: dict[str, Any] = torch.load(io.BytesIO(content), map_location, weights_only=True)
        return checkpoint


def _first_words(identity: str) -> bytes:
    return f"checkpoint of run {identity}, SHA-256 of the rest ".encode()


def _first_line(identity: str, content: bytes | memoryview) -> bytes:
    return _first_words(identity) + hashlib.sha256(content).hexdigest().encode() + b"\n"


def checkpoint_to_resume(run: Run) -> Path | None:
    """The checkpoint of a run, if it has one; one that can't be resumed from is set aside, and a line says so."""
    path = run.checkpoint
    try:
        BoundCheckpointIO(run.identity).load_checkpoint(path)
    except FileNotFoundError:
        return None
    except Exception as error:  # torch has many for what it can't read
        aside = path.with_name(path.name + SET_ASIDE)
        with suppress(FileNotFoundError):  # another rank was first
            path.replace(aside)
        say(f"{path} is set aside as {aside.name}, and the run begins anew: {reason_of(error)}")
        return None
    return path


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
