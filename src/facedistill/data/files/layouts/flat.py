"""All images in one folder, as in CALFW and CPLFW: ``<folder>/<identity>_<number>.jpg``."""

import re
from pathlib import Path

from facedistill.data.files.faults import Faults
from facedistill.data.files.layouts.layout import FilesLayout
from facedistill.data.files.listing import ImageFile

_NAME = re.compile(r"(.+?)(_\d+){1,2}\.\w+")  # a cropper appends the number of the face


class FlatLayout(FilesLayout):
    """The images, sorted by identity and name. Images that are named otherwise are passed over and counted."""

    kind = "images in one folder"

    def __init__(self, path: Path, faults: Faults) -> None:
        super().__init__(path, faults)
        people: dict[str, list[ImageFile]] = {}
        for image in self._listing.read(str(path)).images:
            if match := _NAME.fullmatch(image.name):
                people.setdefault(match[1], []).append(ImageFile.of(image))
            else:
                self.counts["images_without_identity_and_number"] += 1
        self._set_identities({name: people[name] for name in sorted(people)})
        self.notes = self._listing.notes
