"""RecordIO of 500,000 faces: what opening takes, and reading at random against single files of the same images.

    python benchmarks/recordio.py [--records 500000] [--folder /tmp]

It writes 1.6 GB into a temporary folder there, and prints a Markdown table. Every measurement has a process of its own;
memory is its peak above that of the imports. The system has the files in memory, as far as it has room.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import struct
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from facedistill.data.files.formats.face_records import FaceRecords
from facedistill.data.files.formats.recordio import RecordFile

EACH = 50  # images of an identity
FILES = 20_000
FEW, READS = 10_000, 200_000
SAME = (READS, FILES)


def image(number: int) -> bytes:
    """2 to 4 kB, as faces of 112 pixels have them; no word of it is RecordIO's magic number."""
    return b"\xff\xd8" + struct.pack(">I", number) + bytes(2048 + number * 7919 % 2048)


def append(path: Path, index: Path, records: list[tuple[int, tuple[float, ...], bytes]]) -> None:
    with path.open("ab") as file, index.open("a") as lines:
        for key, labels, content in records:
            lines.write(f"{key}\t{file.tell()}\n")
            data = struct.pack(f"<IfQQ{len(labels)}f", len(labels), 0, key, 0, *labels) + content
            file.write(struct.pack("<II", 0xCED7230A, len(data)) + data + bytes(-len(data) % 4))


def write_images(path: Path, count: int) -> None:
    for first in range(0, count, EACH):
        numbers = range(first, first + EACH)
        append(path, path.with_suffix(".idx"), [(n + 1, (n // EACH, 1), image(n)) for n in numbers])
        if first < FILES:
            folder = path.parent / str(first // EACH)
            folder.mkdir()
            for number in numbers:
                (folder / f"{number}.jpg").write_bytes(image(number))


def write_header(path: Path, count: int) -> None:
    people = range(count // EACH)
    header = [(0, (count + 1, count + 1 + len(people)), b"")]
    identities = [(count + 1 + n, (1 + EACH * n, 1 + EACH * (n + 1)), b"") for n in people]
    append(path, path.with_suffix(".idx"), header + identities)


def peak() -> float:
    """Of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def opening(path: Path) -> tuple[float, float]:
    """Seconds and MB."""
    before, start = peak(), time.perf_counter()
    faces = FaceRecords(RecordFile(path))
    seconds, memory = time.perf_counter() - start, peak() - before
    assert faces.image(len(faces) - 1) == image(len(faces) - 1)
    return seconds, memory


def reading(path: Path, reads: int, images: int) -> tuple[float, float]:
    """Reads a second of some of the images of RecordIO, and MB that they add to those of opening."""
    faces, numbers = FaceRecords(RecordFile(path)), random.Random(0).choices(range(images), k=reads)
    before, start = peak(), time.perf_counter()
    for number in numbers:
        faces.image(number)
    return reads / (time.perf_counter() - start), peak() - before


def reading_files(folder: Path, reads: int) -> float:
    """Reads a second of single files."""
    numbers = random.Random(0).choices(range(FILES), k=reads)
    paths = [f"{folder}/{number // EACH}/{number}.jpg" for number in numbers]
    start = time.perf_counter()
    for path in paths:
        with open(path, "rb") as file:  # noqa: PTH123 - Path.open would take longer
            file.read()
    return reads / (time.perf_counter() - start)


def alone(measure: Callable[..., Any], *arguments: Any) -> Any:
    """In a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def main() -> None:
    parser = argparse.ArgumentParser(description="RecordIO: opening, and reading at random")
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--folder", type=Path)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=words.folder) as name:
        path = Path(name) / "train.rec"
        index = path.with_suffix(".idx")
        rows = {}
        write_images(path, words.records)
        rows["index, no header"] = alone(opening, path)
        index.rename(path.with_suffix(".away"))
        rows["no index, no header"] = alone(opening, path)
        path.with_suffix(".away").rename(index)
        write_header(path, words.records)
        rows["index and header"] = alone(opening, path)
        reads = {(n, m): alone(reading, path, n, m) for n, m in [(FEW, words.records), (READS, words.records), SAME]}
        files = alone(reading_files, path.parent, READS)
        index.unlink()
        rows["header, no index"] = alone(opening, path)
    print(f"| opening {words.records:,} images | seconds | MB |\n|---|---|---|")
    for way, (seconds, memory) in rows.items():
        print(f"| {way} | {seconds:.2f} | {memory:.0f} |")
    print("\n| reading at random | a second | MB more than open |\n|---|---|---|")
    for (count, images), (rate, memory) in reads.items():
        print(f"| {count:,} of {images:,} from RecordIO | {rate:,.0f} | {memory:.1f} |")
    print(f"| {READS:,} of {FILES:,} from files | {files:,.0f} | |")
    print(f"\nThe same images come {reads[SAME][0] / files:.2f} times as fast from RecordIO as from files.")


if __name__ == "__main__":
    main()
