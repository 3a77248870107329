"""Random views of faces. The only module that uses albumentations."""

import os
import random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or importing it would look for updates on the internet
import albumentations as A
import cv2

from facedistill.data.faces import MIRRORED
from facedistill.data.loading.view_schedule import EVAL_VIEW, mirror_of

NO_LANDMARKS = np.empty((0, 2), np.float32)


class View(NamedTuple):
    """A view of a face: uint8 [crop, crop, 3], its landmarks [5 or 0, 2] in pixels of it, whether it is mirrored."""

    image: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    mirrored: bool


class Window(NamedTuple):
    """Where a view lies that is no more than a crop: its top left pixel, and how often it is mirrored.

    Twice is not at all, but for the last bits of landmarks.
    """

    top: int
    left: int
    mirrors: int

    @property
    def mirrored(self) -> bool:
        return self.mirrors % 2 == 1


def _moved() -> list[A.BasicTransform]:
    """Alignment is never exact: up to 8°, 8 % in size and 4 % to a side. Pixels at the edge go on outside."""
    return [
        A.Affine(
            scale=(0.92, 1.08),
            translate_percent=(-0.04, 0.04),
            rotate=(-8, 8),
            keep_ratio=True,  # of height and width
            border_mode=cv2.BORDER_REPLICATE,  # reflected, albumentations would have reflections of landmarks, too
            p=0.8,
        )
    ]


def _seen_otherwise(crop: int) -> list[A.BasicTransform]:
    """Of a crop as other light, lenses and files have it; most keep their sharpness and colours."""
    return [
        A.RandomBrightnessContrast(brightness_limit=0.15, contrast_limit=0.2, p=0.5),
        A.RandomGamma(gamma_limit=(80, 125), p=0.3),
        A.ToGray(p=0.1),
        A.GaussianBlur(sigma_limit=(0.3, max(0.4, crop / 64)), p=0.2),  # A.Downscale would shift pixels by up to one
        A.ImageCompression(quality_range=(40, 90), p=0.2),
    ]


class Augmentation:
    """Views of faces: random ones, and for ``EVAL_VIEW`` the centre crop.

    Draws depend on (seed, index, view) alone; ``mirror_of(view)`` is the mirror image of that view. Landmarks move with
    the pixels, and mirroring swaps left and right.

    Args:
        preset: of random views: ``paper``, a crop that is mirrored half of the time; ``recognizer``, also moved,
            and as other light, lenses and files have it.
        mirrors: whether random views may be mirrored.
    """

    def __init__(self, crop: int, seed: int, preset: str = "paper", mirrors: bool = True) -> None:
        self.crop, self._seed, self._mirrored_share = crop, seed, 0.5 * mirrors
        self._bits = np.random.Philox(0)
        self._draw, self._python_draw = np.random.Generator(self._bits), random.Random()
        self._flip = A.HorizontalFlip(p=self._mirrored_share)
        self._composed: tuple[A.Compose, A.Compose] | None = None  # without landmarks, and with them
        if preset == "recognizer":
            drawn = [*_moved(), A.RandomCrop(crop, crop), self._flip, *_seen_otherwise(crop)]
            points = A.KeypointParams("xy", remove_invisible=False)
            self._composed = A.Compose(drawn), A.Compose(drawn, keypoint_params=points)
            for transform in self._composed:
                transform.set_random_state(self._draw, self._python_draw)

    def __call__(self, image: NDArray[np.uint8], landmarks: NDArray[np.float32], index: int, view: int) -> View:
        """Image uint8 [S, S, 3] and landmarks [5, 2] (or [0, 2]) in its pixels → what the view shows of them."""
        if self._composed is None or view == EVAL_VIEW:
            return cut(image, landmarks, self.window(len(image), index, view), self.crop)
        if view < EVAL_VIEW:
            return mirror_image(self(image, landmarks, index, mirror_of(view)))
        self._reseed(self._seed, index << 32 | view)
        without, with_points = self._composed
        if len(landmarks):
            result = with_points(image=image, keypoints=landmarks)
            landmarks = result["keypoints"].astype(np.float32)
        else:
            result = without(image=image)
        flipped = bool(self._flip.params)  # albumentations empties them where it does not apply it
        if flipped and len(landmarks):
            landmarks = landmarks[list(MIRRORED)]
        return View(result["image"], landmarks, flipped)

    @property
    def crops_alone(self) -> bool:
        """Whether every view is a ``window`` of its image."""
        return self._composed is None

    def window(self, side: int, index: int, view: int) -> Window:
        """Where a view lies in an image of ``side`` × ``side`` pixels, where it is no more than a crop."""
        if view < EVAL_VIEW:
            drawn = self.window(side, index, mirror_of(view))
            return drawn._replace(mirrors=drawn.mirrors + 1)
        if view == EVAL_VIEW:
            margin = (side - self.crop) // 2
            return Window(margin, margin, 0)
        self._reseed(self._seed, index << 32 | view)
        return self._drawn(side)

    def _drawn(self, side: int) -> Window:
        """What albumentations' RandomCrop and HorizontalFlip draw.

        Its Compose draws once before them, and a flip that never happens draws nothing. It takes three times as long.
        """
        draw = self._python_draw.random
        draw()
        top, left = (int((side - self.crop + 1) * draw()) for _ in range(2))
        return Window(top, left, int(self._mirrored_share > 0 and draw() < self._mirrored_share))

    def _reseed(self, *key: int) -> None:
        """Restart the two generators that the transforms share from a key: cheaper than making new ones."""
        state = self._bits.state
        state["state"]["key"][:], state["state"]["counter"][:] = key, 0
        state["buffer_pos"], state["has_uint32"] = 4, 0  # forget buffered draws
        self._bits.state = state
        self._python_draw.seed(int(self._draw.integers(2**63)))


class Upright:
    """What a recognizer sees at its own size: the centre crop in view 0, its mirror image in view 1."""

    crops_alone = True

    def __init__(self, crop: int) -> None:
        self.crop, self._centre = crop, Augmentation(crop, seed=0)

    def __call__(self, image: NDArray[np.uint8], landmarks: NDArray[np.float32], index: int, view: int) -> View:
        """Image and landmarks as ``Augmentation`` takes them."""
        return cut(image, landmarks, self.window(len(image), index, view), self.crop)

    def window(self, side: int, index: int, view: int) -> Window:
        """As ``Augmentation`` says it."""
        return self._centre.window(side, index, EVAL_VIEW)._replace(mirrors=int(view == 1))


def cut(image: NDArray[np.uint8], landmarks: NDArray[np.float32], window: Window, crop: int) -> View:
    """The view in a window of ``crop`` × ``crop`` pixels."""
    pixels = image[window.top : window.top + crop, window.left : window.left + crop]
    points = landmarks_in(landmarks, window, crop)
    return View(pixels[:, ::-1] if window.mirrored else pixels, points, window.mirrored)


def landmarks_in(landmarks: NDArray[np.float32], window: Window, crop: int) -> NDArray[np.float32]:
    """Landmarks [5 or 0, 2] in pixels of an image → in pixels of a window of it."""
    if not len(landmarks):
        return landmarks
    points = landmarks - np.array([window.left, window.top], np.float32)
    for _ in range(window.mirrors):
        points = _mirrored(points, crop)
    return points


def mirror_image(view: View) -> View:
    """The mirror image of a view, and of its landmarks."""
    image, landmarks, mirrored = view
    if len(landmarks):
        landmarks = _mirrored(landmarks, image.shape[1])
    return View(image[:, ::-1], landmarks, not mirrored)


def _mirrored(landmarks: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    swapped = landmarks[list(MIRRORED)]
    swapped[:, 0] = width - 1 - swapped[:, 0]
    return swapped
