"""Items of one shape, above all decoded images, in one file that every process maps into memory.

A store is two files: ``<name>-<key>.npy`` (the items) and ``<name>-<key>.npz`` (columns, and the CRC-32 of each item).
The second is written last, by a rename: without it the store does not exist. Until then items are appended to
``….part``, and ``….journal`` lists them batch by batch, so that filling resumes where it was killed or stopped.
"""

import errno
import math
import os
import shutil
import socket
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray

from facedistill.data.files.faults import readable
from facedistill.data.files.formats.npz import read_npz
from facedistill.errors import DataError
from facedistill.system.files import disk_of, hash_of, held, open_regular, write_aside
from facedistill.system.progress import progress_bar
from facedistill.system.terminal import say

Columns = dict[str, NDArray[Any]]
Batches = Iterable[tuple[int, NDArray[Any], Columns]]
HEADER = 128  # bytes before the items of an npy file
_CHECKED_AT_ONCE = 256
_PREFIX = struct.Struct("<QI")  # of a batch in the journal, which is an npz: its length and CRC-32


class Item(NamedTuple):
    """One item of a store: its shape and dtype, and what one and many of them are called in messages."""

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
    """N items of an npy file, mapped into memory and indexed like an array [N, …].

    Pickling keeps only the path: a DataLoader's worker maps the same file, where an array would be copied to it.

    Attributes:
        checksums: uint32 [N], the CRC-32 of every item; None after pickling.

    Raises ``DataError`` unless the file is an npy of exactly ``count`` items.
    """

    def __init__(self, path: Path, count: int, item: Item, checksums: NDArray[np.uint32] | None = None) -> None:
        with readable(path), open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if file.read(HEADER) != _header(count, item) or not HEADER < size == HEADER + count * item.bytes:
                raise DataError(f"{path} does not hold {count} {item.many}. Get it again")
            # as a plain array, which is faster to index than a memmap
            self._array = np.asarray(np.memmap(file, item.dtype, "r", HEADER, (count, *item.shape)))
        self.path, self.item, self.checksums = path, item, checksums

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        items: NDArray[Any] = self._array[index]
        return items

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self._array, dtype, copy=copy)

    def __reduce__(self) -> tuple[Any, ...]:
        return Mapped, (self.path, len(self), self.item)


class Stored(NamedTuple):
    """Items and columns of N values, in the same order."""

    items: Mapped
    columns: Columns


class _Batch(NamedTuple):
    """How many items are done after a batch; CRC-32, uint32 [n], and columns of its items."""

    done: int
    checksums: NDArray[np.uint32]
    columns: Columns


def open_or_make(
    path: Path, count: int, item: Item, make: Callable[[int], Batches], description: str, wait: bool = True
) -> Stored:
    """Open the store at ``path`` (without suffix), and fill it from ``make`` first if it is missing or incomplete.

    ``make(start)`` yields batches of the items ``start`` … ``count`` − 1: how many of the ``count`` are done after the
    batch, items [n, …], and their columns. Items may be left out, so n may be 0. Of several processes that call this at
    the same time one fills the store, and the others wait.

    A store is used only if every item has its checksum: a damaged one is made again, and a line on stderr says so. One
    that is intact needs neither its lock nor a disk that can be written.

    Raises ``DataError`` if the disk has no room, or returns something else than was written, or nothing could be read;
    ``DiskError`` if it can't be written; ``BusyError`` if another process is filling it, and ``wait`` is false.
    """
    with disk_of("the cache", "cache_dir=FOLDER", path.parent):
        found = _open_if_intact(path, item)
        if isinstance(found, Stored):
            return found
        path.parent.mkdir(parents=True, exist_ok=True)
        with held(_beside(path, ".lock"), description, wait):
            found = _open_if_intact(path, item)
            if isinstance(found, DataError):
                if _beside(path, ".npz").exists():
                    say(f"{found}. It is made again")
                _fill(path, count, item, make, description)
                found = _open(path, item)
            for suffix in (".part", ".journal"):
                _beside(path, suffix).unlink(missing_ok=True)
            return found


def remove(items: Mapped) -> None:
    """Take a store from the disk; who has it open may go on reading."""
    name = items.path.name.removesuffix(".npy")
    for suffix in (".npz", ".npy", ".lock"):  # without the first it does not exist
        items.path.with_name(name + suffix).unlink(missing_ok=True)


def verify_store(path: Path) -> None:
    """``verify`` a store (its path without suffix) of whatever items. Raises ``DataError`` if it is not intact."""
    _, checksums = _read_columns(path)
    final = _beside(path, ".npy")
    try:
        items = np.load(final, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{final}: {error}") from error
    verify(Mapped(final, len(checksums), Item(items.shape[1:], items.dtype.str, "item", "items"), checksums))


def verify(items: Mapped) -> None:
    """Compare every item with its checksum, and remember it: see ``verify_once``.

    Raises ``DataError`` with the first that differs, and its first byte.
    """
    assert items.checksums is not None
    remembered = _remembered(items)
    with readable(items.path), items.path.open("rb") as file, progress_bar() as progress:
        file.seek(HEADER)
        bar = progress.add_task(f"checking {items.path.name}", total=len(items))
        for first in range(0, len(items), _CHECKED_AT_ONCE):
            expected = items.checksums[first : first + _CHECKED_AT_ONCE]
            wrong = np.flatnonzero(_read_checksums(file, len(expected), items.item.bytes) != expected)
            if len(wrong):
                number = first + int(wrong[0])
                location = f"from 0; at byte {HEADER + number * items.item.bytes}"
                raise DataError(f"{items.path}: {items.item.one} {number} ({location}) is not what was written")
            progress.advance(bar, len(expected))
    with suppress(OSError):  # then it is verified each time
        remembered.parent.mkdir(parents=True, exist_ok=True)
        remembered.touch()


def verify_once(items: Mapped) -> None:
    """``verify``, unless this user has done so on this machine, and the file has the size, time and inode of then."""
    if not _remembered(items).exists():
        verify(items)


def _remembered(items: Mapped) -> Path:
    """A file that is there once these items are verified; not beside them, as that disk may be read-only."""
    assert items.checksums is not None
    with readable(items.path):
        status = items.path.stat()
    key = hash_of(
        [socket.gethostname(), status.st_size, status.st_mtime_ns, status.st_ino, zlib.crc32(items.checksums.tobytes())]
    )
    caches = os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME", "."), ".cache")
    return Path(caches, "facedistill", "verified", key)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)  # with_suffix would cut names with dots


def _open_if_intact(path: Path, item: Item) -> Stored | DataError:
    """The store, or why it has to be made. Raises ``OSError`` if the disk fails, since the store may be intact."""
    try:
        return _open(path, item)
    except DataError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno not in (errno.ENOENT, errno.EINVAL):  # a bad offset in a zip
            cause.filename = cause.filename or str(path)
            raise cause from error
        return error


def _open(path: Path, item: Item) -> Stored:
    columns, checksums = _read_columns(path)
    items = Mapped(_beside(path, ".npy"), len(checksums), item, checksums)
    verify_once(items)
    return Stored(items, columns)


def _read_columns(path: Path) -> tuple[Columns, NDArray[np.uint32]]:
    columns = read_npz(_beside(path, ".npz"))
    checksums = columns.pop("crc32", np.empty(0))
    if checksums.dtype != np.uint32 or checksums.ndim != 1:
        raise DataError(f"{path}.npz has no checksums")
    if any(column.shape[:1] != checksums.shape for column in columns.values()):
        raise DataError(f"{path}.npz has columns of other lengths")
    return columns, checksums


def _fill(path: Path, count: int, item: Item, make: Callable[[int], Batches], description: str) -> None:
    part, journal, final = (_beside(path, suffix) for suffix in (".part", ".journal", ".npy"))
    if final.exists() and journal.exists() and not part.exists():
        final.replace(part)  # killed between the last two renames
    for damaged in (_beside(path, ".npz"), final):  # useless without each other
        damaged.unlink(missing_ok=True)
    part.touch()
    journal.touch()
    with part.open("r+b") as part_file, journal.open("r+b") as journal_file, progress_bar() as progress:
        bar = progress.add_task(f"{description}: checking what was done before", total=count)
        batches = []
        for batch in _resume(part_file, journal_file, count, item):
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
            part_file.write(items.tobytes())
            part_file.flush()  # before the journal lists them
            journal_file.write(_entry(batches[-1]))
            journal_file.flush()
            progress.update(bar, completed=done)
        filled = [batch for batch in batches if len(batch.checksums)]
        if not filled:
            journal.unlink()  # so that the next call tries every item again
            part.unlink()
            raise DataError(f"{description}: no {item.one} could be read")
        checksums = np.concatenate([batch.checksums for batch in filled])
        part_file.seek(0)
        part_file.write(_header(len(checksums), item))
        part_file.flush()
        os.fsync(part_file.fileno())
    verify(Mapped(part, len(checksums), item, checksums))
    part.replace(final)
    merged = {name: np.concatenate([batch.columns[name] for batch in filled]) for name in filled[0].columns}
    with write_aside(_beside(path, ".npz")) as index, index.open("wb") as file:
        np.savez(file, crc32=checksums, **merged)  # type: ignore[arg-type]


def _resume(part_file: BinaryIO, journal_file: BinaryIO, count: int, item: Item) -> Iterator[_Batch]:
    """The batches that are intact in both files, which are truncated after them."""
    items, end = 0, 0
    part_file.seek(HEADER)
    for batch, batch_end in _journalled(journal_file.read()):
        checksums = _read_checksums(part_file, len(batch.checksums), item.bytes)
        if batch.done > count or (checksums != batch.checksums).any():
            break
        yield batch
        items, end = items + len(checksums), batch_end
    for file, length in ((part_file, HEADER + items * item.bytes), (journal_file, end)):
        file.truncate(length)
        file.seek(length)


def _journalled(data: bytes) -> Iterator[tuple[_Batch, int]]:
    """The batches of a journal up to the first damaged one, and the byte at which each of them ends."""
    end = 0
    while end + _PREFIX.size <= len(data):
        length, checksum = _PREFIX.unpack_from(data, end)
        start, end = end + _PREFIX.size, end + _PREFIX.size + length
        if end > len(data) or zlib.crc32(data[start:end]) != checksum:
            return
        columns = read_npz(BytesIO(data[start:end]))
        yield _Batch(int(columns.pop("done")[0]), columns.pop("crc32"), columns), end


def _entry(batch: _Batch) -> bytes:
    file = BytesIO()
    np.savez(file, done=np.array([batch.done]), crc32=batch.checksums, **batch.columns)  # type: ignore[arg-type]
    entry = file.getvalue()
    return _PREFIX.pack(len(entry), zlib.crc32(entry)) + entry


def _read_checksums(file: BinaryIO, count: int, item_bytes: int) -> NDArray[np.uint32]:
    return np.array([zlib.crc32(file.read(item_bytes)) for _ in range(count)], np.uint32)


def _check_room(folder: Path, count: int, item: Item) -> None:
    needed, free = count * item.bytes, shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}: {count} {item.many} need {needed / 2**30:.1f} GiB, but only {free / 2**30:.1f} GiB are free. "
            "Name a folder on another disk (the cache is cache_dir=…), or store smaller images (image.resize=…)"
        )


def _header(count: int, item: Item) -> bytes:
    """The header of an npy file, always ``HEADER`` bytes, because it is written after the items."""
    text = f"{{'descr': '{item.dtype}', 'fortran_order': False, 'shape': {(count, *item.shape)}}}"
    text = text.ljust(HEADER - 11) + "\n"
    return npy.magic(1, 0) + struct.pack("<H", len(text)) + text.encode()
