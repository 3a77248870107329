"""Microsoft's own MS-Celeb-1M: a TSV file of base64 images."""

import hashlib
from pathlib import Path

from facedistill.data.files.faults import readable
from facedistill.data.files.formats.base64_tsv import Base64Tsv
from facedistill.data.files.layouts.layout import FileLayout

_HASHED = 2**20  # bytes at the beginning and at the end


class TsvLayout(FileLayout):
    """The images in the order of the file, named like the JPEGs that people unpack from it."""

    kind = "TSV"

    def __init__(self, path: Path) -> None:
        self.path, self.fingerprint = path, _fingerprint(path)

    def prepare(self, cache_dir: Path) -> None:
        self._lines = Base64Tsv(self.path, cache_dir)
        self.image = self._lines.image
        self.identities, self.labels = self._lines.identities, self._lines.labels

    def name(self, number: int) -> str:
        return f"{self._lines.names[number].decode()}.jpg"

    def location(self, number: int) -> str:
        return f"{self.path}, line {number + 1}"


def _fingerprint(path: Path) -> str:
    """Hash of the size, the beginning and the end of the file: reading all 90 GB would take minutes."""
    with readable(path), path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        digest = hashlib.sha256(b"%d" % size + file.read(_HASHED))
        file.seek(max(0, size - _HASHED))
        digest.update(file.read(_HASHED))
    return digest.hexdigest()[:32]
