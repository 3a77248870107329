"""MXNet's RecordIO as InsightFace ships sets of faces in it: ``train.rec``, and ``train.idx`` with a place a record.

A record is one part, or several where its data hold the magic number at a multiple of 4 bytes: there the writer cuts,
and leaves the number out. A part (all numbers are little endian):

    uint32   0xced7230a, the magic number
    uint32   upper 3 bits: 0 the whole record, 1 its first, 2 a middle, 3 its last part; lower 29: bytes of data
    data     and zeros up to a multiple of 4 (of 4, nowhere of 8)

The data of an image: flag uint32, label float32, id uint64, a second id uint64; flag × float32, labels that stand for
that one if there are any; the image's file. A line of the index: key, tab, offset of the record's first part.

InsightFace's tools write the images as keys 1 … a − 1, then the identities as a … b − 1; key 0 is the header, between
the two or last. Header and identities have no image but two labels: a and b, or the keys of an identity's first image
and of the one after its last. An identity's label is said by its images alone, as their one label or the first of two.
Other files (of RecBuilder, im2rec, shuffle_rec) hold images only, of any keys. All of these but shuffle_rec write
the key as the record's id, too.

Sources: dmlc-core ``include/dmlc/recordio.h`` and ``src/recordio.cc``; MXNet ``python/mxnet/recordio.py`` and
``tools/im2rec.py``; InsightFace ``src/data/face2rec2.py``, ``src/data/dataset_merge.py``,
``python-package/insightface/data/rec_builder.py`` and ``recognition/arcface_torch/scripts/shuffle_rec.py`` (writers),
``recognition/ArcFace/image_iter.py`` and ``recognition/arcface_torch/dataset.py`` (readers).
"""

from __future__ import annotations

import codecs
import os
import re
import struct
import weakref
from array import array
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedistill.errors import DataError

MAX_RECORDS = 18_000_000  # opening so many takes just under 1 GB; Glint360K has 17.5 million
MAX_BYTES = 2**26  # of a record; the format would allow 8 times as many, a face needs thousands
MAX_PARTS = 1000  # of a record; by chance the magic number cuts once in 16 GB
_NUMBER = 0xCED7230A
_MAGIC = _NUMBER.to_bytes(4, "little")
_PART = struct.Struct("<4sI")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_HEADER = struct.Struct("<IfQQ")
_START = np.dtype(  # of a record of one part
    [("magic", "<u4"), ("code", "<u4"), ("flag", "<u4"), ("label", "<f4"), ("ids", "<u8", 2), ("labels", "<f4", 2)]
)
_HEADS = np.dtype([("labels", "<f4", 2), ("count", "<u4"), ("size", "<u4")])
_INEXACT = 2**24  # from here on float32 leaves out whole numbers
_AT_ONCE = 2**16  # records
_BLOCK = 2**22  # bytes
_LINES = re.compile(rb"(?:[ \t]{0,9}(?:\d{1,18}[ \t]{1,9}\d{1,18}[ \t]{0,9})?\r?\n)*+")
_LONGER = 100  # bytes, than any of these lines


class Record(NamedTuple):
    labels: NDArray[np.float32]  # [flag], or [1] where the flag is 0
    content: bytes  # the image's file as it was packed; empty in a header or an identity
    id: int


class RecordFile:
    """Random access to the records of a file, of which nothing but keys and offsets stays in memory.

    What is read comes through the system's page cache, which all processes share, and no read moves a position that
    they would share, too: a fork may read at once. A pickled copy opens the file for itself.

    ``keys`` int64 [N] ascend; ``offsets`` int64 [N] are the bytes where their records begin.
    """

    keys: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def __init__(self, path: Path, index: Path | None = None) -> None:
        """Read the index; without one, go through the file from record to record.

        Args:
            index: None is the ``.idx`` of the same name, where it is. Of a file that has none the keys are the ids
                or, should two be the same, 0, 1, 2 … (which MXNet's ``rec2idx.py`` always writes).

        Raises:
            DataError: no RecordIO; an index that is damaged or another file's. Names the byte, the line or the key.
        """
        self.path, self.index = path, index
        self._open()
        if index is None and path.with_suffix(".idx").exists():
            self.index = path.with_suffix(".idx")
        self.keys, self.offsets = _read_index(self.index) if self.index else self._scan()
        self._in_order = bool((self.offsets[1:] > self.offsets[:-1]).all())  # as written; else someone changed them
        order = np.argsort(self.keys, kind="stable")
        self.keys = self.keys[order]
        self.offsets = self.offsets[order]
        twice = self.keys[1:][self.keys[1:] == self.keys[:-1]]
        if len(twice):
            raise DataError(f"{self.index}: two lines of key {twice[0]}. {self._remedy()}")
        outside = np.flatnonzero(self.offsets > self._size - _PART.size)
        if len(outside):
            key, offset = self.keys[outside[0]], self.offsets[outside[0]]
            raise DataError(f"{self.index}: key {key} at byte {offset}, of {self._size} of {path}. {self._remedy()}")

    def __len__(self) -> int:
        return len(self.keys)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_file"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def read(self, key: int) -> Record:
        """The record of a key.

        Raises:
            DataError: there is none, or it is damaged. Names the byte.
        """
        offset = int(self.offsets_of(np.array([key]))[0])
        record, _ = self._record(offset)
        if not self._in_order and record.id != key:
            raise self.fault(offset, f"the record of key {key}, says the index, but its id is {record.id}")
        return record

    def heads(self, keys: NDArray[np.int64]) -> NDArray[np.void]:
        """What stands before the images of some records. The images are not read.

        Returns:
            [N] of ``labels`` float32 [2], the first two (the second of one is void); their ``count``; the ``size`` of
            the content in bytes.

        Raises:
            DataError: one is missing or damaged. Names the key or the byte.
        """
        offsets = self.offsets_of(keys)
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
            for number in np.flatnonzero(~plain).tolist():  # of several parts, or at fault: then this raises
                record, _ = self._record(int(some[number]))
                head[number] = (np.resize(record.labels, 2), len(record.labels), len(record.content))
        return heads

    def offsets_of(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the records of keys [N] begin, int64 [N]. Raises ``DataError`` where there is none."""
        places = np.minimum(np.searchsorted(self.keys, keys), len(self) - 1)
        missing = keys[self.keys[places] != keys]
        if len(missing):
            raise DataError(f"{self.index or self.path}: no record of key {missing[0]}. {self._remedy()}")
        return self.offsets[places]

    def fault(self, offset: int, what: str) -> DataError:
        """A complaint about a byte, and what helps."""
        return DataError(f"{self.path}, byte {offset}: {what}. {self._remedy()}")

    def _remedy(self) -> str:
        if not self.index:
            return f"Copy {self.path.name} again"
        return f"Copy {self.path.name} and {self.index.name} again; or delete the latter, and a scan finds the records"

    def _open(self) -> None:
        try:
            if not self.path.is_file():  # a pipe would keep us waiting
                raise DataError(f"{self.path} is no file. Name the .rec file of the data set")
            self._file = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror}") from error
        weakref.finalize(self, os.close, self._file)
        self._size = os.fstat(self._file).st_size
        start = self._bytes(0, len(_MAGIC))
        if start != _MAGIC:
            what = f"{start!r} does not begin a RecordIO file" if start else "the file is empty"
            raise DataError(f"{self.path}, byte 0: {what}. Unpack what is packed, or copy it again")

    def _bytes(self, offset: int, count: int) -> bytes:
        """Fewer at the end of the file."""
        try:
            return os.pread(self._file, count, offset)
        except OSError as error:
            raise self.fault(offset, f"can't be read ({error.strerror})") from error

    def _part(self, offset: int) -> tuple[int, int, bytes]:
        """Which of its record's parts this is (``_WHOLE`` …), its bytes of data, and what begins as ``_START`` says."""
        start = self._bytes(offset, _START.itemsize)
        magic, code = _PART.unpack_from(start) if len(start) >= _PART.size else (b"", 0)
        which, length = code >> 29, code % 2**29
        if magic != _MAGIC:
            raise self.fault(offset, "no record begins here")
        if length > self._size - offset - _PART.size:
            raise self.fault(offset, f"a record of {length} bytes, but the file ends at byte {self._size}")
        return which, length, start

    def _record(self, offset: int) -> tuple[Record, int]:
        """The record that begins at a byte, and the byte where the next one does."""
        parts: list[bytes] = []
        which, end, total = _FIRST, offset, 0
        while which in (_FIRST, _MIDDLE):
            which, length, _ = self._part(end)
            if which not in ((_MIDDLE, _LAST) if parts else (_WHOLE, _FIRST)):
                what = f"not of the record of byte {offset}" if parts else "not where a record begins"
                raise self.fault(end, f"a part of kind {which}, {what}")
            total += len(_MAGIC) + length
            if total > MAX_BYTES or len(parts) == MAX_PARTS:
                raise self.fault(offset, f"a record of at least {total} bytes in {len(parts) + 1} parts is no image")
            padded = _padded(length)
            data = self._bytes(end + _PART.size, padded + len(_MAGIC))
            end += _PART.size + padded
            if len(data) < length or data[padded:] not in (b"", _MAGIC):
                raise self.fault(offset, f"a record of {length} bytes, but no other follows at byte {end}")
            parts.append(data[:length])
        whole = _MAGIC.join(parts)
        if len(whole) < _HEADER.size:
            raise self.fault(offset, f"a record of {len(whole)} bytes, less than the {_HEADER.size} before an image")
        flag, label, number, _ = _HEADER.unpack_from(whole)
        start = _HEADER.size + 4 * flag
        if start > len(whole):
            raise self.fault(offset, f"a record of {len(whole)} bytes can't hold its {flag} labels")
        labels = np.frombuffer(whole, "<f4", flag, _HEADER.size) if flag else [label]
        return Record(np.array(labels, np.float32), whole[start:], number), end

    def _scan(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Keys and offsets, each int64 [N], in the order of the file. Images are stepped over."""
        ids, offsets, offset = array("Q"), array("q"), 0
        while offset < self._size:
            if len(offsets) == MAX_RECORDS:
                raise self.fault(offset, f"more than {MAX_RECORDS:,} records")
            offsets.append(offset)
            which, length, start = self._part(offset)
            if which == _WHOLE and length >= _HEADER.size:
                ids.append(_HEADER.unpack_from(start, _PART.size)[2])
                offset += _PART.size + _padded(length)
            else:
                record, offset = self._record(offset)
                ids.append(record.id)
        keys = np.array(ids, np.uint64)
        if keys.max() >= 2**63 or len(np.unique(keys)) < len(keys):
            return np.arange(len(keys)), np.array(offsets, np.int64)
        return keys.astype(np.int64), np.array(offsets, np.int64)


def _padded(length: int) -> int:
    return -(-length // 4) * 4


def _read_index(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keys and offsets, each int64 [N], in the order of the lines."""
    remedy = "Copy it again; or delete it, and a scan finds the records"
    tables: list[NDArray[np.int64]] = []
    line = 1
    try:
        if not path.is_file():
            raise DataError(f"{path} is no file. Name the .idx file of the data set")
        with path.open("rb") as file:
            while text := file.read(_BLOCK) + file.readline(_LONGER):
                text = text.removeprefix(codecs.BOM_UTF8) if line == 1 else text
                text += b"" if text.endswith(b"\n") else b"\n"
                match = _LINES.match(text)
                good = match.end() if match else 0
                if good < len(text):
                    line += text.count(b"\n", 0, good)
                    raise DataError(f"{path}, line {line}: no key and offset, two whole numbers from 0. {remedy}")
                line += text.count(b"\n")
                if line > MAX_RECORDS:
                    raise DataError(f"{path}, line {line}: more than {MAX_RECORDS:,} records")
                if text.strip():
                    tables.append(np.fromstring(text, np.int64, sep=" ").reshape(-1, 2))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    if not tables:
        raise DataError(f"{path} names no record. {remedy}")
    return np.concatenate([table[:, 0] for table in tables]), np.concatenate([table[:, 1] for table in tables])


class FaceRecords:
    """The images of a ``RecordFile`` and whose they are.

    ``keys`` int64 [N] ascend; ``labels`` int64 [N] are those of the file. Where its header names the identities, one
    image of each is asked for the label. Where it has no header, or one with numbers that float32 can't hold (as
    Glint360K, of more than 16.7 million images), each image is; what has labels and no image is left out.
    """

    keys: NDArray[np.int64]
    labels: NDArray[np.int64]

    def __init__(self, records: RecordFile) -> None:
        """Raises ``DataError`` where the header, the identities and the images contradict each other."""
        self.records = records
        header = self._header()
        if header:
            starts, counts = self._ranges(*header)
            self.keys = np.arange(1, header[0])
            heads = records.heads(starts)
            self.labels = np.repeat(self._labels(starts, heads["labels"][:, 0], heads["size"]), counts)
        else:
            heads = records.heads(records.keys)
            images = (heads["count"] < 2) | (heads["size"] > 0)
            self.keys = records.keys[images]
            labels, sizes = heads["labels"][images, 0], heads["size"][images]
            del heads  # a third of all memory that is needed here
            self.labels = self._labels(self.keys, labels, sizes)
        if not len(self):
            raise DataError(f"{records.path} holds no image")

    def __len__(self) -> int:
        return len(self.keys)

    def image(self, number: int) -> bytes:
        """The file of an image (as a rule JPEG) as it was packed.

        Raises:
            DataError: the record is damaged, or of another label than its identity.
        """
        key, label = int(self.keys[number]), self.labels[number]
        record = self.records.read(key)
        if record.labels[0] != label or not record.content:
            got = f"label {record.labels[0]:g} and {len(record.content)} bytes"
            raise self._fault(key, f"not an image of label {label}: {got}")
        return record.content

    def _fault(self, key: int, what: str) -> DataError:
        return self.records.fault(int(self.records.offsets_of(np.array([key]))[0]), f"key {key} is {what}")

    def _header(self) -> tuple[int, int] | None:
        """The key of the first identity and that after the last, if the file says so."""
        if self.records.keys[0] != 0:
            return None
        record = self.records.read(0)
        if record.content or len(record.labels) < 2:
            return None
        first, last = record.labels[:2].tolist()
        if not (first.is_integer() and last.is_integer() and 1 < first < last < 2 * first):
            raise self._fault(0, f"not a header, whose identities would have the keys from {first:.8g} to {last:.8g}")
        if last >= _INEXACT:
            return None
        gaps = np.flatnonzero(np.diff(self.records.keys, append=np.iinfo(np.int64).max) > 1)
        if gaps[0] + 1 < last:
            self.records.offsets_of(gaps[:1] + 1)  # which is missing
        return int(first), int(last)

    def _ranges(self, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First key and number of the images of each identity, int64 [K], in their order."""
        keys = np.arange(first, last)
        heads = self.records.heads(keys)
        no_identity = keys[(heads["count"] < 2) | (heads["size"] > 0)]
        if len(no_identity):
            raise self._fault(int(no_identity[0]), f"not an identity, as those from {first} to {last - 1} should be")
        order = np.argsort(heads["labels"][:, 0], kind="stable")
        starts, ends = heads["labels"][order].T.astype(np.float64)
        before, after = np.append(1, ends), np.append(starts, first)
        wrong = np.flatnonzero((before != after) | (before != np.floor(before)) | np.append(starts >= ends, False))
        if len(wrong):
            number = min(int(wrong[0]), len(keys) - 1)
            said = f"an identity of the images from {starts[number]:.8g} to {ends[number]:.8g}"
            what = f"{said}, with a gap or an overlap in those from 1 to {first}"
            raise self._fault(int(keys[order[number]]), what)
        return starts.astype(np.int64), (ends - starts).astype(np.int64)

    def _labels(
        self, keys: NDArray[np.int64], labels: NDArray[np.float32], sizes: NDArray[np.uint32]
    ) -> NDArray[np.int64]:
        """What images say of themselves, int64 [N], if they are images and it is a label."""
        good = (labels >= 0) & (labels < _INEXACT) & (labels == np.floor(labels)) & (sizes > 0)
        if not good.all():
            bad = int(np.argmin(good))
            got = f"label {labels[bad]:g} and {sizes[bad]} bytes"
            raise self._fault(int(keys[bad]), f"not an image with a whole number from 0 as its label: {got}")
        return labels.astype(np.int64)
