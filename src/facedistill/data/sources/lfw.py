"""Labeled Faces in the Wild (Huang et al. 2007): folders of identities, five landmarks and the 6,000 pairs."""

import re
import unicodedata
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedistill.data.faces import FOLDS, FaceSet, Pairs, check_kinds, person
from facedistill.data.files.alignment import in_template
from facedistill.data.files.faults import Faults, located
from facedistill.data.files.formats.pair_lists import PairList, read_pairs
from facedistill.data.files.layouts.flat import FlatLayout
from facedistill.data.files.layouts.folders import FolderLayout
from facedistill.data.files.layouts.layout import FilesLayout
from facedistill.data.files.listing import Listing
from facedistill.data.files.photo_store import store_photos
from facedistill.data.files.roots import data_folder
from facedistill.data.sources.identity_images import IdentityImages
from facedistill.data.sources.photo_source import Inventory
from facedistill.errors import DataError
from facedistill.system.files import hash_of, sha256

_IMAGES, _PAIRS = "images", "pairs.txt"  # the usual ones
_HALVES = ("match", "mismatch")
_WITHOUT = "data=identity_folders trains without pairs"


@dataclass
class Lfw(IdentityImages):
    """``root/<images>/<Name>/<Name>_0001.jpg``, or any other image, with a verification protocol in LFW's format.

    Trains on identities as ``IdentityImages`` does, and on_error applies to these only: an incomplete protocol would be
    another one, so an image of it that can't be used always raises.

    Attributes:
        images: a folder in ``root``, see ``find_images``.
        pairs: a file in ``root``, see ``formats.pair_lists``.
    """

    has_pairs = True

    images: str
    pairs: str

    def identity(self) -> dict[str, Any]:
        numbers = self._pair_images
        if self._alignment.needs and self._aligned.annotations:  # a list that can't be read is no fault of a pair
            with self._needs_all_images():
                for number in numbers:
                    self._aligned.annotation(number)
        same = np.array([pair.same for pair in self._pairs.pairs])
        with located(" and ".join(map(str, self._pairs_paths))):
            check_kinds(same, np.zeros_like(self._pairs.fold))
        digests = [sha256(path) for path in self._pairs_paths]
        return super().identity() | {
            "source": "lfw",
            "pairs": digests[0] if len(digests) == 1 else digests,
            "pair_files": self._layout.hash_of_files(numbers),
        }

    def faces(self, size: int, cache_dir: Path) -> FaceSet:
        self.identity()  # reports errors in the two text files before images are read
        faces = super().faces(size, cache_dir)
        pairs = self.protocol(size, cache_dir, {faces.identities[i] for i in np.unique(faces.labels[faces.train])})
        counts = {"pairs": len(pairs.same), "pairs_of_people_trained_on": int(pairs.trained_on.sum())}
        return replace(faces, pairs=pairs, counts=faces.counts | counts)

    @property
    def pair_notes(self) -> list[str]:
        note = f"{self._pairs_paths[0].name} has no folds: scored in {FOLDS}, tenths of the pairs of each kind"
        both_kinds = len({pair.same for pair in self._pairs.pairs}) == 2
        return [note] if self._pairs.tenths and both_kinds else []

    def inventory(self, cache_dir: Path) -> Inventory:
        inventory = super().inventory(cache_dir)
        has_eyes = self._alignment.needs == "landmarks"
        return replace(inventory, notes=[*inventory.notes, *self.pair_notes], has_eyes=has_eyes)

    def aligned_by(self, numbers: NDArray[np.int64], size: int) -> NDArray[np.float32] | None:
        if self._alignment.needs != "landmarks":
            return None
        points = [self._aligned.annotation(number).values for number in self._numbers[numbers].tolist()]
        return in_template(np.array(points), size).astype(np.float32)

    @cached_property
    def _layout(self) -> FilesLayout:
        folder = find_images(self.root, self.images)
        found = Listing(Faults("skip")).read(str(folder))
        if found.images and not found.folders:
            return FlatLayout(folder, self.faults)
        return FolderLayout(folder, self.faults, self.split, self.nested)

    @cached_property
    def _pairs_paths(self) -> list[Path]:
        """The list of pairs, or both halves of one, like matchpairsDevTest.csv and mismatchpairsDevTest.csv."""
        root = data_folder(self.root)
        path = root / self.pairs
        if not path.is_file() and self.pairs == _PAIRS:
            path = path.with_suffix(".csv")
        if not path.is_file():
            lists = sorted(file.name for file in root.glob("*pair*") if file.suffix in (".txt", ".csv"))
            there = f"; {', '.join(lists)} {'are' if len(lists) > 1 else 'is'} there" if lists else ""
            cure = f"name a list of pairs, data.pairs=FILE{there}; {_WITHOUT}"
            raise DataError(f"{root / self.pairs} does not exist: {cure}")
        halves = {path.with_name(name + path.name.removeprefix("mis").removeprefix("match")) for name in _HALVES}
        return sorted(halves) if path in halves and all(half.is_file() for half in halves) else [path]

    def _needs_all_images(self) -> AbstractContextManager[None]:
        return located(f"{self._pairs_paths[0]} needs all images that it names")

    @cached_property
    def _pair_images(self) -> list[int]:
        """The numbers in the layout of the images of the protocol, ascending."""
        return sorted({*self._pair_numbers.flat})

    def protocol(self, size: int, cache_dir: Path, trained_on: set[str]) -> Pairs:
        numbers, layout = self._pair_images, self._layout

        def decode(index: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
            return self._aligned.square(numbers[index], layout.open(numbers[index]), size), {}

        with self._needs_all_images():
            key = hash_of([size, layout.stamp(np.array(numbers)), self._aligned.stamp])
            path = cache_dir / f"{self.name}-pairs-{key}"
            stored = store_photos(path, len(numbers), size, decode, None, f"reading the pairs of {layout.path}")
        known = set(map(person, trained_on))
        seen = np.array([person(name) in known for name in layout.identities])[layout.labels]
        left, right = np.searchsorted(numbers, self._pair_numbers).T
        trained: NDArray[np.bool_] = np.any(seen[self._pair_numbers], axis=1)
        same = np.array([pair.same for pair in self._pairs.pairs])
        return Pairs(stored.items, left, right, same, self._pairs.fold, trained)

    @cached_property
    def _pairs(self) -> PairList:
        return read_pairs(self._pairs_paths)

    @cached_property
    def _pair_numbers(self) -> NDArray[np.int64]:
        """The numbers in the layout of the two images of every pair: int64 [P, 2]."""
        layout = self._layout
        shots: dict[str, list[int]] = {}
        for number, label in enumerate(layout.labels.tolist()):
            file = layout.name(number).rpartition("/")[2]
            shots.setdefault(_shot(layout.identities[label], file), []).append(number)

        def find(path: str) -> int:
            """By its own name, or the only image of this number of this person."""
            *_, folder, file = ["", *path.replace("\\", "/").split("/")]
            name = folder or file.rpartition("_")[0]  # CALFW and CPLFW have no folders
            if f"{name}/{file}" in layout.by_name:
                return layout.by_name[f"{name}/{file}"]
            found = shots.get(_shot(name, file), [])
            if not found:
                raise DataError(f"{layout.path / name / file} does not exist: get it; {_WITHOUT}")
            if len(found) > 1:
                one, other = map(layout.location, found[:2])
                raise DataError(f"{file} may be {one} or {other}: remove one")
            return found[0]

        numbers = []
        for pair in self._pairs.pairs:
            with located(pair.location):
                numbers.append([find(path) for path in (pair.left, pair.right)])
        return np.array(numbers)


def _shot(name: str, file: str) -> str:
    """``Name/1`` of ``Name_0001.jpg``, ``Name_1.png`` or ``Name_0001_0.png``, as croppers call them."""
    name, stem = unicodedata.normalize("NFC", name), unicodedata.normalize("NFC", file).rpartition(".")[0]
    number = re.fullmatch(r"_0*(\d+)(_\d+)?", stem.removeprefix(name))
    return f"{name}/{number[1] if number else stem}"


def find_images(root: str, images: str) -> Path:
    """The folder of images. Where the usual one is not there: ``lfw``, ``lfw-deepfunneled`` or another ``lfw…``.

    An archive may have been unpacked into a folder of its own name. Raises ``DataError``.
    """
    top = data_folder(root)
    if images == _IMAGES and not (top / images).is_dir():
        others = [entry.name for entry in top.iterdir() if entry.name.lower().startswith("lfw") and entry.is_dir()]
        if len(others) > 1:
            raise DataError(f"data.root={top} holds {', '.join(sorted(others))}: name one, data.images={min(others)}")
        images = others[0] if others else images
    folder = data_folder(root, images)
    return folder / folder.name if (folder / folder.name).is_dir() else folder
