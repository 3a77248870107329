"""MS-Celeb-1M's TSV: written, damaged and shared between processes here."""

import base64
import multiprocessing
import os
import pickle
import random
import re
import struct
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from facedistill.data.files.formats import base64_tsv
from facedistill.data.files.formats.base64_tsv import Base64Tsv
from facedistill.errors import DataError, DiskError
from fuzz import FEW, RUNS, damaged, fuzz, said

NAME = "FaceImageCroppedWithAlignment.tsv"
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
MIDS = ["m.0b", "m.0a", "m.0b", "m.0c", "m.0a", "m.0b"]  # one of a kind need not be in one place
IMAGES = [bytes(range(256)), b"\xff\xd8\xff", b"\x00\x00\x00\x00", b"\xfb\xff\xbe" * 5, b"q", b"JPEG" * 20_000]


def base64_of(data: bytes) -> str:
    """Six bits a letter, in a writing of its own (RFC 4648)."""
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 6)
    text = "".join(ALPHABET[int(bits[i : i + 6], 2)] for i in range(0, len(bits), 6))
    return text + "=" * (-len(text) % 4)


FACES = [base64_of(image) for image in IMAGES]


def columns(number: int) -> list[str]:
    corners = base64_of(struct.pack("<4f", 0.1, 0.2, 0.9, 0.8))
    page = f"http://example.org/{number}"
    return [MIDS[number], str(number + 3), f"{page}/a b.jpg", page, f"FaceId-{number % 2}", corners, FACES[number]]


def text(rows: list[list[str]], ending: str = "\n") -> bytes:
    return "".join("\t".join(row) + ending for row in rows).encode()


ROWS = [columns(number) for number in range(6)]
NAMES = [
    b"m.0b/3-FaceId-0",
    b"m.0a/4-FaceId-1",
    b"m.0b/5-FaceId-0",
    b"m.0c/6-FaceId-1",
    b"m.0a/7-FaceId-0",
    b"m.0b/8-FaceId-1",
]


def changed(number: int, column: int, value: str) -> bytes:
    """All rows, one value of them another."""
    rows = [list(row) for row in ROWS]
    rows[number][column] = value
    return text(rows)


def opened(folder: Path, data: bytes | None = None) -> Base64Tsv:
    path = folder / NAME
    if data is not None:
        path.write_bytes(data)
    return Base64Tsv(path, folder / "cache")


def good(tsv: Base64Tsv) -> None:
    assert len(tsv) == 6
    assert [tsv.image(number) for number in range(6)] == IMAGES
    assert tsv.identities == ["m.0b", "m.0a", "m.0c"]
    assert tsv.labels.dtype == np.int64
    assert tsv.labels.tolist() == [0, 1, 0, 2, 1, 0]
    assert tsv.names.tolist() == NAMES


def refused(folder: Path, data: bytes, *said: str) -> None:
    with pytest.raises(DataError) as refusal:
        opened(folder, data)
    missing = [word for word in (str(folder / NAME), *said) if word not in str(refusal.value)]
    assert not missing, refusal.value
    assert not list((folder / "cache").glob("*.npy")), "half an index is kept"
    assert not list((folder / "cache").glob("*.part"))


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_images_labels_and_names(tmp_path: Path, ending: str) -> None:
    lines = text(ROWS, ending)
    good(opened(tmp_path, lines))
    for number, written in enumerate(
        (b"\xef\xbb\xbf" + lines, lines + b"\n", lines + b"\r\n\r\n\n", lines.removesuffix(ending.encode()))
    ):
        (tmp_path / str(number)).mkdir()
        good(opened(tmp_path / str(number), written))


def test_urls_may_be_empty_and_no_utf_8(tmp_path: Path) -> None:
    good(opened(tmp_path, changed(2, 2, "").replace(b"example", b"\xff\xfe\x00\x0c\x85")))


def test_numbers_from_the_end_and_beyond(tmp_path: Path) -> None:
    tsv = opened(tmp_path, text(ROWS))
    assert tsv.image(-1) == IMAGES[-1]
    with pytest.raises(IndexError):
        tsv.image(6)


def test_real_jpegs(tmp_path: Path, real_faces: Path) -> None:
    images = [path.read_bytes() for path in sorted(real_faces.glob("lfw/images/A*/*.jpg"))[:5]]
    assert len(images) == 5
    tsv = opened(tmp_path, text([[*ROWS[0][:6], base64.b64encode(image).decode()] for image in images]))
    assert [tsv.image(number) for number in range(5)] == images


LINE_4 = len(text(ROWS[:3]))
FAULTS: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "empty": (b"", ("holds no image", "get it again")),
    "blank": (b"\n\r\n\n", ("holds no image",)),
    "six columns": (text([*ROWS[:3], ROWS[3][:6]]), ("line 4", f"byte {LINE_4}", "6 columns", "expected 7", "again")),
    "eight columns": (text([*ROWS[:3], [*ROWS[3], ""]]), ("line 4", f"byte {LINE_4}", "8 columns", "expected 7")),
    "a page of the web": (b"<!DOCTYPE html>\n<html>", ("line 1", "byte 0", "1 columns", "unpacked and complete")),
    "a zip": (b"PK\x03\x04" + bytes(100), ("line 1", "byte 0", "1 columns", "unpacked")),
    "a blank line between": (text(ROWS[:3]) + b"\n" + text(ROWS[3:]), ("line 4", f"byte {LINE_4}", "line is empty")),
    "is not MID": (changed(3, 0, ""), ("line 4", f"byte {LINE_4}", "MID is empty", "get it again")),
    "no rank": (changed(3, 1, ""), ("line 4", "ImageSearchRank is empty")),
    "no FaceID": (changed(3, 4, ""), ("line 4", "FaceID is empty")),
    "no image": (changed(3, 6, ""), ("line 4", f"byte {LINE_4}", "FaceData is empty")),
    "a long MID": (changed(3, 0, "m" * 48), ("line 4", "more than 48 bytes")),
    "a MID beyond ASCII": (changed(3, 0, "m.é"), ("line 4", f"byte {LINE_4}", "is not MID")),
    "a MID of bytes": (changed(3, 0, "m.\0"), ("line 4", "is not MID")),
    "too much padding": (changed(3, 6, "AAAA===="), ("line 4", "8 characters", "not base64")),
    "cut": (text(ROWS[:4])[:-2], ("line 4", f"byte {LINE_4}", "19 characters", "cut off", "get it again")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_line_is_named(tmp_path: Path, fault: str) -> None:
    data, said = FAULTS[fault]
    refused(tmp_path, data, *said)


def test_a_line_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(tmp_path, text(ROWS) + bytes(2**26 + 2), "line 7", f"byte {len(text(ROWS))}", "more than 67108864 bytes")
    monkeypatch.setattr(base64_tsv, "MAX_LINE", len(text(ROWS[5:])) - 1)
    good(opened(tmp_path, text(ROWS)))


@pytest.mark.parametrize("bad", ["****", "A=AA", "=AAA", "AA=A", "AA==AAAA", "A A=", "AAA!"])
def test_invalid_base64_is_named_when_it_is_read(tmp_path: Path, bad: str) -> None:
    tsv = opened(tmp_path, changed(3, 6, bad))
    start = LINE_4 + len("\t".join(ROWS[3][:6])) + 1
    with pytest.raises(DataError) as refusal:
        tsv.image(3)
    for word in (str(tmp_path / NAME), "line 4", f"byte {start}", "not an image in base64", "get it again"):
        assert word in str(refusal.value)
    assert [tsv.image(number) for number in (2, 4)] == [IMAGES[2], IMAGES[4]]


def test_a_file_that_is_cut_off_after_it_was_opened(tmp_path: Path) -> None:
    tsv = opened(tmp_path, text(ROWS))
    os.truncate(tmp_path / NAME, LINE_4)
    with pytest.raises(DataError, match=r"line 4, byte \d+: not an image in base64 \(the file ends"):
        tsv.image(3)
    assert tsv.image(2) == IMAGES[2]


def test_a_missing_file_a_folder_and_a_file_without_permission(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{NAME} does not exist"):
        opened(tmp_path)
    with pytest.raises(DataError, match="or is a folder"):
        Base64Tsv(tmp_path, tmp_path / "cache")
    (tmp_path / NAME).write_bytes(text(ROWS))
    (tmp_path / "cache").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        with pytest.raises(DataError, match=f"{NAME}: Permission denied"):
            opened(tmp_path)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read through since."""
    paths: list[Path] = []
    make = base64_tsv._make

    def counted(index: Path, path: Path, size: int) -> None:
        paths.append(path)
        make(index, path, size)

    monkeypatch.setattr(base64_tsv, "_make", counted)
    return paths


def test_the_file_is_read_through_once(tmp_path: Path, reads: list[Path]) -> None:
    good(opened(tmp_path, text(ROWS)))
    good(opened(tmp_path))
    good(pickle.loads(pickle.dumps(opened(tmp_path))))
    (tmp_path / "elsewhere").mkdir()
    good(Base64Tsv((tmp_path / NAME).rename(tmp_path / "elsewhere" / NAME), tmp_path / "cache"))
    assert len(reads) == 1


def test_several_at_once_read_it_through_once(tmp_path: Path, reads: list[Path]) -> None:
    (tmp_path / NAME).write_bytes(text(ROWS))
    with ThreadPoolExecutor(4) as pool:
        for tsv in pool.map(lambda _: opened(tmp_path), range(8)):
            good(tsv)
    assert len(reads) == 1


def test_another_date_or_size_is_another_file(tmp_path: Path, reads: list[Path]) -> None:
    opened(tmp_path, text(ROWS))
    before = (tmp_path / NAME).stat().st_mtime_ns
    (tmp_path / NAME).write_bytes(text(ROWS[::-1]))
    os.utime(tmp_path / NAME, ns=(before, before + 1))
    assert opened(tmp_path).names.tolist() == NAMES[::-1]
    (tmp_path / NAME).write_bytes(text(ROWS[:2]))
    os.utime(tmp_path / NAME, ns=(before, before + 1))
    assert opened(tmp_path).names.tolist() == NAMES[:2]
    assert len(reads) == 3


def test_an_open_reader_keeps_to_its_file(tmp_path: Path) -> None:
    tsv = opened(tmp_path, text(ROWS))
    (tmp_path / "new").write_bytes(text(ROWS[::-1]))
    (tmp_path / "new").replace(tmp_path / NAME)
    good(tsv)


@pytest.mark.parametrize("damage", [b"", b"x", bytes(1000)], ids=["empty", "a letter", "zeros"])
def test_a_damaged_index_is_made_again(tmp_path: Path, reads: list[Path], damage: bytes) -> None:
    opened(tmp_path, text(ROWS))
    [index] = (tmp_path / "cache").glob("*.npy")
    whole = index.read_bytes()
    for content in (damage, whole[:100], whole[:300], whole[:-200], whole.replace(b"'<i8'", b"'<u8'")):
        index.write_bytes(content)
        good(opened(tmp_path))
    assert len(reads) == 6


def test_an_index_with_a_flipped_bit_is_made_again(
    tmp_path: Path, reads: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Any bit: a label or an offset that is wrong would be another image or another person."""
    opened(tmp_path, text(ROWS))
    [index] = (tmp_path / "cache").glob("*.npy")
    whole = index.read_bytes()
    places = [0, 10, 130, 128 + 64 + 12, 128 + 5 * 64, len(whole) - 10, len(whole) - 1]
    for at in places:
        index.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        good(opened(tmp_path))
        assert index.read_bytes() == whole
    assert len(reads) == 1 + len(places)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"{index} is not what was written. It is made again"] * len(places)


def test_an_index_on_a_disk_that_can_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    opened(tmp_path, text(ROWS))
    monkeypatch.setattr("filelock.FileLock.acquire", read_only)
    good(opened(tmp_path))
    with pytest.raises(DiskError, match=r"Read-only file system.*cache_dir="):
        opened(tmp_path, text(ROWS[:2]))


def test_the_index_is_no_pickle(tmp_path: Path) -> None:
    opened(tmp_path, text(ROWS))
    [index] = (tmp_path / "cache").glob("*.npy")
    rows = np.load(index, allow_pickle=False)
    assert rows["name"].tolist() == NAMES
    assert rows.itemsize == 64


def test_the_bar_is_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good(opened(tmp_path, text(ROWS)))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_share_it(tmp_path: Path, method: str) -> None:
    tsv = opened(tmp_path, text(ROWS))
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(tsv.image, [5, 0, 3, 3, 1, 2, 4] * 3, chunksize=2) == [
            IMAGES[i] for i in [5, 0, 3, 3, 1, 2, 4] * 3
        ]
    good(tsv)


def forked(tsv: Base64Tsv, numbers: list[int], results: Any) -> None:
    results.put([tsv.image(number) for number in numbers])


def test_one_open_file_serves_forks_at_once(tmp_path: Path) -> None:
    """They have one file position between them, which nobody may move."""
    context = multiprocessing.get_context("fork")
    tsv, results, numbers = opened(tmp_path, text(ROWS)), context.Queue(), [5, 0, 1, 2, 3, 4] * 50
    workers = [context.Process(target=forked, args=(tsv, numbers, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for _ in workers:
        assert results.get(timeout=60) == [IMAGES[number] for number in numbers]
    for worker in workers:
        worker.join()


def test_files_are_closed(tmp_path: Path) -> None:
    opened(tmp_path, text(ROWS))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        opened(tmp_path).image(0)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    face = base64_of(bytes(150_000))
    with (tmp_path / NAME).open("wb") as file:
        for number in range(200):
            file.write(text([[*ROWS[number % 6][:1], str(number), *ROWS[0][2:6], face]]))
    assert (tmp_path / NAME).stat().st_size > 40_000_000
    tracemalloc.start()
    try:
        tsv = opened(tmp_path)
        for number in range(200):
            assert len(tsv.image(number)) == 150_000
        assert tracemalloc.get_traced_memory()[1] < 6_000_000
    finally:
        tracemalloc.stop()


# What the format's description says, as one expression: the judge of damaged files.
SAMPLE = re.compile(rb"([ -~]+)\t([ -~]+)\t[^\t]*\t[^\t]*\t([ -~]+)\t[^\t]*\t([^\t]+)", re.DOTALL)
BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def judged(data: bytes) -> list[tuple[bytes, bytes, bytes]] | int:
    """MID, name and FaceData of every line, or the line from 1 at which there is none."""
    lines = [line.rstrip(b"\r") for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n")]
    while lines and not lines[-1]:
        lines.pop()
    samples = []
    for number, line in enumerate(lines, start=1):
        found = SAMPLE.fullmatch(line)
        if not found:
            return number
        mid, rank, face, image = found.groups()
        name = mid + b"/" + rank + b"-" + face
        if len(name) > 48 or len(image) % 4 or image.endswith(b"==="):
            return number
        samples.append((mid, name, image))
    return samples or 0


WORDS = [b"\t", b"\n", b"\r", b"\r\n", b"\0", b"=", b"A", b"\xef\xbb\xbf", b"\n\n", b"\xff\xfe"]
WORDS.append(b"m.0a\t1\t\t\tFaceId-0\t\tAAAA\n")


@pytest.mark.parametrize(("count", "seed"), [(FEW // 4, 0), *RUNS[1:]])  # every file has an index on the disk
def test_a_damaged_file_is_refused_or_read_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, seed: int
) -> None:
    bar = MagicMock()  # making one of rich takes longer than reading a small file
    monkeypatch.setattr(base64_tsv, "progress_bar", lambda _: bar)
    rows = [[*row[:6], face[:80]] for row, face in zip(ROWS, FACES, strict=True)]
    sets = [text(rows), text(rows, "\r\n"), b"\xef\xbb\xbf" + text(rows)]

    def damage(draw: random.Random) -> dict[str, bytes]:
        return {".tsv": damaged(draw.choice(sets), draw, WORDS, [0, -1])}

    def read(path: Path) -> tuple[Base64Tsv, list[bytes | DataError]]:
        tsv = Base64Tsv(path, tmp_path / "cache")
        images: list[bytes | DataError] = []
        for line in range(len(tsv)):
            try:
                images.append(tsv.image(line))
            except DataError as error:
                images.append(said(error, path))
        return tsv, images

    tally = fuzz(tmp_path, count, seed, damage, read, judge)
    assert tally["refused"] > count / 5
    assert tally["read"] > count / 5
    assert tally["not an image in base64"] > count / 100


def judge(files: dict[str, bytes], found: Any) -> str:
    expected = judged(files[".tsv"])
    if isinstance(expected, int):
        assert (f".tsv, line {expected}, byte " if expected else ".tsv holds no image") in str(found)
        assert isinstance(found, DataError)
        return "refused"
    tsv, images = found
    assert tsv.names.tolist() == [name for _, name, _ in expected]
    assert [tsv.identities[label].encode() for label in tsv.labels] == [mid for mid, _, _ in expected]
    for line, (image, (_, _, face)) in enumerate(zip(images, expected, strict=True), start=1):
        if BASE64.fullmatch(face):
            assert image == base64.decodebytes(face)
        else:
            assert f"line {line}, byte " in str(image)
    return "not an image in base64" if any(isinstance(image, DataError) for image in images) else "read"
