"""Lists in text of what is known of images: ``identity/image``, then numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facedistill.data.files.faults import located, refusal
from facedistill.data.files.photos import SUFFIXES, finite, five_points, lines_of
from facedistill.errors import DataError

_NAMED = re.compile(rf"(.*(?:{'|'.join(map(re.escape, SUFFIXES))}))((?:\s.*)?)", re.IGNORECASE)


@dataclass(frozen=True)
class Annotation:
    """The values of an image, and the file and line that have them."""

    place: str
    values: NDArray[np.float64]


def read_annotations(
    path: Path, what: str, known: Mapping[str, int], where: Path, on_error: str
) -> dict[str, Annotation | str]:
    """The rows of a list by image.

    Args:
        what: ``landmarks``, x y of the five ``source.LANDMARKS``; or ``boxes``, x y of the upper left corner, width
            and height. In pixels of the upright image.
        known: the images that there are, ``where``.
        on_error: with ``skip`` a bad line is a complaint, which leaves its image out; a line of no image does no harm.

    Raises:
        DataError: names file and line.
    """
    rows: dict[str, Annotation | str] = {}
    for number, line in lines_of(path):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        # a name may hold spaces: it ends where an image's name does
        match = _NAMED.fullmatch(line.strip())
        name, words = (match[1], match[2].split()) if match else (line.split()[0], line.split()[1:])
        try:
            with located(place):
                if name not in known:
                    raise DataError(f"{where} holds no image {name}")
                if name in rows:
                    raise DataError(f"a second line of {name}")
                rows[name] = Annotation(place, _PARSERS[what](words))
        except DataError as error:
            if on_error == "raise":
                raise refusal(error) from error
            if name in known:
                rows[name] = str(error)
    return rows


def _box(words: Sequence[str]) -> NDArray[np.float64]:
    if len(words) != 4:
        raise DataError(f"{len(words)} values, expected x y of the upper left corner, width and height")
    return np.array(finite(words))


_PARSERS: dict[str, Callable[[Sequence[str]], NDArray[np.float64]]] = {"landmarks": five_points, "boxes": _box}
