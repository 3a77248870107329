"""Lists of faces with five landmarks: a csv with named columns, or MTFL's own training.txt and testing.txt.

As published (readme.txt beside them), each line is an image: its path from the folder of the list, with backslashes; x
of the five ``LANDMARKS``, then y of the five; gender, smile, glasses, pose. Copies have commas or no attributes, or x
and y in turn. All images of testing.txt are from AFLW.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facedistill.data.files.landmarks import ORDERS, order_of
from facedistill.data.files.photos import SUFFIX_PATTERN
from facedistill.data.files.text_lists import finite, lines_of
from facedistill.errors import DataError

POINTS = [f"{name}_{axis}" for name in ("leye", "reye", "nose", "lmouth", "rmouth") for axis in "xy"]
TRAIN = "train"
PUBLISHED = {"training.txt": TRAIN, "testing.txt": "test"}
PUBLISHED_ORDER = "x1 … x5 y1 … y5"
_COLUMNS = ["split", "file", "width", "height", *POINTS]
_NAMED = re.compile(rf"(.*?{SUFFIX_PATTERN})[\s,;]+(.*)", re.IGNORECASE)
_SEPARATOR = re.compile(r"[\s,;]+")


class Row(NamedTuple):
    """A row by the names of its columns; there may be another number of values."""

    location: str
    columns: list[str]
    values: list[str]


def csv_rows(path: Path) -> Iterator[Row]:
    """The rows of a csv, whose columns are separated by commas, semicolons or tabs.

    Raises ``DataError`` if a column is missing, or it can't be parsed.
    """
    lines = (line for _, line in lines_of(path))
    first = next(lines, "")
    separator = max(",;\t", key=first.count)
    header = [name.strip().lower() for name in next(csv.reader([first], delimiter=separator), [])]
    if missing := [column for column in _COLUMNS if column not in header]:
        raise DataError(f"{path}, line 1: no column {', '.join(missing)}")
    rows = csv.reader(lines, delimiter=separator)
    try:
        for values in rows:
            if values:
                yield Row(f"{path}, line {rows.line_num + 1}", header, values)
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num + 1}: {error}") from error


def published_rows(folder: Path) -> tuple[list[Row], str]:
    """The rows of training.txt and testing.txt, and the order of their landmarks, one of ``ORDERS``.

    The images of testing.txt are of the split ``test_FOLDER``, by the folder of their path.
    """
    lines: list[tuple[str, list[str], list[str]]] = []
    for name, split in PUBLISHED.items():
        for number, line in lines_of(folder / name):
            if not line.strip():
                continue
            match = _NAMED.fullmatch(line.strip())
            file, words = (match[1], _SEPARATOR.split(match[2])) if match else (line.strip(), [])
            file = file.replace("\\", "/")
            inside = "" if split == TRAIN or "/" not in file else "_" + file.split("/")[-2].lower()
            lines.append((f"{folder / name}, line {number}", [split + inside, file], words))
    order = _order([words for _, _, words in lines])
    points = [POINTS[i] for i in np.argsort(ORDERS[order].ravel())]
    attributes = ["gender", "smile", "glasses", "pose"]
    rows = []
    for location, start, words in lines:
        columns = ["split", "file", *points, *(attributes if len(words) != len(points) else [])]
        rows.append(Row(location, columns, [*start, *words]))
    return rows, order


def _order(rows: list[list[str]]) -> str:
    """The order of the landmarks in most rows; the published one, where they are no faces' in any."""
    numbers = []
    for words in rows:
        try:
            numbers.append(finite(words[: len(POINTS)]))
        except DataError:  # whoever reads the row says so
            continue
    whole = [values for values in numbers if len(values) == len(POINTS)]
    try:
        return order_of(np.array(whole))[1] if whole else PUBLISHED_ORDER
    except DataError:
        return PUBLISHED_ORDER
