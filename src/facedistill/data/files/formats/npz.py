"""NumPy's npz: a zip archive of npy files, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html"""

import os
import re
import struct
import zlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from facedistill.errors import DataError
from facedistill.system.files import open_regular

# The header of an array of booleans, numbers or strings.
_ARRAY = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(\|b1|\|[iu]1|<[iu][248]|<f[248]|<U[1-9]\d{0,5})', "
    rb"'fortran_order': (False|True), 'shape': \(([\d, ]*)\), \} *\n",
    re.DOTALL,
)


def read_npz(file: Path | BinaryIO, most: int | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of an npz: booleans, numbers and strings.

    The file is not trusted: no pickle is loaded, and nothing larger than it is allocated. ``most``: it may be
    compressed, to arrays of so many bytes in all.

    Raises ``DataError`` if it can't be read, or is something else.
    """
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with open_regular(file) if isinstance(file, Path) else nullcontext(file) as whole, ZipFile(whole) as archive:
            size = whole.seek(0, os.SEEK_END)
            members = archive.infolist()
            if sum(member.file_size for member in members) > (most or size):
                raise ValueError(f"its members claim to be larger than {f'{most} bytes' if most else 'the file'}")
            for member in members:
                if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED if most else ZIP_STORED):
                    raise ValueError(f"{member.filename} is compressed")
                arrays[member.filename.removesuffix(".npy")] = _array(archive.read(member))
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}") from error
    except (ValueError, ArithmeticError, RuntimeError, EOFError, BadZipFile, zlib.error, struct.error) as error:
        raise DataError(f"{file} is not an intact npz ({error}). Get it again") from error
    return arrays


def _array(data: bytes) -> NDArray[Any]:
    header = _ARRAY.match(data)
    if header is None:
        raise ValueError("a member is not an array of booleans, numbers or strings")
    array = np.frombuffer(data, header[1].decode(), offset=header.end())
    units, most = {"b": (np.uint8, 1), "U": (np.uint32, 0x10FFFF)}.get(array.dtype.kind, (None, 0))
    if units is not None and array.size and array.view(units).max() > most:
        raise ValueError("a value is neither True nor False, or not a character")
    shape = [int(length) for length in re.findall(rb"\d+", header[3])]
    return array.reshape(shape, order="F" if header[2] == b"True" else "C").copy()
