"""Items of one shape, decoded images above all, kept in one file that every process which reads it maps into memory.

Two files a store: ``<name>-<key>.npy`` (the items) and ``<name>-<key>.npz`` (columns, and the CRC-32 of every item).
The second is written last and by rename: without it the store does not exist. Until then the items grow in ``….part``,
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
from typing import Any, BinaryIO, NamedTuple
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np
from filelock import FileLock, Timeout
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from facedistill.errors import BusyError, DataError
from facedistill.system.files import write_aside

Columns = dict[str, NDArray[Any]]
Batches = Iterable[tuple[int, NDArray[Any], Columns]]
HEADER = 128  # bytes of an npy file before its items
_CHECKED_AT_ONCE = 256
_FRAME = struct.Struct("<QI")  # before a batch in the journal, which is an npz: its length and its CRC-32
# How NumPy begins an array of booleans, numbers or texts: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
_ARRAY = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(\|b1|\|[iu]1|<[iu][248]|<f[248]|<U[1-9]\d{0,5})', "
    rb"'fortran_order': (False|True), 'shape': \(([\d, ]*)\), \} *\n",
    re.DOTALL,
)


class Item(NamedTuple):
    """What there are N of in a store: the shape and dtype of one, and a word for one and for many."""

    shape: tuple[int, ...]
    dtype: str
    one: str
    many: str

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def image_of(size: int) -> Item:
    """An RGB image of ``size`` × ``size`` pixels."""
    return Item((size, size, 3), "|u1", "image", f"images of {size} pixels")


class Mapped:
    """N items in an npy file, mapped into memory and read by index, as an array [N, …] is.

    Pickled it is its path: a DataLoader's worker maps the same file, where a mapped array would be sent as a copy.

    Attributes:
        checksums: uint32 [N], the CRC-32 of every item; None once it was pickled.
    """

    def __init__(self, path: Path, count: int, item: Item, checksums: NDArray[np.uint32] | None = None) -> None:
        """Map a file.

        Raises:
            DataError: it is not there, or is not an npy file of so many items to the byte.
        """
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if file.read(HEADER) != _header(count, item) or not HEADER < size == HEADER + count * item.bytes:
                    raise DataError(f"{path} holds something else than {count} {item.many}. Get it again")
                # as a plain array: indexing a memmap takes longer
                self._array = np.asarray(np.memmap(file, item.dtype, "r", HEADER, (count, *item.shape)))
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}") from error
        self.path, self.item, self.checksums = path, item, checksums

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        found: NDArray[Any] = self._array[index]
        return found

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self._array, dtype, copy=copy)

    def __reduce__(self) -> tuple[Any, ...]:
        return Mapped, (self.path, len(self), self.item)


@dataclass(frozen=True)
class Stored:
    """Items and columns of N values, in the same order."""

    items: Mapped
    columns: Columns


@dataclass(frozen=True)
class _Batch:
    """How many items are dealt with after a batch; CRC-32 uint32 [n] and columns of its items."""

    done: int
    checksums: NDArray[np.uint32]
    columns: Columns


def open_or_make(
    path: Path, count: int, item: Item, make: Callable[[int], Batches], description: str, wait: bool = True
) -> Stored:
    """Open the store at ``path`` (without suffix); fill it from ``make`` if it is not there or not whole.

    ``make(start)`` deals with the items ``start`` … ``count`` − 1. A batch is how many of the ``count`` are dealt with
    after it, items [n, …] and their columns: some may be left out, n may be 0. Several processes may call this at
    once: one fills, the others wait.

    Raises:
        DataError: the disk has no room for it, nothing could be read, or the disk can't read what was written.
        BusyError: another process has it, and ``wait`` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(_beside(path, ".lock"), timeout=-1 if wait else 0):
            stored = _opened(path, count, item, make, description)
            for suffix in (".part", ".journal"):
                _beside(path, suffix).unlink(missing_ok=True)
    except Timeout as error:
        raise BusyError(f"another process has {path}") from error
    return stored


def _opened(path: Path, count: int, item: Item, make: Callable[[int], Batches], description: str) -> Stored:
    try:
        return _open(path, item)
    except DataError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno not in (errno.ENOENT, errno.EINVAL):
            raise  # a disk in trouble may still have it whole; a broken zip has places that are no valid arguments
        _fill(path, count, item, make, description)
        return _open(path, item)


def verify(items: Mapped) -> None:
    """Read every item from the disk and compare its checksum.

    Raises:
        DataError: names the file, the first one that is not as it was written, and its first byte.
    """
    assert items.checksums is not None
    try:
        with items.path.open("rb") as file, progress_bar() as progress:
            file.seek(HEADER)
            bar = progress.add_task(f"checking {items.path.name}", total=len(items))
            for first in range(0, len(items), _CHECKED_AT_ONCE):
                expected = items.checksums[first : first + _CHECKED_AT_ONCE]
                wrong = np.flatnonzero(_read_checksums(file, len(expected), items.item.bytes) != expected)
                if len(wrong):
                    number = first + int(wrong[0])
                    place = f"from 0; at byte {HEADER + number * items.item.bytes}"
                    raise DataError(
                        f"{items.path}: {items.item.one} {number} ({place}) is not what was written. Delete the "
                        "file: in the cache it is made again, another copy of a pack has it"
                    )
                progress.advance(bar, len(expected))
    except OSError as error:
        raise DataError(f"{items.path}: {error.strerror}") from error


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


def _open(path: Path, item: Item) -> Stored:
    columns = read_npz(_beside(path, ".npz"))
    if "crc32" not in columns:
        raise DataError(f"{path}.npz has no checksums")
    checksums = columns.pop("crc32")
    return Stored(Mapped(_beside(path, ".npy"), len(checksums), item, checksums), columns)


def _fill(path: Path, count: int, item: Item, make: Callable[[int], Batches], description: str) -> None:
    part, journal, whole = (_beside(path, suffix) for suffix in (".part", ".journal", ".npy"))
    if whole.exists() and journal.exists() and not part.exists():
        whole.replace(part)  # killed between the last two renames
    whole.unlink(missing_ok=True)  # nothing without an index, and large
    part.touch()
    journal.touch()
    with part.open("r+b") as grown, journal.open("r+b") as log, progress_bar() as progress:
        bar = progress.add_task(f"{description}: checking what is there", total=count)
        batches = []
        for batch in _resume(grown, log, count, item):
            batches.append(batch)
            progress.update(bar, completed=batch.done)
        start = batches[-1].done if batches else 0
        _check_room(path.parent, count - start, item)
        progress.reset(bar, description=description, completed=start)
        for done, items, columns in make(start):
            assert items.shape[1:] == item.shape
            assert items.dtype == item.dtype
            checksums = np.array([zlib.crc32(one.tobytes()) for one in items], np.uint32)
            batches.append(_Batch(done, checksums, columns))
            grown.write(items.tobytes())
            grown.flush()  # before the journal says that they are there
            log.write(_entry(batches[-1]))
            log.flush()
            progress.update(bar, completed=done)
        filled = [batch for batch in batches if len(batch.checksums)]
        if not filled:
            journal.unlink()  # what was left out is looked at again
            part.unlink()
            raise DataError(f"{description}: no {item.one} could be read")
        checksums = np.concatenate([batch.checksums for batch in filled])
        grown.seek(0)
        grown.write(_header(len(checksums), item))
        grown.flush()
        os.fsync(grown.fileno())
    verify(Mapped(part, len(checksums), item, checksums))
    part.replace(whole)
    merged = {name: np.concatenate([batch.columns[name] for batch in filled]) for name in filled[0].columns}
    with write_aside(_beside(path, ".npz")) as index, index.open("wb") as file:
        np.savez(file, crc32=checksums, **merged)  # type: ignore[arg-type]


def _resume(grown: BinaryIO, log: BinaryIO, count: int, item: Item) -> Iterator[_Batch]:
    """The batches that are whole in both files, which are then cut behind them."""
    items, end = 0, 0
    grown.seek(HEADER)
    for batch, batch_end in _journalled(log.read()):
        found = _read_checksums(grown, len(batch.checksums), item.bytes)
        if batch.done > count or (found != batch.checksums).any():
            break
        yield batch
        items, end = items + len(found), batch_end
    for file, length in ((grown, HEADER + items * item.bytes), (log, end)):
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


def _read_checksums(file: BinaryIO, count: int, item_bytes: int) -> NDArray[np.uint32]:
    return np.array([zlib.crc32(file.read(item_bytes)) for _ in range(count)], np.uint32)


def _check_room(folder: Path, count: int, item: Item) -> None:
    needed, free = count * item.bytes, shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}: {count} {item.many} need {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are "
            "free. Name a folder on another disk (the cache is cache_dir=…), or keep smaller ones (image.resize=…)"
        )


def _header(count: int, item: Item) -> bytes:
    """Of an npy file, always ``HEADER`` long: it is written when all images are there."""
    text = (
        f"{{'descr': '{item.dtype}', 'fortran_order': False, 'shape': {(count, *item.shape)}}}".ljust(HEADER - 11)
        + "\n"
    )
    return npy.magic(1, 0) + struct.pack("<H", len(text)) + text.encode()
