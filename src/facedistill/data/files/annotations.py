"""Text files of annotations: one line an image, ``identity/image`` and then numbers.

Forms of other people are read too. A header; columns separated by blanks, commas, semicolons or tabs; an index before
the name; the identity after it; other numbers around landmarks, such as InsightFace's boxes and a detector's score.
Paths may be absolute, begin with other folders, have backslashes, or another suffix than the image; a name without a
folder is that of the only image that is called so. Landmarks may be in any of ``ORDERS``.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from math import isnan, nan
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedistill.data.faces import LANDMARKS
from facedistill.data.files.faults import located, refusal
from facedistill.data.files.landmarks import ORDERS, OUR_ORDER, check_eyes, order_of
from facedistill.data.files.photos import SUFFIX_PATTERN
from facedistill.data.files.text_lists import finite, lines_of
from facedistill.errors import DataError

_NAMED = re.compile(rf'(.*{SUFFIX_PATTERN})(?:[\s,;"](.*))?', re.IGNORECASE)  # names may contain blanks
_ENDS = re.compile(rf"{SUFFIX_PATTERN}$", re.IGNORECASE)
_DECIDE = 10_000  # so many lines decide the form of a list
_HEADERS = 2  # CelebA's lists have two: the number of images, and the names of the columns


class _Kind(NamedTuple):
    values: int
    named: str
    widths: range  # how many values a line may have


_KINDS = {
    "landmarks": _Kind(10, f"x y of {', '.join(LANDMARKS)}", range(10, 18)),
    "boxes": _Kind(4, "x y of the upper left corner, width and height", range(4, 6)),
}


@dataclass(frozen=True)
class Annotation:
    location: str  # file and line
    values: NDArray[np.float64]  # [5, 2] or [4]


@dataclass(frozen=True)
class Annotations:
    """The annotations of a file.

    Attributes:
        of: by the names of their images; the message about it where the line of an image is bad.
        order: that of the landmarks, one of ``ORDERS``.
        elsewhere: the number of lines for other images.
    """

    of: dict[str, Annotation | str]
    order: str
    elsewhere: int


def read_annotations(path: Path, kind: str, known: Collection[str], folder: Path, on_error: str) -> Annotations:
    """The annotations of the images in ``folder``; the list may have more images.

    Args:
        kind: ``landmarks``, x y of the five ``LANDMARKS``; or ``boxes``, x y of the upper left corner, width and
            height. In pixels of the upright image.
        known: the names of the images in ``folder``.
        on_error: whether the first bad line raises; with ``skip``, its image has the message about it.

    Raises ``DataError`` with file and line; and, whatever ``on_error`` is, if there are no such annotations in the
    file, or only those of other images.
    """
    images = _Images(known)
    lines = ((number, *_split(line)) for number, line in lines_of(path) if line.strip())
    first = list(islice(lines, _DECIDE))
    for _ in range(_HEADERS):
        if first and all(map(isnan, map(_number, first[0][2]))) and not images.find(first[0][1]):
            del first[0]
    with located(str(path)):
        form = _form_of([words for _, _, words in first], kind)
    of: dict[str, Annotation | str] = {}
    elsewhere = 0
    for number, written, words in chain(first, lines):
        name = images.find(written)
        if name is None:
            elsewhere += 1
            continue
        location = f"{path}, line {number}"
        try:
            with located(location):
                if name in of:
                    raise DataError(f"a second line for {name}")
                of[name] = Annotation(location, form.read(words))
        except DataError as error:
            if on_error == "raise":
                raise refusal(error) from error
            of[name] = str(error)
    if known and not of:
        written = f"its first is {first[0][1]}" if first else "it has no lines"
        raise DataError(f"{path} names no image of {folder}: {written}, an image there is {next(iter(known))}")
    return Annotations(of, form.order, elsewhere)


class _Form(NamedTuple):
    """What the values of every line of a list are."""

    kind: str
    width: int
    start: int  # of those that are meant
    order: str

    def read(self, words: Sequence[str]) -> NDArray[np.float64]:
        """Landmarks [5, 2] or a box [4]. Raises ``DataError``."""
        count, named, _ = _KINDS[self.kind]
        if len(words) != self.width:
            others = f"{self.width}, {count} of them " if self.width != count else ""
            raise DataError(f"{len(words)} values, expected {others}{named}")
        values = np.array(finite(words[self.start : self.start + count]))
        if self.kind == "boxes":
            return values
        points: NDArray[np.float64] = values[ORDERS[self.order]]
        check_eyes(points)
        return points


def _form_of(lines: Sequence[list[str]], kind: str) -> _Form:
    """The form of a list by the values of its first lines. Raises ``DataError`` if they can't be such annotations."""
    count, named, widths = _KINDS[kind]
    width = Counter(map(len, lines)).most_common(1)[0][0] if lines else count
    if width not in widths:
        raise DataError(f"its lines have {width} values after the name, expected {count}: {named}")
    form = _Form(kind, width, width - count, OUR_ORDER)
    numbers = [list(map(_number, words)) for words in lines if len(words) == width]
    if kind == "boxes" or not numbers:
        return form
    start, order = order_of(np.array(numbers))
    return form._replace(start=start, order=order)


class _Images:
    """Images, by what lists call them."""

    def __init__(self, known: Collection[str]) -> None:
        self._known = known

    def find(self, written: str) -> str | None:
        """The name of the image that is written so; None if there is none, or it could be several."""
        if written in self._known:
            return written
        path = re.split(r"[\t,;]", written)[-1].strip(' "').replace("\\", "/")
        if "/" not in path:
            return self._by_stem.get(_stem(path)) or self._by_file.get(_stem(path))
        while path:
            if name := self._by_stem.get(_stem(path)):
                return name
            path = path.partition("/")[2]
        return None

    @cached_property
    def _by_stem(self) -> dict[str, str | None]:
        names: dict[str, str | None] = {}
        for name in self._known:
            stem = _stem(name)
            for path in {stem, "/".join(stem.split("/")[-2:])}:
                names[path] = None if path in names else name
        return names

    @cached_property
    def _by_file(self) -> dict[str, str | None]:
        """Images by their names without folders: None for those that several have."""
        names: dict[str, str | None] = {}
        for name in self._known:
            file = _stem(name).rpartition("/")[2]
            names[file] = None if file in names else name
        return names


def _stem(path: str) -> str:
    """Without the suffix of an image; accents as one character, as some file systems write them as two."""
    return unicodedata.normalize("NFC", _ENDS.sub("", path))


def _split(line: str) -> tuple[str, list[str]]:
    """The name in a line, maybe with an index before it, and the values after it."""
    match = _NAMED.fullmatch(line.strip())
    name, rest = match.groups("") if match else re.split(r"(?=[\s,;])|$", line.strip(), maxsplit=1)
    return name, re.findall(r'[^\s,;"]+', rest)


def _number(word: str) -> float:
    """NaN for a word that is none."""
    try:
        return float(word)
    except ValueError:
        return nan
