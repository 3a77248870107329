"""Labeled Faces in the Wild (Huang et al. 2007): folders of identities, five landmarks and the 6,000 pairs."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedistill.data.faces import FaceSet, Pairs
from facedistill.data.files.faults import located
from facedistill.data.files.layouts.folders import FolderLayout
from facedistill.data.files.photos import data_folder, store_photos
from facedistill.data.files.text_lists import lines_of
from facedistill.data.sources.identity_images import IdentityImages
from facedistill.errors import DataError
from facedistill.system.files import hash_of, sha256


class _Pair(NamedTuple):
    left: int  # an image by its number in the layout
    right: int
    same: bool
    fold: int


@dataclass
class Lfw(IdentityImages):
    """``root/<images>/<Name>/<Name>_0001.jpg`` with a verification protocol in LFW's format.

    Trains on identities as ``IdentityImages`` does, and on_error applies to these only: an incomplete protocol would be
    another one, so an image of it that can't be used always raises.

    Attributes:
        images, pairs: relative to ``root``. ``pairs`` begins with ``folds pairs_per_class``; each fold has that many
            lines ``name i j`` (the same person), then as many ``name i other j``.
    """

    has_pairs = True

    images: str
    pairs: str

    def identity(self) -> dict[str, Any]:
        if self._alignment.needs:
            with self._needs_all_images():
                for number in self._pair_images:
                    self._annotation(number)
        return super().identity() | {
            "source": "lfw",
            "pairs": sha256(self._pairs_path),
            "pair_files": self._layout.hash_of_files(self._pair_images),
        }

    def faces(self, size: int, cache_dir: Path) -> FaceSet:
        self.identity()  # reports errors in the two text files before images are read
        faces = super().faces(size, cache_dir)
        pairs = self.protocol(size, cache_dir, {faces.identities[i] for i in np.unique(faces.labels[faces.train])})
        counts = {"pairs": len(pairs.same), "pairs_of_people_trained_on": int(pairs.trained_on.sum())}
        return replace(faces, pairs=pairs, counts=faces.counts | counts)

    @cached_property
    def _layout(self) -> FolderLayout:
        return FolderLayout(data_folder(self.root, self.images), self.faults, self.split, self.nested)

    @property
    def _pairs_path(self) -> Path:
        return data_folder(self.root) / self.pairs

    def _needs_all_images(self) -> AbstractContextManager[None]:
        return located(f"{self._pairs_path} needs all images that it names")

    @cached_property
    def _pair_images(self) -> list[int]:
        """The numbers in the layout of the images of the protocol, ascending."""
        return sorted({number for pair in self._protocol for number in (pair.left, pair.right)})

    def protocol(self, size: int, cache_dir: Path, trained_on: set[str]) -> Pairs:
        numbers, layout = self._pair_images, self._layout

        def decode(index: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
            return self._square(numbers[index], layout.open(numbers[index]), size), {}

        with self._needs_all_images():
            key = hash_of([size, layout.stamp(np.array(numbers)), self._square_stamp])
            path = cache_dir / f"{self.name}-pairs-{key}"
            stored = store_photos(path, len(numbers), size, decode, None, f"reading the pairs of {layout.path}")
        left, right, same, fold = map(np.array, zip(*self._protocol, strict=True))
        trained = np.array([name in trained_on for name in layout.identities])[layout.labels]
        left_index, right_index = np.searchsorted(numbers, left), np.searchsorted(numbers, right)
        return Pairs(stored.items, left_index, right_index, same, fold, trained[left] | trained[right])

    @cached_property
    def _protocol(self) -> list[_Pair]:
        """The pairs in the order of their file."""
        path = self._pairs_path
        lines = ((number, line.split()) for number, line in lines_of(path) if line.strip())
        number, header = next(lines, (1, []))
        if len(header) != 2 or not all(map(_is_number, header)) or int(header[0]) < 2 or int(header[1]) < 1:
            raise DataError(
                f"{path}, line {number}: '{' '.join(header)}' is not `folds pairs_per_class`, which is `10 300` in "
                "LFW's pairs.txt (its development files have other headers)"
            )
        folds, per_class = map(int, header)
        count = 2 * folds * per_class
        pairs: list[_Pair] = []
        for number, words in lines:
            with located(f"{path}, line {number}"):
                if len(pairs) == count:
                    raise DataError(f"more lines than the {count} pairs of the header")
                same = len(pairs) // per_class % 2 == 0
                pairs.append(_Pair(*self._two_photos(words, same), same, len(pairs) // (2 * per_class)))
        if len(pairs) < count:
            raise DataError(f"{path}, line {number}: ends after {len(pairs)} of {count} pairs; copy the file again")
        return pairs

    def _two_photos(self, words: list[str], same: bool) -> tuple[int, int]:
        if len(words) != (3 if same else 4) or (not same and words[0] == words[2]):
            expected = "`name i j`, two images of one person" if same else "`name i other j`, images of two people"
            raise DataError(f"expected {expected}, not '{' '.join(words)}'")
        name, first, *others, second = words
        return self._photo(name, first), self._photo(others[0] if others else name, second)

    def _photo(self, name: str, number: str) -> int:
        if not _is_number(number):
            raise DataError(f"'{number}' is not the number of an image")
        path = f"{name}/{name}_{int(number):04d}.jpg"
        if path not in self._by_name:
            raise DataError(f"{self._layout.path / path} does not exist; the protocol needs all its images")
        return self._by_name[path]


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit()
