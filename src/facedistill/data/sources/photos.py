"""Faces without labels, for imitation: the images of any folders."""

import hashlib
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.faces import Samples
from facedistill.data.files.aligned import AlignedImages
from facedistill.data.files.alignment import Alignment
from facedistill.data.files.detected import DetectedImages
from facedistill.data.files.detector import detector_name
from facedistill.data.files.layouts.tree import TreeLayout
from facedistill.data.files.roots import data_folder
from facedistill.data.files.store import Batches, Item, open_or_make
from facedistill.data.files.text_lists import lines_of
from facedistill.data.sources.photo_source import Inventory, PhotoSource
from facedistill.data.sources.source import is_test_sample
from facedistill.errors import DataError
from facedistill.system.files import hash_of_lines, sha256

_DETECT = "detect"
ALIGNMENTS = ("similarity", _DETECT, "none", "celeba", "centre")
_DIGEST = Item((32,), "|u1", "digest", "digests")
_READ_AT_ONCE = 1024


class _Photo(NamedTuple):
    """An image by the number of its folder and its own in that folder's layout; of one with several faces, which."""

    folder: int
    number: int
    face: int = 0


@dataclass
class Photos(PhotoSource):
    """Every image in a folder, or in several, and in the folders within them.

    The order is that of the folders, and of the paths within each. Such a path decides the side of the split. Of files
    with the same bytes only the first counts.

    Attributes:
        root: a folder, or several.
        alignment: see ``Alignment``, or ``detect``, by landmarks that a detector finds: one for all folders, or one
            for each.
        landmarks: for the alignment ``similarity``: a file in each folder with that, see ``read_annotations``, or one
            for each folder. Images without a line in it are left out, and counted.
        leave_out: a file with the paths of images that are not used, one a line; one for all folders, or one for each.
        every_face: of those that the detector finds in a photo, not only the largest.
        test_share: how much of it is never trained on.
        on_error: ``raise`` at the first image or line that can't be used, or ``skip`` and count it.
    """

    merges = True

    name: str
    root: str | list[str]
    alignment: str | list[str]
    landmarks: str | list[str | None] | None
    leave_out: str | list[str | None] | None
    every_face: bool
    test_share: float
    on_error: str
    decode: str = field(default="auto", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._roots = self.root if isinstance(self.root, list) else [self.root]
        if not self._roots:
            raise DataError("data.root=[] names no folder: data.root=FOLDER, or several, data.root=[A,B]")
        if not isinstance(self.test_share, float) or not 0 < self.test_share < 1:
            raise DataError(f"data.test_share={self.test_share} must be a number between 0 and 1, as 0.05")
        self._alignments, self._lists = self._of_each("alignment"), self._of_each("landmarks")
        self._leave_out = self._of_each("leave_out")
        for root, alignment, file in zip(self._roots, self._alignments, self._lists, strict=True):
            if alignment not in ALIGNMENTS:
                raise DataError(f"data.alignment={alignment}: choices are {', '.join(ALIGNMENTS)}")
            if alignment == _DETECT:
                detector_name()
            elif Alignment(alignment).needs and not file:
                raise DataError(
                    f"data.alignment={alignment} needs data.landmarks=FILE, a file in {root} with a line per "
                    "image: its path, then x y of five landmarks. Without: data.alignment=detect finds them; none for "
                    "faces that are aligned as ArcFace's, celeba as CelebA's, or centre for the centre square"
                )
        if self.every_face and _DETECT not in self._alignments:
            raise DataError("data.every_face=true is for faces that are looked for: data.alignment=detect")

    @property
    def framing(self) -> tuple[str, float]:
        return "centre" if set(self._alignments) == {"centre"} else "template", 1.0

    def identity(self) -> dict[str, Any]:
        """Of all images, as what is left out follows from these."""
        folders = [{**aligned.layout.contents(min_images=1), **aligned.identity} for aligned in self._folders]
        for folder, names in zip(folders, self._left_out, strict=True):
            folder |= {"left_out": hash_of_lines(sorted(names))} if names else {}
        return {"source": "photos", "folders": folders, "test_share": self.test_share}

    def samples(self, cache_dir: Path) -> Samples:
        """Before equal files, and faces in them, are looked for, as that reads them."""
        return self._inventory(self._not_left_out(self._usable), Counter()).samples

    def inventory(self, cache_dir: Path) -> Inventory:
        single = self._without_copies(self._usable, cache_dir)
        used = self._not_left_out(single)  # afterwards, or a copy would stand in for what is left out
        self._photos = self._with_faces(used, cache_dir)
        copies, left_out = len(self._usable) - len(single), len(single) - len(used)
        return self._inventory(self._photos, Counter(copies_of_other_images=copies, images_left_out=left_out))

    def name_of(self, number: int) -> tuple[int, str]:
        """Of an image of the inventory: the number of its folder in ``root``, and its path within it."""
        photo = self._photos[number]
        return photo.folder, self._layouts[photo.folder].name(photo.number)

    def _inventory(self, photos: list[_Photo], counts: Counter[str]) -> Inventory:
        counts["images_without_landmarks"] += self._unlisted
        for aligned in self._folders:
            counts.update(aligned.layout.counts)
            counts.update(aligned.counts)
        paths = [str(aligned.layout.path) for aligned in self._folders]
        numbers = [[photo.number for photo in photos if photo.folder == i] for i in range(len(paths))]
        return Inventory(
            kind=TreeLayout.kind,
            path=", ".join(paths),
            available=(sum(len(aligned.layout.labels) for aligned in self._folders), 0),
            identities=[],
            labels=np.zeros(len(photos), np.int64),
            is_test=np.array(
                [is_test_sample(self._layouts[photo.folder].name(photo.number), self.test_share) for photo in photos],
                np.bool_,
            ),
            split=f"split with data.test_share={self.test_share}",
            stamp=[
                [aligned.layout.stamp(np.array(own, np.int64)), aligned.stamp]
                for aligned, own in zip(self._folders, numbers, strict=True)
            ],
            counts={name: count for name, count in counts.items() if count},
            notes=[note for aligned in self._folders for note in (*aligned.layout.notes, *aligned.notes)],
        )

    def open(self, number: int) -> Image.Image:
        photo = self._photos[number]
        return self._layouts[photo.folder].open(photo.number)

    def to_square(self, number: int, image: Image.Image, size: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        photo = self._photos[number]
        folder = self._folders[photo.folder]
        if isinstance(folder, DetectedImages):
            return folder.square(photo.number, photo.face, image, size), {}
        return folder.square(photo.number, image, size), {}

    def _of_each(self, key: str) -> list[Any]:
        """The value of a key for every folder."""
        value = getattr(self, key)
        if not isinstance(value, list):
            return [value] * len(self._roots)
        if len(value) != len(self._roots):
            raise DataError(
                f"data.{key}=[{','.join(map(str, value))}] has {len(value)} values, but data.root names "
                f"{len(self._roots)}: give one value for all folders, or one for each"
            )
        return value

    @cached_property
    def _layouts(self) -> list[TreeLayout]:
        """In the order of ``root``, each with a listing of its own."""
        return [TreeLayout(data_folder(root), self.faults) for root in self._roots]

    @cached_property
    def _folders(self) -> list[AlignedImages | DetectedImages]:
        folders: list[AlignedImages | DetectedImages] = []
        for layout, name, file in zip(self._layouts, self._alignments, self._lists, strict=True):
            if name == _DETECT:
                folders.append(DetectedImages(layout, self.every_face))
                continue
            alignment = Alignment(name)
            path = layout.path / Path(str(file)).expanduser() if alignment.needs else None
            if path and not path.is_file():
                raise DataError(
                    f"data.landmarks: {path} does not exist: name a file in {layout.path}, data.landmarks=FILE"
                )
            folders.append(AlignedImages(layout, alignment, path, self.on_error))
        return folders

    @cached_property
    def _usable(self) -> list[_Photo]:
        """The images that need no landmarks, or have them. A bad line of a list is a fault."""
        self._unlisted = 0
        usable = []
        for i, aligned in enumerate(self._folders):
            for number in range(len(aligned.layout.labels)):
                try:
                    if aligned.file and not aligned.is_listed(number):
                        self._unlisted += 1
                        continue
                    if aligned.file:
                        aligned.annotation(number)
                    usable.append(_Photo(i, number))
                except DataError as error:
                    self.faults.add(error)
        if not usable:
            paths = ", ".join(str(aligned.file) for aligned in self._folders)
            raise DataError(f"no line of {paths} can be used: {self.faults.first[-1]}")
        return usable

    @cached_property
    def _left_out(self) -> list[set[str]]:
        """The names of each folder that are not used."""
        return [
            _names_in(layout.path / Path(file).expanduser(), layout) if file else set()
            for layout, file in zip(self._layouts, self._leave_out, strict=True)
        ]

    def _not_left_out(self, photos: list[_Photo]) -> list[_Photo]:
        used = [
            photo
            for photo in photos
            if self._layouts[photo.folder].name(photo.number) not in self._left_out[photo.folder]
        ]
        if not used:
            raise DataError("data.leave_out names every image: shorten it, or leave the word out")
        return used

    def _with_faces(self, photos: list[_Photo], cache_dir: Path) -> list[_Photo]:
        """The photos of folders in which faces are looked for, once for each that is used; all others as they are."""
        found = []
        for i, folder in enumerate(self._folders):
            own = [photo for photo in photos if photo.folder == i]
            if isinstance(folder, DetectedImages):
                faces = folder.find([photo.number for photo in own], cache_dir, self.name)
                own = [_Photo(i, number, face) for number, face in faces]
            found += own
        return found

    def _without_copies(self, photos: list[_Photo], cache_dir: Path) -> list[_Photo]:
        """The first of every group of files with the same bytes. Only files of equal length are read for that, once."""
        files = {photo: self._layouts[photo.folder].file(photo.number) for photo in photos}
        lengths = Counter(file.size for file in files.values())
        alike = [photo for photo in photos if lengths[files[photo].size] > 1]
        if not alike:
            return photos

        def read(start: int) -> Batches:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                for first in range(start, len(alike), _READ_AT_ONCE):
                    part = alike[first : first + _READ_AT_ONCE]
                    paths = (Path(files[photo].path) for photo in part)
                    yield first + len(part), np.stack(list(pool.map(_digest, paths))), {}

        key = hash_of_lines("/".join(map(str, files[photo])) for photo in alike)
        description = f"comparing {len(alike)} files of equal lengths"
        path = cache_dir / f"{self.name}-digests-{key[:12]}"
        digests = np.asarray(open_or_make(path, len(alike), _DIGEST, read, description).items)
        first_of: dict[bytes, _Photo] = {}
        copies = {
            photo
            for photo, digest in zip(alike, digests, strict=True)
            if first_of.setdefault(digest.tobytes(), photo) != photo
        }
        return [photo for photo in photos if photo not in copies]


def _names_in(file: Path, layout: TreeLayout) -> set[str]:
    """The lines of a list that are images of a layout. Raises ``DataError`` if none is, or it can't be read."""
    lines = (line.rstrip("\r\n") for _, line in lines_of(file))
    names = {line for line in lines if line in layout.by_name}
    if not names:
        raise DataError(f"data.leave_out: {file} names no image of {layout.path} by its path, as {layout.name(0)}")
    return names


def _digest(path: Path) -> NDArray[np.uint8]:
    """SHA-256 of a file, uint8 [32]; of its path, where it can't be read, which whoever opens it says."""
    try:
        digest = bytes.fromhex(sha256(path))
    except OSError:
        digest = hashlib.sha256(os.fsencode(path)).digest()
    return np.frombuffer(digest, np.uint8)
