"""Microsoft's own MS-Celeb-1M: a TSV file of base64 images."""

import hashlib
from functools import cached_property
from pathlib import Path

from PIL import Image

from facedistill.data.files.formats.base64_tsv import Base64Tsv
from facedistill.data.files.layouts.layout import FileLayout
from facedistill.data.files.photos import decode_photo
from facedistill.errors import DataError

_HASHED = 2**20  # bytes at the beginning and at the end


class TsvLayout(FileLayout):
    """The images in the order of the file, named like the JPEGs that people unpack from it."""

    kind = "TSV"

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self, cache_dir: Path) -> None:
        self._lines = Base64Tsv(self.path, cache_dir)
        self.identities, self.labels = self._lines.identities, self._lines.labels

    def name(self, number: int) -> str:
        return f"{self._lines.names[number].decode()}.jpg"

    def location(self, number: int) -> str:
        return f"{self.path}, line {number + 1}"

    def open(self, number: int) -> Image.Image:
        return decode_photo(self._lines.image(number), self.location(number))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the size, the beginning and the end of the file: reading all 90 GB would take minutes."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(0)
                digest = hashlib.sha256(b"%d" % size + file.read(_HASHED))
                file.seek(max(0, size - _HASHED))
                digest.update(file.read(_HASHED))
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror}") from error
        return digest.hexdigest()[:32]
