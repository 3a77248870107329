"""Decoded images kept in one uint8 file, mapped into memory by every process that reads it.

Two files a store: ``<name>-<key>.npy`` (the pixels) and ``<name>-<key>.npz`` (columns, and the CRC-32 of every image).
The second is written last and by rename: without it the store does not exist. Until then the pixels grow in ``….part``,
and ``….journal`` says batch by batch what is there: a process that was killed, or stopped at a bad image, is gone on
from.
"""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np
from filelock import FileLock
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from facedistill.errors import DataError
from facedistill.files import write_aside

Columns = dict[str, NDArray[Any]]
Batches = Iterable[tuple[int, NDArray[np.uint8], Columns]]
HEADER = 128  # bytes of an npy file before its pixels
_CHECKED_AT_ONCE = 256
_FRAME = struct.Struct("<QI")  # before a batch in the journal, which is an npz: its length and its CRC-32
# How NumPy begins an array of booleans, numbers or texts: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
_ARRAY = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(\|b1|\|[iu]1|<[iu][248]|<f[248]|<U[1-9]\d{0,5})', "
    rb"'fortran_order': (False|True), 'shape': \(([\d, ]*)\), \} *\n",
    re.DOTALL,
)


class Pixels:
    """Images uint8 [N, size, size, 3] in an npy file, mapped into memory and read by index, as an array is.

    Pickled it is its path: a DataLoader's worker maps the same file, where a mapped array would be sent as a copy.

    Attributes:
        checksums: uint32 [N], the CRC-32 of every image; None once it was pickled.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], checksums: NDArray[np.uint32] | None = None) -> None:
        """Map a file.

        Raises:
            DataError: it is not there, or is not an npy file of this shape to the byte.
        """
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if file.read(HEADER) != _header(shape) or not HEADER < size == HEADER + math.prod(shape):
                    raise DataError(
                        f"{path} holds something else than {shape[0]} images of {shape[1]} pixels. Get it again"
                    )
                # as a plain array: indexing a memmap takes longer
                self._array = np.asarray(np.memmap(file, np.uint8, "r", HEADER, shape))
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}") from error
        self.path, self.shape, self.checksums = path, shape, checksums

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        found: NDArray[np.uint8] = self._array[index]
        return found

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self._array, dtype, copy=copy)

    def __reduce__(self) -> tuple[Any, ...]:
        return Pixels, (self.path, self.shape)


@dataclass(frozen=True)
class Stored:
    """Images and columns of N values, in the same order."""

    images: Pixels
    columns: Columns


@dataclass(frozen=True)
class _Batch:
    """How many items are dealt with after a batch; CRC-32 uint32 [n] and columns of its images."""

    done: int
    checksums: NDArray[np.uint32]
    columns: Columns


def open_or_make(path: Path, count: int, size: int, make: Callable[[int], Batches], description: str) -> Stored:
    """Open the store at ``path`` (without suffix); fill it from ``make`` if it is not there or not whole.

    ``make(start)`` deals with the items ``start`` … ``count`` − 1. A batch is how many of the ``count`` are dealt with
    after it, images uint8 [n, size, size, 3] and their columns: items may be left out, n may be 0. Several processes
    may call this at once: one fills, the others wait.

    Raises:
        DataError: the disk has no room for it, no item has an image, or the disk can't read what was written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(_beside(path, ".lock")):
        try:
            stored = _open(path, size)
        except DataError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno not in (errno.ENOENT, errno.EINVAL):
                raise  # a disk in trouble may still have it whole; a broken zip has places that are no valid arguments
            _fill(path, count, size, make, description)
            stored = _open(path, size)
        for suffix in (".part", ".journal"):
            _beside(path, suffix).unlink(missing_ok=True)
    return stored


def verify(images: Pixels) -> None:
    """Read every image from the disk and compare its checksum.

    Raises:
        DataError: names the file, the first image that is not as it was written, and its first byte.
    """
    assert images.checksums is not None
    image_bytes = math.prod(images.shape[1:])
    try:
        with images.path.open("rb") as file, progress_bar() as progress:
            file.seek(HEADER)
            bar = progress.add_task(f"checking {images.path.name}", total=len(images))
            for first in range(0, len(images), _CHECKED_AT_ONCE):
                expected = images.checksums[first : first + _CHECKED_AT_ONCE]
                wrong = np.flatnonzero(_read_checksums(file, len(expected), image_bytes) != expected)
                if len(wrong):
                    number = first + int(wrong[0])
                    raise DataError(
                        f"{images.path}: image {number} (from 0; at byte {HEADER + number * image_bytes}) is not what "
                        "was written. Delete the file: in the cache it is made again, another copy of a pack has it"
                    )
                progress.advance(bar, len(expected))
    except OSError as error:
        raise DataError(f"{images.path}: {error.strerror}") from error


def progress_bar() -> Progress:
    """Counts, and the time that is left, on stderr; nothing where that is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def read_npz(file: Path | BinaryIO) -> Columns:
    """The arrays of an npz without compression, as ``np.savez`` writes it: booleans, numbers and texts.

    What it says of itself is not believed: nothing larger than the file is made of it.

    Raises:
        DataError: it can't be read, or is something else.
    """
    arrays: Columns = {}
    try:
        with ZipFile(file) as archive:
            size = file.stat().st_size if isinstance(file, Path) else file.seek(0, os.SEEK_END)
            members = archive.infolist()
            if sum(member.file_size for member in members) > size:
                raise ValueError("it says that it holds more than it has bytes")
            for member in members:
                if member.compress_type != ZIP_STORED:
                    raise ValueError(f"{member.filename} is compressed")
                arrays[member.filename.removesuffix(".npy")] = _array(archive.read(member))
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}") from error
    except (ValueError, ArithmeticError, RuntimeError, EOFError, BadZipFile, struct.error) as error:
        raise DataError(f"{file} is not a whole npz ({error}). Get it again") from error
    return arrays


def _array(data: bytes) -> NDArray[Any]:
    """An array of an npy file. Raises ``ValueError`` where that is none of ``_ARRAY``."""
    header = _ARRAY.match(data)
    if header is None:
        raise ValueError("a member is not an array of booleans, numbers or texts")
    array = np.frombuffer(data, header[1].decode(), offset=header.end())
    units, most = {"b": (np.uint8, 1), "U": (np.uint32, 0x10FFFF)}.get(array.dtype.kind, (None, 0))
    if units is not None and array.size and array.view(units).max() > most:
        raise ValueError("a value that is neither True nor False, or no character")
    shape = [int(length) for length in re.findall(rb"\d+", header[3])]
    return array.reshape(shape, order="F" if header[2] == b"True" else "C").copy()


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)  # not with_suffix: a data set's name may hold a dot


def _open(path: Path, size: int) -> Stored:
    columns = read_npz(_beside(path, ".npz"))
    if "crc32" not in columns:
        raise DataError(f"{path}.npz has no checksums")
    checksums = columns.pop("crc32")
    return Stored(Pixels(_beside(path, ".npy"), (len(checksums), size, size, 3), checksums), columns)


def _fill(path: Path, count: int, size: int, make: Callable[[int], Batches], description: str) -> None:
    part, journal, whole = (_beside(path, suffix) for suffix in (".part", ".journal", ".npy"))
    if whole.exists() and journal.exists() and not part.exists():
        whole.replace(part)  # killed between the last two renames
    whole.unlink(missing_ok=True)  # nothing without an index, and large
    part.touch()
    journal.touch()
    with part.open("r+b") as pixels, journal.open("r+b") as log, progress_bar() as progress:
        bar = progress.add_task(f"{description}: checking what is there", total=count)
        batches = []
        for batch in _resume(pixels, log, count, size):
            batches.append(batch)
            progress.update(bar, completed=batch.done)
        start = batches[-1].done if batches else 0
        _check_room(path.parent, count - start, size)
        progress.reset(bar, description=description, completed=start)
        for done, images, columns in make(start):
            assert images.shape[1:] == (size, size, 3)
            checksums = np.array([zlib.crc32(image.tobytes()) for image in images], np.uint32)
            batches.append(_Batch(done, checksums, columns))
            pixels.write(images.tobytes())
            pixels.flush()  # before the journal says that they are there
            log.write(_entry(batches[-1]))
            log.flush()
            progress.update(bar, completed=done)
        filled = [batch for batch in batches if len(batch.checksums)]
        if not filled:
            journal.unlink()  # what was left out is looked at again
            part.unlink()
            raise DataError(f"{description}: no image could be read")
        checksums = np.concatenate([batch.checksums for batch in filled])
        shape = (len(checksums), size, size, 3)
        pixels.seek(0)
        pixels.write(_header(shape))
        pixels.flush()
        os.fsync(pixels.fileno())
    verify(Pixels(part, shape, checksums))
    part.replace(whole)
    merged = {name: np.concatenate([batch.columns[name] for batch in filled]) for name in filled[0].columns}
    with write_aside(_beside(path, ".npz")) as index, index.open("wb") as file:
        np.savez(file, crc32=checksums, **merged)  # type: ignore[arg-type]


def _resume(pixels: BinaryIO, log: BinaryIO, count: int, size: int) -> Iterator[_Batch]:
    """The batches that are whole in both files, which are then cut behind them."""
    image_bytes, images, end = size * size * 3, 0, 0
    pixels.seek(HEADER)
    for batch, batch_end in _journalled(log.read()):
        found = _read_checksums(pixels, len(batch.checksums), image_bytes)
        if batch.done > count or (found != batch.checksums).any():
            break
        yield batch
        images, end = images + len(found), batch_end
    for file, length in ((pixels, HEADER + images * image_bytes), (log, end)):
        file.truncate(length)
        file.seek(length)


def _journalled(data: bytes) -> Iterator[tuple[_Batch, int]]:
    """The batches of a journal as far as it is whole, and where each of them ends."""
    end = 0
    while end + _FRAME.size <= len(data):
        length, checksum = _FRAME.unpack_from(data, end)
        start, end = end + _FRAME.size, end + _FRAME.size + length
        if end > len(data) or zlib.crc32(data[start:end]) != checksum:
            return
        columns = read_npz(BytesIO(data[start:end]))
        yield _Batch(int(columns.pop("done")[0]), columns.pop("crc32"), columns), end


def _entry(batch: _Batch) -> bytes:
    file = BytesIO()
    np.savez(file, done=np.array([batch.done]), crc32=batch.checksums, **batch.columns)  # type: ignore[arg-type]
    entry = file.getvalue()
    return _FRAME.pack(len(entry), zlib.crc32(entry)) + entry


def _read_checksums(file: BinaryIO, count: int, image_bytes: int) -> NDArray[np.uint32]:
    return np.array([zlib.crc32(file.read(image_bytes)) for _ in range(count)], np.uint32)


def _check_room(folder: Path, count: int, size: int) -> None:
    needed, free = count * size * size * 3, shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}: {count} images of {size} pixels need {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are "
            "free. Name a folder on another disk (the cache is cache_dir=…), or keep smaller images: image.resize=…"
        )


def _header(shape: tuple[int, ...]) -> bytes:
    """Of an npy file of bytes, always ``HEADER`` long: it is written when all images are there."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".ljust(HEADER - 11) + "\n"
    return npy.magic(1, 0) + struct.pack("<H", len(text)) + text.encode()
