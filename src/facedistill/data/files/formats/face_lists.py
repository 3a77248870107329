"""The text files beside InsightFace's ``train.rec``: ``train.lst``, the paths of the images, and ``property``.

Each line of the list is an image, in columns separated by tabs: InsightFace's ``flag path label …``, with lines in the
order of the keys, or MXNet's ``index label … path``, with indices in the order of the keys and possibly shuffled lines.
Paths are those on the machine that packed the images. ``property`` is one line, ``classes,height,width``.

Sources: InsightFace ``src/common/face_preprocess.py`` (``parse_lst_line``), ``src/data/face2rec2.py`` (``read_list``)
and ``src/common/face_image.py`` (``load_property``); MXNet ``tools/im2rec.py`` (``read_list``).
"""

import re
from array import array
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedistill.data.files.text_lists import lines_of
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
    """Raises ``DataError`` if the file is not one line of three positive numbers."""
    lines = [(number, line) for number, line in lines_of(path) if not line.isspace()][:2]
    match = _PROPERTY.fullmatch(lines[0][1]) if lines else None
    values = [int(word) for word in match.groups()] if match else []
    if len(lines) != 1 or not values or min(values) < 1:
        number = lines[-1][0] if lines else 1
        raise DataError(f"{path}, line {number}: expected one line, `classes,height,width`. Copy it again")
    return Property(*values)


def read_names(path: Path, keys: NDArray[np.int64], labels: NDArray[np.int64]) -> list[str]:
    """``identity/file``, the last two parts of the path, of every image.

    Args:
        keys: int64 [N], of the images, ascending.
        labels: int64 [N], of the images.

    Raises ``DataError`` with the line if it can't be parsed, or its label is not that of the image; a name or an index
    is there twice; or there are fewer or more lines than images.
    """

    def fault(line: int, what: str) -> DataError:
        remedy = f"Without {path.name}, images are named by their keys: move it away"
        return DataError(f"{path}, line {line}: {what}. {remedy}")

    names: list[str] = []
    indices, given, lines = array("q"), array("q"), array("q")
    seen: set[str] = set()
    pattern: re.Pattern[str] | None = None  # that of the first line
    number = 0
    for number, line in lines_of(path):
        text = line.strip()
        if not text:
            continue
        match = pattern.fullmatch(text) if pattern else _MXNET.fullmatch(text) or _INSIGHTFACE.fullmatch(text)
        if not match:
            expected = "`flag path label` or `index label path`, separated by tabs, with a folder in path"
            raise fault(number, f"expected {expected}")
        if len(names) == len(keys):
            raise fault(number, f"there are only {len(keys)} images")
        pattern = match.re
        name = f"{match['identity']}/{match['file']}"
        if name in seen:
            raise fault(number, f"a second line for {name[:60]}")
        seen.add(name)
        names.append(name)
        indices.append(int(match["index"]) if pattern is _MXNET else number)
        given.append(int(match["label"]))
        lines.append(number)
    if len(names) < len(keys):
        raise fault(number, f"the list ends after {len(names)} of {len(keys)} images")
    order = np.argsort(indices, kind="stable")
    index, label = np.array(indices)[order], np.array(given)[order]
    for i in np.flatnonzero(label != labels)[:1]:
        raise fault(lines[order[i]], f"label {label[i]}, but the image of key {keys[i]} has label {labels[i]}")
    for i in np.flatnonzero(index[1:] == index[:-1])[:1]:
        raise fault(lines[order[i + 1]], f"a second line for index {index[i]}")
    return [names[i] for i in order.tolist()]
