"""One folder per identity, as in CASIA-WebFace and LFW: ``<folder>/<identity>/<image>``."""

import os
import shlex
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from facedistill.data.files.faults import Faults
from facedistill.data.files.layouts.layout import TRAIN, FilesLayout
from facedistill.data.files.listing import ImageFile, Listing, suffix_of
from facedistill.data.files.photos import SUFFIXES
from facedistill.data.files.roots import refuse_archive
from facedistill.errors import DataError

SPLITS = ("random", "folders")
# Names of the folders of a split, in lower case, and of its parts.
_PARTS = {"train": TRAIN, "training": TRAIN} | {
    name: name for name in ("val", "valid", "validation", "test", "testing")
}

Folders = Sequence[os.DirEntry[str]]


class FolderLayout(FilesLayout):
    """All images, sorted by identity and path.

    Args:
        split: ``random``; or ``folders`` for folders of identities in folders ``train`` and ``val`` or ``test``, which
            are the ``parts``. Folders of the same name are one identity.
        nested: whether images in folders within that of an identity are its own.

    Raises ``DataError`` where these are not the folders that there are, and says what to type; and unless ``faults``
    skips them, for two names that differ only in case, in the encoding of accents or in the suffix, for an identity
    with folders in place of images, and for what ``Listing`` can't read.
    """

    def __init__(self, path: Path, faults: Faults, split: str = "random", nested: bool = False) -> None:
        super().__init__(path, faults)
        self.kind = f"{'nested ' if nested else ''}folders{' of a split' if split == 'folders' else ''}"
        self._nested = nested
        self._deeper: list[str] = []  # folders of identities with folders in place of images
        people: dict[str, list[os.DirEntry[str]]] = {}
        for folder in self._folders_of_people(split):
            people.setdefault(folder.name, []).append(folder)
        images = {
            name: [image for folder in people[name] for image in self._images_of(folder.path)]
            for name in self._once({name: folders[0].path for name, folders in people.items()}, _plain)
        }
        self._set_identities({name: files for name, files in images.items() if files})
        if self._deeper and len(self.identities) < 2:
            raise DataError(_advice(str(self.path)))
        for deeper in self._deeper:
            faults.add(f"{deeper} holds folders, but no image: data.nested=true reads the images in them")
        nested_note = ["data.nested=true also reads the folders inside of those of identities"]
        self.notes = self._listing.notes + (nested_note if self.counts["folders_inside_identities"] else [])
        if split == "folders":
            self.parts = np.array([_PARTS[self.name(i).partition("/")[0].lower()] for i in range(len(self.labels))])

    def _folders_of_people(self, split: str) -> Folders:
        top = self._folders_in(str(self.path))
        if not top:
            refuse_archive(self.path)
            expected = "one folder per identity is expected, or a list of labels, data.root=LIST"
            raise DataError(f"{self.path} holds no folder: {expected}")
        parts = _parts_of(top)
        if split == "random":
            if parts and not any(Listing(Faults("skip")).read(part.path).images for part in parts):
                raise DataError(_advice(str(self.path)))
            if parts and len(parts) == len(top):
                names = ", ".join(part.name for part in parts)
                expected = "are in folders of their own, or in a list of labels, data.root=LIST"
                raise DataError(f"{names} in {self.path} are no identities, but hold images: identities {expected}")
            return top
        if not parts:
            names = ", ".join(folder.name for folder in top[:5])
            raise DataError(f"data.split=folders needs folders train and val or test in {self.path}, which has {names}")
        self.counts["folders_beside_the_split"] += len(top) - len(parts)
        return [person for part in parts for person in self._folders_in(part.path)]

    def _folders_in(self, folder: str) -> Folders:
        found = self._listing.read(folder)
        self.counts["images_beside_the_folders"] += len(found.images)
        return found.folders

    def _images_of(self, person: str) -> Iterator[ImageFile]:
        for images, folders, others in self._listing.walk(person) if self._nested else [self._listing.read(person)]:
            self.counts["files_that_are_no_images"] += others
            self.counts["folders_without_images"] += not images and not folders
            by_name = {image.name: image for image in images}
            for name in self._once({image.name: image.path for image in images}, _stem):
                yield ImageFile.of(by_name[name])
            if self._nested:
                continue
            if folders and not images:
                self._deeper.append(person)
                continue
            for folder in folders:
                if suffix_of(folder.name) in SUFFIXES:
                    self._faults.add(f"{folder.path} is a folder: rename or remove it")
                else:
                    self.counts["folders_inside_identities"] += 1

    def _once(self, paths: Mapping[str, str], plain: Callable[[str], str]) -> list[str]:
        """The names, sorted; of those with the same ``plain`` name, only the first. ``paths``: of each."""
        first: dict[str, str] = {}
        for name in sorted(paths):
            other = first.setdefault(plain(name), name)
            if other != name:
                twins = f"{paths[other]} and {paths[name]} have the same name but for {_difference(other, name)}"
                self._faults.add(f"{twins}: rename or remove one")
        return list(first.values())


def _advice(root: str) -> str:
    """What to type where the folders in ``root`` hold folders, but no image."""
    listing = Listing(Faults("skip"))
    top, people, words = root, listing.read(root).folders, []
    while len(people) == 1 and (inner := listing.read(people[0].path).folders):
        top, people = people[0].path, inner
    if top != root:
        words.append(f"data.root={shlex.quote(top)}")
    if parts := _parts_of(people):
        words.append("data.split=folders")
        people = [person for part in parts for person in listing.read(part.path).folders]
    advice = f"the folders in {root} hold folders, but no image"
    if not any(found.images for person in people for found in listing.walk(person.path)):
        return f"{advice}, nor is there one below"
    if all(found.images or not found.folders for found in (listing.read(person.path) for person in people)):
        return f"{advice}: type {' '.join(words)}"
    nested, below = " ".join([*words, "data.nested=true"]), f"data.root={shlex.quote(people[0].path)}"
    return f"{advice}. If each is one person's, type {nested}; if they hold people's, name one of them: {below}"


def _parts_of(folders: Folders) -> Folders:
    """Those of a split, if some are for training and some are not; else none."""
    parts = [folder for folder in folders if folder.name.lower() in _PARTS]
    both_sides = len({_PARTS[part.name.lower()] == TRAIN for part in parts}) == 2
    return parts if both_sides else []


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _stem(name: str) -> str:
    return _plain(name.rpartition(".")[0])


def _difference(one: str, other: str) -> str:
    if one.casefold() == other.casefold():
        return "upper and lower case"
    return "the encoding of accents" if _plain(one) == _plain(other) else "the suffix"
