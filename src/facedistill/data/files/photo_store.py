"""Photographs that were decoded to squares once and are kept."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedistill.data.files.faults import refusal
from facedistill.data.files.store import Batches, Stored, image_of, open_or_make
from facedistill.errors import DataError

_READ_AT_ONCE = 256


def store_photos(
    path: Path,
    count: int,
    size: int,
    decode: Callable[[int], tuple[NDArray[np.uint8], dict[str, Any]]],
    on_error: str | None,
    description: str,
) -> Stored:
    """The results of ``decode`` for 0 … count − 1, from the store at ``path``, which the first call fills.

    Args:
        decode: number → image uint8 [size, size, 3] and its values of the store's columns; called in threads.
        on_error: ``raise`` the first ``DataError`` of ``decode``, or ``skip`` that image. None raises too, without
            the hint that images can be skipped: for sets that need every image.

    Returns:
        The store, with an additional column ``photo``: the numbers of its images, ascending.
    """

    def attempt(number: int) -> tuple[NDArray[np.uint8], dict[str, Any]] | None:
        try:
            return decode(number)
        except DataError as error:
            if on_error == "skip":
                return None
            if on_error is None:
                raise
            raise refusal(error) from error

    def read(start: int) -> Batches:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for first in range(start, count, _READ_AT_ONCE):
                numbers = range(first, min(first + _READ_AT_ONCE, count))
                attempts = zip(numbers, pool.map(attempt, numbers), strict=True)
                decoded = [(number, *result) for number, result in attempts if result]
                if not decoded:
                    yield numbers.stop, np.empty((0, size, size, 3), np.uint8), {}
                    continue
                kept, images, values = zip(*decoded, strict=True)
                columns = {name: np.array([value[name] for value in values]) for name in values[0]}
                yield numbers.stop, np.stack(images), columns | {"photo": np.array(kept)}

    stored = open_or_make(path, count, image_of(size), read, description)
    missing = sorted(set(range(count)) - set(stored.columns["photo"].tolist()))
    if missing:
        attempt(missing[0])  # raises where the store was filled with on_error=skip, but this call has on_error=raise
    return stored
