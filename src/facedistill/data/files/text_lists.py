"""Text files of people's own: lines and numbers."""

import codecs
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from facedistill.data.files.faults import readable
from facedistill.errors import DataError
from facedistill.system.files import open_regular

MAX_LINE = 2000  # characters; no list of landmarks has longer lines, and the rest of the file might be endless
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file and their numbers from 1, read one by one; UTF-8, or UTF-16 with a byte order mark.

    Raises ``DataError`` if one is too long.
    """
    with readable(path), open_regular(path) as file:
        utf16 = file.read(2) in _UTF16
        file.seek(0)
        text = io.TextIOWrapper(file, *(("utf-16", "replace") if utf16 else ("utf-8-sig", "surrogateescape")))
        for number, line in enumerate(iter(lambda: text.readline(MAX_LINE + 1), ""), start=1):
            if len(line) > MAX_LINE:
                raise DataError(f"{path}, line {number}: longer than {MAX_LINE} characters")
            yield number, line


def finite(words: Sequence[str]) -> list[float]:
    """Words as numbers. Raises ``DataError`` where one isn't a finite number."""
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise DataError(f"a coordinate is not a number ({error})") from error
    if not all(map(math.isfinite, values)):
        raise DataError(f"a coordinate is not finite ({' '.join(words)})")
    return values
