"""Lists of pairs of images: do both show the same person?

- LFW's ``pairs.txt``: ``folds pairs_per_class``, then of every fold that many lines ``name i j`` (one person), and as
  many ``name i other j``. ``pairsDevTrain.txt`` and ``pairsDevTest.txt`` are one fold: ``pairs_per_class``.
- The same lines without these numbers, as in Kaggle's ``pairs.csv`` and ``mismatchpairsDevTest.csv``.
- CALFW's and CPLFW's: two lines a pair, ``image n``, where n is 0 if they show two people (else 1, or a fold of the
  pairs of one person only).
- ``image image n`` (arcface-pytorch's ``lfw_test_pair.txt``).

Columns are separated by tabs, commas or blanks; a line with the names of columns may come first. Where a list doesn't
say which pairs of both kinds are a fold, it is scored in ten: consecutive tenths of the pairs of each kind. CALFW and
CPLFW are scored so (FaceX-Zoo, ``test_protocol/lfw/pairs_parser.py``), and LFW's own folds are such tenths.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedistill.data.faces import FOLDS
from facedistill.data.files.faults import located
from facedistill.data.files.listing import suffix_of
from facedistill.data.files.photos import SUFFIXES
from facedistill.data.files.text_lists import lines_of
from facedistill.errors import DataError

_Line = tuple[int, list[str]]


class ListedPair(NamedTuple):
    """Two images by their paths, where the first could be ``Name/Name_0001.jpg``; ``location``: file and line."""

    location: str
    left: str
    right: str
    same: bool


class PairList(NamedTuple):
    """Pairs in the order of their list, and int64 [P] the fold of each, from 0; ``tenths``: the list has no folds."""

    pairs: list[ListedPair]
    fold: NDArray[np.int64]
    tenths: bool


def read_pairs(paths: Sequence[Path]) -> PairList:
    """The pairs of a list, which may be in several files without folds. Raises ``DataError`` with file and line."""
    pairs, folds = list[ListedPair](), 1
    for path in paths:
        lines = ((number, _words(line)) for number, line in lines_of(path) if line.strip())
        number, header = next(lines, (1, []))
        if 1 <= len(header) <= 2 and all(map(_is_number, header)):
            folds, per_class = map(int, header if len(header) == 2 else ["1", *header])
            if folds < 1 or per_class < 1:
                raise DataError(f"{path}, line {number}: '{' '.join(header)}' announces no pairs")
            pairs += _counted(path, lines, folds, per_class)
        else:
            named = any(_is_number(word) or _is_image(word) for word in header)
            pairs += _uncounted(path, chain([(number, header)] if named else [], lines))
        if not pairs:
            raise DataError(f"{path}, line {number}: no pairs. LFW's pairs.txt begins with `10 300`")
    with located(" and ".join(map(str, paths))):
        same = np.array([pair.same for pair in pairs], np.bool_)
        if folds > 1:
            return PairList(pairs, np.arange(len(pairs)) * folds // len(pairs), tenths=False)
        return PairList(pairs, _tenths(same), tenths=True)


def _tenths(same: NDArray[np.bool_]) -> NDArray[np.int64]:
    fold = np.empty(len(same), np.int64)
    for kind, named in ((True, "one person"), (False, "two people")):
        numbers = np.flatnonzero(same == kind)
        if 0 < len(numbers) < FOLDS:  # a list may have one kind only
            raise DataError(f"{len(numbers)} pairs of {named}, too few for {FOLDS} folds")
        fold[numbers] = np.arange(len(numbers)) * FOLDS // len(numbers)
    return fold


def _counted(path: Path, lines: Iterator[_Line], folds: int, per_class: int) -> list[ListedPair]:
    """Lines whose kinds are known by the numbers at the top."""
    count, number = 2 * folds * per_class, 1
    pairs: list[ListedPair] = []
    for number, words in lines:
        location = f"{path}, line {number}"
        with located(location):
            if len(pairs) == count:
                raise DataError(f"more lines than the {count} pairs of the header")
            pairs.append(_numbered(location, words, same=len(pairs) // per_class % 2 == 0))
    if len(pairs) < count:
        raise DataError(f"{path}, line {number}: ends after {len(pairs)} of {count} pairs; copy the file again")
    return pairs


def _uncounted(path: Path, lines: Iterator[_Line]) -> Iterator[ListedPair]:
    for number, words in lines:
        location = f"{path}, line {number}"
        with located(location):
            match words:
                case [left, right, answer] if _is_image(left) and _is_image(right) and _is_number(answer):
                    pair = ListedPair(location, left, right, int(answer) > 0)
                case [left, answer] if _is_image(left) and _is_number(answer):
                    _, below = next(lines, (0, []))
                    if len(below) != 2 or not _is_image(below[0]) or below[1] != answer:
                        raise DataError(f"expected `image {answer}`, the second of a pair, below '{' '.join(words)}'")
                    pair = ListedPair(location, left, below[0], int(answer) > 0)
                case [_, _, _] | [_, _, _, _]:
                    pair = _numbered(location, words, same=len(words) == 3)
                case _:
                    forms = "`name i j`, `name i other j`, `image image n` or two lines `image n`"
                    raise DataError(f"'{' '.join(words)[:80]}' is no pair, which is {forms}")
        yield pair


def _numbered(location: str, words: list[str], same: bool) -> ListedPair:
    """``name i j`` or ``name i other j``."""
    if len(words) != (3 if same else 4) or (not same and words[0] == words[2]):
        expected = "`name i j`, two images of one person" if same else "`name i other j`, images of two people"
        raise DataError(f"expected {expected}, not '{' '.join(words)}'")
    name, first, *others, second = words
    return ListedPair(location, _path(name, first), _path(others[0] if others else name, second), same)


def _path(name: str, number: str) -> str:
    if not _is_number(number):
        raise DataError(f"'{number}' is not the number of an image")
    return f"{name}/{name}_{int(number):04d}.jpg"


def _words(line: str) -> list[str]:
    """The cells of a line, without empty ones at its end."""
    line = line.strip().rstrip(",")
    return [word.strip(' "') for word in re.split(r"[,\t]", line)] if re.search(r"[,\t]", line) else line.split()


def _is_image(word: str) -> bool:
    return suffix_of(word) in SUFFIXES


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= 18
