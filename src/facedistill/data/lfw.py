"""Labeled Faces in the Wild (Huang et al. 2007): folders of identities, five landmarks and the 6,000 pairs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedistill.data.alignment import align
from facedistill.data.identity_folders import IdentityFolders, Photo, files_hash
from facedistill.data.photos import at, check_face, data_folder, five_points, lines_of, open_photo, refusal
from facedistill.data.source import FaceSet, Pairs
from facedistill.errors import DataError
from facedistill.files import sha256

ALIGNMENTS = ("similarity", "centre")


@dataclass(frozen=True)
class _Row:
    """Points [5, 2] and the line of the landmark file that has them."""

    place: str
    points: NDArray[np.float64]


@dataclass(frozen=True)
class _Pair:
    left: Photo
    right: Photo
    same: bool
    fold: int


@dataclass
class Lfw(IdentityFolders):
    """``root/<images>/<Name>/<Name>_0001.jpg`` with a pair protocol in LFW's format.

    Trains on identities as ``IdentityFolders`` does; on_error is about those. The protocol is not the protocol with
    holes: an image of it that can't be used raises whatever on_error says.

    Attributes:
        images, pairs, landmarks: relative to ``root``. ``pairs`` begins with ``folds pairs_per_class``; then each
            fold has that many lines ``name i j`` (one person) and as many ``name i other j``. A line of ``landmarks``
            is ``Name/Name_0001.jpg`` and x y of the five ``source.LANDMARKS``, in pixels of the upright image.
        alignment: ``similarity`` brings the landmarks to ArcFace's template; ``centre`` takes the centre square and
            needs no landmarks.
    """

    images: str
    pairs: str
    landmarks: str
    alignment: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alignment not in ALIGNMENTS:
            raise DataError(f"data.alignment={self.alignment}: choices are {', '.join(ALIGNMENTS)}")

    def identity(self) -> dict[str, Any]:
        compared = self._compared
        if self.alignment == "similarity":
            with self._none_to_spare():
                for photo in compared:
                    self._row(photo)
        return super().identity() | {
            "source": "lfw",
            "pixels": self._pixels_depend_on(),
            "pairs": sha256(self._file(self.pairs)),
            "pair_files": files_hash(compared),
        }

    def faces(self, size: int, cache_dir: Path) -> FaceSet:
        self.identity()  # complaints about the two text files come before images are read
        faces = super().faces(size, cache_dir)
        pairs = self.protocol(size, cache_dir, {faces.identities[i] for i in np.unique(faces.labels[faces.train])})
        counts = {"pairs": len(pairs.same), "pairs_of_people_trained_on": int(pairs.trained_on.sum())}
        return replace(faces, pairs=pairs, counts=faces.counts | counts)

    @property
    def _folder(self) -> Path:
        return data_folder(self.root, self.images)

    def _file(self, name: str) -> Path:
        return data_folder(self.root) / name

    @cached_property
    def _by_name(self) -> dict[str, Photo]:
        """Every image, by the name it has in the two files."""
        return {f"{name}/{photo.path.name}": photo for name, photos in self._everyone.items() for photo in photos}

    def _pixels(self, photo: Photo, size: int) -> NDArray[np.uint8]:
        if self.alignment == "centre":
            return super()._pixels(photo, size)
        row = self._row(photo)
        image = open_photo(photo.path)
        with at(f"{row.place}: {photo.path}"):
            check_face(row.points, image)
            return align(image, row.points, size)

    def _pixels_depend_on(self) -> list[str]:
        return [self.alignment, *([sha256(self._file(self.landmarks))] if self.alignment == "similarity" else [])]

    def _row(self, photo: Photo) -> _Row:
        row = self._rows.get(f"{photo.identity}/{photo.path.name}")
        if row is None:
            raise DataError(f"{self._file(self.landmarks)} has no line for {photo.path}")
        if isinstance(row, str):
            raise DataError(row)
        return row

    @cached_property
    def _rows(self) -> dict[str, _Row | str]:
        """The landmark file by image.

        With on_error=skip a bad line is a complaint, which leaves its image out; a line of no image is passed over.
        """
        path = self._file(self.landmarks)
        rows: dict[str, _Row | str] = {}
        for number, line in lines_of(path):
            if not line.strip():
                continue
            name, *words = line.split()
            place = f"{path}, line {number}"
            try:
                with at(place):
                    if name not in self._by_name:
                        raise DataError(f"{self._folder / name} does not exist")
                    if name in rows:
                        raise DataError(f"a second line of {name}")
                    rows[name] = _Row(place, five_points(words))
            except DataError as error:
                if self.on_error == "raise":
                    raise refusal(error) from error
                if name in self._by_name:
                    rows[name] = str(error)
        return rows

    def _none_to_spare(self) -> AbstractContextManager[None]:
        return at(f"{self._file(self.pairs)} takes every image that it names")

    @property
    def _compared(self) -> list[Photo]:
        """The images of the protocol."""
        photos = {photo for pair in self._protocol for photo in (pair.left, pair.right)}
        return sorted(photos, key=lambda photo: photo.path)

    def protocol(self, size: int, cache_dir: Path, trained_on: set[str]) -> Pairs:
        photos = self._compared
        with self._none_to_spare():
            stored = self._stored(photos, size, cache_dir / f"{self.name}-pairs", None)
        number = {photo: i for i, photo in enumerate(photos)}
        return Pairs(
            stored.images,
            np.array([number[pair.left] for pair in self._protocol]),
            np.array([number[pair.right] for pair in self._protocol]),
            np.array([pair.same for pair in self._protocol]),
            np.array([pair.fold for pair in self._protocol]),
            np.array([not trained_on.isdisjoint((pair.left.identity, pair.right.identity)) for pair in self._protocol]),
        )

    @cached_property
    def _protocol(self) -> list[_Pair]:
        """The pairs in the order of their file."""
        path = self._file(self.pairs)
        lines = ((number, line.split()) for number, line in lines_of(path) if line.strip())
        number, header = next(lines, (1, []))
        if len(header) != 2 or not all(map(_is_number, header)) or int(header[0]) < 2 or int(header[1]) < 1:
            raise DataError(
                f"{path}, line {number}: '{' '.join(header)}' is not `folds pairs_per_class`, which is `10 300` in "
                "LFW's pairs.txt (its development files have other headers)"
            )
        folds, per_class = map(int, header)
        promised = 2 * folds * per_class
        pairs: list[_Pair] = []
        for number, words in lines:
            with at(f"{path}, line {number}"):
                if len(pairs) == promised:
                    raise DataError(f"a line more than the {promised} pairs of the header")
                same = len(pairs) // per_class % 2 == 0
                pairs.append(_Pair(*self._two_photos(words, same), same, len(pairs) // (2 * per_class)))
        if len(pairs) < promised:
            raise DataError(f"{path}, line {number}: ends after {len(pairs)} of {promised} pairs; copy the file again")
        return pairs

    def _two_photos(self, words: list[str], same: bool) -> tuple[Photo, Photo]:
        if len(words) != (3 if same else 4) or (not same and words[0] == words[2]):
            expected = "`name i j`, two images of one person," if same else "`name i other j`, images of two people,"
            raise DataError(f"{expected} is expected in place of '{' '.join(words)}'")
        name, first, *others, second = words
        return self._photo(name, first), self._photo(others[0] if others else name, second)

    def _photo(self, name: str, number: str) -> Photo:
        if not _is_number(number):
            raise DataError(f"'{number}' is not the number of an image")
        path = f"{name}/{name}_{int(number):04d}.jpg"
        if path not in self._by_name:
            raise DataError(f"{self._folder / path} does not exist; the protocol takes all of its images")
        return self._by_name[path]


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit()
