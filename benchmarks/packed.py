"""Packed images against JPEGs of the same faces, on one core; and the memory of processes that read one pack.

    python benchmarks/packed.py

2,000 rendered faces of 112 pixels, as JPEGs of quality 90 and packed, in a temporary folder (90 MB); "JPEG" is Pillow
alone, "data.decode=always" reads the same files as a run does, squared and compared with their checksums. Every image
is copied into a buffer of 128. The system has the files in memory: the disk is not measured. Of five passes the median
is given, and the ways take turns. Memory is of the whole process, as /proc/self/smaps_rollup has it (Linux), once all
workers have read everything: private, and its share of what it has in common with others.
"""

from __future__ import annotations

import io
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facedistill.config.compose import compose_config
from facedistill.data.faces import FaceSet
from facedistill.data.files.photo_store import Decoded
from facedistill.data.files.store import Mapped
from facedistill.data.sources.packed import Packed, write_pack
from facedistill.data.sources.source import build_source
from facedistill.data.synthetic import render_faces

COUNT, SIZE, BATCH, PASSES = 2000, 112, 128, 5


def copied(images: Any, order: NDArray[np.int64]) -> None:
    """Every image into a buffer, one by one, as a batch is made of them."""
    buffer = np.empty((BATCH, SIZE, SIZE, 3), np.uint8)
    for place, index in enumerate(order.tolist()):
        buffer[place % BATCH] = images[index]


def decoded(files: list[Path], order: NDArray[np.int64]) -> None:
    """As ``copied``, from files of JPEG."""
    buffer = np.empty((BATCH, SIZE, SIZE, 3), np.uint8)
    for place, index in enumerate(order.tolist()):
        with Image.open(files[index]) as image:
            buffer[place % BATCH] = np.asarray(image)


def rates(ways: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Images a second of every way, side by side."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(PASSES):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return {name: COUNT / statistics.median(taken) for name, taken in seconds.items()}


def memory() -> dict[str, float]:
    """MB of this process: Pss, of which Private, and how much of Rss is Shared."""
    fields = [line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]]
    kilobytes = {name.rstrip(":"): int(value) for name, value, *_ in fields}
    found = {"Pss": kilobytes["Pss"]}
    for kind in ("Private", "Shared"):
        found[kind] = kilobytes[f"{kind}_Clean"] + kilobytes[f"{kind}_Dirty"]
    return {name: value / 1000 for name, value in found.items()}


def worker(images: Any, all_have_read: Any, results: Any) -> None:
    """Read all images, wait for the others, and say what memory that takes and took before."""
    before = memory()
    copied(images, np.arange(len(images)))
    all_have_read.wait()
    after = memory()
    all_have_read.wait()  # nobody leaves while another measures
    results.put({name: (before[name], after[name]) for name in after})


def memory_of_workers(images: Any, count: int) -> dict[str, float]:
    """The mean worker's memory; ``grown`` is what of Private came with reading, ``all`` the sum of Pss."""
    spawn = multiprocessing.get_context("spawn")
    all_have_read, results = spawn.Barrier(count), spawn.Queue()
    workers = [spawn.Process(target=worker, args=(images, all_have_read, results)) for _ in range(count)]
    for process in workers:
        process.start()
    found = [results.get(timeout=120) for _ in workers]
    for process in workers:
        process.join()
    mean = {name: statistics.mean(one[name][1] for one in found) for name in ("Private", "Shared", "Pss")}
    grown = statistics.mean(one["Private"][1] - one["Private"][0] for one in found)
    return mean | {"grown": grown, "all": sum(one["Pss"][1] for one in found)}


def main() -> None:
    """Make the images, measure, print."""
    with tempfile.TemporaryDirectory() as folder:
        people = np.arange(COUNT) // 20
        faces = render_faces(0, people, np.arange(COUNT) % 20, SIZE).images
        files = [Path(folder, "jpeg", f"person-{who:03d}", f"{number:05d}.jpg") for number, who in enumerate(people)]
        for file, face in zip(files, faces, strict=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(face).save(file, quality=90)
        # what the JPEGs show, so that both ways give the same pixels
        faces = np.stack([np.asarray(Image.open(io.BytesIO(file.read_bytes()))) for file in files])
        names = [f"person-{number}" for number in range(people[-1] + 1)]
        write_pack(
            FaceSet(faces, people, np.arange(COUNT) % 5 == 4, names), {"source": "benchmark"}, Path(folder, "pack")
        )
        packed = Packed("packed", str(Path(folder, "pack"))).faces(SIZE, Path(folder)).images
        assert isinstance(packed, Mapped)
        words = ["data=identity_folders", f"data.root={folder}/jpeg", "data.alignment=none", "data.decode=always"]
        read = build_source(compose_config(words, trains=False).data).faces(SIZE, Path(folder)).images
        assert isinstance(read, Decoded)
        assert (read[:9] == packed[:9]).all()
        jpeg, whole = sum(file.stat().st_size for file in files), packed.path.stat().st_size

        in_order, at_random = np.arange(COUNT), np.random.default_rng(0).permutation(COUNT)
        found = rates(
            {
                "JPEG, in order": lambda: decoded(files, in_order),
                "packed, in order": lambda: copied(packed, in_order),
                "data.decode=always, in order": lambda: copied(read, in_order),
                "JPEG, at random": lambda: decoded(files, at_random),
                "packed, at random": lambda: copied(packed, at_random),
                "data.decode=always, at random": lambda: copied(read, at_random),
            }
        )
        print(f"{COUNT:,} images of {SIZE} px: {jpeg / 1e6:.0f} MB of JPEG, {whole / 1e6:.0f} MB packed\n")
        print("| one core | images/s | times JPEG |\n| :-- | --: | --: |")
        for name, rate in found.items():
            reference = found[f"JPEG, {name.split(', ')[1]}"]
            print(f"| {name} | {rate:,.0f} | {rate / reference:.1f} |")

        print(
            "\n| MB of a worker that has read all | private | of these by reading | shared | Pss | all workers' Pss |"
        )
        print("| :-- | --: | --: | --: | --: | --: |")
        for what, images in (("mapped pixels", packed), ("a copy of an array", np.asarray(packed))):
            for count in (1, 4):
                taken = memory_of_workers(images, count)
                numbers = " | ".join(f"{taken[name]:.0f}" for name in ("Private", "grown", "Shared", "Pss", "all"))
                print(f"| {count} × {what} | {numbers} |")


if __name__ == "__main__":
    main()
