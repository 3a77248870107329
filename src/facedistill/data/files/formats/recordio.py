"""MXNet's RecordIO: a file of records, each with an image, and an index of their offsets, ``.idx`` of the same name.

A record has one part, or several if its data contain the magic number at a multiple of 4 bytes: the writer splits there
and omits the number. A part (all numbers are little endian):

    uint32   0xced7230a, the magic number
    uint32   upper 3 bits: 0 a complete record, 1 its first, 2 a middle, 3 its last part; lower 29: bytes of data
    data     padded with zeros to a multiple of 4 bytes

The data of an image: flag uint32, label float32, id uint64, a second id uint64; flag × float32, labels that replace
that one if flag > 0; the image file. A line of the index: key, tab, offset of the record's first part. As a rule the
id is the key; in shuffled files keys are counted anew, and ids are the former keys.

Sources: dmlc-core ``include/dmlc/recordio.h`` and ``src/recordio.cc``; MXNet ``python/mxnet/recordio.py`` and
``tools/im2rec.py``.
"""

import codecs
import hashlib
import os
import re
import struct
import weakref
from array import array
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedistill.data.files.faults import readable
from facedistill.errors import DataError

MAX_RECORDS = 18_000_000  # opening so many needs just under 1 GB; Glint360K has 17.5 million
MAX_BYTES = 2**26  # of a record; the format allows 8 times as many, a face needs thousands
MAX_PARTS = 1000  # of a record; by chance, the magic number occurs once in 16 GB
_NUMBER = 0xCED7230A
_MAGIC = _NUMBER.to_bytes(4, "little")
_PART = struct.Struct("<4sI")
_COMPLETE, _FIRST, _MIDDLE, _LAST = range(4)
_HEADER = struct.Struct("<IfQQ")
_ID = struct.Struct("<4sI8xQ")  # of a record of one part: magic number, code and id
_LABEL = np.dtype("<f4")
_START = np.dtype(  # of a record of one part
    [("magic", "<u4"), ("code", "<u4"), ("flag", "<u4"), ("label", "<f4"), ("ids", "<u8", 2), ("labels", "<f4", 2)]
)
_HEADS = np.dtype([("labels", "<f4", 2), ("count", "<u4"), ("size", "<u4")])
_AT_ONCE = 2**16  # records
_BLOCK = 2**22  # bytes
_SMALL, _AHEAD = 2**13, 2**18  # bytes: records smaller than the first on average are scanned in blocks of the second
_GUESS = 2**15  # bytes to read of a record whose length is unknown
_LINES = re.compile(rb"(?:[ \t]{0,9}(?:\d{1,18}[ \t]{1,9}\d{1,18}[ \t]{0,9})?\r?\n)*+")
_LONGER = 100  # bytes; every such line is shorter


class Record(NamedTuple):
    labels: NDArray[np.float32]  # [flag], or [1] where the flag is 0
    content: bytes  # the image file; empty in a header or an identity
    id: int


class RecordFile:
    """Random access to the records of a file; only keys and offsets stay in memory.

    Reads go through the page cache, which processes share, and move no file position, so forks may read at the same
    time. A pickled copy opens the file for itself.

    Args:
        index: by default the ``.idx`` of the same name. If there is none, the file is scanned from record to record;
            keys are then the ids or, if two are the same, 0, 1, 2 … (as MXNet's ``rec2idx.py`` numbers them).

    Attributes:
        keys: int64 [N], ascending.
        offsets: int64 [N], the bytes at which their records begin.

    Raises ``DataError``, with the byte, the line or the key, if the file is not RecordIO, or the index is damaged or
    belongs to another file.
    """

    def __init__(self, path: Path, index: Path | None = None) -> None:
        self.path, self.index = path, index
        self._open()
        if index is None and path.with_suffix(".idx").exists():
            self.index = path.with_suffix(".idx")
        keys, offsets = _read_index(self.index) if self.index else self._scan()
        self._in_order = bool((offsets[1:] > offsets[:-1]).all())  # as written, so ids needn't be compared
        order = np.argsort(keys, kind="stable")
        self.keys, self.offsets = keys[order], offsets[order]
        twice = self.keys[1:][self.keys[1:] == self.keys[:-1]]
        if len(twice):
            raise DataError(f"{self.index}: two lines for key {twice[0]}. {self._remedy()}")
        outside = np.flatnonzero(self.offsets > self._size - _PART.size)
        if len(outside):
            key, offset = self.keys[outside[0]], self.offsets[outside[0]]
            raise DataError(f"{self.index}: key {key} at byte {offset}, but {path} has {self._size}. {self._remedy()}")

    def __len__(self) -> int:
        return len(self.keys)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_file"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def fingerprint(self) -> str:
        """Hex digest of keys, offsets and the file's size, the same for every copy of the data. Reads no record."""
        digest = hashlib.sha256(b"%d" % self._size)
        digest.update(self.keys.astype("<i8", copy=False).data)
        digest.update(self.offsets.astype("<i8", copy=False).data)
        return digest.hexdigest()[:32]

    def read(self, key: int) -> Record:
        """The record of a key. Raises ``DataError`` if there is none, or it is damaged; names the byte."""
        return self.read_at(int(self.positions_of(np.array([key]))[0]))

    def read_at(self, position: int) -> Record:
        """The record of ``keys[position]``. Raises ``DataError`` as ``read`` does."""
        offset, *following = self.offsets[position : position + 2].tolist()
        length = following[0] - offset if following else 0  # as a rule, the record of the next key follows in the file
        record, _ = self._record(offset, length + len(_MAGIC) if 0 < length < _GUESS else _GUESS)
        if not self._in_order and record.id != self.keys[position]:
            key = self.keys[position]
            raise self.fault(offset, f"the index says that this is the record of key {key}, but its id is {record.id}")
        return record

    def heads(self, keys: NDArray[np.int64]) -> NDArray[np.void]:
        """The headers of some records, without reading their images.

        Returns:
            [N] with the fields ``labels`` float32 [2], the first two (if there is one, the second is arbitrary), their
            ``count``, and the ``size`` of the content in bytes.

        Raises ``DataError``, with the key or the byte, if one is missing or damaged.
        """
        offsets = self.offsets[self.positions_of(keys)]
        heads = np.empty(len(offsets), _HEADS)
        for first in range(0, len(offsets), _AT_ONCE):
            some, head = offsets[first : first + _AT_ONCE], heads[first : first + _AT_ONCE]
            starts = [self._bytes(offset, _START.itemsize).ljust(_START.itemsize, b"\0") for offset in some.tolist()]
            start = np.frombuffer(b"".join(starts), _START)
            flag, length = start["flag"].astype(np.int64), start["code"].astype(np.int64)
            size = length - _HEADER.size - 4 * flag
            head["labels"] = np.where(flag[:, None] > 0, start["labels"], start["label"][:, None])
            head["count"], head["size"] = np.maximum(flag, 1), size
            plain = (start["magic"] == _NUMBER) & (length <= MAX_BYTES) & (size >= 0)
            plain &= some + _PART.size + length <= self._size
            for number in np.flatnonzero(~plain).tolist():  # has several parts, or is damaged, which raises
                record, _ = self._record(int(some[number]))
                head[number] = (np.resize(record.labels, 2), len(record.labels), len(record.content))
        return heads

    def positions_of(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """The positions of keys [N] in ``keys``, int64 [N]. Raises ``DataError`` if one is missing."""
        positions = np.minimum(np.searchsorted(self.keys, keys), len(self) - 1)
        missing = keys[self.keys[positions] != keys]
        if len(missing):
            raise DataError(f"{self.index or self.path}: no record with key {missing[0]}. {self._remedy()}")
        return positions

    def fault(self, offset: int, what: str) -> DataError:
        """An error at a byte of the file, and its remedy."""
        return DataError(f"{self.path}, byte {offset}: {what}. {self._remedy()}")

    def _remedy(self) -> str:
        if not self.index:
            return f"Copy {self.path.name} again"
        return f"Copy {self.path.name} and {self.index.name} again; or delete the latter, and the records are scanned"

    def _open(self) -> None:
        with readable(self.path):
            if not self.path.is_file():  # opening a pipe would block
                raise DataError(f"{self.path} is not a file. Name the .rec file of the data set")
            self._file = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self._size = os.fstat(self._file).st_size
        start = self._bytes(0, len(_MAGIC))
        if start != _MAGIC:
            what = f"{start!r} is not the beginning of a RecordIO file" if start else "the file is empty"
            raise DataError(f"{self.path}, byte 0: {what}. If it is an archive, unpack it; or copy it again")

    def _bytes(self, offset: int, count: int) -> bytes:
        """``count`` bytes, or fewer at the end of the file."""
        try:
            return os.pread(self._file, count, offset)
        except OSError as error:
            raise self.fault(offset, f"can't be read ({error.strerror})") from error

    def _record(self, offset: int, guess: int = _PART.size) -> tuple[Record, int]:
        """The record at a byte, and the byte after it; parts of at most ``guess`` bytes, including the four bytes that
        follow, take one read."""
        parts: list[bytes] = []
        which, end, total = _FIRST, offset, 0
        while which in (_FIRST, _MIDDLE):
            part = self._bytes(end, guess)
            magic, code = _PART.unpack_from(part) if len(part) >= _PART.size else (b"", 0)
            which, length = code >> 29, code % 2**29
            if magic != _MAGIC:
                raise self.fault(end, "no record begins here")
            if length > self._size - end - _PART.size:
                raise self.fault(end, f"a record of {length} bytes, but the file ends at byte {self._size}")
            if which not in ((_MIDDLE, _LAST) if parts else (_COMPLETE, _FIRST)):
                what = f"which can't continue the record at byte {offset}" if parts else "which can't begin a record"
                raise self.fault(end, f"a part of kind {which}, {what}")
            total += len(_MAGIC) + length
            if total > MAX_BYTES or len(parts) == MAX_PARTS:
                what = f"a record of at least {total} bytes in {len(parts) + 1} parts is not an image"
                raise self.fault(offset, what)
            size = _PART.size + (length + 3 & ~3)  # padded to a multiple of 4
            if len(part) < size + len(_MAGIC):
                part = self._bytes(end, size + len(_MAGIC))
            data, follows = part[_PART.size : _PART.size + length], part[size : size + len(_MAGIC)]
            end += size
            if len(data) < length or follows not in (b"", _MAGIC):
                raise self.fault(offset, f"a record of {length} bytes, but none follows at byte {end}")
            parts.append(data)
        joined = _MAGIC.join(parts)
        if len(joined) < _HEADER.size:
            raise self.fault(offset, f"a record of {len(joined)} bytes, fewer than the {_HEADER.size} of its header")
        flag, _, number, _ = _HEADER.unpack_from(joined)
        start = _HEADER.size + 4 * flag
        if start > len(joined):
            raise self.fault(offset, f"a record of {len(joined)} bytes can't hold its {flag} labels")
        labels = np.frombuffer(joined, _LABEL, flag or 1, _HEADER.size if flag else 4)
        return Record(labels, joined[start:], number), end

    def _scan(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Keys and offsets, both int64 [N], in the order of the file. Images are not read."""
        ids, offsets, offset = array("Q"), array("q"), 0
        unpack, head, least = _ID.unpack_from, _PART.size, _HEADER.size  # looked up once, for speed
        while offset < self._size:
            small = offset < _SMALL * len(offsets)
            block = self._bytes(offset, _AHEAD if small else _ID.size)
            left, last = self._size - offset - head, len(block) - _ID.size
            start = 0
            while start <= last:
                magic, code, number = unpack(block, start)
                if magic != _MAGIC or not least <= code < 2**29 or code > left - start:
                    break
                ids.append(number)
                offsets.append(offset + start)
                start += head + (code + 3 & ~3)
            if start:
                offset += start
            else:  # has several parts, or is damaged, which raises
                offsets.append(offset)
                record, offset = self._record(offset)
                ids.append(record.id)
            if len(offsets) > MAX_RECORDS:
                raise self.fault(offsets[MAX_RECORDS], f"more than {MAX_RECORDS:,} records")
        keys = np.array(ids, np.uint64)
        usable = keys.max() < 2**63 and len(np.unique(keys)) == len(keys)
        return keys.astype(np.int64) if usable else np.arange(len(keys)), np.array(offsets, np.int64)


def _read_index(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keys and offsets, both int64 [N], in the order of the lines."""
    remedy = "Copy it again; or delete it, and the records are scanned"
    tables: list[NDArray[np.int64]] = []
    line = 1
    if not path.is_file():
        raise DataError(f"{path} is not a file. Name the .idx file of the data set")
    with readable(path), path.open("rb") as file:
        while text := file.read(_BLOCK) + file.readline(_LONGER):
            text = text.removeprefix(codecs.BOM_UTF8) if line == 1 else text
            text += b"" if text.endswith(b"\n") else b"\n"
            match = _LINES.match(text)
            good = match.end() if match else 0
            if good < len(text):
                line += text.count(b"\n", 0, good)
                raise DataError(f"{path}, line {line}: expected key and offset, two whole numbers from 0. {remedy}")
            line += text.count(b"\n")
            if line - 1 > MAX_RECORDS:
                raise DataError(f"{path}, line {line}: more than {MAX_RECORDS:,} records")
            if text.strip():
                tables.append(np.fromstring(text, np.int64, sep=" ").reshape(-1, 2))
    if not tables:
        raise DataError(f"{path} lists no record. {remedy}")
    keys, offsets = (np.concatenate(columns) for columns in zip(*(table.T for table in tables), strict=True))
    return keys, offsets
