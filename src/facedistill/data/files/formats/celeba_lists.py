"""CelebA's lists: one line per image, its file name and then numbers.

As published (README.txt beside them, https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html), with the number of values:

- ``identity_CelebA.txt`` (1) and ``list_eval_partition.txt`` (1: 0 train, 1 val, 2 test) have no header;
- ``list_landmarks_align_celeba.txt`` and ``list_landmarks_celeba.txt`` (10: x y of left eye, right eye, nose, left and
  right mouth corner, in pixels of the aligned image or of the one in the wild), ``list_bbox_celeba.txt`` (4: x and y of
  the upper left corner, width, height, in the wild) and ``list_attr_celeba.txt`` (40 of −1 or 1) begin with a line for
  the number of rows and one for the names of the columns.

Left is left in the image, as in ``LANDMARKS``: in the aligned 000001.jpg, the left eye is at x = 69, the right one at
106. Mirrors drop the header or add one; Kaggle's are csv: commas, names of columns, no number of rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facedistill.data.files.photos import SUFFIXES
from facedistill.data.files.text_lists import lines_of
from facedistill.errors import DataError


@dataclass(frozen=True)
class CelebaList:
    """The rows of a list.

    Attributes:
        rows: the position of each image in ``values`` and ``lines``, in the order of the file. Images are keyed by file
            names in lower case without suffix, because the published jpg and png images have the same lists.
        values: float64 [N, columns], finite.
        lines: int64 [N], line numbers from 1.
    """

    path: Path
    rows: dict[str, int]
    values: NDArray[np.float64]
    lines: NDArray[np.int64]

    def of(self, image: str) -> NDArray[np.float64]:
        """The values of an image, float64 [columns]."""
        values: NDArray[np.float64] = self.values[self.rows[image]]
        return values

    def location(self, image: str) -> str:
        """File and line of an image, for error messages."""
        return f"{self.path}, line {self.lines[self.rows[image]]}"

    def check(self, good: NDArray[np.bool_], message: str) -> None:
        """Raise ``DataError`` with the line of the first row that is not ``good`` [N]."""
        if not good.all():
            raise DataError(f"{self.path}, line {self.lines[good.argmin()]}: {message}; copy the file again")


def read_list(path: Path, columns: int) -> CelebaList:
    """A list of ``columns`` values per image, in any of the forms above.

    Raises ``DataError`` with file and line if a row can't be parsed, repeats an image or is too long; or if there are
    no rows, or not as many as the file announces.
    """
    lines: Iterator[tuple[int, str]] = (line for line in lines_of(path) if not line[1].isspace())
    start, line = next(lines, (1, ""))
    number, announced = start, line.strip()
    if announced.isascii() and announced.isdigit():
        number, line = next(lines, (start, ""))
    else:
        announced = ""
    separator = "," if "," in line else None  # None: any white space
    if line and not _names_columns(line.split(separator), columns):
        lines = chain([(number, line)], lines)
    rows: dict[str, int] = {}
    numbers: list[int] = []
    values: list[float] = []
    for number, line in lines:
        try:
            image, row = _row(line, separator, columns)
            if image in rows:
                raise DataError(f"a second row for {image[:60]}")
        except DataError as error:
            raise DataError(f"{path}, line {number}: {error}; copy the file again") from error
        rows[image] = len(rows)
        numbers.append(number)
        values += row
    if not rows or (announced and len(rows) != int(announced)):
        expected = f"{announced[:60]} rows" if announced else "a row per image"
        raise DataError(f"{path}, line {start}: expected {expected}, but the file has {len(rows)}; copy the file again")
    return CelebaList(path, rows, np.array(values).reshape(-1, columns), np.array(numbers))


def _names_columns(words: Sequence[str], columns: int) -> bool:
    """Whether a line is a header: none of its words is an image or a number."""
    named = len(words) == columns + 1 or len(words) == columns > 1  # with or without a name for the column of images
    return named and not any(_image(word) or _is_number(word) for word in words)


def _row(line: str, separator: str | None, columns: int) -> tuple[str, list[float]]:
    name, *rest = line.split(separator, 1)
    image = _image(name)
    if not image:
        raise DataError(f"'{name.strip()[:60]}' is not the name of an image")
    words = rest[0].split(separator) if rest else []
    if len(words) != columns:
        raise DataError(f"{len(words)} values for {columns} columns")
    return image, [*map(_number, words)]


@lru_cache(maxsize=1 << 16)  # lists repeat numbers, and a look-up takes a third of the time
def _number(word: str) -> float:
    try:
        value = float(word)
    except ValueError as error:
        raise DataError(f"'{word.strip()[:60]}' is not a number") from error
    if not isfinite(value) or "_" in word or not word.isascii():  # Python accepts 1_000 and the digits of every script
        raise DataError(f"'{word.strip()[:60]}' is not a finite decimal number")
    return value


def _image(name: str) -> str:
    """The key of a file name in ``CelebaList.rows``; empty if it is not the name of an image."""
    image, dot, suffix = name.strip().lower().rpartition(".")
    return image if dot + suffix in SUFFIXES else ""


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
