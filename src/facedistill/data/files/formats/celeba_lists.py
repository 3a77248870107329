"""CelebA's lists: a line an image, its file name and then numbers.

As published (README.txt beside them, https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html), with the number of values:

- ``identity_CelebA.txt`` (1) and ``list_eval_partition.txt`` (1: 0 train, 1 val, 2 test) are rows alone;
- ``list_landmarks_align_celeba.txt`` and ``list_landmarks_celeba.txt`` (10: x y of left eye, right eye, nose, left and
  right mouth corner, in pixels of the aligned image or of the one in the wild), ``list_bbox_celeba.txt`` (4: x and y of
  the upper left corner, width, height, in the wild) and ``list_attr_celeba.txt`` (40 of −1 or 1) open with the number
  of rows, then with the names of the columns.

Left is left in the image, as in ``source.LANDMARKS``: of 000001.jpg, aligned, the left eye is at x = 69, the right one
at 106. Mirrors drop the opening lines or add some; Kaggle's are csv: commas, names of columns, no number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facedistill.data.files.photos import SUFFIXES, lines_of
from facedistill.errors import DataError


@dataclass(frozen=True)
class CelebaList:
    """A list that was read.

    Attributes:
        rows: where in ``values`` and ``lines`` an image is, by its file name in lower case without the suffix: the
            published jpg and png share their lists. In the order of the file.
        values: float64 [N, columns], finite.
        lines: int64 [N], line numbers from 1.
    """

    path: Path
    rows: dict[str, int]
    values: NDArray[np.float64]
    lines: NDArray[np.int64]

    def of(self, image: str) -> NDArray[np.float64]:
        """The values of an image [columns]."""
        values: NDArray[np.float64] = self.values[self.rows[image]]
        return values

    def place(self, image: str) -> str:
        """File and line of an image, for a complaint."""
        return f"{self.path}, line {self.lines[self.rows[image]]}"

    def check(self, good: NDArray[np.bool_], complaint: str) -> None:
        """Raise ``DataError``, with its line, for the first row that is not ``good`` [N]."""
        if not good.all():
            raise DataError(f"{self.path}, line {self.lines[good.argmin()]}: {complaint}; copy the file again")


def read_list(path: Path, columns: int) -> CelebaList:
    """A list of ``columns`` values an image, in any of the forms above.

    Raises:
        DataError: names file and line: a row that is none, a second row of an image, a line too long for a row, no
            row, or another number of rows than the file promises.
    """
    lines: Iterator[tuple[int, str]] = (line for line in lines_of(path) if not line[1].isspace())
    start, line = next(lines, (1, ""))
    number, promised = start, line.strip()
    if promised.isascii() and promised.isdigit():
        number, line = next(lines, (start, ""))
    else:
        promised = ""
    separator = "," if "," in line else None  # None: any run of spaces
    if line and not _names_columns(line.split(separator), columns):
        lines = chain([(number, line)], lines)
    rows: dict[str, int] = {}
    numbers: list[int] = []
    values: list[float] = []
    for number, line in lines:
        try:
            image, row = _row(line, separator, columns)
            if image in rows:
                raise DataError(f"a second row of {image[:60]}")
        except DataError as error:
            raise DataError(f"{path}, line {number}: {error}; copy the file again") from error
        rows[image] = len(rows)
        numbers.append(number)
        values += row
    if not rows or (promised and len(rows) != int(promised)):
        expected = f"{promised[:60]} rows are promised" if promised else "a row an image is expected"
        raise DataError(f"{path}, line {start}: {expected}, the file has {len(rows)}; copy the file again")
    return CelebaList(path, rows, np.array(values).reshape(-1, columns), np.array(numbers))


def _names_columns(words: Sequence[str], columns: int) -> bool:
    """Whether a line is a header. In a row the first word is an image or the others are numbers, if not both."""
    named = len(words) == columns + 1 or len(words) == columns > 1  # with a name for the images, or without
    return named and not any(_image(word) or _is_number(word) for word in words)


def _row(line: str, separator: str | None, columns: int) -> tuple[str, list[float]]:
    """An image and its values."""
    name, *rest = line.split(separator, 1)
    image = _image(name)
    if not image:
        raise DataError(f"'{name.strip()[:60]}' is not the name of an image")
    words = rest[0].split(separator) if rest else []
    if len(words) != columns:
        raise DataError(f"{len(words)} values for {columns} columns")
    return image, [*map(_number, words)]


@lru_cache(maxsize=1 << 16)  # a list has few different numbers, and a look-up takes a third of the time
def _number(word: str) -> float:
    try:
        value = float(word)
    except ValueError as error:
        raise DataError(f"'{word.strip()[:60]}' is no number") from error
    if not isfinite(value) or "_" in word or not word.isascii():  # Python reads 1_000 and the digits of every script
        raise DataError(f"'{word.strip()[:60]}' is no finite number in digits")
    return value


def _image(name: str) -> str:
    """The key of a file name in ``CelebaList.rows``; empty where it is not that of an image."""
    image, dot, suffix = name.strip().lower().rpartition(".")
    return image if dot + suffix in SUFFIXES else ""


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
