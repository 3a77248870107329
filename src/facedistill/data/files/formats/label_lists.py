"""Text files of labels: one line an image, with its path and the number or name of its identity.

Columns are separated by tabs, commas, semicolons or blanks. The column of paths is known by the suffixes of images, so
columns may be in any order and have a header. Of more than two columns, the header says which is the label.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from facedistill.data.files.photos import SUFFIXES, UNREAD_SUFFIXES
from facedistill.data.files.text_lists import lines_of
from facedistill.errors import DataError

_HEADERS = ("label", "identity", "identity_id", "person", "person_id", "subject", "subject_id", "class", "name", "id")
_SUFFIX = rf"\.(?:{'|'.join(suffix[1:] for suffix in sorted({*SUFFIXES, *UNREAD_SUFFIXES}))})"
_PATH = re.compile(rf".*{_SUFFIX}", re.IGNORECASE)
_PATH_FIRST = re.compile(rf"(.*?{_SUFFIX})\s+(.*)", re.IGNORECASE)
_LABEL_FIRST = re.compile(rf"(\S+)\s+(\S.*{_SUFFIX})", re.IGNORECASE)
_NUMBER = re.compile(r"-?[\d.]+")


class Labelled(NamedTuple):
    """A line of a list; ``path`` as it is written there."""

    line: int
    path: str
    label: str


def read_labels(path: Path) -> Iterator[Labelled]:
    """The lines of a list; those that have another number of columns, or no label, with an empty label.

    Raises ``DataError`` if the first lines don't say which columns are paths and labels.
    """
    lines = ((number, line) for number, line in lines_of(path) if line.strip())
    first = list(islice(lines, 2))
    form = _form_of(path, [line for _, line in first])
    for number, line in chain(first[form.has_header :], lines):
        cells = _cells(line, form.separator)
        whole = len(cells) == form.width
        yield Labelled(number, cells[form.path] if whole else line.strip(), cells[form.label] if whole else "")


class _Form(NamedTuple):
    separator: str  # empty for blanks
    has_header: bool
    width: int  # columns
    path: int  # a column, as is ``label``
    label: int


def _form_of(path: Path, lines: Sequence[str]) -> _Form:
    for separator in ("\t", ",", ";", ""):
        rows = [_cells(line, separator) for line in lines]
        for has_header, row in enumerate(rows):
            paths = [column for column, cell in enumerate(row) if _PATH.fullmatch(cell)]
            if not paths or len(row) < 2:
                continue
            others = [column for column in range(len(row)) if column != paths[0]]
            names = [name.lower() for name in rows[0]] if has_header and len(rows[0]) == len(row) else []
            named = [names.index(name) for name in _HEADERS if name in names and names.index(name) in others]
            if len(others) > 1 and not named:
                known = ", ".join(_HEADERS)
                raise DataError(
                    f"{path} has {len(row)} columns: name that of the labels in a header, as one of {known}"
                )
            return _Form(separator, bool(has_header), len(row), paths[0], (named or others)[0])
    raise DataError(
        f"{path}: expected a line per image, its path and its label, separated by a tab, a comma or a blank"
    )


def _cells(line: str, separator: str) -> list[str]:
    """Paths and names may contain blanks, and tabs separate whatever is quoted."""
    line = line.strip()
    if separator == "\t":
        return [cell.strip() for cell in line.split(separator)]
    if separator:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]
    if match := _PATH_FIRST.fullmatch(line):
        words = match[2].split()
        return [match[1], *(words if any(map(_NUMBER.fullmatch, words)) else [match[2]])]
    match = _LABEL_FIRST.fullmatch(line)
    return [match[1], match[2]] if match else line.split()
