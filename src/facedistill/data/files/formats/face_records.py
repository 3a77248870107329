"""InsightFace's data sets of faces in RecordIO: ``train.rec`` with ``train.idx``, and sometimes ``train.lst``.

Its tools write the images as keys 1 … a − 1, then the identities as a … b − 1; key 0 is the header, between the two or
last. Header and identities have no image but two labels: a and b, or the keys of an identity's first image and of the
one after its last. Only the images have the label of their identity, as their single label or the first of two. Other
files (by RecBuilder, im2rec, shuffle_rec) hold images only, with any keys.

Sources, in InsightFace: ``src/data/face2rec2.py``, ``src/data/dataset_merge.py``,
``python-package/insightface/data/rec_builder.py`` and ``recognition/arcface_torch/scripts/shuffle_rec.py`` (writers),
``recognition/ArcFace/image_iter.py`` and ``recognition/arcface_torch/dataset.py`` (readers).
"""

import numpy as np
from numpy.typing import NDArray

from facedistill.data.files.formats.face_lists import read_names
from facedistill.data.files.formats.recordio import RecordFile
from facedistill.errors import DataError

_INEXACT = 2**24  # from here on, float32 skips integers


class FaceRecords:
    """The images of a ``RecordFile`` and their labels.

    If the file has a header, the label of each identity is read from its first image. If it has none, or one with
    numbers that float32 can't hold (as in Glint360K, with more than 16.7 million images), labels are read from all
    images, and records that have labels but no image are left out.

    Attributes:
        keys: int64 [N], ascending.
        labels: int64 [N], as in the file.
        names: ``identity/file``, from the ``.lst`` of the same name beside the file; None without one.

    Raises ``DataError`` if header, identities, images and names contradict each other.
    """

    @np.errstate(invalid="ignore")  # labels may be NaN
    def __init__(self, records: RecordFile) -> None:
        self.records = records
        header = self._header()
        if header:
            starts, counts = self._ranges(*header)
            self.keys = self._positions = np.arange(1, header[0])  # keys have no gap from 0
            heads = records.heads(starts)
            self.labels = np.repeat(self._labels(starts, heads["labels"][:, 0], heads["size"]), counts)
        else:
            heads = records.heads(records.keys)
            images = (heads["count"] < 2) | (heads["size"] > 0)
            self.keys = records.keys[images]
            labels, sizes = heads["labels"][images, 0], heads["size"][images]
            del heads  # a third of the memory in use
            self.labels = self._labels(self.keys, labels, sizes)
            self._positions = np.flatnonzero(images)
        if not len(self):
            raise DataError(f"{records.path} holds no image")
        names = records.path.with_suffix(".lst")
        self.names = read_names(names, self.keys, self.labels) if names.exists() else None

    def __len__(self) -> int:
        return len(self.keys)

    def image(self, number: int) -> bytes:
        """An image file, as a rule JPEG. Raises ``DataError`` if the record is damaged, or of another identity."""
        record = self.records.read_at(int(self._positions[number]))
        label = record.labels[0].item()
        if label != self.labels[number] or not record.content:
            actual = f"label {label:g} and {len(record.content)} bytes"
            raise self._fault(int(self.keys[number]), f"not an image with label {self.labels[number]}: {actual}")
        return record.content

    def _fault(self, key: int, what: str) -> DataError:
        [position] = self.records.positions_of(np.array([key]))
        return self.records.fault(int(self.records.offsets[position]), f"key {key} is {what}")

    def _header(self) -> tuple[int, int] | None:
        """The key of the first identity and the one after the last; None without a usable header."""
        if self.records.keys[0] != 0:
            return None
        record = self.records.read(0)
        if record.content or len(record.labels) < 2:
            return None
        first, last = record.labels[:2].tolist()
        if not (first.is_integer() and last.is_integer() and 1 < first < last < 2 * first):
            raise self._fault(0, f"not a header: identities can't have the keys from {first:.8g} to {last:.8g}")
        if last >= _INEXACT:
            return None
        gaps = np.flatnonzero(np.diff(self.records.keys, append=np.iinfo(np.int64).max) > 1)
        if gaps[0] + 1 < last:
            self.records.positions_of(gaps[:1] + 1)  # raises: this key is missing
        return int(first), int(last)

    def _ranges(self, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First key and number of images of each identity, both int64 [K], in the order of the images."""
        keys = np.arange(first, last)
        heads = self.records.heads(keys)
        others = keys[(heads["count"] < 2) | (heads["size"] > 0)]
        if len(others):
            raise self._fault(int(others[0]), f"not an identity, but the header says that {first} to {last - 1} are")
        order = np.argsort(heads["labels"][:, 0], kind="stable")
        starts, ends = heads["labels"][order].T.astype(np.float64)
        before, after = np.append(1, ends), np.append(starts, first)
        wrong = np.flatnonzero((before != after) | (before != np.floor(before)) | np.append(starts >= ends, False))
        if len(wrong):
            number = min(int(wrong[0]), len(keys) - 1)
            images = f"the images from {starts[number]:.8g} to {ends[number]:.8g}"
            what = f"an identity with {images}, which leaves a gap or an overlap in those from 1 to {first}"
            raise self._fault(int(keys[order[number]]), what)
        return starts.astype(np.int64), (ends - starts).astype(np.int64)

    def _labels(
        self, keys: NDArray[np.int64], labels: NDArray[np.float32], sizes: NDArray[np.uint32]
    ) -> NDArray[np.int64]:
        """The labels as int64 [N]. Raises ``DataError`` if a record is not an image with a valid label."""
        good = (labels >= 0) & (labels < _INEXACT) & (labels == np.floor(labels)) & (sizes > 0)
        if not good.all():
            bad = int(np.argmin(good))
            actual = f"label {labels[bad]:g} and {sizes[bad]} bytes"
            raise self._fault(int(keys[bad]), f"not an image whose label is a whole number from 0: {actual}")
        return labels.astype(np.int64)
