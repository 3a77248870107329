"""Microsoft's own MS-Celeb-1M: ``FaceImageCroppedWithAlignment.tsv`` (89 GB, 8,456,240 images of 99,892 people).

One image per line, in seven columns separated by tabs: Freebase MID, ImageSearchRank, ImageURL, PageURL, FaceID,
FaceRectangle (base64 of four float32: upper left and lower right corner, relative) and FaceData (base64 of a JPEG).
Source: https://www.msceleb.org/download/aligned, kept in ``download-aligned.md`` of
https://github.com/vardhman1996/msceleb.github.io. The faces are cropped and aligned; the rectangle is not used.

The file is read through once to make an index in the cache: a ``.npy`` of rows, which every process maps, followed in
the same file by one of the identities and by the CRC-32 of both, a little-endian uint32.
"""

import base64
import os
import struct
import weakref
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from rich.progress import DownloadColumn

from facedistill.data.files.faults import readable
from facedistill.errors import DataError
from facedistill.system.files import disk_of, hash_of, held, write_aside
from facedistill.system.progress import progress_bar
from facedistill.system.terminal import say

MAX_LINE = 2**26  # bytes; an image has about 10 kB
MAX_NAME = 48  # bytes; MIDs have 8 to 10, the longest names about 25
_COLUMNS = 7
_ROW = np.dtype([("start", "<i8"), ("length", "<i4"), ("label", "<i4"), ("name", f"S{MAX_NAME}")])
_PACK = struct.Struct(f"<qii{MAX_NAME}s")  # a row of the index
_CRC = struct.Struct("<I")
_BLOCK = 2**20  # bytes
_BOM = b"\xef\xbb\xbf"
_MEND = "Is it FaceImageCroppedWithAlignment.tsv, unpacked and complete? If so, get it again"


class Base64Tsv:
    """Images by number, in the order of the file. Forks may share it; pickling keeps only paths.

    Makes the index, with a progress bar on stderr, unless ``cache_dir`` has one for a file of this name, size and date.

    Attributes:
        identities: MIDs, in the order of their first appearance.
        labels: int64 [N], of identities.
        names: ASCII [N], mapped: ``MID/rank-FaceID`` as in ``m.0107_f/1-FaceId-0``, the names of unpacked JPEGs.

    Raises ``DataError`` with the file, the line from 1 and its first byte, and what is wrong.
    """

    def __init__(self, path: Path, cache_dir: Path) -> None:
        self.path, self.cache_dir = path, cache_dir
        if not path.is_file():
            raise DataError(f"{path} does not exist, or is a folder: name FaceImageCroppedWithAlignment.tsv")
        with readable(path):
            self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        status = os.fstat(self._file)
        index = cache_dir / f"{path.stem}-{hash_of([path.name, status.st_size, status.st_mtime_ns])}.npy"
        self._rows, self.identities = _open_or_make(index, path, status.st_size)
        self.labels: NDArray[np.int64] = self._rows["label"].astype(np.int64)
        self.names: NDArray[np.bytes_] = self._rows["name"]

    def __len__(self) -> int:
        return len(self._rows)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.cache_dir)

    def image(self, number: int) -> bytes:
        """The encoded image of a line. Raises ``DataError``, with its byte, if it is not base64, or was cut off."""
        start, length = int(self._rows["start"][number]), int(self._rows["length"][number])
        try:
            text = os.pread(self._file, length, start)
            if len(text) < length:
                raise ValueError("the file ends before it")
            return base64.b64decode(text, validate=True)
        except (OSError, ValueError) as error:
            what = f"not an image in base64 ({error}). {_MEND}"
            raise DataError(f"{self.path}, line {number + 1}, byte {start}: {what}") from error


def _open_or_make(index: Path, path: Path, size: int) -> tuple[NDArray[np.void], list[str]]:
    """Rows and identities of an index, which is made if it is missing or damaged; intact, it needs no lock."""
    with disk_of("the cache", "cache_dir=FOLDER", index.parent):
        with suppress(FileNotFoundError, DataError):
            return _open(index)
        index.parent.mkdir(parents=True, exist_ok=True)
        with held(index.with_name(f"{index.name}.lock"), f"reading through {path.name}"):
            try:
                return _open(index)
            except FileNotFoundError:
                pass
            except DataError as error:
                say(f"{error}. It is made again")
            _make(index, path, size)
            return _open(index)


def verify_index(index: Path) -> None:
    """Raise ``DataError`` if an index in the cache is not what was written."""
    with readable(index):
        _open(index)


def _open(index: Path) -> tuple[NDArray[np.void], list[str]]:
    """Raises ``DataError`` if it is not what was written, ``OSError`` if it can't be read."""
    with index.open("rb") as file:
        length = os.fstat(file.fileno()).st_size - _CRC.size
        if length < 0 or _CRC.pack(_checksum(file, length)) != file.read():
            raise DataError(f"{index} is not what was written")
        rows = np.load(index, mmap_mode="r", allow_pickle=False)
        file.seek(rows.offset + rows.nbytes)
        return rows, np.load(file, allow_pickle=False).astype(str).tolist()


def _checksum(file: BinaryIO, length: int) -> int:
    """CRC-32 of the next bytes of a file."""
    checksum = 0
    while length and (block := file.read(min(length, _BLOCK))):
        checksum, length = zlib.crc32(block, checksum), length - len(block)
    return checksum


def _make(index: Path, path: Path, size: int) -> None:
    labels: dict[bytes, int] = {}
    count = 0
    with write_aside(index) as part, part.open("w+b") as out:
        # the header is written twice, because lines are counted on the way
        start = _write_header(out, 0)
        for offset, length, mid, name in _samples(path, size):
            out.write(_PACK.pack(offset, length, labels.setdefault(mid, len(labels)), name))
            count += 1
        if not count:
            raise DataError(f"{path} holds no image. {_MEND}")
        np.save(out, np.array(list(labels)), allow_pickle=False)
        end = out.tell()
        out.seek(0)
        rewritten = _write_header(out, count)
        assert rewritten == start
        out.seek(0)
        out.write(_CRC.pack(_checksum(out, end)))


def _write_header(file: BinaryIO, count: int) -> int:
    npy.write_array_header_1_0(file, {"descr": _ROW.descr, "fortran_order": False, "shape": (count,)})
    return file.tell()


def _samples(path: Path, size: int) -> Iterator[tuple[int, int, bytes, bytes]]:
    """Start and length of the FaceData, MID and name of every line."""
    blank = ""
    with readable(path), path.open("rb", buffering=2**20) as file, progress_bar(DownloadColumn()) as progress:
        bar = progress.add_task(f"reading through {path.name}", total=size)
        offset = len(_BOM) if file.read(len(_BOM)) == _BOM else 0
        file.seek(offset)
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), start=1):
            text = line.rstrip(b"\r\n")
            if text:
                if blank:
                    raise DataError(f"{blank}: the line is empty, but others follow. {_MEND}")
                try:
                    mid, name, length = _sample(text)
                except DataError as error:
                    raise DataError(f"{path}, line {number}, byte {offset}: {error}") from error
                yield offset + len(text) - length, length, mid, name
            else:
                blank = blank or f"{path}, line {number}, byte {offset}"
            offset += len(line)
            if number % 1000 == 0:
                progress.update(bar, completed=offset)


def _sample(line: bytes) -> tuple[bytes, bytes, int]:
    if len(line) > MAX_LINE:
        raise DataError(f"a line of more than {MAX_LINE} bytes. {_MEND}")
    columns = line.split(b"\t")
    if len(columns) != _COLUMNS:
        raise DataError(f"{len(columns)} columns separated by tabs, expected {_COLUMNS}. {_MEND}")
    mid, rank, _, _, face, _, data = columns
    for column, title in ((mid, "MID"), (rank, "ImageSearchRank"), (face, "FaceID"), (data, "FaceData")):
        if not column:
            raise DataError(f"{title} is empty. {_MEND}")
    name = b"%b/%b-%b" % (mid, rank, face)
    if len(name) > MAX_NAME or not (name.isascii() and name.decode().isprintable()):
        raise DataError(f"{name[:60]!r} is not MID, rank and FaceID, or has more than {MAX_NAME} bytes. {_MEND}")
    if len(data) % 4 or data.endswith(b"==="):
        raise DataError(f"FaceData of {len(data)} characters is not base64; it may be cut off. {_MEND}")
    return mid, name, len(data)
