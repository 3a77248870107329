"""Photographs in people's own files."""

import io
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, features

from facedistill.data.files.faults import refusal
from facedistill.data.files.store import Batches, Stored, image_of, open_or_make
from facedistill.errors import DataError

ARCHIVES = (".zip", ".7z", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
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
SUFFIXES = set(chain.from_iterable(_READ.values()))
_CONVERT = "convert it to JPEG or PNG"
_ADVICE = {
    " ".join(suffixes for _, suffixes in _FORMATS.values()): "this Pillow has no decoder for it: pip install -U pillow",
    ".dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .orf .rw2 .raf .pef .srw .x3f": f"a camera's raw file: {_CONVERT}",
    ".heic .heif .hif .svg .psd .xcf .eps .jxl .jxr .tga .ico .icns .exr .hdr .pcx .dds": _CONVERT,
}
# The suffixes of images that can't be read, each with what to do about it.
UNREAD_SUFFIXES = {
    suffix: advice for suffixes, advice in _ADVICE.items() for suffix in suffixes.split() if suffix not in SUFFIXES
}
MIN_PIXELS = 8  # a shorter side can't show a face
MAX_PIXELS = 100_000_000  # a header that announces more is treated as an attack
_READ_AT_ONCE = 256
warnings.filterwarnings("ignore", module=r"PIL\.")  # about metadata; for good, as filters are shared by all threads


def data_folder(root: str, inside: str = "") -> Path:
    """``root/inside``. Raises ``DataError`` if it does not exist, saying how to unpack an archive in its place."""
    top = Path(root).expanduser()
    folder = top / inside
    if folder.is_dir():
        return folder
    for path in (top, folder):
        if path.is_file():
            raise DataError(f"{'data.root=' if path == top else ''}{path} {_unpack(path)}")
    refuse_archive(folder.parent, folder.name)
    if not top.is_dir():
        raise DataError(f"data.root={top} does not exist")
    raise DataError(f"data.root={top} holds no folder {inside}: name the folder of the images, data.images=NAME (or .)")


def refuse_archive(folder: Path, name: str = "") -> None:
    """Raise ``DataError``, which says how to unpack it, if ``folder`` holds an archive (of this name)."""
    for path in sorted(folder.glob("*")):
        if path.name.lower().endswith(ARCHIVES) and path.name.startswith(f"{name}." if name else ""):
            raise DataError(f"{path} {_unpack(path)}")


def _unpack(path: Path) -> str:
    suffix = next(filter(path.name.lower().endswith, ARCHIVES), "")
    if not suffix:
        return "is a file: name a folder"
    folder = path.with_name(path.name[: -len(suffix)])
    command = {".zip": f"unzip '{path}' -d '{folder}'", ".7z": f"7z x '{path}' -o'{folder}'"}
    tar = f"mkdir '{folder}' && tar -xf '{path}' -C '{folder}'"
    return f"is an archive: unpack it with `{command.get(suffix, tar)}` and name the folder {folder}"


def open_photo(path: Path) -> Image.Image:
    """The image in a file, upright and RGB. Raises ``DataError``, with the file and what is wrong with it."""
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    return _upright(path, str(path))


def decode_photo(data: bytes, location: str) -> Image.Image:
    """As ``open_photo``, from the bytes of a file; errors name ``location``."""
    return _upright(io.BytesIO(data), location)


def _upright(file: Path | io.BytesIO, location: str) -> Image.Image:
    try:
        with Image.open(file) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{location}: {image.width}×{image.height} pixels, more than any photograph has")
            if min(image.size) < MIN_PIXELS:
                raise DataError(f"{location}: {image.width}×{image.height} pixels, too small to show a face")
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip instead of scale
                upright = Image.fromarray((np.asarray(upright) >> 8).clip(0, 255).astype(np.uint8))
            return upright.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{location} is not a readable image ({error})") from error


def store_photos(
    path: Path,
    count: int,
    size: int,
    decode: Callable[[int], tuple[NDArray[np.uint8], dict[str, Any]]],
    on_error: str | None,
    description: str,
) -> Stored:
    """The results of ``decode`` for 0 … count − 1, from the store at ``path``, which the first call fills.

    Args:
        decode: number → image uint8 [size, size, 3] and its values of the store's columns; called in threads.
        on_error: ``raise`` the first ``DataError`` of ``decode``, or ``skip`` that image. None raises too, without
            the hint that images can be skipped: for sets that need every image.

    Returns:
        The store, with an additional column ``photo``: the numbers of its images, ascending.
    """

    def attempt(number: int) -> tuple[NDArray[np.uint8], dict[str, Any]] | None:
        try:
            return decode(number)
        except DataError as error:
            if on_error == "skip":
                return None
            if on_error is None:
                raise
            raise refusal(error) from error

    def read(start: int) -> Batches:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for first in range(start, count, _READ_AT_ONCE):
                numbers = range(first, min(first + _READ_AT_ONCE, count))
                attempts = zip(numbers, pool.map(attempt, numbers), strict=True)
                decoded = [(number, *result) for number, result in attempts if result]
                if not decoded:
                    yield numbers.stop, np.empty((0, size, size, 3), np.uint8), {}
                    continue
                kept, images, values = zip(*decoded, strict=True)
                columns = {name: np.array([value[name] for value in values]) for name in values[0]}
                yield numbers.stop, np.stack(images), columns | {"photo": np.array(kept)}

    stored = open_or_make(path, count, image_of(size), read, description)
    missing = sorted(set(range(count)) - set(stored.columns["photo"].tolist()))
    if missing:
        attempt(missing[0])  # raises where the store was filled with on_error=skip, but this call has on_error=raise
    return stored
