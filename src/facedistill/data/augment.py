"""What happens to an image between the store and the network. The only file that knows albumentations."""

from __future__ import annotations

import os
import random

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else its import asks the network for its own newest version
import albumentations as A  # noqa: E402

EVAL_VIEW = -1  # the centre crop, not flipped


class Augmentation:
    """The paper's: a random crop, and a horizontal flip half of the time; the centre crop for ``EVAL_VIEW``.

    What is drawn depends on (seed, index, view) alone.
    """

    def __init__(self, crop: int, seed: int) -> None:
        self._seed = seed
        self._random = A.Compose([A.RandomCrop(crop, crop), A.HorizontalFlip(p=0.5)])
        self._centre = A.Compose([A.CenterCrop(crop, crop)])

    def __call__(self, image: NDArray[np.uint8], index: int, view: int) -> NDArray[np.uint8]:
        """Image uint8 [S, S, 3] → uint8 [crop, crop, 3]."""
        if view == EVAL_VIEW:
            return self._centre(image=image)["image"]  # type: ignore[no-any-return]
        key = np.array([self._seed, index << 32 | view], dtype=np.uint64)
        draw = np.random.Generator(np.random.Philox(key=key))
        self._random.set_random_state(draw, random.Random(int(draw.integers(2**63))))
        return self._random(image=image)["image"]  # type: ignore[no-any-return]
