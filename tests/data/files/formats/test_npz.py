"""An npz as NumPy reads it, and files that claim to be one."""

import io
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest

from facedistill.data.files.formats.npz import read_npz
from facedistill.errors import DataError


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_an_npz_is_read_as_numpy_reads_it(tmp_path: Path) -> None:
    arrays = {
        "flags": np.array([True, False]),
        "points": np.arange(12, dtype=np.float32).reshape(2, 3, 2),
        "names": np.array(["Zoë", "a"]),
        "none": np.empty((0, 2)),
        "one": np.array(7),
        "checksums": np.array([1, 2**32 - 1], np.uint32),
    }
    (tmp_path / "file").write_bytes(npz(**arrays))
    found = read_npz(tmp_path / "file")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
        assert found[name].flags.writeable


def zipped(content: bytes, compression: int = 0) -> bytes:
    file = io.BytesIO()
    with ZipFile(file, "w", compression) as archive:
        archive.writestr("a.npy", content)
    return file.getvalue()


def array_file(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not an intact npz"),
        (zipped(array_file(np.zeros(10**5)), ZIP_DEFLATED), "larger than the file"),
        (zipped(array_file(np.random.default_rng(0).integers(0, 256, 999)), ZIP_DEFLATED), "larger than|compressed"),
        (zipped(array_file(np.array([print], object))), "not an array of booleans"),
        (zipped(array_file(np.zeros(3, "m8[s]"))), "not an array of booleans"),
        (zipped(b""), "not an array of booleans"),
        (zipped(array_file(np.zeros(3)).replace(b"(3,)", b"(4,)")), "cannot reshape"),
        (zipped(array_file(np.zeros(3)).replace(b"(3,)", b"3**9")), "not an array"),
        (zipped(array_file(np.zeros(3))[:-1]), "buffer size"),
        (zipped(array_file(np.array([True]))[:-1] + b"\2"), "neither True nor False"),
        (zipped(array_file(np.array(["a"]))[:-1] + b"\1"), "not a character"),
    ],
)
def test_an_npz_that_is_not_one_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match=said) as refusal:
        read_npz(tmp_path / "file")
    assert str(tmp_path / "file") in str(refusal.value)
