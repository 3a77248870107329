"""CelebA (Liu et al. 2015): 202,599 photographs of 10,177 people, with five landmarks."""

from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.files.alignment import Alignment
from facedistill.data.files.faults import located
from facedistill.data.files.formats.celeba_lists import CelebaList
from facedistill.data.files.formats.celeba_tree import ALIGNED, PARTS, WILD, image_files, image_folder, open_lists
from facedistill.data.files.landmarks import check_eyes, check_face
from facedistill.data.files.listing import ImageFile, Listing
from facedistill.data.files.photos import open_photo
from facedistill.data.files.roots import data_folder
from facedistill.data.sources.identity_images import check_min_images
from facedistill.data.sources.photo_source import Inventory, PhotoSource
from facedistill.data.sources.source import is_test_sample
from facedistill.errors import DataError
from facedistill.system.files import hash_of_lines, sha256

SPLITS = ("random", "official")


class _Photo(NamedTuple):
    """An image by its name in the lists; ``identity`` is a number, or empty without a list of identities."""

    image: str
    identity: str
    file: ImageFile


@dataclass
class CelebA(PhotoSource):
    """A folder of images, and CelebA's lists of them in ``root``, ``root``/Anno and ``root``/Eval.

    Faces have identities if identity_CelebA exists, and landmarks if the list of landmarks does. Images and lists may
    be a part of the whole: what only one has is left out, and counted. But the other lists that are used must have
    every image that the first has.

    Attributes:
        images: relative to ``root``; None for the published names, also in Img of ``root``. Images in a folder
            img_celeba, and all images if ``alignment`` is box, are in the wild, with the landmarks for those.
        alignment, margin: see ``Alignment``; the box is that of list_bbox_celeba. With ``similarity`` and
            ``celeba`` faces have no landmarks, as they are all in the same positions.
        split: ``random`` by name, or ``official``, whose val and test are subsets of the test split. The official split
            is by person: nobody is on both sides, so it can't test classification.
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
    decode: str = field(default="auto", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._listing = Listing(self.faults)
        self._alignment = Alignment(self.alignment, self.margin)
        if self.split not in SPLITS:
            raise DataError(f"data.split={self.split}: choices are {', '.join(SPLITS)}")
        check_min_images(self.min_images)

    @property
    def framing(self) -> tuple[str, float]:
        return self._alignment.framing

    def identity(self) -> dict[str, Any]:
        return {
            "source": "celeba",
            "alignment": self._alignment.identity,
            "lists": {content: sha256(used.path) for content, used in self._lists.items()},
            "files": hash_of_lines(f"{who}/{Path(file.path).name}/{file.size}" for _, who, file in self._photos),
            "images": len(self._photos),
        }

    def inventory(self, cache_dir: Path) -> Inventory:
        photos = self._photos
        names = sorted({photo.identity for photo in photos}, key=int) if "identities" in self._lists else []
        labels = {name: label for label, name in enumerate(names)}
        parts = np.array([self._part(photo) for photo in photos])
        official = sorted(set(parts[parts != "train"].tolist())) if self.split == "official" else []
        dates = hash_of_lines(str(photo.file.modified) for photo in photos)
        return Inventory(
            kind="CelebA's lists and images",
            path=self._folder,
            available=self._available,
            identities=names,
            labels=np.array([labels.get(photo.identity, 0) for photo in photos]),
            is_test=parts != "train",
            stamp=[str(self._folder), dates, self.identity()],
            has_landmarks="landmarks" in self._lists and not self._alignment.to_template,
            split=f"{self.split} split",
            subsets={part: parts == part for part in official},
            counts={
                "identities_below_min_images": self._below_min_images,
                "images_not_listed": self._not_listed,
                "listed_images_not_there": self._not_there,
                **self._listing.counts,
            },
            notes=self._listing.notes,
        )

    def open(self, number: int) -> Image.Image:
        return open_photo(Path(self._photos[number].file.path))

    def to_square(self, number: int, image: Image.Image, size: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        photo, points, box = self._photos[number], self._lists.get("landmarks"), self._lists.get("boxes")
        original, location = None, photo.file.path
        if points is not None:
            original = points.of(photo.image).reshape(-1, 2)
            location = f"{points.location(photo.image)}: {location}"
            with located(location):
                check_eyes(original)
                check_face(original, image)
        with located(box.location(photo.image)) if box else nullcontext():
            annotation = box.of(photo.image) if box else original
            pixels, crop_box = self._alignment.apply(image, size, annotation)
        if original is None or crop_box is None:
            return pixels, {}
        landmarks = (original + 0.5 - crop_box[:2]) * (size / crop_box[2]) - 0.5
        if landmarks.min() < -0.5 or landmarks.max() > size - 0.5:
            raise DataError(f"{location}: a landmark is outside of the square of data.alignment={self.alignment}")
        return pixels, {"landmarks": landmarks, "crop_boxes": crop_box}

    @cached_property
    def _folder(self) -> Path:
        if self.images is not None:
            return data_folder(self.root, self.images)
        return image_folder(self.root, [WILD] if self.alignment == "box" else [*ALIGNED, WILD])

    @cached_property
    def _lists(self) -> dict[str, CelebaList]:
        """By content; see ``open_lists``."""
        needed = {"identities": f"data.min_images={self.min_images}"} if self.min_images > 1 else {}
        if self._alignment.needs:
            needed[self._alignment.needs] = f"data.alignment={self.alignment}"
        if self.split == "official":
            needed["parts"] = f"data.split={self.split}"
        return open_lists(self.root, self._folder.name == WILD or self.alignment == "box", needed)

    @property
    def _listed(self) -> CelebaList:
        """The list that decides which images are read: that of identities, or else that of landmarks."""
        return next(iter(self._lists.values()))

    @cached_property
    def _photos(self) -> list[_Photo]:
        """The images of identities with enough of them, sorted by name."""
        photos, files, identities = [], image_files(self._folder, self._listing), {}
        if "identities" in self._lists:
            listed = self._lists["identities"]
            identities = dict(zip(listed.rows, listed.values[:, 0].astype(np.int64).tolist(), strict=True))
        for image in sorted(self._listed.rows):
            if image not in files:
                continue
            try:
                for used in self._lists.values():
                    if image not in used.rows:
                        raise DataError(f"{used.path} has no row for {image}")
                photos.append(_Photo(image, str(identities.get(image, "")), files[image]))
            except DataError as error:
                self.faults.add(error)
        there = files.keys() & self._listed.rows.keys()
        if not there:
            some = next(iter(self._listed.rows))
            raise DataError(
                f"{self._folder} holds none of the {len(self._listed.rows)} images that {self._listed.path} names, as "
                f"{some}: name their folder, data.images=NAME"
            )
        self._not_listed, self._not_there = len(files) - len(there), len(self._listed.rows) - len(there)
        images = Counter(photo.identity for photo in photos)
        self._available = len(photos), len(images) if identities else 0
        self._below_min_images = sum(count < self.min_images for count in images.values())
        count = len(images) - self._below_min_images
        if "identities" in self._lists and count < 2:
            found = f"{count} identities with at least {self.min_images} usable images"
            raise DataError(f"{self._folder}: {found}; a classifier needs two. Lower data.min_images, or add images")
        return [photo for photo in photos if images[photo.identity] >= self.min_images]

    def _part(self, photo: _Photo) -> str:
        if self.split == "official":
            return PARTS[int(self._lists["parts"].of(photo.image)[0])]
        return "test" if is_test_sample(photo.image) else "train"
