"""Photographs in people's own files: how one image is read."""

import io
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError, features
from PIL.ImageFile import ImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

from facedistill.data.files.faults import readable
from facedistill.data.files.metadata import orientation_in, without_metadata
from facedistill.data.files.signatures import CONVERT, HEAD, what_it_is
from facedistill.errors import DataError
from facedistill.system.files import open_regular

# The formats that are read, by Pillow's names: the part of Pillow that decodes each, and the suffixes of its files.
# A file's content decides which of them it is. Nothing else is tried, as Pillow would hand an EPS to Ghostscript.
_FORMATS = {
    "JPEG": ("jpg", ".jpg .jpeg .jpe .jfif .mpo"),
    "PNG": ("zlib", ".png"),
    "WEBP": ("webp", ".webp"),
    "BMP": ("pil", ".bmp"),
    "GIF": ("pil", ".gif"),
    "TIFF": ("pil", ".tif .tiff"),
    "PPM": ("pil", ".pgm .ppm .pnm .pbm"),
    "JPEG2000": ("jpg_2000", ".jp2 .j2k .jpf .jpx .j2c .jpc"),
    "AVIF": ("avif", ".avif"),
}
_READ = {name: suffixes.split() for name, (decoder, suffixes) in _FORMATS.items() if features.check(decoder)}
with suppress(ImportError):
    from pillow_heif import register_heif_opener

    register_heif_opener()
    _READ["HEIF"] = [".heic", ".heif", ".hif"]
SUFFIXES = set(chain.from_iterable(_READ.values()))
SUFFIX_PATTERN = rf"(?:{'|'.join(map(re.escape, sorted(SUFFIXES)))})"  # any of them, in lower case
_ADVICE = {
    " ".join(suffixes for _, suffixes in _FORMATS.values()): "this Pillow has no decoder for it: pip install -U pillow",
    ".dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .orf .rw2 .raf .pef .srw .x3f": f"a camera's raw file: {CONVERT}",
    ".heic .heif .hif": f"pip install pillow-heif, or {CONVERT}",
    ".svg .psd .xcf .eps .jxl .jxr .tga .ico .icns .exr .hdr .pcx .dds": CONVERT,
}
# The suffixes of images that can't be read, each with what to do about it.
UNREAD_SUFFIXES = {
    suffix: advice for suffixes, advice in _ADVICE.items() for suffix in suffixes.split() if suffix not in SUFFIXES
}
MIN_PIXELS = 8  # a shorter side can't show a face
# A header that announces more is treated as an attack. JPEGs may have more: they are decoded by rows, at half the size.
MAX_PIXELS, MAX_JPEG_PIXELS = 100_000_000, 200_000_000
MAX_BYTES = 2**30  # of a file: 100 megapixels, uncompressed, with 16 bits a colour
HALVED = 2**26  # pixels: an image with more is halved as soon as possible, or 16 threads would take many GB
_AT_ONCE = 2**27  # pixels that all threads together decode at a time: 0.5 GB
_FULL_SIZE = "full size"
_SUBFILE = 254  # a tag of TIFF; 1: a smaller version of another page
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by the orientation in EXIF
# Of memory for images: malloc keeps smaller ones to itself when an image is freed.
Image.core.set_block_size(2**26)  # type: ignore[attr-defined]
warnings.filterwarnings("ignore", module=r"PIL\.")  # about metadata; for good, as filters are shared by all threads


def open_photo(path: Path) -> Image.Image:
    """The image in a file, upright and RGB; of several the first.

    Transparency is ignored: the colours beneath it are seen. An image of more than ``HALVED`` pixels has half its width
    and height, see ``full_size``.

    Raises ``DataError``, with the file and what is wrong with it.
    """
    with readable(path), open_regular(path) as file:
        return _read(file, str(path))


def decode_photo(data: bytes, location: str) -> Image.Image:
    """As ``open_photo``, from the bytes of a file; errors name ``location``."""
    return _read(io.BytesIO(data), location)


def full_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of the upright photograph, in whose pixels landmarks and boxes are."""
    size: tuple[int, int] = image.info.get(_FULL_SIZE, image.size)
    return size


def reduction(image: Image.Image) -> int:
    """How many pixels of the photograph, per axis, are one of the image."""
    return 2 if _FULL_SIZE in image.info else 1


class _Jpeg(JpegImageFile):
    """The first picture in a JPEG, without the search for its resolution, which fails at odd metadata."""

    def _read_dpi_from_exif(self) -> None:
        pass


class _Tiff(TiffImageFile):
    """The first page of a TIFF as it is stored; Pillow turns it itself, and fails at odd metadata."""

    def load_end(self) -> None:
        with suppress(Exception):
            self.getexif()  # while the file is open
        self._size = self.im.size


class _Budget:
    """Something limited that threads share: who needs more than is left waits."""

    def __init__(self, amount: int) -> None:
        self._amount = self._left = amount
        self._changed = threading.Condition()

    @contextmanager
    def take(self, amount: int) -> Iterator[None]:
        amount = min(amount, self._amount)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= amount)
            self._left -= amount
        try:
            yield
        finally:
            with self._changed:
                self._left += amount
                self._changed.notify_all()


_decoding = _Budget(_AT_ONCE)


def _read(file: BinaryIO, location: str) -> Image.Image:
    if file.seek(0, os.SEEK_END) > MAX_BYTES:
        raise DataError(f"{location} has more than {MAX_BYTES} bytes, as no photograph has")
    try:
        return _decoded(file, location)
    except DataError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file leads to
        file.seek(0)
        data = file.read()
        bare = without_metadata(data)
        if bare != data:
            with suppress(Exception):
                return _decoded(io.BytesIO(bare), location)
        why = f"({str(error) or type(error).__name__})"
        if isinstance(error, UnidentifiedImageError):
            what = what_it_is(data[:HEAD])
            why = f"but {what}" if what else "(its beginning is damaged, or its format is none that is read)"
        raise DataError(f"{location} is not a readable image {why}") from error


def _decoded(file: BinaryIO, location: str) -> Image.Image:
    with _opened(file, location) as image:
        pixels, size = image.width * image.height, f"{image.width}×{image.height} pixels"
        if pixels > (MAX_JPEG_PIXELS if isinstance(image, _Jpeg) else MAX_PIXELS):
            most = f"{MAX_PIXELS // 10**6} megapixels ({MAX_JPEG_PIXELS // 10**6} as JPEG)"
            raise DataError(f"{location}: {size}, more than the {most} that are read")
        if isinstance(image, _Tiff) and image.tag_v2.get(_SUBFILE) == 1:
            raise DataError(f"{location} begins with a thumbnail, like a camera's raw file: {CONVERT}")
        if min(image.size) < MIN_PIXELS:
            raise DataError(f"{location}: {size}, too small to show a face")
        with _decoding.take(pixels):
            return _upright(image)


def _opened(file: BinaryIO, location: str) -> ImageFile:
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    if not start:
        raise DataError(f"{location} is empty")
    if start.startswith(b"\xff\xd8\xff"):
        return _Jpeg(file)
    if start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _Tiff(file)
    return Image.open(file, formats=list(_READ))


def _upright(image: ImageFile) -> Image.Image:
    size, halved = image.size, image.width * image.height > HALVED
    if halved:
        image.draft(None, (size[0] // 2, size[1] // 2))  # a JPEG is decoded at that size
        if isinstance(image, Jpeg2KImageFile):
            image.reduce = 1  # and so is a JPEG 2000
    image.load()
    orientation, rgb = _orientation(image), _to_rgb(image)
    if halved and max(rgb.size) == max(size):
        rgb = rgb.reduce(2)
    if orientation > 1:
        rgb = rgb.transpose(_TURNS[orientation])
    sideways = orientation > 4 and not isinstance(image, _Tiff)  # whose size is that of the upright image
    rgb.info = {_FULL_SIZE: size[::-1] if sideways else size} if halved else {}
    return rgb


def _orientation(image: ImageFile) -> int:
    """From 1, upright, to 8; 1 where it can't be read."""
    with suppress(Exception):
        found = image.getexif().get(ExifTags.Base.Orientation) or orientation_in(image.info["exif"])
        return int(found) if found in _TURNS else 1
    return 1


def _to_rgb(image: ImageFile) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):  # which Pillow would clip instead of scale
        return Image.fromarray(_to_bytes(image)).convert("RGB")
    # the reduce of a JPEG 2000 is a number, and that of its copy the method
    return image if image.mode == "RGB" and not isinstance(image, Jpeg2KImageFile) else image.convert("RGB")


def _to_bytes(image: ImageFile) -> NDArray[np.uint8]:
    """Grey of more than 8 bits, or of floating point, as uint8 [height, width]."""
    values: NDArray[Any] = np.array(image)
    if image.mode == "F":
        values = np.nan_to_num(values)
        values = np.rint(values * (255 if values.max() <= 1 else 1))
    elif isinstance(image, _Tiff) and image.tag_v2.get(BITSPERSAMPLE) == (12,):
        values = values >> 4
    elif image.format in ("PPM", "JPEG2000"):
        values = values >> 8  # Pillow has scaled them to 16 bits
    else:  # no file says that 16 bits hold the 12 of a camera
        values = values >> next(bits - 8 for bits in (8, 12, 16, 32) if values.max() < 2**bits)
    grey: NDArray[np.uint8] = values.clip(0, 255).astype(np.uint8)
    return grey
