"""A student that imitates a recognizer, by facedistill and by fifty lines of plain PyTorch, on the same budget.

    python benchmarks/imitation.py ROOT [SECONDS]

ROOT is a folder with lfw/ and teachers/edgeface_xs.safetensors. The teacher is EdgeFace-XS at 112 pixels, the student
a ResNet of 0.57 million parameters on 56 pixels, the faces the training images of the 158 people of LFW with ten
images or more, without their names. Both have SECONDS (250) of one core for training; the teacher's answers are made
before and cost neither anything. A third row has the same budget for a student of a megabyte in int8, 0.97 million
parameters, that starts from layers of the teacher, as `facedistill compress` makes it. The table has the mean cosine
with the teacher on test faces of these people, and the accuracy on the pairs of LFW with strangers, without and with
the mirror image. One seed. Half an hour with the answers.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from measure import print_table
from numpy.typing import NDArray
from torch import Tensor

from facedistill.config.groups import ImageConfig
from facedistill.data.loading.datamodule import FaceData, pair_batches
from facedistill.distill.teacher import NetworkTeacher
from facedistill.evaluation.scoring import embeddings, pair_similarity
from facedistill.metrics.pairs import verification_metrics
from facedistill.models.network import Network, build_network
from facedistill.runs.ensure import ensure
from facedistill.runs.plan import plan
from facedistill.runs.run import Run
from facedistill.training.fit import train_run
from facedistill.training.teachers import load_teachers

CPU = torch.device("cpu")
RESIZE, CROP, BATCH = 64, 56, 64


SMALL = ("model.features=512", "model.width=20")
LAYERS = (
    *("init=layers", "model=timm", "model.name=edgenext_x_small", "model.features=512", "model.blocks=[2,2,2,1]"),
    *("model.mean=[127.5,127.5,127.5]", "model.std=[128,128,128]", "image.resize=112", "image.crop=112"),
)


def words_of(root: Path, epochs: int, student: Sequence[str] = SMALL) -> list[str]:
    return [
        *("task=embed", "target=cosine", "scale=imitation", "augment=recognizer", "data=lfw", f"data.root={root}/lfw"),
        *(f"teacher.weights={root}/teachers/edgeface_xs.safetensors", "contract=edgeface", "model@teacher.model=timm"),
        *("teacher.model.name=edgenext_x_small", "teacher.model.features=512", "rate=1", *student),
        *("trainer.score_every=0", "logger=csv", "runs_dir=runs/benchmark", f"schedule.epochs={epochs}"),
    ]


def plain(images: NDArray[np.uint8], answers: Tensor, network: Network, seconds: float) -> float:
    """The fifty lines: crops and flips, the cosine to the teacher's answer of the face as it is, AdamW along a cosine.

    Args:
        images: uint8 [N, RESIZE, RESIZE, 3].
        answers: [N, 512].

    Returns:
        CPU seconds.
    """
    draw = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    network.train()

    def step(rows: NDArray[np.int64]) -> None:
        crops = []
        for row in rows:
            top, left = draw.integers(0, RESIZE - CROP + 1, 2)
            crop = images[row, top : top + CROP, left : left + CROP]
            crops.append(crop[:, ::-1] if draw.random() < 0.5 else crop)
        batch = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
        loss = 1 - F.cosine_similarity(network(batch).embedding, answers[torch.from_numpy(rows)], dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    started = time.process_time()
    for _ in range(10):
        step(draw.integers(0, len(images), BATCH))
    each = (time.process_time() - started) / 10
    steps, done = max(1, int(seconds / each)), 0
    while done < steps:
        for rows in np.array_split(draw.permutation(len(images)), math.ceil(len(images) / BATCH))[: steps - done]:
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * (1 + math.cos(math.pi * done / steps)) / 2
            step(rows)
            done += 1
    network.eval()
    return time.process_time() - started


def scores(network: Network, run: Run, data: FaceData) -> list[str]:
    cosines = []
    with torch.no_grad():
        for batch in data.val_dataloader():
            taught = batch.teacher_embeddings["teacher"].float()
            cosines.append(F.cosine_similarity(network(batch.images).embedding, taught, dim=1))
    pairs = data.faces.pairs
    assert pairs is not None
    new, found = ~pairs.trained_on, [f"{100 * float(torch.cat(cosines).mean()):.1f}"]
    for flip in ("none", "concat"):
        similarity = pair_similarity(embeddings(network.backbone, pair_batches(pairs, run.config), CPU, flip), pairs)
        accuracy = verification_metrics(similarity[new], pairs.same[new], pairs.fold[new])["pairs"]
        found.append(f"{accuracy:.2f}")
    return found


def main(root: Path, seconds: float) -> None:
    torch.set_num_threads(1)
    run = plan(words_of(root, 1))
    data = FaceData.of(run.config)
    teachers = load_teachers(run, data)  # with its bank
    print(f"{len(data.faces.train)} faces to train on; {seconds:g} s of one core for each", flush=True)
    faces = np.stack([data.faces.images[int(index)] for index in data.faces.train])
    seen = data.seen_as(ImageConfig(112, 112))
    answers = torch.cat([teachers["teacher"](batch.images).embedding for batch in seen.test_loader(data.faces.train)])

    torch.manual_seed(0)
    network = build_network(run.config.network, 1)
    table = [["plain PyTorch", f"{plain(faces, answers, network, seconds):.0f}", *scores(network, run, data)]]

    for name, student in {"facedistill": SMALL, "facedistill, layers of the teacher": LAYERS}.items():
        first = plan(words_of(root, 1, student))
        ensure(first, train_run)
        epochs = max(2, int(seconds / first.record.history[0]["seconds"]))
        whole = plan(words_of(root, epochs, student))
        ensure(whole, train_run)
        spent = sum(row["seconds"] for row in whole.record.history)
        published = NetworkTeacher.load(whole.weights, whole.config.network, 1).network
        seen = FaceData.of(whole.config)
        load_teachers(whole, seen)  # with their banks
        table.append([f"{name}, {epochs} epochs", f"{spent:.0f}", *scores(published, whole, seen)])
    head = ["way", "seconds of a core", "cosine with the teacher, %", "pairs of strangers, %", "with the mirror, %"]
    print_table(head, table)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), float(sys.argv[2]) if len(sys.argv) > 2 else 250)
