"""Images in any folders, and a list of their labels: ``label.txt``, ``labels.csv``, …"""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from facedistill.data.files.faults import Faults
from facedistill.data.files.formats.label_lists import read_labels
from facedistill.data.files.layouts.layout import FilesLayout
from facedistill.data.files.listing import ImageFile
from facedistill.errors import DataError
from facedistill.system.files import hash_of_lines

_SHOWN = 100  # characters of a line, in messages


class LabelListLayout(FilesLayout):
    """Those images in the folder of a list, and below it, that the list names; sorted by label and path.

    The paths in the list may begin with other folders, or lack the one that has all images. Only images that are found
    in the folder are ever opened. Lines for other images and images without a line are counted.

    Raises ``DataError`` if the list can't be read or names none of the images; and unless ``faults`` skips them, for a
    line without a label or with a second one for an image.
    """

    kind = "list of labels"

    def __init__(self, path: Path, faults: Faults) -> None:
        super().__init__(path.parent, faults)
        walked = self._listing.walk(str(self.path))
        images = {image.path[self._prefix :]: image for found in walked for image in found.images}
        labels = self._labels_of(path, images)
        people: dict[str, list[ImageFile]] = {label: [] for label in sorted(set(labels.values()))}
        for name in sorted(labels):
            people[labels[name]].append(ImageFile.of(images[name]))
        self._set_identities(people)
        self.counts["images_not_listed"] += len(images) - len(labels)
        self.notes = self._listing.notes

    def hash_of_files(self, numbers: Iterable[int]) -> str:
        """Hash of the labels, names and sizes of images."""
        numbers = list(numbers)
        labels = (self.identities[self.labels[number]] for number in numbers)
        return hash_of_lines([super().hash_of_files(numbers), *labels])

    def _labels_of(self, path: Path, names: Iterable[str]) -> dict[str, str]:
        """The labels of images by their names."""
        lines = list(read_labels(path))
        labels: dict[str, str] = {}
        for (number, written, label), name in zip(lines, _found([line.path for line in lines], names), strict=True):
            if not label:
                self._faults.add(
                    f"{path}, line {number}: '{written[:_SHOWN]}' is not the path of an image and its label"
                )
            elif name is None:
                self.counts["listed_images_not_there"] += 1
            elif labels.setdefault(name, label) != label:
                self._faults.add(f"{path}, line {number}: a second label for {name}, {label[:_SHOWN]}")
        if not labels:
            there = next(iter(names), "none")
            first = lines[0].path[:_SHOWN]
            raise DataError(f"{path} names no image that is there: its first is {first}, one that is there {there}")
        return labels


def _found(written: Sequence[str], names: Iterable[str]) -> list[str | None]:
    """The names of the images that are meant; all are written in the same way, the first that fits any image."""
    known = {_plain(name): name for name in names}
    folder = os.path.commonpath([f"/{name.rpartition('/')[0]}" for name in known] or ["/"])[1:]
    paths = [_plain(path.replace("\\", "/").removeprefix("./")) for path in written]
    for drop in range(max((path.count("/") for path in paths), default=0) + 1):
        ends = [path.split("/", drop)[drop] if path.count("/") >= drop else "" for path in paths]
        for prefix in ("", f"{folder}/"):
            found = [known.get(prefix + end) for end in ends]
            if any(found):
                return found
    return [None] * len(paths)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name)
