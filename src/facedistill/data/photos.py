"""People's own files: photographs, five landmarks in a row of text, and the faults that both come with."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from facedistill.data.source import LANDMARKS
from facedistill.data.store import Columns, Stored, open_or_make
from facedistill.errors import DataError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
MIN_PIXELS = 8  # a side shorter than this shows no face
MAX_PIXELS = 100_000_000  # a header that promises more is taken for an attack, not for a photograph
MAX_LINE = 2000  # characters; a longer one is no row of landmarks, and reading on might not end
_READ_AT_ONCE = 256
_SKIP = "To leave such things out: data.on_error=skip"


def data_folder(root: str, inside: str = "") -> Path:
    """The folder ``inside`` of ``data.root``.

    Raises:
        DataError: one of the two is not there or is a file.
    """
    top = Path(root).expanduser()
    if not top.is_dir():
        what = "is a file: unpack it and name the folder" if top.exists() else "does not exist"
        raise DataError(f"data.root={top} {what}")
    if not (top / inside).is_dir():
        raise DataError(f"data.root={top} holds no folder {inside}")
    return top / inside


def may_skip(on_error: str) -> bool:
    """Whether ``data.on_error`` says so. Raises ``DataError`` for anything but ``raise`` and ``skip``."""
    if on_error not in ("raise", "skip"):
        raise DataError(f"data.on_error={on_error}: choices are raise, skip")
    return on_error == "skip"


def refusal(complaint: object) -> DataError:
    """A complaint about one of many files, with the way to go on without it."""
    return DataError(f"{complaint}. {_SKIP}")


def open_photo(path: Path) -> Image.Image:
    """An image, upright and RGB whatever the file has.

    Raises:
        DataError: names the file and what is wrong with it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a file that is off in its metadata alone
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(f"{path}: {image.width}×{image.height} pixels, more than any photograph")
                if min(image.size) < MIN_PIXELS:
                    raise DataError(f"{path}: {image.width}×{image.height} pixels, too small to show a face")
                upright = ImageOps.exif_transpose(image)
                if upright.mode.startswith("I"):  # 16 bits a pixel: Pillow would clip them, not scale them
                    upright = Image.fromarray((np.asarray(upright) >> 8).clip(0, 255).astype(np.uint8))
                return upright.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        why = "is empty" if path.exists() and path.stat().st_size == 0 else f"is not a readable image ({error})"
        raise DataError(f"{path} {why}") from error


def read_photos(
    path: Path, count: int, size: int, decode: Callable[[int], tuple[NDArray[np.uint8], Columns]], skip: bool
) -> Stored:
    ...


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a text file, whatever ends them, one at a time: the file may be huge.

    Raises:
        DataError: the file is missing, or a line is longer than any that belongs there.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            number = 0
            while line := file.readline(MAX_LINE + 1):
                number += 1
                if len(line) > MAX_LINE:
                    raise DataError(f"{path}, line {number}: more than {MAX_LINE} characters")
                yield line
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
