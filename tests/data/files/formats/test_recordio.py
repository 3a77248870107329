"""RecordIO as InsightFace's tools arrange it, whole and damaged."""

import multiprocessing
import os
import pickle
import random
import shutil
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from record_writer import (
    LABELS,
    MAGIC,
    PEOPLE,
    expected,
    faces,
    images_only,
    packed,
    parts_of,
    payload,
    photo,
    sparse,
    write,
    write_index,
)

from facedistill.data.files.formats import recordio
from facedistill.data.files.formats.face_records import FaceRecords
from facedistill.data.files.formats.recordio import RecordFile
from facedistill.errors import DataError
from fuzz import RUNS, damaged, fuzz, said


def read_all(images: FaceRecords) -> list[tuple[int, int, bytes]]:
    return [(int(images.keys[n]), int(images.labels[n]), images.image(n)) for n in range(len(images))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "train.rec"


def refused(path: Path, *said: str, read: Callable[[Path], object] = lambda path: read_all(opened(path))) -> None:
    with pytest.raises(DataError) as refusal:
        read(path)
    missing = [word for word in (str(path.parent), *said) if word not in str(refusal.value)]
    assert not missing, refusal.value


def opened(path: Path) -> FaceRecords:
    return FaceRecords(RecordFile(path))


def awkward() -> Iterator[bytes]:
    """Contents with every length of padding, and with the magic number where it matters and where it does not."""
    yield from (bytes(range(length)) for length in range(10))
    for before in range(9):
        for after in range(5):
            yield b"\xff" * before + MAGIC + b"\xee" * after
    yield MAGIC * 7
    yield MAGIC + b"abcd" + MAGIC
    yield MAGIC[:2] + MAGIC * 3 + MAGIC[:3]
    yield b"abcd" + MAGIC + b"efgh" + MAGIC + MAGIC + b"ijk"
    yield MAGIC[::-1] * 3


@pytest.mark.parametrize("index", [True, False], ids=["by the index", "by a scan"])
@pytest.mark.parametrize("labels", [(3,), (3, 1), (1.5, -2, 1e30, 0, 7)], ids=["one label", "two", "five"])
def test_every_record_is_read_back(path: Path, labels: tuple[float, ...], index: bool) -> None:
    contents = list(awkward())
    assert {len(parts_of(content)) for content in contents} == {1, 2, 3, 4, 8}
    offsets = write(path, [(n, payload(content, n, *labels)) for n, content in enumerate(contents)], index)
    file = RecordFile(path)
    assert len(file) == len(contents)
    assert file.keys.tolist() == list(range(len(contents)))
    assert file.offsets.tolist() == list(offsets.values())
    for key in random.Random(0).sample(range(len(contents)), len(contents)):
        record = file.read(key)
        assert record.content == contents[key]
        assert record.id == key
        np.testing.assert_array_equal(record.labels, np.array(labels, np.float32))
    heads = file.heads(file.keys)
    assert heads["size"].tolist() == [len(content) for content in contents]
    assert set(heads["count"].tolist()) == {len(labels)}
    assert (heads["labels"][:, : len(labels)] == np.array(labels[:2], np.float32)).all()


@pytest.mark.parametrize("block", [24, 40, 100, 1000, 2**18])
def test_a_scan_in_blocks_and_one_record_a_read(path: Path, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    offsets = write(path, [(n, payload(content, n, 3)) for n, content in enumerate(awkward())], index=False)
    for small in (0, 40, 2**30):  # bytes a record: never, sometimes, always in blocks
        monkeypatch.setattr(recordio, "_SMALL", small)
        monkeypatch.setattr(recordio, "_AHEAD", block)
        file = RecordFile(path)
        assert dict(zip(file.keys.tolist(), file.offsets.tolist(), strict=True)) == offsets


@pytest.mark.parametrize("guess", [8, 33, 2**15])
def test_a_guessed_length_that_is_too_short(path: Path, guess: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordio, "_GUESS", guess)
    for records in (faces(), faces()[::-1]):
        write(path, records)
        assert read_all(opened(path)) == expected(first=1)


def test_an_image_is_one_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, [(key, payload(bytes(9999), key, 1)) for key in range(10)])
    images, sizes, pread = opened(path), [], recordio.os.pread

    def counted(file: int, size: int, offset: int) -> bytes:
        sizes.append(size)
        return pread(file, size, offset)

    monkeypatch.setattr(recordio.os, "pread", counted)
    assert {images.image(number) for number in range(9)} == {bytes(9999)}
    assert len(sizes) == 9
    assert max(sizes) < 9999 + 50


def test_the_fingerprint_identifies_the_data(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offsets = write(path, images_only())
    file = RecordFile(path)
    whole = file.fingerprint()
    copy = Path(shutil.copytree(path.parent, path.parent / "copy")) / path.name
    copy.with_suffix(".idx").unlink()
    assert RecordFile(copy).fingerprint() == whole
    with copy.open("ab") as more:
        more.write(bytes(4))
    write_index(copy, offsets)
    prints = {whole, RecordFile(copy).fingerprint()}
    write_index(path, {key + 1: offset for key, offset in offsets.items()})
    prints.add(RecordFile(path).fingerprint())
    write_index(path, dict(zip(offsets, list(offsets.values())[::-1], strict=True)))
    prints.add(RecordFile(path).fingerprint())
    assert len(prints) == 4
    monkeypatch.delattr(recordio.os, "pread")
    assert file.fingerprint() == whole


@pytest.mark.parametrize("index", [True, False], ids=["by the index", "by a scan"])
def test_the_magic_number_before_the_image(path: Path, index: bool) -> None:
    """A label, a count or an id can be that number: then the first part is shorter than the header."""
    number, label = struct.unpack("<If", MAGIC + MAGIC)
    records = [(number, payload(b"abc", number, label)), (1, payload(b"def", 1, label, 2, label))]
    assert [len(parts_of(data)) for _, data in records] == [3, 3]
    write(path, records, index)
    file = RecordFile(path)
    assert file.keys.tolist() == [1, number]
    assert [file.read(key).content for key in (1, number)] == [b"def", b"abc"]
    np.testing.assert_array_equal(file.read(1).labels, np.array([label, 2, label], np.float32))
    np.testing.assert_array_equal(file.heads(file.keys)["labels"][:, 0], np.float32([label, label]))


def test_a_file_without_padding_at_its_end(path: Path) -> None:
    write(path, [(0, payload(b"abc", 0, 1))], index=False)
    path.write_bytes(path.read_bytes()[:-1])
    assert RecordFile(path).read(0).content == b"abc"


ARRANGED = {
    "the header between (face2rec2)": faces(),
    "the header last (dataset_merge)": [r for r in faces() if r[0]] + [r for r in faces() if not r[0]],
    "the header first": [r for r in faces() if not r[0]] + [r for r in faces() if r[0]],
    "one label an image": faces(vector=False),
}


@pytest.mark.parametrize("kind", ARRANGED)
@pytest.mark.parametrize("index", [True, False], ids=["by the index", "by a scan"])
def test_faces_by_their_header(path: Path, kind: str, index: bool) -> None:
    write(path, ARRANGED[kind], index)
    images = opened(path)
    assert read_all(images) == expected(first=1)
    assert images.labels.dtype == images.keys.dtype == np.int64
    assert len(images.records) == len(images) + 1 + len(PEOPLE)


@pytest.mark.parametrize("index", [True, False], ids=["by the index", "by a scan"])
def test_faces_without_a_header(path: Path, index: bool) -> None:
    write(path, images_only(), index)
    assert read_all(opened(path)) == expected(first=0)


def test_more_identities_than_a_block_of_heads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordio, "_AT_ONCE", 3)
    write(path, faces())
    assert read_all(opened(path)) == expected(first=1)


def test_numbers_that_float32_rounds_are_not_used(path: Path) -> None:
    """The header of Glint360K says 17,091,658 or so: beyond 2^24 that may be another image's key."""
    records = [(0, payload(b"", 0, 2**24 + 2, 2**24 + 4)), *images_only()[1:], (9999, payload(b"", 9999, 1, 2**24 + 2))]
    write(path, records)
    assert read_all(opened(path)) == expected(first=0)[1:]


@pytest.mark.parametrize("index", [True, False], ids=["rec2idx", "by a scan"])
def test_keys_by_order(path: Path, index: bool) -> None:
    """MXNet's rec2idx counts; so does a scan where ids repeat. The header is found wherever it is."""
    records = [data[:8] + bytes(16) + data[24:] for _, data in faces()]
    write(path, list(enumerate(records)), index)
    images = opened(path)
    assert read_all(images) == [(key - 1, label, content) for key, label, content in expected(first=1)]


def test_ids_of_a_shuffled_file(path: Path) -> None:
    """shuffle_rec counts its keys and leaves the ids: the index is believed, without one the ids are."""
    shuffled = random.Random(1).sample(images_only(), sum(PEOPLE))
    write(path, [(place, data) for place, (_, data) in enumerate(shuffled)])
    by_index = [(place, *expected(first=0)[key][1:]) for place, (key, _) in enumerate(shuffled)]
    assert read_all(opened(path)) == by_index
    path.with_suffix(".idx").unlink()
    assert read_all(opened(path)) == expected(first=0)


def test_ids_beyond_an_int64_count_from_zero(path: Path) -> None:
    write(path, [(key, payload(b"abc", key, 1)) for key in (3, 2**64 - 1)], index=False)
    assert RecordFile(path).keys.tolist() == [0, 1]


@pytest.mark.parametrize("ending", ["\r\n", "\n\n", " \n", "\n", ""], ids=["CRLF", "blank", "space", "LF", "no end"])
def test_other_ways_to_write_the_index(path: Path, ending: str) -> None:
    offsets = write(path, faces())
    lines = [f"{key}\t{offset}" for key, offset in offsets.items()]
    text = (ending or "\n").join(lines) + ending
    path.with_suffix(".idx").write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\n\r\n\n" * (ending == "\n"))
    assert read_all(opened(path)) == expected(first=1)


def test_an_index_that_is_read_in_pieces(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offsets = write(path, faces())
    for block in range(1, 40):
        monkeypatch.setattr(recordio, "_BLOCK", block)
        file = RecordFile(path)
        assert dict(zip(file.keys.tolist(), file.offsets.tolist(), strict=True)) == offsets


def test_an_index_of_another_name_and_order(path: Path) -> None:
    offsets = write(path, faces(), index=False)
    other = path.with_name("other.idx")
    other.write_text("".join(f"{key}\t{offset}\n" for key, offset in sorted(offsets.items())))
    assert read_all(FaceRecords(RecordFile(path, other))) == expected(first=1)


def read_at_random(file: RecordFile, images: FaceRecords, seed: int) -> int:
    """How many of a thousand reads are right."""
    draw, good = random.Random(seed), 0
    for _ in range(1000):
        number = draw.randrange(len(images))
        key = int(images.keys[number])
        good += images.image(number) == photo(key) == file.read(key).content
    return good


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_two_processes_read_at_random(path: Path, start: str) -> None:
    write(path, faces([50] * 10, list(range(10))))
    file = RecordFile(path)
    images = FaceRecords(file)
    with ProcessPoolExecutor(2, multiprocessing.get_context(start)) as pool:
        reads = [pool.submit(read_at_random, file, images, seed) for seed in range(4)]
        assert read_at_random(file, images, 9) == 1000
        assert [read.result() for read in reads] == [1000] * 4


def test_a_child_inherits_the_open_file(path: Path) -> None:
    write(path, faces([50] * 10, list(range(10))))
    file = RecordFile(path)
    images = FaceRecords(file)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    children = [context.Process(target=lambda n=n: queue.put(read_at_random(file, images, n))) for n in range(2)]
    for child in children:
        child.start()
    assert read_at_random(file, images, 9) == 1000
    assert [queue.get() for _ in children] == [1000] * 2
    for child in children:
        child.join()


def test_a_pickle_holds_no_image(path: Path) -> None:
    write(path, [(key, payload(bytes(100_000), key, 1)) for key in range(10)])
    images = opened(path)
    data = pickle.dumps(images)
    assert len(data) < 5000
    copy = pickle.loads(data)
    assert read_all(copy) == read_all(images)
    path.unlink()
    assert len(copy.image(3)) == 100_000  # open
    with pytest.raises(DataError, match=r"train\.rec is not a file"):
        pickle.loads(data)


@pytest.mark.parametrize("header", [True, False], ids=["a header", "no header"])
@pytest.mark.parametrize("index", [True, False], ids=["by the index", "by a scan"])
def test_many_records_open_without_their_images(
    path: Path, header: bool, index: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 20_000
    sparse(path, count, 9999, header)
    if not index:
        path.with_suffix(".idx").unlink()
    read, pread = 0, recordio.os.pread

    def counted(file: int, size: int, offset: int) -> bytes:
        nonlocal read
        read += size
        return pread(file, size, offset)

    monkeypatch.setattr(recordio.os, "pread", counted)
    tracemalloc.start()
    images = opened(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(images) == count
    np.testing.assert_array_equal(images.labels, np.arange(count) // 10)
    assert read < 100 * count  # bytes, of ten thousand each
    assert peak < 600 * count
    tracemalloc.start()
    for number in range(0, count, 7):
        assert images.image(number) == bytes(9999)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


def test_a_part_whose_kind_and_length_are_less_than_the_file(path: Path) -> None:
    """Beyond 2²⁹ bytes the word of both could pass for a length."""
    with path.open("wb") as file:
        file.write(packed(payload(b"abcd" + MAGIC, 0, 1)))
        for key in range(1, 10):
            file.write(MAGIC + word(24 + 2**26 - 100) + payload(b"", key, 1))
            file.seek(2**26 - 100, 1)  # takes no room on the disk
        file.truncate()
    assert path.stat().st_size > 2**29
    assert RecordFile(path).keys.tolist() == list(range(10))


def test_a_file_cut_while_open(path: Path) -> None:
    write(path, images_only())
    images = opened(path)
    with path.open("r+b") as file:
        file.truncate(30)
    for number in range(len(images)):
        with pytest.raises(DataError, match=r"train\.rec, byte \d+: .*Copy train\.rec and train\.idx again"):
            images.image(number)


# Faults. Each gets the bytes of train.rec of faces() and where its records are, and gives them back.
Damage = Callable[[bytearray, dict[int, int]], tuple[bytes | bytearray, dict[int, int]]]


def poke(key: int, at: int, value: bytes) -> Damage:
    """Overwrite what is some bytes after the beginning of a record."""

    def damage(data: bytearray, offsets: dict[int, int]) -> tuple[bytearray, dict[int, int]]:
        data[offsets[key] + at : offsets[key] + at + len(value)] = value
        return data, offsets

    return damage


def word(value: int) -> bytes:
    return value.to_bytes(4, "little")


def real(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


LAST = sum(PEOPLE)  # the last image's key; its record is whole
HEAD = LAST + 1  # the first identity's
VECTOR = 8 + 24  # from the beginning of a record to the labels
IN_BYTES: dict[str, tuple[Damage, str]] = {
    "an empty file": (lambda data, offsets: (b"", offsets), "byte 0: the file is empty"),
    "a zip": (lambda data, offsets: (b"PK\3\4" + data, offsets), "byte 0: b'PK\\x03\\x04' is not the beginning of"),
    "three bytes": (lambda data, offsets: (data[:3], offsets), "byte 0: b'\\n#\\xd7' is not the beginning of"),
    "no magic": (poke(2, 0, b"\0"), "none follows at byte {2}"),
    "a kind of part that there is not": (
        poke(2, 4, word(5 * 2**29 + 40)),
        "byte {2}: a part of kind 5, which can't begin a record",
    ),
    "a later part alone": (poke(2, 4, word(2 * 2**29 + 40)), "byte {2}: a part of kind 2, which can't begin a record"),
    "a first part alone": (
        poke(HEAD, 4, word(2**29 + 32)),
        "a part of kind 0, which can't continue the record at byte {HEAD}",
    ),
    "an absurd length": (poke(2, 4, word(2**29 - 1)), "byte {2}: a record of 536870911 bytes, but the file"),
    "a length beyond the end": (poke(2, 4, word(100_000)), "byte {2}: a record of 100000 bytes, but the file ends at"),
    "a shorter length": (poke(2, 4, word(40)), "byte {2}: a record of 40 bytes, but none follows"),
    "a record without room for a header": (
        poke(HEAD, 4, word(0)),
        "byte {HEAD}: a record of 0 bytes, but none follows",
    ),
    "more labels than bytes": (poke(2, 8, word(2**32 - 1)), "byte {2}: a record of"),
    "cut in its last record": (lambda data, offsets: (data[:-4], offsets), "bytes, but the file ends at"),
    "a label that is no number": (
        poke(1, VECTOR, real(np.nan)),
        "byte {1}: key 1 is not an image whose label is a whole number",
    ),
    "an infinite label": (poke(1, VECTOR, real(np.inf)), "label inf and"),
    "a negative label": (poke(1, VECTOR, real(-1)), "label -1 and"),
    "a huge label": (poke(1, VECTOR, real(1e20)), "label 1e+20 and"),
    "half a label": (poke(1, VECTOR, real(0.5)), "label 0.5 and"),
    "a label of another": (poke(2, VECTOR, real(0)), "byte {2}: key 2 is not an image with label 7: label 0 and"),
    "a header of no number": (poke(0, VECTOR, real(np.nan)), "byte {0}: key 0 is not a header"),
    "a header of infinity": (poke(0, VECTOR, real(9, np.inf)), "byte {0}: key 0 is not a header"),
    "a negative header": (poke(0, VECTOR, real(-9)), "byte {0}: key 0 is not a header"),
    "half a header": (poke(0, VECTOR, real(8.5)), "byte {0}: key 0 is not a header"),
    "a header backwards": (poke(0, VECTOR, real(9, 8)), "byte {0}: key 0 is not a header"),
    "a header of zeros": (poke(0, VECTOR, real(0, 0)), "byte {0}: key 0 is not a header"),
    "a header of more identities": (poke(0, VECTOR, real(9, 13)), "no record with key 12"),
    "a header of millions": (poke(0, VECTOR, real(9, 2**24 - 1)), "byte {0}: key 0 is not a header"),
    "a header of fewer identities": (poke(0, VECTOR, real(9, 11)), "leaves a gap or an overlap in those from 1 to 9"),
    "a header of more images": (poke(0, VECTOR, real(10, 12)), "leaves a gap or an overlap"),
    "an image among the identities": (poke(0, VECTOR, real(8, 12)), "byte {8}: key 8 is not an identity"),
    "a header without images": (poke(0, VECTOR, real(1, 1)), "byte {0}: key 0 is not a header"),
    "identities that overlap": (
        poke(HEAD, VECTOR, real(1, 6)),
        "an identity with the images from 5 to 6, which leaves",
    ),
    "identities with a gap": (poke(HEAD, VECTOR, real(1, 4)), "an identity with the images from 5 to 6, which leaves"),
    "identities that miss the first": (
        poke(HEAD, VECTOR, real(2, 5)),
        "byte {HEAD}: key 9 is an identity with the images",
    ),
    "an identity of nobody": (poke(HEAD, VECTOR, real(5, 5)), "leaves a gap or an overlap"),
    "an identity backwards": (poke(HEAD, VECTOR, real(5, 1)), "leaves a gap or an overlap"),
    "an identity of halves": (poke(HEAD, VECTOR, real(1, 4.5)), "leaves a gap or an overlap"),
    "an identity of no number": (poke(HEAD, VECTOR, real(np.nan)), "leaves a gap or an overlap"),
    "an identity to infinity": (poke(HEAD + 2, VECTOR, real(6, np.inf)), "leaves a gap or an overlap"),
}


@pytest.mark.parametrize("kind", IN_BYTES)
def test_a_damaged_record_is_named(path: Path, kind: str) -> None:
    damage, said = IN_BYTES[kind]
    offsets = write(path, faces())
    data, _ = damage(bytearray(path.read_bytes()), offsets)
    path.write_bytes(data)
    places = {f"{{{key}}}": str(offset) for key, offset in offsets.items()} | {"{HEAD}": str(offsets[HEAD])}
    for place, offset in places.items():
        said = said.replace(place, offset)
    refused(path, said, "again")


def shifted(key: int, by: int) -> Damage:
    return lambda data, offsets: (data, offsets | {key: offsets[key] + by})


def without(key: int) -> Damage:
    return lambda data, offsets: (data, {k: offset for k, offset in offsets.items() if k != key})


def swapped(one: int, other: int) -> Damage:
    return lambda data, offsets: (data, offsets | {one: offsets[other], other: offsets[one]})


IN_INDEX: dict[str, tuple[Damage, str]] = {
    "outside": (shifted(2, 10**9), "train.idx: key 2 at byte 1000"),
    "far outside": (shifted(2, 10**17), "train.idx: key 2 at byte 1000"),
    "at the end": (lambda data, offsets: (data, offsets | {2: len(data)}), "train.idx: key 2 at byte"),
    "inside of a record": (shifted(2, 8), "no record begins here"),
    "off by a byte": (shifted(2, 1), "no record begins here"),
    "a missing image": (without(2), "train.idx: no record with key 2"),
    "a missing identity": (without(HEAD), f"train.idx: no record with key {HEAD}"),
    "an image in the place of another": (
        swapped(2, 3),
        "the index says that this is the record of key 2, but its id is 3",
    ),
    "an image twice": (lambda data, offsets: (data, offsets | {2: offsets[1]}), "the record of key 2, but"),
}


@pytest.mark.parametrize("kind", IN_INDEX)
def test_an_index_that_points_elsewhere_is_named(path: Path, kind: str) -> None:
    damage, said = IN_INDEX[kind]
    offsets = write(path, faces())
    _, offsets = damage(bytearray(path.read_bytes()), offsets)
    write_index(path, offsets)
    refused(path, said, "Copy train.rec and train.idx again; or delete the latter, and the records are scanned")
    path.with_suffix(".idx").unlink()
    assert read_all(opened(path)) == expected(first=1)


def test_an_index_that_points_at_a_later_part(path: Path) -> None:
    offsets = write(path, [(0, payload(b"abcd" + MAGIC + b"efg", 0, 1)), (1, payload(b"abc", 1, 1))])
    second = path.read_bytes().index(MAGIC, 4)
    write_index(path, offsets | {0: second})
    refused(path, f"byte {second}: a part of kind 3, which can't begin a record")


TEXTS = {
    "empty": (b"", "train.idx lists no record"),
    "blank": (b"\n \n\r\n", "train.idx lists no record"),
    "a negative key": (b"1\t0\n-2\t0\n", "train.idx, line 2: expected key and offset"),
    "a negative offset": (b"1\t-8\n", "train.idx, line 1: expected key and offset"),
    "letters": (b"1\t0\n\nimage\t8\n", "train.idx, line 3: expected key and offset"),
    "one number": (b"1\t0\n2\n", "train.idx, line 2: expected key and offset"),
    "three numbers": (b"1\t0\n2\t3\t4\n", "train.idx, line 2: expected key and offset"),
    "a fraction": (b"1\t0.0\n", "train.idx, line 1: expected key and offset"),
    "more than an int64": (b"1\t99999999999999999999\n", "train.idx, line 1: expected key and offset"),
    "a line without end": (b"1\t0\n2\t" + b"1" * 10**6, "train.idx, line 2: expected key and offset"),
    "spaces without end": (b"1\t0\n2\t" + b" " * 10**6 + b"9", "train.idx, line 2: expected key and offset"),
    "UTF-16": ("1\t0\n".encode("utf-16"), "train.idx, line 1: expected key and offset"),
    "an image": (photo(1), "train.idx, line 1: expected key and offset"),
    "zeros": (bytes(10**6), "train.idx, line 1: expected key and offset"),
    "a key twice": (b"1\t0\n2\t0\n1\t0\n", "train.idx: two lines for key 1"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_an_invalid_index_is_named(path: Path, kind: str) -> None:
    text, said = TEXTS[kind]
    write(path, faces())
    path.with_suffix(".idx").write_bytes(text)
    refused(path, said, "delete", "and the records are scanned")


@pytest.mark.parametrize("index", [True, False], ids=["by the index", "by a scan"])
def test_records_without_images(path: Path, index: bool) -> None:
    write(path, [(0, payload(b"abc", 0, 1)), (1, payload(b"", 1, 1))], index)
    refused(path, "byte 36: key 1 is not an image", "label 1 and 0 bytes")
    write(path, [(5, payload(b"", 5, 1, 2))], index)
    refused(path, "holds no image")
    write(path, [(0, b"raw data of less than 24")], index)
    refused(path, "byte 0: a record of 24 bytes can't hold its")
    write(path, [(0, b"shorter")], index)
    refused(path, "byte 0: a record of 7 bytes, fewer than the 24")


def test_an_image_that_loses_its_content(path: Path) -> None:
    records = faces()
    records[1] = (2, payload(b"", 2, LABELS[0], 1))
    offsets = write(path, records)
    refused(path, f"byte {offsets[2]}: key 2 is not an image with label 7: label 7 and 0 bytes")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
@pytest.mark.parametrize("name", ["train.rec", "train.idx"])
def test_a_folder_or_pipe_instead_of_a_file(path: Path, name: str, make: Callable[[Path], None]) -> None:
    write(path, faces())
    (path.parent / name).unlink()
    make(path.parent / name)
    refused(path, f"{path.parent / name} is not a file. Name the {name[-4:]} file")


def test_files_that_are_missing(path: Path, tmp_path: Path) -> None:
    refused(path, f"{path} is not a file")
    refused(tmp_path, f"{tmp_path} is not a file")
    write(path, faces())
    refused(path, "other.idx is not a file", read=lambda path: RecordFile(path, path.with_name("other.idx")))
    refused(path, "no record with key 99", read=lambda path: RecordFile(path).read(99))
    refused(path, "no record with key -1", read=lambda path: RecordFile(path).read(-1))


@pytest.mark.parametrize("index", [True, False], ids=["by the index", "by a scan"])
def test_too_many_records(path: Path, index: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordio, "MAX_RECORDS", 5)
    write(path, faces(), index)
    refused(path, "more than 5 records")


def test_a_record_that_is_too_large(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, [(0, payload(MAGIC * 1000, 0, 1))])
    refused(path, "byte 0: a record of at least", "bytes in 1001 parts is not an image")
    monkeypatch.setattr(recordio, "MAX_BYTES", 1000)
    write(path, [(0, payload(bytes(1000), 0, 1))])
    refused(path, "byte 0: a record of at least 1028 bytes in 1 parts")


def test_a_disk_that_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, faces())
    images = opened(path)

    def fails(*_: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(recordio.os, "pread", fails)
    refused(path, "can't be read (Input/output error)", "again", read=lambda _: images.image(0))


# What the format's description says, in another way: the judge of damaged files.


def record_at(data: bytes, offset: int) -> tuple[int, float, bytes, int] | None:
    """Id, first label, content and the byte after it, of the record that begins at a byte."""
    parts, kind = [], 1
    while kind in (1, 2):
        if data[offset : offset + 4] != MAGIC or len(data) < offset + 8:
            return None
        kind, length = divmod(int.from_bytes(data[offset + 4 : offset + 8], "little"), 2**29)
        parts.append(data[offset + 8 : offset + 8 + length])
        offset += 8 + length + -length % 4
    whole = MAGIC.join(parts)
    flag, label, number, _ = struct.unpack("<IfQQ", whole[:24])
    first = struct.unpack("<f", whole[24:28])[0] if flag else label
    return number, first, whole[24 + 4 * flag :], offset


def scanned(data: bytes) -> dict[int, int]:
    """Where the records of keys begin."""
    ids, offsets, offset = [], [], 0
    while offset < len(data):
        record = record_at(data, offset)
        assert record
        offsets.append(offset)
        ids.append(record[0])
        offset = record[3]
    known = len(set(ids)) == len(ids) and max(ids) < 2**63
    return dict(zip(ids if known else range(len(ids)), offsets, strict=True))


SETS = [faces([2, 1, 3], [2, 0, 5]), faces([2, 1, 3], [2, 0, 5], vector=False), images_only([2, 1, 3], [2, 0, 5])]


def misled(draw: random.Random, offsets: dict[int, int], size: int) -> bytes:
    """An index that points outside, into the middle of a record, or to another's."""
    keys, places = list(offsets), list(offsets.values())
    one, other = draw.choice(keys), draw.choice(keys)
    elsewhere = [size, size - 4, 2**40, draw.randrange(size), offsets[one] + 4 * draw.randrange(1, 9), offsets[other]]
    match draw.randrange(6):
        case 0 | 4 | 5:
            offsets |= {one: draw.choice(elsewhere)}
        case 1:
            offsets |= {one: offsets[other], other: offsets[one]}
        case 2:
            offsets = dict(zip(keys, draw.sample(places, len(places)), strict=True))
        case 3:
            del offsets[one]
    return "".join(f"{key}\t{offset}\n" for key, offset in offsets.items()).encode()


@pytest.mark.parametrize(("count", "seed"), RUNS)
def test_damage_is_refused_or_read_as_it_says(path: Path, count: int, seed: int) -> None:
    written = []
    for records in SETS:
        offsets = write(path, records)
        written.append((path.read_bytes(), path.with_suffix(".idx").read_bytes(), offsets))
    path.with_suffix(".idx").unlink()
    path.unlink()
    whole = [{".rec": data, ".idx": index} for data, index, _ in written] + [{".rec": data} for data, _, _ in written]
    words = [MAGIC, bytes(4), word(8), word(2**29 + 4), word(2**30 + 4), word(3 * 2**29 + 4), real(np.nan), real(1e9)]

    def damage(draw: random.Random) -> dict[str, bytes]:
        data, index, offsets = draw.choice(written)
        match draw.randrange(6):
            case 0 | 1:
                return {".rec": data, ".idx": misled(draw, dict(offsets), len(data))}
            case 2:
                return {
                    ".rec": data,
                    ".idx": damaged(index, draw, [b"\t", b"\n", b"-", b"9" * 20, b" ", b"\xff", b"1.5"]),
                }
            case other:
                heads = [offset + byte for offset in offsets.values() for byte in range(40)]
                return {".rec": damaged(data, draw, words, heads)} | ({".idx": index} if other < 5 else {})

    def read(path: Path) -> list[tuple[int, int, bytes | DataError]]:
        images, found = opened(path), []
        for number, (key, label) in enumerate(zip(images.keys.tolist(), images.labels.tolist(), strict=True)):
            try:
                found.append((key, label, images.image(number)))
            except DataError as error:
                found.append((key, label, said(error, path)))
        return found

    def judge(files: dict[str, bytes], found: DataError | list[tuple[int, int, bytes | DataError]]) -> str:
        if isinstance(found, DataError):
            assert files not in whole
            return "refused"
        data, index = files[".rec"], files.get(".idx")
        offsets = (
            scanned(data)
            if index is None
            else dict(map(int, line.split()) for line in index.split(b"\n") if line.strip())
        )
        for key, label, content in found:
            if isinstance(content, bytes):
                record = record_at(data, offsets[key])
                assert record
                assert record[1:3] == (label, content)
        if any(isinstance(content, DataError) for _, _, content in found):
            assert files not in whole
            return "image refused"
        return "read"

    tally = fuzz(path.parent, count, seed, damage, read, judge)
    assert min(tally[kind] for kind in ("read", "refused", "image refused")) > count / 20, tally
