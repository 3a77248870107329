"""How one image is read: formats, orientation, depth, size, and everything else that is named .jpg."""

import io
import os
import random
import re
import struct
import subprocess
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import EpsImagePlugin, Image, features

from facedistill.data.files import photos
from facedistill.data.files.alignment import ARCFACE_TEMPLATE, Alignment
from facedistill.data.files.formats.npz import read_npz
from facedistill.data.files.landmarks import check_face
from facedistill.data.files.photos import SUFFIXES, UNREAD_SUFFIXES, decode_photo, full_size, open_photo
from facedistill.data.files.store import Mapped, image_of
from facedistill.data.files.text_lists import lines_of
from facedistill.data.synthetic import render_faces
from facedistill.errors import DataError
from facedistill.system.files import open_regular, sha256
from fuzz import damaged, fuzz

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # about metadata
SOURCE = Path(photos.__file__).parents[3]
PIXELS = render_faces(0, [0], [0], 16).images[0]
FACE = Image.fromarray(PIXELS).crop((0, 0, 16, 12))  # 16 wide, 12 high
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n"


def encoded(kind: str, image: Image.Image = FACE, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def as_array(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image)


# EXIF, from its description: a TIFF header, and entries of 12 bytes: tag, type, count, the value or where it is.
ORIENTATION, X_RESOLUTION, EXIF_IFD, GPS_IFD = 0x112, 0x11A, 0x8769, 0x8825
SHORT, LONG, RATIONAL, SIGNED_RATIONAL = 3, 4, 5, 10


def exif(*entries: tuple[int, int, int, bytes], order: str = "<") -> bytes:
    """A block of EXIF. Each entry: tag, type, count and value, which is stored behind them if it has over 4 bytes."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    start = len(head) + 2 + 12 * len(entries) + 4
    rows, rest = b"", b""
    for tag, kind, count, value in entries:
        at = struct.pack(f"{order}I", start + len(rest)) if len(value) > 4 else value.ljust(4, b"\0")
        rest += value if len(value) > 4 else b""
        rows += struct.pack(f"{order}HHI", tag, kind, count) + at
    return head + struct.pack(f"{order}H", len(entries)) + rows + bytes(4) + rest


def turned(number: int, order: str = "<") -> tuple[int, int, int, bytes]:
    return ORIENTATION, SHORT, 1, struct.pack(f"{order}H", number)


def with_exif(block: bytes, jpeg: bytes = b"") -> bytes:
    """A JPEG with EXIF as its first segment."""
    jpeg, block = jpeg or encoded("jpeg"), b"Exif\0\0" + block
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


# What Exif 2.32, section 4.6.5.A, says of where row 0 and column 0 of the stored image are in the scene.
UPRIGHT: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def test_every_suffix_of_an_image_is_read_or_has_an_advice() -> None:
    usual = ".jpg .jpeg .jpe .jfif .mpo .png .bmp .webp .gif .tif .tiff .pgm .ppm .pnm .jp2 .j2k .avif"
    others = ".heic .heif .dng .cr2 .nef .arw .svg .psd .jxl"
    assert not SUFFIXES & UNREAD_SUFFIXES.keys()
    assert {*usual.split(), *others.split()} <= SUFFIXES | UNREAD_SUFFIXES.keys()
    assert {".jpg", ".png", ".bmp", ".gif", ".tif", ".pgm"} <= SUFFIXES
    assert all(UNREAD_SUFFIXES[suffix] for suffix in others.split() if suffix not in SUFFIXES)


LOSSLESS = {
    "png": encoded("png"),
    "bmp": encoded("bmp"),
    "ppm": encoded("ppm"),
    "tiff": encoded("tiff"),
    "tiff, LZW": encoded("tiff", compression="tiff_lzw"),
    "webp": encoded("webp", lossless=True),
    "jpeg 2000": encoded("jpeg2000"),
    "apng": encoded("png", save_all=True, append_images=[FACE.rotate(180)]),
    "tiff, two pages": encoded("tiff", save_all=True, append_images=[FACE.rotate(180)]),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_the_content_decides_and_the_first_picture_is_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.JPG"
    path.write_bytes(LOSSLESS[name])
    np.testing.assert_array_equal(as_array(open_photo(path)), PIXELS[:12])
    np.testing.assert_array_equal(as_array(decode_photo(LOSSLESS[name], "x")), PIXELS[:12])


LOSSY = {
    "jpeg": encoded("jpeg", quality=95),
    "progressive jpeg": encoded("jpeg", quality=95, progressive=True),
    "jpeg of many pictures": encoded("mpo", quality=95, save_all=True, append_images=[FACE.rotate(180)]),
    "cmyk jpeg": encoded("jpeg", FACE.convert("CMYK"), quality=95),
    "gif": encoded("gif", save_all=True, append_images=[FACE.rotate(180)]),
    "avif": encoded("avif", quality=95) if features.check("avif") else encoded("png"),
    "webp": encoded("webp", quality=95, save_all=True, append_images=[FACE.rotate(180)]),
}


@pytest.mark.parametrize("name", LOSSY)
def test_the_first_picture_of_lossy_formats(name: str) -> None:
    difference = as_array(decode_photo(LOSSY[name], "x")).astype(int) - PIXELS[:12]
    assert np.abs(difference).mean() < 20


@pytest.mark.parametrize("read", [open_photo, lambda path: decode_photo(path.read_bytes(), str(path))])
def test_nobody_runs_the_program_in_a_file(
    read: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, path = tmp_path / "ran", tmp_path / "x.jpg"
    (tmp_path / "gs").write_text(f"#!/bin/sh\necho 10\ntouch {mark}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    path.write_bytes(EPS)
    with suppress(OSError):
        Image.open(path).load()
    assert mark.exists()  # so this would be noticed
    mark.unlink()
    with pytest.raises(DataError, match=r"x\.jpg is not a readable image but PostScript: convert it"):
        read(path)
    assert not mark.exists()


def test_whoever_opens_images_names_their_formats() -> None:
    for path in SOURCE.rglob("*.py"):
        for call in re.findall(r"Image\.open\((.*)\)", path.read_text()):
            assert "formats=" in call, path


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("number", range(10))
def test_an_image_is_turned_by_its_orientation(number: int, order: str) -> None:
    block = exif(turned(number, order), order=order)
    stored = as_array(decode_photo(encoded("jpeg"), "x"))
    expected = UPRIGHT.get(number, UPRIGHT[1])
    np.testing.assert_array_equal(as_array(decode_photo(with_exif(block), "x")), expected(stored))
    for kind, options in {"png": {}, "webp": {"lossless": True}}.items():
        image = decode_photo(encoded(kind, exif=b"Exif\0\0" + block, **options), "x")
        np.testing.assert_array_equal(as_array(image), expected(PIXELS[:12]))
    if 1 <= number <= 8:
        for compression in ("raw", "tiff_lzw"):
            page = encoded("tiff", compression=compression, tiffinfo={ORIENTATION: number})
            np.testing.assert_array_equal(as_array(decode_photo(page, "x")), expected(PIXELS[:12]))


ODD_TAGS = {
    "-1/0": (X_RESOLUTION, SIGNED_RATIONAL, 1, struct.pack("<ii", -1, 0)),
    "0/0": (X_RESOLUTION, RATIONAL, 1, bytes(8)),
    "resolution as text": (X_RESOLUTION, 2, 4, b"abc\0"),
    "resolution as bytes": (X_RESOLUTION, 1, 4, b"\1\2\3\4"),
    "no value": (X_RESOLUTION, RATIONAL, 0, b""),
    "unknown type": (X_RESOLUTION, 99, 1, b"\1"),
    "a rational maker": (0x10F, RATIONAL, 1, bytes(8)),
    "EXIF nowhere": (EXIF_IFD, LONG, 1, b"\xff\xff\xff\x7f"),
    "EXIF as text": (EXIF_IFD, 2, 4, b"abc\0"),
    "GPS in itself": (GPS_IFD, LONG, 1, struct.pack("<I", 8)),
    "a maker beyond the end": (0x10F, 2, 64, struct.pack("<I", 2**20)),
    "too long": (0x9286, 7, 2**31, b"\xff\xff\xff\x7f"),
    "doubles": (0xC000, 12, 2, struct.pack("<dd", float("nan"), float("inf"))),
}


@pytest.mark.parametrize("name", ODD_TAGS)
def test_metadata_never_costs_an_image(name: str) -> None:
    entries = sorted([turned(6), ODD_TAGS[name]])
    stored = as_array(decode_photo(encoded("jpeg"), "x"))
    np.testing.assert_array_equal(as_array(decode_photo(with_exif(exif(*entries)), "x")), UPRIGHT[6](stored))
    for kind, options in {"png": {}, "webp": {"lossless": True}}.items():
        image = decode_photo(encoded(kind, exif=b"Exif\0\0" + exif(*entries), **options), "x")
        np.testing.assert_array_equal(as_array(image), UPRIGHT[6](PIXELS[:12]))


def png_chunk(kind: bytes, data: bytes, checksum: int = 0) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ checksum)


ODD_CHUNKS = {
    "text of 2 MB": png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**21))),
    "text with a wrong checksum": png_chunk(b"tEXt", b"a\0b", 1),
    "an empty gamma": png_chunk(b"gAMA", b""),
    "half a resolution": png_chunk(b"pHYs", b"\0\0"),
    "a profile that is none": png_chunk(b"iCCP", b"x\0\0junk", 1),
    "half an animation": png_chunk(b"acTL", b"\0"),
}


@pytest.mark.parametrize("name", ODD_CHUNKS)
def test_chunks_of_metadata_never_cost_a_png(name: str) -> None:
    whole = encoded("png")
    for at in (33, len(whole) - 12):  # behind the header, and in front of the end
        turn = png_chunk(b"eXIf", exif(turned(6)))
        data = whole[:33] + turn + whole[33:at] + ODD_CHUNKS[name] + whole[at:]
        np.testing.assert_array_equal(as_array(decode_photo(data, "x")), UPRIGHT[6](PIXELS[:12]))
        assert decode_photo(data.replace(turn, png_chunk(b"eXIf", exif(turned(6)), 1)), "x").size == (16, 12)


ODD_SEGMENTS = {
    "half a JFIF": (0xE0, b"JFIF\0\1"),
    "half a profile": (0xE2, b"ICC_PROFILE\0"),
    "half of Photoshop's": (0xED, b"Photoshop 3.0\0008BIM\1\2"),
    "half of Adobe's": (0xEE, b"Adobe\1"),
}


@pytest.mark.parametrize("name", ODD_SEGMENTS)
def test_segments_of_metadata_never_cost_a_jpeg(name: str) -> None:
    marker, content = ODD_SEGMENTS[name]
    segment = bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content
    plain = encoded("jpeg")
    data = with_exif(exif(turned(6)), plain[:2] + segment + plain[2:])
    np.testing.assert_array_equal(as_array(decode_photo(data, "x")), UPRIGHT[6](as_array(decode_photo(plain, "x"))))


@pytest.mark.skipif(not features.check("avif"), reason="no decoder")
def test_broken_exif_does_not_cost_an_avif() -> None:
    whole = encoded("avif", exif=b"Exif\0\0" + exif((0x10F, 2, 4, b"abc\0"), turned(6)))
    broken = whole.replace(b"II*\0\x08", b"XX*\0\x08")
    assert broken != whole
    assert decode_photo(broken, "x").size == decode_photo(whole, "x").size == (12, 16)


BROKEN_BLOCKS = [b"", b"II", b"II*\0", b"XX*\0\x08\0\0\0", exif(turned(6))[:15], b"\0" * 40, b"\xff" * 40]


@pytest.mark.parametrize("block", BROKEN_BLOCKS)
def test_broken_exif_is_no_orientation(block: bytes) -> None:
    plain = decode_photo(encoded("jpeg"), "x")
    np.testing.assert_array_equal(as_array(decode_photo(with_exif(block), "x")), as_array(plain))


def test_a_broken_list_of_pictures_does_not_cost_the_first() -> None:
    whole = LOSSY["jpeg of many pictures"]
    at = whole.index(b"MPF\0") + 4
    for cut in range(0, 60, 3):
        broken = whole[:at] + bytes(cut) + whole[at + cut :]
        np.testing.assert_array_equal(as_array(decode_photo(broken, "x")), as_array(decode_photo(whole, "x")))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 11))])
def test_any_exif_gives_the_image(seed: int) -> None:
    """500 blocks a seed: any tags of any type, and damage."""
    stored = as_array(decode_photo(encoded("jpeg"), "x"))
    for number in range(500):
        draw = random.Random(f"{seed} {number}")
        tags = [X_RESOLUTION, 0x128, 0x10F, EXIF_IFD, GPS_IFD, 0x9286, 0x927C, 0x201, draw.randrange(2**16)]
        odd = [
            (
                draw.choice(tags),
                draw.randrange(16),
                draw.choice([0, 1, 2, 2**31]),
                draw.randbytes(draw.choice([4, 8, 16])),
            )
            for _ in range(draw.randrange(5))
        ]
        orientation, order = draw.randrange(1, 9), draw.choice("<>")
        entries = [turned(orientation, order), *(entry for entry in odd if entry[0] != ORIENTATION)]
        draw.shuffle(entries)
        block = exif(*entries, order=order)
        image = as_array(decode_photo(with_exif(block), "x"))
        np.testing.assert_array_equal(image, UPRIGHT[orientation](stored), str((seed, number, entries)))
        image = as_array(decode_photo(with_exif(damaged(block, draw)[:60_000]), "x"))
        assert any(np.array_equal(image, upright(stored)) for upright in UPRIGHT.values()), (seed, number)


def grey(values: NDArray[Any], kind: str = "png", **options: Any) -> list[int]:
    """The distinct values that are read of a grey image with these in its columns."""
    image = decode_photo(encoded(kind, Image.fromarray(np.tile(values, (16, 8))), **options), "x")
    pixels = as_array(image)
    assert (pixels == pixels[..., :1]).all()
    return list(dict.fromkeys(pixels[0, :, 0].tolist()))


def test_grey_of_more_than_8_bits_keeps_its_range() -> None:
    for kind in ("png", "tiff"):
        assert grey(np.array([0, 256, 32768, 65535], np.uint16), kind) == [0, 1, 128, 255]
        assert grey(np.array([0, 16, 2048, 4095], np.uint16), kind) == [0, 1, 128, 255]  # of a 12-bit camera
        assert grey(np.array([0, 1, 128, 255], np.uint16), kind) == [0, 1, 128, 255]
    assert grey(np.array([0.0, 0.5, 1.0], np.float32), "tiff") == [0, 128, 255]
    assert grey(np.array([0.0, 128, 255, 300], np.float32), "tiff") == [0, 128, 255]
    assert grey(np.array([-1.0, 10.0, 128.0, np.nan], np.float32), "tiff")[:3] == [0, 10, 128]
    assert grey(np.array([-5, 0, 2**31 - 1], np.int32), "tiff") == [0, 127]


def test_a_dark_image_stays_dark_where_the_file_says_its_range() -> None:
    rows = struct.pack(">8H", *[0, 16, 32, 64] * 2) * 8
    dark = decode_photo(b"P5\n8 8\n4095\n" + rows, "x")
    assert as_array(dark)[0, :4, 0].tolist() == [0, 1, 2, 4]
    assert as_array(decode_photo(b"P5\n8 8\n65535\n" + rows, "x")).max() == 0


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_mode_is_rgb(mode: str) -> None:
    image = Image.fromarray(np.full((12, 16), 40000, np.uint16)) if mode == "I;16" else FACE.convert(mode)
    read = decode_photo(encoded("tiff" if mode == "CMYK" else "png", image), "x")
    assert (read.mode, read.size) == ("RGB", (16, 12))


def test_transparency_is_ignored() -> None:
    image = FACE.copy()
    image.putalpha(0)
    np.testing.assert_array_equal(as_array(decode_photo(encoded("png", image), "x")), PIXELS[:12])


FTYP = b"\0\0\0\x18ftyp"
NOT_IMAGES = {
    "HEIC": (FTYP + b"heic\0\0\0\0mif1heic" + bytes(60), "HEIC: pip install pillow-heif"),
    "a sequence of HEIC": (FTYP + b"hevc\0\0\0\0msf1hevc" + bytes(60), "HEIC: pip install pillow-heif"),
    "HEIF": (FTYP + b"mif1\0\0\0\0mif1heic" + bytes(60), "HEIC: pip install pillow-heif"),
    "a video": (FTYP + b"isom\0\0\2\0isomiso2" + bytes(60), "a video"),
    "a page": (b"<!DOCTYPE html>\n<html><body>404", "an HTML page: get it again"),
    "a page without a type": (b"\r\n <HTML><head>", "an HTML page: get it again"),
    "SVG": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG"),
    "JSON": (b'{"error": "rate limit"}', "JSON"),
    "text": (b"Not found\n", "text: get it again"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "zip": (b"PK\x03\x04" + bytes(60), "a zip archive"),
    "gzip": (b"\x1f\x8b\x08" + bytes(60), "a gzip archive"),
    "PDF": (b"%PDF-1.4\n" + bytes(60), "a PDF"),
    "PSD": (b"8BPS\0\1" + bytes(60), "Photoshop's PSD: convert it"),
    "JPEG XL": (b"\xff\x0a" + bytes(60), "JPEG XL: convert it"),
    "raw": (b"FUJIFILMCCD-RAW " + bytes(60), "a camera's raw file: convert it"),
    "icon": (b"\0\0\1\0\1\0" + bytes(60), "an icon: convert it"),
    "zeros": (bytes(3000), "zeros only: get it again"),
}


@pytest.mark.parametrize("name", NOT_IMAGES)
def test_what_else_is_named_jpg(name: str, tmp_path: Path) -> None:
    if ".heic" in SUFFIXES and name.startswith("HEI"):
        pytest.skip("pillow-heif is installed")
    content, what = NOT_IMAGES[name]
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(f"{path} is not a readable image but ") + f".*{re.escape(what)}"):
        open_photo(path)
    with pytest.raises(DataError, match=rf"^row 7 is not a readable image but .*{re.escape(what)}"):
        decode_photo(content, "row 7")


def test_the_thumbnail_in_a_raw_file_is_no_photograph() -> None:
    thumbnail = encoded("tiff", tiffinfo={254: 1})
    with pytest.raises(DataError, match=r"^x begins with a thumbnail, like a camera's raw file: convert it"):
        decode_photo(thumbnail, "x")


def test_an_empty_file_and_one_that_nobody_knows(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.touch()
    with pytest.raises(DataError, match=rf"^{path} is empty$"):
        open_photo(path)
    with pytest.raises(DataError, match=r"^x is not a readable image \(its beginning is damaged, or its format"):
        decode_photo(b"\x01\x02\x03\xfe" * 9, "x")
    with pytest.raises(DataError, match="No such file"):
        open_photo(tmp_path / "nowhere.jpg")


@pytest.mark.parametrize(
    "error", [MemoryError(), RecursionError("deep"), OverflowError("big"), EOFError(), KeyError(3)]
)
def test_whatever_a_decoder_raises_is_a_fault_of_the_file(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(photos, "_upright", fail)
    with pytest.raises(
        DataError, match=rf"^x is not a readable image \({re.escape(str(error) or type(error).__name__)}"
    ):
        decode_photo(encoded("png"), "x")


def read_lines(path: Path) -> None:
    next(lines_of(path))


def read_items(path: Path) -> None:
    Mapped(path, 1, image_of(8))


READERS = [open_photo, open_regular, sha256, read_npz, read_lines, read_items]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_opened(
    read: Callable[[Path], Any], make: Callable[[Path], Any], tmp_path: Path
) -> None:
    make(tmp_path / "x.jpg")
    with pytest.raises((DataError, OSError), match="not a regular file"):
        read(tmp_path / "x.jpg")


LARGE = Image.fromarray(render_faces(0, [1], [0], 96).images[0]).crop((0, 0, 95, 80))
KINDS = {"png": {}, "jpeg": {"quality": 98}, "jpeg2000": {}, "tiff": {}, "gif": {}, "webp": {"lossless": True}}


TURNED = ["png", "jpeg", "tiff", "webp"]  # the other formats have no orientation


@pytest.mark.parametrize(("kind", "orientation"), [*((kind, 1) for kind in KINDS), *((kind, 6) for kind in TURNED)])
def test_a_large_image_is_halved_and_its_landmarks_with_it(
    kind: str, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The squares of a halved image are those of the whole one, but for what halving blurs."""
    options: dict[str, Any] = dict(KINDS[kind])
    if orientation > 1 and kind == "tiff":
        options["tiffinfo"] = {ORIENTATION: orientation}
    elif orientation > 1:
        options["exif"] = b"Exif\0\0" + exif(turned(orientation))
    data = encoded(kind, LARGE, **options)
    whole = decode_photo(data, "x")
    monkeypatch.setattr(photos, "HALVED", 2000)
    half = decode_photo(data, "x")
    assert full_size(half) == full_size(whole) == whole.size
    assert half.size == ((whole.width + 1) // 2, (whole.height + 1) // 2)
    face = ARCFACE_TEMPLATE * 0.4 + 15
    check_face(face + np.array([whole.width - 60, whole.height - 60]), half)  # beyond the pixels of the half
    with pytest.raises(DataError, match=f"of {whole.width}×{whole.height} pixels"):
        check_face(face + whole.width, half)
    boxes = np.array([14.0, 11.0, 50.0, 44.0])
    for alignment, annotation in {"none": None, "centre": None, "similarity": face, "box": boxes}.items():
        (one, box), (other, half_box) = (Alignment(alignment).apply(i, 24, annotation) for i in (whole, half))
        assert (box is None and half_box is None) or np.array_equal(box, half_box)
        shifts = [np.abs(np.roll(one, by, (0, 1)).astype(int) - other)[2:-2, 2:-2].mean() for by in SHIFTS]
        assert shifts[0] == min(shifts), (alignment, shifts)
        assert shifts[0] < 10


SHIFTS = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]


def test_sizes_that_are_refused(tmp_path: Path) -> None:
    def announced(width: int, height: int) -> bytes:
        jpeg = encoded("jpeg")
        at = jpeg.index(b"\xff\xc0") + 5
        return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]

    with pytest.raises(DataError, match=r"^x: 20000×15000 pixels, more than the 100 megapixels \(200 as JPEG\)"):
        decode_photo(announced(20000, 15000), "x")
    png = encoded("png")
    header = b"IHDR" + struct.pack(">II", 12000, 9000) + png[24:29]
    png = png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]
    with pytest.raises(DataError, match=r"^x: 12000×9000 pixels, more than the 100 megapixels"):
        decode_photo(png, "x")
    (tmp_path / "sparse.jpg").touch()
    os.truncate(tmp_path / "sparse.jpg", 2**40)
    with pytest.raises(DataError, match=r"sparse.jpg has more than 1073741824 bytes"):
        open_photo(tmp_path / "sparse.jpg")
    with pytest.raises(DataError, match="too small to show a face"):
        decode_photo(encoded("png", FACE.crop((0, 0, 16, 7))), "x")


def test_threads_share_a_budget() -> None:
    budget, lock, used, most = photos._Budget(10), threading.Lock(), [0], [0]

    def work(amount: int) -> None:
        for _ in range(50):
            with budget.take(amount):
                with lock:
                    used[0] += min(amount, 10)
                    most[0] = max(most[0], used[0])
                with lock:
                    used[0] -= min(amount, 10)

    threads = [threading.Thread(target=work, args=(amount,)) for amount in (3, 4, 5, 6, 99)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 < most[0] <= 10
    with pytest.raises(KeyError), budget.take(10):
        raise KeyError
    with budget.take(10):  # given back
        pass


MEASURE = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from facedistill.data.files.photos import full_size, open_photo
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with ThreadPoolExecutor(2) as pool:
    print({full_size(image) for image in pool.map(open_photo, [Path(sys.argv[1])] * 2)})
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "size", "most"), [("png", (10000, 10000), 700), ("jpg", (12000, 9000), 300)])
def test_memory_of_large_images(suffix: str, size: tuple[int, int], most: int, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.new("RGB", size, (200, 120, 90)).save(path)
    told = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True).stdout
    sizes, mebibytes = told.splitlines()
    assert sizes == f"{{{size}}}"
    assert int(mebibytes) < most


WITH_EXIF = {"exif": b"Exif\0\0" + exif(turned(6), ODD_TAGS["-1/0"])}
SEEDS = [
    *LOSSLESS.values(),
    *LOSSY.values(),
    with_exif(exif(turned(6), ODD_TAGS["-1/0"])),
    encoded("png", **WITH_EXIF),
    encoded("webp", **WITH_EXIF),
    encoded("png", Image.fromarray(np.full((12, 16), 40000, np.uint16))),
    encoded("png", FACE.convert("P"), transparency=3),
    encoded("tiff", compression="jpeg"),
    encoded("tiff", compression="tiff_deflate", tiffinfo={ORIENTATION: 6}),
    encoded("jpeg2000", no_jp2=True),
    b"P5\n16 12\n4095\n" + bytes(2 * 16 * 12),
    b"P3\n16 12\n255\n" + b"100 " * (3 * 16 * 12),
    b"P4\n16 12\n" + bytes(2 * 12),
]
WORDS = [b"Exif\0\0", b"\xff\xd8\xff\xd9", b"IDAT", b"tEXt", b"\xff\xe1\0\x08", b"VP8X", b"65536 ", b"ftypavif"]


@pytest.mark.parametrize(
    ("count", "seed"), [(1500, 0), *(pytest.param(4000, seed, marks=pytest.mark.slow) for seed in range(1, 6))]
)
def test_a_damaged_image_is_an_image_or_one_fault(count: int, seed: int, tmp_path: Path) -> None:
    def damage(draw: random.Random) -> dict[str, bytes]:
        return {".jpg": damaged(draw.choice(SEEDS), draw, WORDS, range(64))}

    def judge(files: dict[str, bytes], found: Any) -> str:
        if isinstance(found, DataError):
            assert "\n" not in str(found)
            return "fault"
        assert found.mode == "RGB"
        assert as_array(found).shape == (found.height, found.width, 3)
        return "image"

    tally: Counter[str] = fuzz(tmp_path, count, seed, damage, open_photo, judge)
    assert tally["image"] > count / 10
    assert tally["fault"] > count / 4
