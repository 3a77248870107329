"""Images without identities: every one in a folder and in those below it."""

from pathlib import Path

import numpy as np

from facedistill.data.files.faults import Faults
from facedistill.data.files.layouts.layout import FilesLayout
from facedistill.data.files.listing import ImageFile
from facedistill.data.files.roots import refuse_archive
from facedistill.errors import DataError


class TreeLayout(FilesLayout):
    """All images, folder by folder, in the order of their names; ``identities`` is empty, and the labels are 0.

    Raises ``DataError`` if there are none, and for what ``Listing`` can't read, unless ``faults`` skips it.
    """

    kind = "photographs"

    def __init__(self, path: Path, faults: Faults) -> None:
        super().__init__(path, faults)
        self.identities, self._files = [], []
        for images, _, others in self._listing.walk(str(path)):
            self.counts["files_that_are_no_images"] += others
            self._files += map(ImageFile.of, images)
        self.labels = np.zeros(len(self._files), np.int64)
        self.notes = self._listing.notes
        if not self._files:
            refuse_archive(path)
            raise DataError(f"data.root={path}: {'; '.join(['no image is in it, nor in a folder below', *self.notes])}")
