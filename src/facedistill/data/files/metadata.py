"""Metadata in files of images, which must not cost the image."""

import struct
import zlib

_ORIENTATION, _SHORT = 0x112, 3
_PNG = b"\x89PNG\r\n\x1a\n"


def orientation_in(exif: bytes) -> int | None:
    """The orientation in EXIF, also behind entries that point nowhere. Raises ``struct.error`` if it is cut off."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = "<" if exif.startswith(b"II") else ">"
    (start,) = struct.unpack_from(f"{order}I", exif, 4)
    (count,) = struct.unpack_from(f"{order}H", exif, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, entry)
        if (tag, kind) == (_ORIENTATION, _SHORT):
            return int(value)
    return None


def without_metadata(image: bytes) -> bytes:
    """The file of an image, a JPEG, PNG or AVIF without metadata, except for the orientation; others as they are."""
    if image.startswith(b"\xff\xd8"):
        return _jpeg(image)
    if image.startswith(_PNG):
        return _png(image)
    return image.replace(b"Exif", b"free") if image[4:12] == b"ftypavif" else image  # it is turned by its irot


def _jpeg(image: bytes) -> bytes:
    kept, at = [image[:2]], 2
    while at + 4 <= len(image) and image[at] == 0xFF and image[at + 1] != 0xDA:  # where the pixels begin
        marker, end = image[at + 1], at + 2 + int.from_bytes(image[at + 2 : at + 4])
        content = image[at + 4 : end]
        is_metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        says_colours = content.startswith(b"Adobe") and len(content) >= 12
        if not is_metadata or content.startswith(b"Exif\0\0") or says_colours:
            kept.append(image[at:end])
        at = end
    return b"".join(kept) + image[at:]


def _png(image: bytes) -> bytes:
    kept, at = [_PNG], len(_PNG)
    while at < len(image):
        end = at + 12 + int.from_bytes(image[at : at + 4])
        chunk = image[at + 4 : end - 4]
        is_intact = zlib.crc32(chunk).to_bytes(4) == image[end - 4 : end]
        if chunk[:1].isupper() or (chunk.startswith(b"eXIf") and is_intact):
            kept.append(image[at:end])
        at = end
    return b"".join(kept)
