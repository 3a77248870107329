"""Photographs as squares: decoded once and kept, or decoded whenever they are read."""

import os
import shutil
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray

from facedistill.data.files.faults import refusal
from facedistill.data.files.store import Batches, Columns, Item, Mapped, Stored, image_of, open_or_make
from facedistill.errors import DataError
from facedistill.system.files import disk_of, hash_of
from facedistill.system.terminal import say

DECODED = ("auto", "once", "always")
_READ_AT_ONCE = 256
_CHECKSUM = Item((1,), "<u4", "image", "checksums of images")
_SHARE = 0.5  # of the room on a disk that pixels may take
_DECODERS = [PIL.__version__, cv2.__version__]  # another one may round otherwise
Square = Callable[[int], tuple[NDArray[np.uint8], dict[str, Any]]]


@dataclass(frozen=True)
class Decoded:
    """N images that are decoded from their own files whenever they are read, indexed like an array [N, size, size, 3].

    Attributes:
        source: what they are of, for messages.
        numbers: int64 [N], those that ``square`` knows them by.
        checksums: uint32 [N], the CRC-32 of every image: one that has changed since raises ``DataError``.
    """

    source: str
    square: Square
    numbers: NDArray[np.int64]
    checksums: NDArray[np.uint32]
    size: int

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.numbers), self.size, self.size, 3

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        chosen = np.arange(len(self))[index]
        if chosen.ndim == 0:
            return self._image(int(chosen))
        return np.stack([self._image(one) for one in chosen]) if len(chosen) else np.empty((0, *self.shape[1:]), "|u1")

    def _image(self, index: int) -> NDArray[np.uint8]:
        number = int(self.numbers[index])
        image, _ = self.square(number)
        if zlib.crc32(image.tobytes()) != self.checksums[index]:
            raise DataError(
                f"{self.source}: image {number} (from 0) has changed since it was first read. Type the same command "
                "again: a file of another date or length is read anew"
            )
        return image


Images = NDArray[np.uint8] | Mapped | Decoded


def keeps_pixels(decode: str, path: Path, count: int, size: int, source: str) -> bool:
    """Whether images are decoded once: as ``decode`` says, or where their pixels take at most half of the room.

    They are also where they are there, or somebody has begun to keep them.

    Args:
        path: of the store of pixels.
        source: what they are of, for the line that says why they are not kept.

    Raises:
        DiskError: the disk can't be read.
    """
    if decode != "auto":
        return decode == "once"
    with disk_of("the cache", "cache_dir=FOLDER", path.parent):
        if any(path.with_name(f"{path.name}{suffix}").exists() for suffix in (".npz", ".part")):
            return True
        folder = next(folder for folder in path.parents if folder.exists())
        needed, free = count * image_of(size).bytes, shutil.disk_usage(folder).free
    if needed <= _SHARE * free:
        return True
    say(
        f"{source}: {count:,} images of {size} pixels take {needed / 2**30:,.1f} GiB, and {folder} has "
        f"{free / 2**30:,.1f}: each is decoded from its own file whenever it is read. To keep them: data.decode=once "
        "(of a recognizer's faces recognition.decode=once)"
    )
    return False


def decoded_photos(
    path: Path, count: int, size: int, square: Square, on_error: str, source: str
) -> tuple[Decoded, Columns]:
    """As ``store_photos``, but the store has the checksums of the images, not their pixels."""
    checked = path.with_name(f"{path.name}-{hash_of(_DECODERS)}-checked")
    items, columns = store_photos(checked, count, size, square, on_error, f"checking {source}", checksums=True)
    return Decoded(source, square, columns["photo"], np.asarray(items)[:, 0], size), columns


def store_photos(
    path: Path,
    count: int,
    size: int,
    decode: Square,
    on_error: str | None,
    description: str,
    checksums: bool = False,
) -> Stored:
    """The results of ``decode`` for 0 … count − 1, from the store at ``path``, which the first call fills.

    Args:
        decode: number → image uint8 [size, size, 3] and its values of the store's columns; called in threads.
        on_error: ``raise`` the first ``DataError`` of ``decode``, or ``skip`` that image. None raises too, without
            the hint that images can be skipped: for sets that need every image.
        checksums: keep the CRC-32 of every image in its place, uint32 [1].

    Returns:
        The store, with an additional column ``photo``: the numbers of its images, ascending.
    """
    item = _CHECKSUM if checksums else image_of(size)

    def kept(image: NDArray[np.uint8]) -> NDArray[Any]:
        return np.array([zlib.crc32(image.tobytes())], item.dtype) if checksums else image

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
                decoded = [(number, kept(result[0]), result[1]) for number, result in attempts if result]
                if not decoded:
                    yield numbers.stop, np.empty((0, *item.shape), item.dtype), {}
                    continue
                read_numbers, items, values = zip(*decoded, strict=True)
                columns = {name: np.array([value[name] for value in values]) for name in values[0]}
                yield numbers.stop, np.stack(items), columns | {"photo": np.array(read_numbers)}

    stored = open_or_make(path, count, item, read, description)
    missing = sorted(set(range(count)) - set(stored.columns["photo"].tolist()))
    if missing:
        attempt(missing[0])  # raises where the store was filled with on_error=skip, but this call has on_error=raise
    return stored
