"""How one image is read: formats, orientation, depth, size, and everything else that is named .jpg."""

from facedistill.data.files.photos import SUFFIXES, UNREAD_SUFFIXES


def test_every_suffix_of_an_image_is_read_or_has_an_advice() -> None:
    usual = ".jpg .jpeg .jpe .jfif .mpo .png .bmp .webp .gif .tif .tiff .pgm .ppm .pnm .jp2 .j2k .avif"
    others = ".heic .heif .dng .cr2 .nef .arw .svg .psd .jxl"
    assert not SUFFIXES & UNREAD_SUFFIXES.keys()
    assert {*usual.split(), *others.split()} <= SUFFIXES | UNREAD_SUFFIXES.keys()
    assert {".jpg", ".png", ".bmp", ".gif", ".tif", ".pgm"} <= SUFFIXES
    assert all(UNREAD_SUFFIXES[suffix] for suffix in others.split())
