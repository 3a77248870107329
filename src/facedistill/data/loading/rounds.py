"""Where a source has other faces in every round: which round an epoch trains on, and what the next one depends on."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facedistill.data.faces import FaceSet
from facedistill.data.loading.views import BankReader
from facedistill.data.sources.source import Round, Source

Banks = Mapping[str, BankReader]  # by the role of a teacher


class Preparation(Protocol):
    """What prepares rounds."""

    def __call__(self, of: Round, view: int) -> tuple[FaceSet, Banks]:
        """The faces of a round, and what teachers say of them where the student sees this view of each."""

    def end(self) -> None:
        """There are no more of them."""


class Rounds:
    """The rounds of a training run, one or more epochs each."""

    def __init__(self, source: Source, prepare: Preparation) -> None:
        self.prepare = prepare
        self._source = source
        self._imitated: NDArray[np.float32] | None = None
        self._seen: list[tuple[Tensor, Tensor]] = []

    def begin(self, epoch: int) -> tuple[FaceSet, Banks]:
        """The faces of an epoch, and what teachers say of them."""
        self._imitated, self._seen = self._answered(), []
        number, _ = self._round_of(epoch)
        return self.prepare(self._source.in_round(number, self._imitated), epoch)

    def imitated(self, epoch: int, indices: Tensor, cosines: Tensor) -> None:
        """Take note of how well the student imitated training faces, both [B], where the next round depends on it."""
        number, left = self._round_of(epoch)
        if left == 0 and self._source.asks_back(number):
            self._seen.append((indices, cosines.float()))

    def state_dict(self) -> dict[str, Any]:
        """At the end of an epoch: what the next round depends on."""
        found = self._answered()
        return {} if found is None else {"imitated": torch.from_numpy(found)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if "imitated" in state_dict:
            self._imitated = state_dict["imitated"].numpy()

    def _answered(self) -> NDArray[np.float32] | None:
        """cos(K_S, K_T) of every face of the round that ends, float32 [N]; of the one before until there are any."""
        if not self._seen:
            return self._imitated
        indices, cosines = (torch.cat(parts).cpu() for parts in zip(*self._seen, strict=True))
        return cosines[torch.argsort(indices)].numpy()

    def _round_of(self, epoch: int) -> tuple[int, int]:
        """The number of the round that an epoch belongs to, and how many epochs of it are left after this one."""
        epochs = self._source.epochs_per_round
        assert epochs is not None
        return epoch // epochs, epochs - 1 - epoch % epochs
