"""What a file is that is named like an image and isn't one, by its first bytes."""

HEAD = 512  # bytes that are looked at
_AGAIN = "get it again"
CONVERT = "convert it to JPEG or PNG"
_HEIC = "HEIC: pip install pillow-heif, or convert it to JPEG"
_MARKUP = [(b"<!doctype html", f"an HTML page: {_AGAIN}"), (b"<html", f"an HTML page: {_AGAIN}"), (b"<svg", "an SVG")]
# The byte at which a signature begins, the signature, and what has it.
_SIGNATURES = [
    *((4, b"ftyp" + brand, _HEIC) for brand in b"heic heix heim heis hevc hevx mif1 msf1".split()),
    (4, b"ftypavi", "AVIF, which this Pillow can't decode: pip install -U pillow"),
    (4, b"ftypcrx", f"a camera's raw file: {CONVERT}"),
    (4, b"ftyp", "a video"),
    (0, b"\x1aE\xdf\xa3", "a video"),
    (8, b"AVI ", "a video"),
    (0, b"version https://git-lfs", "a pointer of Git LFS: git lfs pull"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!", "a rar archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"%PDF", "a PDF"),
    (0, b"%!PS", f"PostScript: {CONVERT}"),
    (0, b"\xc5\xd0\xd3\xc6", f"PostScript: {CONVERT}"),
    (0, b"8BPS", f"Photoshop's PSD: {CONVERT}"),
    (0, b"gimp xcf", f"GIMP's XCF: {CONVERT}"),
    (0, b"\xff\x0a", f"JPEG XL: {CONVERT}"),
    (4, b"JXL ", f"JPEG XL: {CONVERT}"),
    (0, b"II\xbc", f"JPEG XR: {CONVERT}"),
    (0, b"FUJIFILM", f"a camera's raw file: {CONVERT}"),
    (0, b"\0\0\1\0", f"an icon: {CONVERT}"),
    (0, b"\x93NUMPY", "an array of NumPy"),
    (0, b"\x89HDF", "HDF5"),
    (0, b"\x7fELF", "a program"),
]


def what_it_is(head: bytes) -> str | None:
    """A few words about a file and what to do, by its first ``HEAD`` bytes; None if that can't be told."""
    for start, signature, what in _SIGNATURES:
        if head.startswith(signature, start):
            return what
    for signature, what in _MARKUP:
        if signature in head.lower():
            return what
    if not head.strip(b"\0"):
        return f"zeros only: {_AGAIN}"
    if not head.translate(None, bytes(range(32, 127)) + b"\t\r\n"):
        return "JSON" if head.lstrip()[:1] in (b"{", b"[") else f"text: {_AGAIN}"
    return None
