"""The images of a layout as squares, aligned by a file of annotations where their alignment needs one."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.files.alignment import Alignment
from facedistill.data.files.annotations import Annotation, Annotations, read_annotations
from facedistill.data.files.faults import located
from facedistill.data.files.landmarks import OUR_ORDER, check_face
from facedistill.data.files.layouts.layout import Layout
from facedistill.errors import DataError
from facedistill.system.files import sha256


@dataclass
class AlignedImages:
    """Images by their numbers in ``layout``.

    Attributes:
        file: that of what the alignment ``needs``, see ``read_annotations``; None where it needs nothing.
        on_error: whether the first bad line of the list raises; with ``skip``, its image can't be used.
    """

    layout: Layout
    alignment: Alignment
    file: Path | None
    on_error: str

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the squares besides the images, on any disk."""
        annotations = {str(self.alignment.needs): sha256(self.file)} if self.file else {}
        return {"alignment": self.alignment.identity, **annotations}

    @property
    def stamp(self) -> list[Any]:
        """What decides the pixels of a square besides the image."""
        if not self.file:
            return [self.alignment.identity, ""]
        order = self.annotations.order
        return [self.alignment.identity, sha256(self.file), *([order] if order != OUR_ORDER else [])]

    @property
    def counts(self) -> dict[str, int]:
        """Lines of the list for other images, if there are any."""
        elsewhere = self.annotations.elsewhere if self.file else 0
        return {"lines_for_other_images": elsewhere} if elsewhere else {}

    @property
    def notes(self) -> list[str]:
        """A remark for people where the landmarks are in another order than ours."""
        if not self.file or self.annotations.order == OUR_ORDER:
            return []
        return [f"the landmarks of {self.file.name} are {self.annotations.order}"]

    @cached_property
    def annotations(self) -> Annotations:
        """All of the list. Raises ``DataError`` if it can't be read."""
        assert self.file is not None
        assert self.alignment.needs is not None
        return read_annotations(self.file, self.alignment.needs, self.layout.by_name, self.layout.path, self.on_error)

    def is_listed(self, number: int) -> bool:
        """Whether the list has a line for an image, maybe a bad one."""
        return self.layout.name(number) in self.annotations.of

    def annotation(self, number: int) -> Annotation:
        """That of an image. Raises ``DataError`` where the list has none, or a bad one."""
        name = self.layout.name(number)
        annotation = self.annotations.of.get(name)
        if annotation is None:
            raise DataError(f"{self.file} has no line for {self.layout.location(number)}, named {name}")
        if isinstance(annotation, str):
            raise DataError(annotation)
        return annotation

    def square(self, number: int, image: Image.Image, size: int) -> NDArray[np.uint8]:
        """The square of an image, uint8 [size, size, 3]. Raises ``DataError`` with its location."""
        location = self.layout.location(number)
        if not self.file:
            with located(location):
                return self.alignment.apply(image, size, None)[0]
        annotation = self.annotation(number)
        with located(f"{annotation.location}: {location}"):
            if self.alignment.needs == "landmarks":
                check_face(annotation.values, image)
            return self.alignment.apply(image, size, annotation.values)[0]
