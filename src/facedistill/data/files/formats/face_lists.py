"""What InsightFace puts beside ``train.rec``: ``train.lst``, the images' files, and ``property``, what they are.

A line of the list is an image, its columns between tabs: InsightFace's ``flag path label …``, where the order of the
lines is that of the keys, or MXNet's ``index label … path``, where the order of the indices is, and lines may be
shuffled. The paths are those of the machine that packed the images. ``property`` is one line, ``classes,height,width``.

Sources: InsightFace ``src/common/face_preprocess.py`` (``parse_lst_line``), ``src/data/face2rec2.py`` (``read_list``)
and ``src/common/face_image.py`` (``load_property``); MXNet ``tools/im2rec.py`` (``read_list``).
"""

from __future__ import annotations

import re
from array import array
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedistill.data.files.photos import lines_of
from facedistill.errors import DataError

_NUMBER = r"\d{1,18}"
_LABEL = rf"(?P<label>{_NUMBER})(?:\.0*)?"
_PATH = r"(?:[^\t]*[\\/])?(?P<identity>[^\t\\/]+)[\\/](?P<file>[^\t\\/]+)"
_MXNET = re.compile(rf"(?P<index>{_NUMBER})\t{_LABEL}\t(?:.*\t)?{_PATH}", re.ASCII)
_INSIGHTFACE = re.compile(rf"{_NUMBER}\t{_PATH}\t{_LABEL}(?:\t.*)?", re.ASCII)
_PROPERTY = re.compile(r"\s*(\d{1,9})\s*,\s*(\d{1,9})\s*,\s*(\d{1,9})\s*", re.ASCII)


class Property(NamedTuple):
    """The number of identities, and the size of the images in pixels."""

    classes: int
    height: int
    width: int


def read_property(path: Path) -> Property:
    """Raises ``DataError`` where the file is not one line of three numbers from 1."""
    lines = [(number, line) for number, line in lines_of(path) if not line.isspace()][:2]
    match = _PROPERTY.fullmatch(lines[0][1]) if lines else None
    values = [int(word) for word in match.groups()] if match else []
    if len(lines) != 1 or not values or min(values) < 1:
        number = lines[-1][0] if lines else 1
        raise DataError(f"{path}, line {number}: expected one line, `classes,height,width`. Copy it again")
    return Property(*values)


def read_names(path: Path, keys: NDArray[np.int64], labels: NDArray[np.int64]) -> list[str]:
    """``identity/file``, the last two parts of its path, of every image of a set.

    Args:
        path: of the list.
        keys: [N], ascending, of the images.
        labels: [N], theirs.

    Raises:
        DataError: names the line: it is none, or of another image's label, a name or an index is there twice, or there
            are fewer or more lines than images.
    """

    def fault(line: int, what: str) -> DataError:
        return DataError(f"{path}, line {line}: {what}. Move {path.name} away, and images are known by their keys")

    names: list[str] = []
    indices, given, lines = array("q"), array("q"), array("q")
    seen: set[str] = set()
    form: re.Pattern[str] | None = None  # the first line's
    number = 0
    for number, line in lines_of(path):
        text = line.strip()
        if not text:
            continue
        match = form.fullmatch(text) if form else _MXNET.fullmatch(text) or _INSIGHTFACE.fullmatch(text)
        if not match:
            raise fault(number, "expected `flag path label` or `index label path`, tabs between, a folder in the path")
        if len(names) == len(keys):
            raise fault(number, f"one more than the {len(keys)} images")
        form = match.re
        name = f"{match['identity']}/{match['file']}"
        if name in seen:
            raise fault(number, f"a second line of {name[:60]}")
        seen.add(name)
        names.append(name)
        indices.append(int(match["index"]) if form is _MXNET else number)
        given.append(int(match["label"]))
        lines.append(number)
    if len(names) < len(keys):
        raise fault(number, f"the last, after {len(names)} of {len(keys)} images")
    order = np.argsort(indices, kind="stable")
    index, label = np.array(indices)[order], np.array(given)[order]
    for place in np.flatnonzero(label != labels)[:1]:
        what = f"label {label[place]}, but the image of key {keys[place]} has label {labels[place]}"
        raise fault(lines[order[place]], what)
    for place in np.flatnonzero(index[1:] == index[:-1])[:1]:
        raise fault(lines[order[place + 1]], f"a second line of index {index[place]}")
    return [names[place] for place in order.tolist()]
