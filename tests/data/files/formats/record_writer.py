"""Writes RecordIO from its documentation, arranged as by InsightFace's tools."""

import random
import struct
from pathlib import Path

import numpy as np

MAGIC = bytes([0x0A, 0x23, 0xD7, 0xCE])
PEOPLE = [4, 1, 3]  # images of each
LABELS = [7, 0, 12]


def parts_of(data: bytes) -> list[bytes]:
    """Split where a word of the data is the magic number, which is omitted."""
    cuts = [at for at in range(0, len(data) - 3, 4) if data[at : at + 4] == MAGIC]
    return [data[start:end] for start, end in zip([0, *(cut + 4 for cut in cuts)], [*cuts, len(data)], strict=True)]


def packed(data: bytes) -> bytes:
    parts = parts_of(data)
    flags = [0] if len(parts) == 1 else [1, *[2] * (len(parts) - 2), 3]
    return b"".join(
        MAGIC + (flag * 2**29 + len(part)).to_bytes(4, "little") + part + bytes(-len(part) % 4)
        for flag, part in zip(flags, parts, strict=True)
    )


def payload(content: bytes, number: int, *labels: float) -> bytes:
    """A single label is in the header itself; of several, the header has the number."""
    if len(labels) == 1:
        return struct.pack("<IfQQ", 0, labels[0], number, 0) + content
    return struct.pack(f"<IfQQ{len(labels)}f", len(labels), 0, number, 0, *labels) + content


def write(path: Path, records: list[tuple[int, bytes]], index: bool = True) -> dict[int, int]:
    """Write records of (key, data) in this order; returns the offset of each."""
    offsets = {}
    with path.open("wb") as file:
        for key, data in records:
            offsets[key] = file.tell()
            file.write(packed(data))
    if index:
        write_index(path, offsets)
    return offsets


def write_index(path: Path, offsets: dict[int, int], ending: str = "\n") -> None:
    lines = [f"{key}\t{offset}{ending}" for key, offset in offsets.items()]
    path.with_suffix(".idx").write_bytes("".join(lines).encode())


def photo(number: int) -> bytes:
    """20 to 300 bytes that begin like a JPEG; every third contains the magic number."""
    draw = random.Random(number)
    content = b"\xff\xd8\xff\xe0" + draw.randbytes(draw.randrange(20, 300))
    at = draw.randrange(4, len(content))
    return content[:at] + MAGIC * (number % 3 == 0) + content[at:]


def faces(people: list[int] = PEOPLE, labels: list[int] = LABELS, vector: bool = True) -> list[tuple[int, bytes]]:
    """As face2rec2.py writes: images from key 1, the header, the identities."""
    records, ranges, key = [], [], 1
    for count, label in zip(people, labels, strict=True):
        ranges.append((key, key + count))
        for _ in range(count):
            records.append((key, payload(photo(key), key, label, *[1] * vector)))
            key += 1
    records.append((0, payload(b"", 0, key, key + len(people))))
    return records + [(key + i, payload(b"", key + i, *ends)) for i, ends in enumerate(ranges)]


def images_only(people: list[int] = PEOPLE, labels: list[int] = LABELS) -> list[tuple[int, bytes]]:
    """As RecBuilder writes: from key 0, each with its label."""
    owners = np.repeat(labels, people).tolist()
    return [(key, payload(photo(key), key, label)) for key, label in enumerate(owners)]


def expected(first: int) -> list[tuple[int, int, bytes]]:
    owners = np.repeat(LABELS, PEOPLE).tolist()
    return [(key, label, photo(key)) for key, label in enumerate(owners, start=first)]


def sparse(path: Path, count: int, size: int, header: bool) -> None:
    """Images of zeros that take no room on the disk, ten an identity."""
    offsets = {}
    with path.open("wb") as file:

        def add(key: int, head: bytes, length: int) -> None:
            offsets[key] = file.tell()
            file.write(MAGIC + (len(head) + length).to_bytes(4, "little") + head)
            file.seek(length + -(len(head) + length) % 4, 1)

        for number in range(count):
            add(number + header, payload(b"", number + header, number // 10), size)
        if header:
            add(0, payload(b"", 0, count + 1, count + 1 + count // 10), 0)
            for person in range(count // 10):
                key = count + 1 + person
                add(key, payload(b"", key, 1 + 10 * person, 11 + 10 * person), 0)
        file.truncate()
    write_index(path, offsets)
