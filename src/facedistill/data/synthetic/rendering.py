"""Many faces at once: rendered by all cores, and kept in a store."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedistill.data.files.store import Batches, Columns, Stored, image_of, open_or_make
from facedistill.system.signals import end_with_parent

Rendered = tuple[NDArray[np.uint8], Columns]  # images [n, size, size, 3], and what is known of each
Renderer = Callable[..., Rendered]  # of arguments [n, …], one image each; it is sent to other processes
_RENDER_AT_ONCE = 64
_ALONE = 2**20  # pixels that this process renders before others have started


def rendered(render: Renderer, arguments: Sequence[NDArray[Any]], size: int, start: int = 0) -> Iterator[Rendered]:
    """Batches of the images from ``start`` on, in order. ``arguments``: arrays [N, …] of ``render``."""
    count = len(arguments[0])
    ends = [*range(start + _RENDER_AT_ONCE, count, _RENDER_AT_ONCE), count]
    parts = [[argument[first:end] for argument in arguments] for first, end in pairwise([start, *ends])]
    if (count - start) * size**2 <= _ALONE:
        for part in parts:
            yield render(*part)
        return
    spawn = multiprocessing.get_context("spawn")  # forking hangs once torch has started threads
    with ProcessPoolExecutor(
        os.cpu_count(), mp_context=spawn, initializer=end_with_parent, initargs=(os.getpid(),)
    ) as pool:
        rendering = [pool.submit(render, *part) for part in parts]
        for done in rendering:
            yield done.result()


def stored(path: Path, render: Renderer, arguments: Sequence[NDArray[Any]], size: int, what: str) -> Stored:
    """The images in the store at ``path``, rendered now where it is not there.

    ``what``: they are called in messages. Raises as ``open_or_make``.
    """

    def batches(start: int) -> Batches:
        for images, columns in rendered(render, arguments, size, start):
            start += len(images)
            yield start, images, columns

    count = len(arguments[0])
    return open_or_make(path, count, image_of(size), batches, f"rendering {count} {what} of {size} px")
