"""Counter-based random numbers: every value is a function of (seed, stream, identity, sample) alone."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from facedistill.data.synthetic.kernels import Array, Integers


class Stream(IntEnum):
    """Independent families of random numbers."""

    IDENTITY = 0
    SCENE = 1
    BACKGROUND = 2
    NOISE = 3
    STRANDS = 4
    MOVE = 5
    PRESENTATION = 6
    SENSOR = 7


def raw_words(seed: int, stream: Stream, identities: Integers, samples: Integers, count: int) -> NDArray[np.uint64]:
    """Raw 64-bit words [N, count] of N images. Raw words are used because only they are promised never to change."""
    key = np.array([seed, int(stream)], dtype=np.uint64)
    # The first counter word advances while drawing, the others tell the images apart.
    counters = [np.array([0, *image, 0], dtype=np.uint64) for image in zip(identities, samples, strict=True)]
    words = [np.random.Philox(key=key, counter=counter).random_raw(count) for counter in counters]
    return np.array(words, dtype=np.uint64).reshape(len(words), count)


def uniforms(seed: int, stream: Stream, identities: Integers, samples: Integers, count: int) -> Array:
    """Uniform numbers [N, count] in [0, 1), multiples of 2^-24 (exact in float32)."""
    words = raw_words(seed, stream, identities, samples, count) >> np.uint64(40)
    return words.astype(np.float32) * np.float32(2.0**-24)


def normals(seed: int, stream: Stream, identities: Integers, samples: Integers, count: int) -> Array:
    """Nearly normal numbers [N, count] (mean 0, variance 1): the sum of the four 16-bit parts of a word."""
    parts = raw_words(seed, stream, identities, samples, count).view(np.uint16).reshape(-1, count, 4).astype(np.int32)
    total = parts[..., 0] + parts[..., 1] + parts[..., 2] + parts[..., 3] - 2 * 65535
    # A 16-bit uniform has variance 65536^2 / 12, so the sum has deviation 65536 / sqrt(3).
    return total.astype(np.float32) * np.float32(1.7320508 / 65536.0)
