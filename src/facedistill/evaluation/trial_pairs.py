"""A few hundred pairs of faces, of one person and of two in turn, to try contracts on; the same ones every time."""

import numpy as np
from numpy.typing import NDArray

from facedistill.data.faces import FaceSet, Pairs
from facedistill.data.loading.augment import NO_LANDMARKS, Augmentation

_VIEWS = (0, 1)  # any two that differ


def of_protocol(pairs: Pairs, count: int) -> Pairs:
    """``count`` of the pairs of a protocol, or as many as it has of both kinds, from all of it, images in memory."""
    kinds = [np.flatnonzero(pairs.same), np.flatnonzero(~pairs.same)]
    half = min(count // 2, *map(len, kinds))
    draw = np.random.default_rng(0)
    chosen = np.stack([draw.permutation(spread(kind, half)) for kind in kinds], 1).ravel()
    return _in_memory(pairs, np.stack([pairs.left[chosen], pairs.right[chosen]], 1), pairs.same[chosen])


def of_people(faces: FaceSet, count: int) -> Pairs:
    """Up to ``count`` pairs of the training images: of two images of one identity, and of two identities."""
    draw = np.random.default_rng(0)
    images: dict[int, list[int]] = {}
    for number in draw.permutation(faces.train).tolist():
        images.setdefault(int(faces.labels[number]), []).append(number)
    couples = [
        own[start : start + 2]
        for start in range(0, max(map(len, images.values())) - 1, 2)  # of everybody first, then once more
        for own in images.values()
        if len(own) >= start + 2
    ]
    return _in_memory(faces, *_of_couples(np.array(couples[: count // 2], np.int64).reshape(-1, 2), faces.labels))


def of_views(faces: FaceSet, count: int) -> Pairs:
    """``count`` pairs without labels: two views of one training image, and of two.

    Views are as other photographs of a face differ (``augment=recognizer``).
    """
    augmentation = Augmentation(faces.images.shape[1], 0, "recognizer")
    numbers = spread(faces.train, count // 2).tolist()
    views = [
        augmentation(faces.images[number], NO_LANDMARKS, number, view).image for number in numbers for view in _VIEWS
    ]
    rows, same = _of_couples(np.arange(len(views)).reshape(-1, 2), np.arange(len(views)) // 2)
    return _pairs(np.stack(views), rows, same)


def spread(numbers: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """``count`` of them, at equal distances."""
    return numbers[np.linspace(0, len(numbers) - 1, count).astype(np.int64)]


def _of_couples(couples: NDArray[np.int64], label: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Of couples [n, 2] of images of one person: each, and then the first with the next couple's second, of another.

    Returns the images of every pair, [P, 2], and whether they are of one person.
    """
    others = np.roll(couples[:, 1], -1)
    pairs = np.stack([couples, np.stack([couples[:, 0], others], 1)], 1).reshape(-1, 2)
    same = np.tile([True, False], len(couples))
    kept = same | (label[pairs[:, 0]] != label[pairs[:, 1]])
    kept &= np.repeat(kept.reshape(-1, 2).all(1), 2)  # both of a couple, or neither: they come in turn
    return pairs[kept], same[kept]


def _in_memory(held: FaceSet | Pairs, rows: NDArray[np.int64], same: NDArray[np.bool_]) -> Pairs:
    used, numbers = np.unique(rows, return_inverse=True)
    size = held.images.shape[1]
    images = np.stack([held.images[number] for number in used.tolist()]) if len(used) else np.empty((0, size, size, 3))
    return _pairs(images.astype(np.uint8), numbers.reshape(-1, 2), same)


def _pairs(images: NDArray[np.uint8], rows: NDArray[np.int64], same: NDArray[np.bool_]) -> Pairs:
    none = np.zeros(len(same), np.int64)
    return Pairs(images, rows[:, 0], rows[:, 1], same, none, none > 0)
