"""Text files of annotations: one line an image, ``identity/image`` and then numbers."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facedistill.data.files.faults import located, refusal
from facedistill.data.files.landmarks import five_points
from facedistill.data.files.photos import SUFFIXES
from facedistill.data.files.text_lists import finite, lines_of
from facedistill.errors import DataError

_NAMED = re.compile(rf"(.*(?:{'|'.join(map(re.escape, SUFFIXES))}))((?:\s.*)?)", re.IGNORECASE)


@dataclass(frozen=True)
class Annotation:
    location: str  # file and line
    values: NDArray[np.float64]  # [5, 2] or [4]


def read_annotations(
    path: Path, kind: str, known: Collection[str], folder: Path, on_error: str
) -> dict[str, Annotation | str]:
    """The annotations of a file by the names of their images.

    Args:
        kind: ``landmarks``, x y of the five ``LANDMARKS``; or ``boxes``, x y of the upper left corner, width and
            height. In pixels of the upright image.
        known: the names of the images in ``folder``.
        on_error: with ``skip``, the value for an image with a bad line is the message about it, and lines of unknown
            images are ignored.

    Raises ``DataError`` with file and line.
    """
    annotations: dict[str, Annotation | str] = {}
    for number, line in lines_of(path):
        if not line.strip():
            continue
        location = f"{path}, line {number}"
        # names may contain spaces, so a name ends with the suffix of an image
        match = _NAMED.fullmatch(line.strip())
        name, words = (match[1], match[2].split()) if match else (line.split()[0], line.split()[1:])
        try:
            with located(location):
                if name not in known:
                    raise DataError(f"{folder} holds no image {name}")
                if name in annotations:
                    raise DataError(f"a second line for {name}")
                annotations[name] = Annotation(location, _PARSERS[kind](words))
        except DataError as error:
            if on_error == "raise":
                raise refusal(error) from error
            if name in known:
                annotations[name] = str(error)
    return annotations


def _box(words: Sequence[str]) -> NDArray[np.float64]:
    if len(words) != 4:
        raise DataError(f"{len(words)} values, expected x y of the upper left corner, width and height")
    return np.array(finite(words))


_PARSERS: dict[str, Callable[[Sequence[str]], NDArray[np.float64]]] = {"landmarks": five_points, "boxes": _box}
