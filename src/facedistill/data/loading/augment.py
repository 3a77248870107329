"""Random crops and flips. The only module that uses albumentations."""

import os
import random

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or importing it would look for updates on the internet
import albumentations as A

from facedistill.data.faces import MIRRORED
from facedistill.data.loading.view_schedule import EVAL_VIEW, mirror_of

NO_LANDMARKS = np.empty((0, 2), np.float32)
_ORIGIN, _RIGHT = (0.0, 0.0), (1.0, 0.0)  # their order after the transform tells whether the image was mirrored


class Augmentation:
    """The paper's augmentation: a random crop, flipped half of the time; for ``EVAL_VIEW`` the centre crop.

    Draws depend on (seed, index, view) alone; ``mirror_of(view)`` is the mirror image of that view. Landmarks move with
    the pixels, and mirroring swaps left and right.
    """

    def __init__(self, crop: int, seed: int) -> None:
        self._seed = seed
        self._bits = np.random.Philox(0)
        self._draw, self._python_draw = np.random.Generator(self._bits), random.Random()
        self._random = A.Compose([A.RandomCrop(crop, crop), A.HorizontalFlip(p=0.5)])
        self._centre = A.Compose([A.CenterCrop(crop, crop)])
        points = A.KeypointParams("xy", remove_invisible=False)
        self._random_with_points = A.Compose(self._random.transforms, keypoint_params=points)
        self._centre_with_points = A.Compose(self._centre.transforms, keypoint_params=points)
        for transform in (self._random, self._random_with_points):
            transform.set_random_state(self._draw, self._python_draw)

    def __call__(
        self, image: NDArray[np.uint8], landmarks: NDArray[np.float32], index: int, view: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Image uint8 [S, S, 3] and landmarks [5, 2] (or [0, 2]) in its pixels → the same two for the crop."""
        if view < EVAL_VIEW:
            return mirrored(*self(image, landmarks, index, mirror_of(view)))
        centred = view == EVAL_VIEW
        if not centred:
            self._reseed(self._seed, index << 32 | view)
        if not len(landmarks):
            return (self._centre if centred else self._random)(image=image)["image"], landmarks
        transform = self._centre_with_points if centred else self._random_with_points
        result = transform(image=image, keypoints=np.vstack([landmarks, _ORIGIN, _RIGHT]))
        *points, origin, right = result["keypoints"].astype(np.float32)
        if right[0] < origin[0]:
            points = [points[i] for i in MIRRORED]
        return result["image"], np.stack(points)

    def _reseed(self, *key: int) -> None:
        """Restart the two generators that the transforms share from a key: cheaper than making new ones."""
        state = self._bits.state
        state["state"]["key"][:], state["state"]["counter"][:] = key, 0
        state["buffer_pos"], state["has_uint32"] = 4, 0  # forget buffered draws
        self._bits.state = state
        self._python_draw.seed(int(self._draw.integers(2**63)))


def mirrored(image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The mirror image of [H, W, 3], and of its landmarks [5, 2] (or [0, 2])."""
    if len(landmarks):
        landmarks = landmarks[list(MIRRORED)]
        landmarks[:, 0] = image.shape[1] - 1 - landmarks[:, 0]
    return image[:, ::-1], landmarks
