"""CelebA (Liu et al. 2015): 202,599 photographs of 10,177 people, with five landmarks."""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from facedistill.data.alignment import align, cut_square
from facedistill.data.formats.celeba_lists import CelebaList
from facedistill.data.formats.celeba_tree import ALIGNED, PARTS, WILD, image_files, image_folder, open_lists
from facedistill.data.photos import MIN_PIXELS, ON_ERROR, at, check_face, data_folder, open_photo, refusal, store_photos
from facedistill.data.source import FaceSet, Source, is_test_sample
from facedistill.errors import DataError
from facedistill.files import hash_of, sha256

ALIGNMENTS = ("centre", "similarity", "box")
SPLITS = ("random", "official")
MOST_MARGIN = 4


@dataclass(frozen=True)
class _Photo:
    """An image by its name in the lists; ``identity``: its number as written, empty where nothing says so."""

    image: str
    identity: str
    file: os.DirEntry[str]


@dataclass
class CelebA(Source):
    """A folder of images, and CelebA's lists of them in ``root`` or in Anno and Eval of it.

    The lists that are there decide what the faces have: without identity_CelebA no identities, without a list of
    landmarks no landmarks. Every list that is used must have every image.

    Attributes:
        images: relative to ``root``; None for the published names, also in Img of ``root``. In the wild, as their
            landmarks then are, are the images of a folder img_celeba, and all where ``alignment`` is box.
        alignment: ``centre`` takes the centre square, ``box`` the square about the box of list_bbox_celeba;
            ``similarity`` brings the landmarks to ArcFace's template: no landmarks are given, as none are left to find.
        margin: of ``box``: the side of the square is 1 + margin times the longer one of the box.
        split: ``random`` by name, or ``official``, whose val and test are subsets of the test side. The official split
            is by person: it has nobody on both sides, and tells nothing of classification.
        min_images: identities with fewer images are left out (and counted).
        on_error: ``raise`` at the first image that can't be used, or ``skip`` and count it. A broken list raises.
    """

    name: str
    root: str
    images: str | None
    alignment: str
    margin: float
    split: str
    min_images: int
    on_error: str

    def __post_init__(self) -> None:
        for key, choices in {"alignment": ALIGNMENTS, "split": SPLITS, "on_error": ON_ERROR}.items():
            if getattr(self, key) not in choices:
                raise DataError(f"data.{key}={getattr(self, key)}: choices are {', '.join(choices)}")
        if not isinstance(self.margin, int | float) or not 0 <= self.margin <= MOST_MARGIN:
            raise DataError(f"data.margin={self.margin} must be a number from 0 to {MOST_MARGIN}")
        if not isinstance(self.min_images, int) or self.min_images < 1:
            raise DataError(f"data.min_images={self.min_images} must be a whole number, at least 1")
        self._skipped = 0
        self._few = 0

    def identity(self) -> dict[str, Any]:
        return {
            "source": "celeba",
            "alignment": [self.alignment, *([float(self.margin)] if self.alignment == "box" else [])],
            "lists": {what: sha256(used.path) for what, used in self._lists.items()},
            "files": hash_of(
                [(photo.identity, photo.file.name, photo.file.stat().st_size) for photo in self._photos], 32
            ),
            "images": len(self._photos),
        }

    def faces(self, size: int, cache_dir: Path) -> FaceSet:
        photos = self._photos
        dates = [photo.file.stat().st_mtime_ns for photo in photos]
        path = cache_dir / f"{self.name}-{hash_of([size, str(self._folder), dates, self.identity()])}"

        def decode(number: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
            return self._read(photos[number], size)

        stored = store_photos(path, len(photos), size, decode, self.on_error, f"reading {self._folder}")
        kept = [photos[i] for i in stored.columns["photo"]]
        names = self._classes(kept)
        number = {name: i for i, name in enumerate(names)}
        parts = np.array([self._part(photo) for photo in kept])
        tests = parts != "train"
        if tests.all() or not tests.any():
            raise DataError(f"{self._folder}: all of its {len(kept)} images fall on one side of the {self.split} split")
        official = sorted(set(parts[tests].tolist())) if self.split == "official" else []
        given = {name: column.astype(np.float32) for name, column in stored.columns.items() if name != "photo"}
        return FaceSet(
            stored.images,
            labels=np.array([number.get(photo.identity, 0) for photo in kept]),
            is_test=tests,
            identities=names,
            subsets={part: np.flatnonzero(parts == part) for part in official},
            counts={
                "images": len(kept),
                "identities": len(names),
                "skipped": self._skipped + len(photos) - len(kept),
                "identities_below_min_images": self._few,
                "images_not_listed": len(self._files.keys() - self._listed.rows.keys()),
            },
            landmarks=given.get("landmarks"),
            frames=given.get("frames"),
        )

    @cached_property
    def _folder(self) -> Path:
        """The folder of the images."""
        if self.images is not None:
            return data_folder(self.root, self.images)
        return image_folder(self.root, [WILD] if self.alignment == "box" else [*ALIGNED, WILD])

    @cached_property
    def _files(self) -> dict[str, os.DirEntry[str]]:
        return image_files(self._folder)

    @cached_property
    def _lists(self) -> dict[str, CelebaList]:
        """By what they say; see ``open_lists``."""
        taken = {}
        if self.min_images > 1:
            taken["identities"] = f"data.min_images={self.min_images}"
        if self.alignment != "centre":
            taken["boxes" if self.alignment == "box" else "landmarks"] = f"data.alignment={self.alignment}"
        if self.split == "official":
            taken["parts"] = f"data.split={self.split}"
        return open_lists(self.root, self._folder.name == WILD or self.alignment == "box", taken)

    @property
    def _listed(self) -> CelebaList:
        """The list whose images are read: the identities', or the landmarks' where there are none."""
        return next(iter(self._lists.values()))

    @cached_property
    def _photos(self) -> list[_Photo]:
        """The images to read, by name: those of identities with enough of them."""
        photos, files, people = [], self._files, {}
        if "identities" in self._lists:
            known = self._lists["identities"]
            people = dict(zip(known.rows, known.values[:, 0].astype(np.int64).tolist(), strict=True))
        for image in sorted(self._listed.rows):
            try:
                if image not in files:
                    raise DataError(f"{self._listed.place(image)}: {self._folder} holds no image {image}")
                for used in self._lists.values():
                    if image not in used.rows:
                        raise DataError(f"{used.path} has no row of {image}")
                photos.append(_Photo(image, str(people.get(image, "")), files[image]))
            except DataError as error:
                if self.on_error == "raise":
                    raise refusal(error) from error
                self._skipped += 1
        images = Counter(photo.identity for photo in photos)
        enough = [photo for photo in photos if images[photo.identity] >= self.min_images]
        self._few = sum(count < self.min_images for count in images.values())
        self._classes(enough)
        return enough

    def _classes(self, photos: list[_Photo]) -> list[str]:
        """The identities of photos in the order of their numbers; none without a list of them."""
        names = {photo.identity for photo in photos}
        if "identities" not in self._lists:
            return []
        if len(names) < 2:
            raise DataError(
                f"{self._folder}: {len(names)} identities with at least {self.min_images} usable images; a classifier "
                "takes two. Lower data.min_images, or give more images"
            )
        return sorted(names, key=int)

    def _part(self, photo: _Photo) -> str:
        """The part of the split that a photo is in."""
        if self.split == "official":
            return PARTS[int(self._lists["parts"].of(photo.image)[0])]
        return "test" if is_test_sample(photo.image) else "train"

    def _read(self, photo: _Photo, size: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """What is shown of a photo, with landmarks in it and its frame where they are given."""
        image, known = open_photo(Path(photo.file.path)), self._lists.get("landmarks")
        if known is None:
            return self._square(image, photo, size)[0], {}
        with at(f"{known.place(photo.image)}: {photo.file.path}"):
            points = known.of(photo.image).reshape(-1, 2)
            if math.dist(points[0], points[1]) < 1:
                raise DataError("both eyes are at one point")
            check_face(points, image)
            if self.alignment == "similarity":
                return align(image, points, size), {}
            pixels, frame = self._square(image, photo, size)
            landmarks = (points + 0.5 - frame[:2]) * (size / frame[2]) - 0.5
            if landmarks.min() < -0.5 or landmarks.max() > size - 0.5:
                raise DataError(f"a landmark is outside of the square that data.alignment={self.alignment} shows")
            return pixels, {"landmarks": landmarks, "frames": frame}

    def _square(self, image: Image.Image, photo: _Photo, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """A square of a photo, and left, top, side of it."""
        if self.alignment != "box":
            side = min(image.size)
            pixels = np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR))
            return pixels, np.array([(image.width - side) / 2, (image.height - side) / 2, side])
        x, y, *lengths = self._lists["boxes"].of(photo.image).tolist()
        x, y, longer = x + lengths[0] / 2, y + lengths[1] / 2, max(lengths)
        inside = 0 <= x <= image.width and 0 <= y <= image.height
        if not inside or min(lengths) < MIN_PIXELS or longer > 2 * max(image.size):
            place = self._lists["boxes"].place(photo.image)
            raise DataError(f"{place}: no box of a face on {image.width}×{image.height} pixels")
        side = longer * (1 + self.margin)
        frame = (x - side / 2, y - side / 2, side)
        return cut_square(image, *frame, size), np.array(frame)
