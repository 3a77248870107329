"""What a bank of the k most likely classes, target.bank=topN, keeps of the soft prediction: bytes, mass, gradients.

    python benchmarks/top_logits.py [RUN]

A minute and a half, on one thread.

τ = 3, 64 samples. Teachers are made as a cosine softmax leaves them: weights of C classes are directions in a space of
512 values, an embedding has a cosine of 0.7 with that of its own class, and logits are s times the cosine, s = 64
(ArcFace, CosFace, AdaFace) or 30 (NormFace). Directions are random, in all 512 dimensions, where
nobody looks like anybody else, or in 64 of them, where people of 100,000 have their like. With RUN, the folder of a
classification teacher, its own layer and images that it was trained on take the place of these.

The student reads logits from an embedding of its own by the teacher's layer. At the start that is a random direction,
later it has a cosine of 0.7 with the teacher's. The error is the length of the difference from the gradient on it of
the whole soft target, in units of the length of that, over all samples; what float16 rounds is in it.

A step: forward and backward of the soft loss on logits that are there, 64 samples of 100,000 classes, a teacher of
2,048 values, one thread; the median of three.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from measure import print_table
from torch import Tensor, nn

from facedistill.data.loading.datamodule import FaceData
from facedistill.distill.targets.soft import SoftTarget
from facedistill.distill.teacher import TeacherInput, TeacherOutput
from facedistill.distill.top import KeptTop, TopTeacher
from facedistill.models.network import NetworkOutput
from facedistill.runs.record import Record
from facedistill.training.published import network_of

TAU, SAMPLES, WIDTH, COSINE = 3.0, 64, 512, 0.7
IDENTITIES, SCALES, DIMENSIONS, KEPT = (1_000, 10_000, 100_000), (64, 30), (512, 64), (8, 16, 64, 256)
STEP_WIDTH, STEPS = 2048, 3
SOFT = SoftTarget(1.0, 0, 0, TAU, tau_squared=True)


def turned(embedding: Tensor, cosine: float) -> Tensor:
    """Embeddings [B, D] of the same length, in a random direction that has this cosine with them."""
    direction = F.normalize(embedding, dim=1)
    other = torch.randn_like(embedding)
    other = F.normalize(other - (other * direction).sum(1, keepdim=True) * direction, dim=1)
    return embedding.norm(dim=1, keepdim=True) * (cosine * direction + (1 - cosine**2) ** 0.5 * other)


def made(classes: int, scale: float, dimensions: int) -> tuple[Tensor, nn.Module]:
    """K_T [SAMPLES, WIDTH] and the output layer of a teacher."""
    layer = nn.Linear(WIDTH, classes, bias=False).requires_grad_(False)
    layer.weight.zero_()
    layer.weight[:, :dimensions] = F.normalize(torch.randn(classes, dimensions), dim=1)
    own = layer.weight[torch.randperm(classes)[:SAMPLES]]
    layer.weight *= scale
    return turned(own, COSINE), layer


def trained(folder: Path) -> tuple[Tensor, nn.Module]:
    """The same of a teacher that was trained, on images that it was trained on."""
    record = Record.read(folder)
    assert record is not None, f"{folder} is not complete"
    teacher = network_of(folder, record.config)
    [batch] = FaceData.of(record.config).first_batches(1)
    layer = teacher.network.classifier
    assert layer is not None
    return teacher(batch.images).embedding, layer


def recalled(answer: TeacherOutput, k: int, classes: int) -> TeacherOutput:
    """What a bank keeps of an answer, as a step reads it."""
    return TopTeacher(TeacherInput(None, None, None)).recall(torch.from_numpy(KeptTop(k, TAU, classes)(answer)))


def gradient(embedding: Tensor, layer: nn.Module, answer: TeacherOutput) -> Tensor:
    """Of the soft loss, on the student's embedding [B, D]."""
    embedding = embedding.detach().requires_grad_()
    loss = SOFT(NetworkOutput(embedding, layer(embedding), embedding[:, :0]), answer)
    return torch.autograd.grad(loss, embedding)[0]


def row_of(name: str, embedding: Tensor, layer: nn.Module) -> list[str]:
    """The mass of the most likely class and, by k, of all that are kept; the errors of a student's gradients, in %."""
    answer = TeacherOutput(embedding, layer)
    prediction = F.softmax(layer(embedding) / TAU, dim=1)
    classes = prediction.shape[1]
    found = [prediction.topk(min(k, classes)).values.sum(1).mean() for k in (1, *KEPT)]
    taught = [recalled(answer, k, classes) for k in KEPT]
    for cosine in (0.0, COSINE):
        student = turned(embedding, cosine)
        expected = gradient(student, layer, answer)
        found += [(gradient(student, layer, top) - expected).norm() / expected.norm() for top in taught]
    return [name, *(f"{100 * value:.1f}" for value in found)]


def rows_of_made() -> Iterator[list[str]]:
    for scale, dimensions, classes in product(SCALES, DIMENSIONS, IDENTITIES):
        yield row_of(f"s = {scale}, {dimensions} dimensions, {classes:,}", *made(classes, scale, dimensions))


def rows_of_bytes() -> Iterator[list[str]]:
    for k in KEPT:
        size = KeptTop(k, TAU, max(IDENTITIES)).item.bytes
        yield [f"{k}", f"{size:,}", *(f"{100 * size / (2 * width):.0f} %" for width in (512, 2048))]


def seconds(logits: Tensor, answer: TeacherOutput) -> float:
    def step() -> float:
        start = time.perf_counter()
        SOFT(NetworkOutput(logits, logits.requires_grad_(), logits), answer).backward()
        return time.perf_counter() - start

    return statistics.median(step() for _ in range(STEPS))


def rows_of_steps() -> Iterator[list[str]]:
    classes = max(IDENTITIES)
    logits, layer = torch.randn(SAMPLES, classes), nn.Linear(STEP_WIDTH, classes).requires_grad_(False)
    answer = TeacherOutput(torch.randn(SAMPLES, STEP_WIDTH), layer)
    weights = 4 * STEP_WIDTH * classes / 1e6
    yield ["K_T", f"{seconds(logits, answer):.2f}", f"{weights:,.0f}"]
    yield ["top64", f"{seconds(logits, recalled(answer, 64, classes)):.2f}", "0"]


def main(run: Path | None) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print_table(["k", "bytes", "of K_T, 512 values", "of K_T, 2,048 values"], rows_of_bytes())
    columns = (f"{what} {k}" for what in ("mass of", "error at the start,", "error later,") for k in KEPT)
    rows = [row_of(run.name, *trained(run))] if run else rows_of_made()
    print_table(["teacher, identities", "mass of 1", *columns], rows)
    print_table(["bank", "s a step", "MB of the teacher's layer"], rows_of_steps())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
