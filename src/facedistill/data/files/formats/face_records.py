"""InsightFace's sets of faces in RecordIO: ``train.rec`` with ``train.idx``, and ``train.lst`` where it is kept.

Its tools write the images as keys 1 … a − 1, then the identities as a … b − 1; key 0 is the header, between the two or
last. Header and identities have no image but two labels: a and b, or the keys of an identity's first image and of the
one after its last. An identity's label is said by its images alone, as their one label or the first of two. Other files
(of RecBuilder, im2rec, shuffle_rec) hold images only, of any keys.

Sources, in InsightFace: ``src/data/face2rec2.py``, ``src/data/dataset_merge.py``,
``python-package/insightface/data/rec_builder.py`` and ``recognition/arcface_torch/scripts/shuffle_rec.py`` (writers),
``recognition/ArcFace/image_iter.py`` and ``recognition/arcface_torch/dataset.py`` (readers).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facedistill.data.files.formats.face_lists import read_names
from facedistill.data.files.formats.recordio import RecordFile
from facedistill.errors import DataError

_INEXACT = 2**24  # from here on float32 leaves out whole numbers


class FaceRecords:
    """The images of a ``RecordFile`` and whose they are.

    ``keys`` int64 [N] ascend; ``labels`` int64 [N] are those of the file. Where its header names the identities, one
    image of each is asked for the label. Where it has no header, or one with numbers that float32 can't hold (as
    Glint360K, of more than 16.7 million images), each image is; what has labels and no image is left out.

    ``names`` are those, ``identity/file``, of the list beside the file, ``.lst`` of the same name; None without one.
    """

    keys: NDArray[np.int64]
    labels: NDArray[np.int64]
    names: list[str] | None

    @np.errstate(invalid="ignore")  # a label may be any NaN
    def __init__(self, records: RecordFile) -> None:
        """Raises ``DataError`` where header, identities, images and names contradict each other."""
        self.records = records
        header = self._header()
        if header:
            starts, counts = self._ranges(*header)
            self.keys = self._places = np.arange(1, header[0])  # of keys without a gap from 0
            heads = records.heads(starts)
            self.labels = np.repeat(self._labels(starts, heads["labels"][:, 0], heads["size"]), counts)
        else:
            heads = records.heads(records.keys)
            images = (heads["count"] < 2) | (heads["size"] > 0)
            self.keys = records.keys[images]
            labels, sizes = heads["labels"][images, 0], heads["size"][images]
            del heads  # a third of all memory that is needed here
            self.labels = self._labels(self.keys, labels, sizes)
            self._places = np.flatnonzero(images)
        if not len(self):
            raise DataError(f"{records.path} holds no image")
        names = records.path.with_suffix(".lst")
        self.names = read_names(names, self.keys, self.labels) if names.exists() else None

    def __len__(self) -> int:
        return len(self.keys)

    def image(self, number: int) -> bytes:
        """The file of an image (as a rule JPEG) as it was packed.

        Raises:
            DataError: the record is damaged, or of another label than its identity.
        """
        record = self.records.read_at(int(self._places[number]))
        label = record.labels[0].item()
        if label != self.labels[number] or not record.content:
            got = f"label {label:g} and {len(record.content)} bytes"
            raise self._fault(int(self.keys[number]), f"not an image of label {self.labels[number]}: {got}")
        return record.content

    def _fault(self, key: int, what: str) -> DataError:
        [place] = self.records.places_of(np.array([key]))
        return self.records.fault(int(self.records.offsets[place]), f"key {key} is {what}")

    def _header(self) -> tuple[int, int] | None:
        """The key of the first identity and that after the last, if the file says so."""
        if self.records.keys[0] != 0:
            return None
        record = self.records.read(0)
        if record.content or len(record.labels) < 2:
            return None
        first, last = record.labels[:2].tolist()
        if not (first.is_integer() and last.is_integer() and 1 < first < last < 2 * first):
            raise self._fault(0, f"not a header, whose identities would have the keys from {first:.8g} to {last:.8g}")
        if last >= _INEXACT:
            return None
        gaps = np.flatnonzero(np.diff(self.records.keys, append=np.iinfo(np.int64).max) > 1)
        if gaps[0] + 1 < last:
            self.records.places_of(gaps[:1] + 1)  # which is missing
        return int(first), int(last)

    def _ranges(self, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First key and number of the images of each identity, int64 [K], in their order."""
        keys = np.arange(first, last)
        heads = self.records.heads(keys)
        no_identity = keys[(heads["count"] < 2) | (heads["size"] > 0)]
        if len(no_identity):
            raise self._fault(int(no_identity[0]), f"not an identity, as those from {first} to {last - 1} should be")
        order = np.argsort(heads["labels"][:, 0], kind="stable")
        starts, ends = heads["labels"][order].T.astype(np.float64)
        before, after = np.append(1, ends), np.append(starts, first)
        wrong = np.flatnonzero((before != after) | (before != np.floor(before)) | np.append(starts >= ends, False))
        if len(wrong):
            number = min(int(wrong[0]), len(keys) - 1)
            said = f"an identity of the images from {starts[number]:.8g} to {ends[number]:.8g}"
            what = f"{said}, with a gap or an overlap in those from 1 to {first}"
            raise self._fault(int(keys[order[number]]), what)
        return starts.astype(np.int64), (ends - starts).astype(np.int64)

    def _labels(
        self, keys: NDArray[np.int64], labels: NDArray[np.float32], sizes: NDArray[np.uint32]
    ) -> NDArray[np.int64]:
        """What images say of themselves, int64 [N], if they are images and it is a label."""
        good = (labels >= 0) & (labels < _INEXACT) & (labels == np.floor(labels)) & (sizes > 0)
        if not good.all():
            bad = int(np.argmin(good))
            got = f"label {labels[bad]:g} and {sizes[bad]} bytes"
            raise self._fault(int(keys[bad]), f"not an image with a whole number from 0 as its label: {got}")
        return labels.astype(np.int64)
