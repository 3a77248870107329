"""Embeddings of many photos in one file, of NumPy or of Parquet; a row is a photo with a face."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facedistill.errors import ConfigError, DataError
from facedistill.predict.faces import Face
from facedistill.system.files import disk_of, write_aside
from facedistill.system.text import shown

Batches = Iterable[tuple[list[Face], NDArray[np.float32]]]


def check_writer(path: Path) -> None:
    """Raise ``ConfigError`` where the package that writes such a file is not installed."""
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                f"embed={path}: Parquet needs pyarrow: pip install pyarrow, or embed={path.with_suffix('.npz')}"
            ) from error


def write_embeddings(path: Path, batches: Batches, count: int, width: int) -> int:
    """Write the embeddings of at most ``count`` photos; returns how many there were. Photos are not kept in memory.

    An ``.npz`` has the arrays ``embedding`` float32 [N, width], ``path`` of text [N], and ``face`` float32 [N, 5, 2]:
    the landmarks by which the face was found, in pixels of its photo, NaN where none was looked for. A ``.parquet`` has
    columns of these names.

    Raises:
        DataError: no photo can be used; nothing is written.
    """
    write = _write_parquet if path.suffix.lower() == ".parquet" else _write_npz
    with disk_of("embeddings", "embed=FILE", path.parent), write_aside(path) as part:
        if not (written := write(part, batches, count, width)):
            raise DataError("there is nothing to write: none of the photos can be used")
    return written


def _landmarks(faces: list[Face]) -> NDArray[np.float32]:
    unknown = np.full((5, 2), np.nan)
    return np.array([unknown if face.points is None else face.points for face in faces], np.float32)


def _write_npz(part: Path, batches: Batches, count: int, width: int) -> int:
    embeddings, landmarks = np.empty((0, width), np.float32), np.empty((0, 5, 2), np.float32)
    paths: list[str] = []
    for faces, answers in batches:
        if not paths:  # now the width is that of answers, whatever a contract says
            embeddings, landmarks = np.empty((count, width), np.float32), np.empty((count, 5, 2), np.float32)
        rows = slice(len(paths), len(paths) + len(faces))
        embeddings[rows], landmarks[rows] = answers, _landmarks(faces)
        paths += [face.path for face in faces]
    number = len(paths)
    with part.open("wb") as file:
        np.savez(file, embedding=embeddings[:number], path=np.array(paths, np.str_), face=landmarks[:number])
    return number


def _write_parquet(part: Path, batches: Batches, count: int, width: int) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"path": pa.string(), "embedding": pa.list_(pa.float32(), width), "face": pa.list_(pa.float32(), 10)}
    number = 0
    with pq.ParquetWriter(part, pa.schema(list(types.items()))) as writer:
        for faces, answers in batches:
            number += len(faces)
            columns = [
                pa.array([_utf8(face.path) for face in faces], pa.string()),
                pa.FixedSizeListArray.from_arrays(pa.array(answers.ravel()), width),
                pa.FixedSizeListArray.from_arrays(pa.array(_landmarks(faces).ravel()), 10),
            ]
            writer.write_table(pa.Table.from_arrays(columns, names=list(types)))
    return number


def _utf8(path: str) -> str:
    """A name of bytes that are no UTF-8, which Parquet can't hold, as it is shown."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return shown(path)
    return path
