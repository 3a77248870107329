"""Decoded images kept in one uint8 file, mapped into memory by every process that reads it.

Two files a store: ``<name>-<key>.npy`` (the pixels) and ``<name>-<key>.npz`` (columns, and the SHA-256 of the
pixels). The second is written last and by rename: without it the store does not exist.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock
from numpy.lib import format as npy
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from facedistill.errors import DataError
from facedistill.files import sha256, write_aside

Columns = dict[str, NDArray[np.generic]]
_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
Batches = Iterable[tuple[NDArray[np.uint8], Columns]]


@dataclass(frozen=True)
class Stored:
    """Pixels uint8 [N, size, size, 3] and columns of N values, in the same order."""

    images: NDArray[np.uint8]
    columns: Columns


def open_or_make(path: Path, count: int, size: int, make: Callable[[], Batches], description: str) -> Stored:
    """Open the store at ``path`` (without suffix); fill it from ``make()`` if it is not there or not whole.

    ``make`` yields batches of images uint8 [n, size, size, 3] with their columns, ``count`` images at most: a
    source may leave some out. Several processes may call this at once: one fills, the others wait.

    Raises:
        DataError: the disk has no room for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock")):
        if not is_whole(path):
            _fill(path, count, size, make, description)
    with np.load(_index(path), allow_pickle=False) as index:
        columns = {name: index[name] for name in index.files if name not in ("sha256", "shape")}
    images = np.load(_pixels(path), mmap_mode="r", allow_pickle=False)
    return Stored(images, columns)


def is_whole(path: Path, checksum: bool = False) -> bool:
    """Whether index and pixels are both there and fit; ``checksum`` also reads every pixel."""
    try:
        with np.load(_index(path), allow_pickle=False) as index:
            shape, digest = tuple(index["shape"]), str(index["sha256"])
        images = np.load(_pixels(path), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return False
    whole = images.dtype == np.uint8 and images.shape == shape
    return whole and (not checksum or sha256(_pixels(path)) == digest)


def _pixels(path: Path) -> Path:
    return path.with_name(path.name + ".npy")  # not with_suffix: a data set's name may hold a dot


def _index(path: Path) -> Path:
    return path.with_name(path.name + ".npz")


def _fill(path: Path, count: int, size: int, make: Callable[[], Batches], description: str) -> None:
    needed, free = count * size * size * 3, shutil.disk_usage(path.parent).free
    if needed > free:
        raise DataError(
            f"{path.parent}: {count} images of {size} pixels need {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB "
            "are free. Name another disk with cache_dir=…, or keep smaller images with image.resize=…"
        )
    columns: list[Columns] = []
    written = 0
    with write_aside(_pixels(path)) as part:
        with part.open("wb") as file, Progress(*_COLUMNS, console=Console(stderr=True), transient=True) as progress:
            # The header is written twice: only the end knows how many images were readable.
            start = _write_header(file, (count, size, size, 3))
            bar = progress.add_task(description, total=count)
            for images, values in make():
                file.write(images.tobytes())
                columns.append(values)
                written += len(images)
                progress.advance(bar, len(images))
            if not written:
                raise DataError(f"{description}: no image could be read")
            file.seek(0)
            assert _write_header(file, (written, size, size, 3)) == start
        digest = sha256(part)
    merged = {name: np.concatenate([values[name] for values in columns]) for name in columns[0]}
    with write_aside(_index(path)) as part, part.open("wb") as file:
        np.savez(file, sha256=np.str_(digest), shape=np.array([written, size, size, 3]), **merged)  # type: ignore[arg-type]


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> int:
    npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.tell()
