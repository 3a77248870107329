"""InsightFace's RecordIO: ``train.rec``, with ``train.idx``, ``train.lst`` and ``property`` if they exist."""

from pathlib import Path

import numpy as np

from facedistill.data.files.formats.face_lists import read_property
from facedistill.data.files.formats.face_records import FaceRecords
from facedistill.data.files.formats.recordio import RecordFile
from facedistill.data.files.layouts.layout import FileLayout


class RecordIOLayout(FileLayout):
    """The images of a .rec file in the order of their keys. ``DataError`` if it can't be read.

    They are named by ``train.lst``, or else ``label/key``: then the 80/20 split differs from that of the same images in
    folders.
    """

    kind = "RecordIO"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = RecordFile(path)
        self.fingerprint = self._file.fingerprint()

    def prepare(self, cache_dir: Path) -> None:
        self._records = FaceRecords(self._file)
        self.image = self._records.image
        properties = self.path.with_name("property")
        numbers, self.labels = np.unique(self._records.labels, return_inverse=True)
        self._names = self._records.names
        self.identities = [str(number) for number in numbers]
        if self._names is not None:
            _, first = np.unique(self.labels, return_index=True)
            folders = [self._names[number].rpartition("/")[0] for number in first]
            if len(set(folders)) == len(folders):
                self.identities = folders
        if properties.is_file() and (classes := read_property(properties).classes) != len(numbers):
            self.notes = [f"{properties} announces {classes:,} identities"]

    def name(self, number: int) -> str:
        if self._names is not None:
            return self._names[number]
        return f"{self._records.labels[number]}/{self._records.keys[number]}"

    def location(self, number: int) -> str:
        return f"{self.path}, key {self._records.keys[number]}"
