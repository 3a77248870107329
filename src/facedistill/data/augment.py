"""What happens to an image between the store and the network. The only file that knows albumentations."""

from __future__ import annotations

import os
import random

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else its import asks the network for its own newest version
import albumentations as A

EVAL_VIEW = -1  # the centre crop, not flipped


class Augmentation:
    """The paper's: a random crop, and a horizontal flip half of the time; the centre crop for ``EVAL_VIEW``.

    What is drawn depends on (seed, index, view) alone.
    """

    def __init__(self, crop: int, seed: int) -> None:
        self._seed = seed
        self._bits = np.random.Philox(0)
        self._draw, self._python_draw = np.random.Generator(self._bits), random.Random()
        self._random = A.Compose([A.RandomCrop(crop, crop), A.HorizontalFlip(p=0.5)])
        self._random.set_random_state(self._draw, self._python_draw)
        self._centre = A.Compose([A.CenterCrop(crop, crop)])

    def __call__(self, image: NDArray[np.uint8], index: int, view: int) -> NDArray[np.uint8]:
        """Image uint8 [S, S, 3] → uint8 [crop, crop, 3]."""
        if view == EVAL_VIEW:
            return self._centre(image=image)["image"]  # type: ignore[no-any-return]
        self._rewind(self._seed, index << 32 | view)
        return self._random(image=image)["image"]  # type: ignore[no-any-return]

    def _rewind(self, *key: int) -> None:
        """Start both generators, which the transforms share, anew from a key: cheaper than making new ones."""
        state = self._bits.state
        state["state"]["key"][:], state["state"]["counter"][:] = key, 0
        state["buffer_pos"], state["has_uint32"] = 4, 0  # what was drawn ahead is forgotten
        self._bits.state = state
        self._python_draw.seed(int(self._draw.integers(2**63)))
