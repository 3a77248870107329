"""Time and memory as a set grows: in images, in identities, in views of a bank.

    python benchmarks/growth.py

One torch thread, every measurement in a process of its own, all files in a temporary folder (1.2 GB); the system has
them in memory. Two minutes on two cores.

Images: packs of random pixels, 48 px, 50 images an identity, a fifth of them for the test. Opened as a run does it,
then an epoch's batches of both samplers (32; 8 identities × 4) are listed, and the images of one are read in its order
through the DataLoader. Private memory is RssAnon; mapped is RssFile, which the system can take back. Both are what
comes after a first batch.

Identities: a training step of the student's output layer, from K_S of 256 values (rate 8) with the soft target of a
teacher's 2048, for a batch of 256; with H(P, y) and without; against the same in plain torch, which keeps whole logits
of both. The median of three steps. Memory is the peak of a step above what stood before it (weights, their gradients,
momentum), in MB, and in units of one matrix of logits, 256 × C × 4 bytes. The new gradient of the weights is one unit,
as K_S has as many values as the batch has samples. Of 100 identities a unit is 0.1 MB, and says nothing. Blocks of a
few MB that are free again stay with glibc, up to a unit of 100,000 identities: not so with
MALLOC_MMAP_THRESHOLD_=1000000 in the environment.

Scoring: top-1, rank-k and mAP of a test split by its embeddings of 2,048 values, nine images a person as in CASIA,
every sample against all others; on one thread, and on a GPU where there is one.

Bank: views of 20,000 samples × 512 values, float16, written as a bank is; an epoch of each is read at random in batches
of 32. Private memory is above all the checksums of the views, 4 bytes a sample.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from measure import print_table
from torch import Tensor, nn

from facedistill.config.compose import compose_config
from facedistill.data.faces import FaceSet
from facedistill.data.files.store import Batches, Item, open_or_make
from facedistill.data.loading.datamodule import FaceData
from facedistill.data.loading.samplers import TrainBatches
from facedistill.data.loading.views import FaceBatch
from facedistill.data.sources.packed import write_pack
from facedistill.distill.bank import Bank
from facedistill.distill.targets.soft import SoftTarget
from facedistill.distill.teacher import TeacherOutput
from facedistill.metrics.retrieval import NearestNeighbour
from facedistill.models.network import NetworkOutput
from facedistill.tasks.base import identity_loss

IMAGES, SIZE, EACH = (1_000, 10_000, 100_000), 48, 50
IDENTITIES, BATCH, WIDTH, TEACHER_WIDTH, TAU, STEPS = (100, 10_000, 100_000), 256, 256, 2048, 3.0, 3
VIEWS, SAMPLES = (1, 4, 16), 20_000
HIDDEN = Item((512,), "<f2", "hidden layer", "hidden layers of 512 values")
SCORED, OF_TEACHER, OF_PERSON = (5_000, 10_000, 20_000), 2048, 9
OF_IMAGES = [
    *("images", "open, s", "TrainBatches, s", "IdentityBatches, s", "read, s"),
    *("private MB to open", "private MB to read", "mapped MB to read"),
]
OURS, PLAIN = "facedistill", "plain torch"

Loss = Callable[[Tensor], Tensor]


def alone(measure: Callable[..., Any], *arguments: Any) -> Any:
    """In a process of its own, forked from one that has imported torch and done nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["facedistill.tasks.base"])
    with ProcessPoolExecutor(1, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return pool.submit(measure, *arguments).result()


def resident(kind: str) -> float:
    """MB of this process: ``RssAnon``, ``RssFile``, ``VmRSS`` for both, or ``VmHWM``, the peak of both."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) * 1024 / 1e6


def trim() -> None:
    """Give back what is free: it is not to be counted as what stood there before."""
    ctypes.CDLL(None).malloc_trim(0)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came out."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def make_pack(folder: Path, count: int) -> None:
    """Random pixels as a data set; every fifth image is tested on."""
    numbers = np.arange(count)
    pixels = np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)
    names = [f"person-{number}" for number in range(count // EACH)]
    write_pack(FaceSet(pixels, numbers // EACH, numbers % 5 == 4, names), {"source": "benchmark"}, folder)


def reading_images(folder: Path) -> dict[str, float]:
    """What opening a pack takes, its samplers, and an epoch of its images."""
    words = ["data=packed", f"data.root={folder}", f"image.resize={SIZE}", f"cache_dir={folder}"]
    config, pairs = compose_config(words), compose_config([*words, "task=verify"])
    private = resident("RssAnon")
    opening, data = timed(lambda: FaceData.of(config))
    opened = resident("RssAnon") - private
    every, _ = timed(lambda: len(list(data.train_batches)))
    identities, _ = timed(lambda: len(list(FaceData(pairs, data.faces).train_batches)))
    loader = data.train_dataloader()
    next(iter(loader))  # what a first batch imports
    trim()
    private, mapped = resident("RssAnon"), resident("RssFile")
    reading, _ = timed(lambda: all(len(batch.labels) for batch in loader))
    return {
        "opening": opening,
        "opened": opened,
        "every": every,
        "identities": identities,
        "reading": reading,
        "private": resident("RssAnon") - private,
        "mapped": resident("RssFile") - mapped,
    }


def loss_of(way: str, with_hard: bool, classes: int) -> Loss:
    """Of the student's logits, by ``way``: the soft target, perhaps with H(P, y)."""
    features = torch.randn(BATCH, TEACHER_WIDTH).relu()
    teacher = TeacherOutput(features, nn.Linear(TEACHER_WIDTH, classes).requires_grad_(False))
    nothing = torch.empty(BATCH, 0)
    labels = torch.randint(classes, (BATCH,))
    batch = FaceBatch(*[nothing] * len(FaceBatch._fields))._replace(labels=labels)
    target = SoftTarget(1.0, WIDTH, TEACHER_WIDTH, TAU, tau_squared=True)

    def ours(logits: Tensor) -> Tensor:
        student = NetworkOutput(nothing, logits, nothing)
        soft = target(student, teacher)
        return identity_loss(student, batch) + soft if with_hard else soft

    def plain(logits: Tensor) -> Tensor:
        soft = TAU**2 * F.cross_entropy(logits / TAU, F.softmax(teacher.logits / TAU, dim=1))
        return F.cross_entropy(logits, labels) + soft if with_hard else soft

    return {OURS: ours, PLAIN: plain}[way]


def stepping(way: str, with_hard: bool, classes: int) -> tuple[float, float]:
    """Seconds of a step, and the MB that it takes at its peak beside what stood there before it."""
    torch.manual_seed(0)
    loss_of_logits, classifier = loss_of(way, with_hard, classes), nn.Linear(WIDTH, classes)
    features = torch.randn(BATCH, WIDTH).relu().requires_grad_()
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.01, momentum=0.9, nesterov=True, fused=True)

    def step() -> None:
        loss_of_logits(classifier(features)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)  # gradients stay allocated

    step()
    trim()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    first, _ = timed(step)
    memory = resident("VmHWM") - before
    return statistics.median([first, *(timed(step)[0] for _ in range(STEPS - 1))]), memory


def open_view(folder: Path, number: int) -> Any:
    """A view of a bank of random values, which is made where it is not there."""

    def make(start: int) -> Batches:
        values = np.random.default_rng(number).standard_normal((SAMPLES, *HIDDEN.shape), np.float32)
        yield SAMPLES, values.astype(HIDDEN.dtype), {}

    return open_or_make(folder / f"view-{number:04d}", SAMPLES, HIDDEN, make, f"view {number}").items


def make_views(folder: Path, count: int) -> None:
    for number in range(count):
        open_view(folder, number)


def reading_views(folder: Path, count: int) -> dict[str, float]:
    """What opening the first ``count`` views takes, and as many epochs."""
    batches = TrainBatches(np.arange(SAMPLES), 32, seed=0, views=range(count))
    keys = []
    for epoch in range(count):
        batches.set_epoch(epoch)
        keys += list(batches)
    trim()
    private, mapped = resident("RssAnon"), resident("RssFile")
    opening, views = timed(lambda: [open_view(folder, number) for number in range(count)])
    bank = Bank(np.arange(SAMPLES), dict(enumerate(views)))
    seconds, _ = timed(lambda: all(len(bank(batch)) for batch in keys))
    return {
        "opening": opening,
        "epoch": seconds / count,
        "private": resident("RssAnon") - private,
        "mapped": resident("RssFile") - mapped,
    }


def scoring(count: int, device: str) -> float:
    """Seconds that nearest neighbours take of ``count`` embeddings, which are there already."""
    torch.manual_seed(0)
    labels = torch.arange(count) // OF_PERSON
    embeddings = torch.randn(len(labels.unique()), OF_TEACHER)[labels] / 4 + torch.randn(count, OF_TEACHER)
    metric = NearestNeighbour().to(device)
    metric.update(embeddings.to(device), labels.to(device), torch.arange(count, device=device))
    return timed(lambda: float(metric.compute()["map"]))[0]


def rows_of_scoring() -> Iterator[list[str]]:
    for count, device in product(SCORED, ["cpu", *(["cuda"] * torch.cuda.is_available())]):
        yield [f"{count:,}", device, f"{alone(scoring, count, device):.1f}"]


def rows_of_images(top: Path) -> Iterator[list[str]]:
    for count in IMAGES:
        folder = top / f"{count}"
        alone(make_pack, folder, count)
        found = alone(reading_images, folder)
        seconds = [f"{found[name]:.3f}" for name in ("opening", "every", "identities")]
        memory = [f"{found[name]:.1f}" for name in ("opened", "private", "mapped")]
        yield [f"{count:,}", *seconds, f"{found['reading']:.2f}", *memory]


def rows_of_identities() -> Iterator[list[str]]:
    for classes, with_hard, way in product(IDENTITIES, (False, True), (OURS, PLAIN)):
        seconds, memory = alone(stepping, way, with_hard, classes)
        unit = BATCH * classes * 4 / 1e6
        loss = "soft + hard" if with_hard else "soft"
        yield [f"{classes:,}", loss, way, f"{seconds:.3f}", f"{memory:.1f}", f"{memory / unit:.2f}"]


def rows_of_views(top: Path) -> Iterator[list[str]]:
    alone(make_views, top, max(VIEWS))
    for count in VIEWS:
        found = alone(reading_views, top, count)
        seconds = [f"{found[name]:.3f}" for name in ("opening", "epoch")]
        yield [f"{count}", *seconds, *(f"{found[name]:.1f}" for name in ("private", "mapped"))]


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        top = Path(temporary)
        print_table(OF_IMAGES, rows_of_images(top))
        print_table(["identities", "loss", "way", "s a step", "peak MB", "matrices"], rows_of_identities())
        print_table(["test images", "on", "scoring, s"], rows_of_scoring())
        print_table(["views", "open, s", "s an epoch", "private MB", "mapped MB"], rows_of_views(top))


if __name__ == "__main__":
    main()
