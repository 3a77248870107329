"""A recognizer as an ONNX file and in torch: the same answers, and students that differ no more than by their seeds.

    python benchmarks/onnx_teacher.py ROOT [EPOCHS] [SEEDS]

ROOT is a folder with lfw/ and teachers/edgeface_xs.safetensors. EdgeFace-XS is exported as an ONNX file, and both teach
on the training images of the 158 people of LFW with ten images or more: the banks of float32 are compared, face by
face, and the students of benchmarks/imitation.py, trained for EPOCHS (20) with SEEDS (3) each, on pairs of LFW with
strangers. A quarter of an hour on one core.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from contracts import exported
from imitation import CPU, SMALL, words_of
from measure import print_table
from numpy.typing import NDArray

from facedistill.data.loading.datamodule import FaceData, pair_batches
from facedistill.distill.teacher import NetworkTeacher
from facedistill.evaluation.scoring import embeddings, pair_similarity
from facedistill.metrics.pairs import verification_metrics
from facedistill.models.load import load_network
from facedistill.runs.ensure import ensure
from facedistill.runs.plan import plan
from facedistill.runs.run import Run, WeightsFile
from facedistill.training.fit import train_run
from facedistill.training.teachers import load_teachers

FOLDER = Path("runs/benchmark/onnx_teacher")


def as_onnx(run: Run) -> Path:
    """The teacher of a run as an ONNX file."""
    file = run.parents["teacher"]
    assert isinstance(file, WeightsFile)
    backbone = load_network(file.weights, file.network, identities=0).network.backbone
    return exported(backbone.net, 112, FOLDER / "edgeface.onnx")


def of_onnx(words: list[str], file: Path) -> list[str]:
    """The words of the same run with the ONNX file for a teacher."""
    kept = [word for word in words if not word.startswith(("teacher.", "model@teacher"))]
    return [*kept, f"teacher.weights={file}"]


def answers(run: Run) -> NDArray[np.float32]:
    """What the bank holds of the training faces as they are, float32 [N, 512]."""
    data = FaceData.of(run.config)
    load_teachers(run, data)
    batches = data.train_dataloader()
    found = np.zeros((len(data.faces.images), 512), np.float32)
    for batch in batches:
        found[batch.indices[~batch.mirrored]] = batch.teacher_embeddings["teacher"][~batch.mirrored].numpy()
    return found


def accuracy(run: Run) -> float:
    """On pairs of strangers with the mirror, %."""
    pairs = FaceData.of(run.config).faces.pairs
    assert pairs is not None
    network, new = NetworkTeacher.load(run.weights, run.config.network, 1).network, ~pairs.trained_on
    similarity = pair_similarity(embeddings(network.backbone, pair_batches(pairs, run.config), CPU, "concat"), pairs)
    found = verification_metrics(similarity[new], pairs.same[new], pairs.fold[new])["pairs"]
    assert found is not None
    return found


def main(root: Path, epochs: int, seeds: int) -> None:
    torch.set_num_threads(1)
    words = [*words_of(root, epochs, SMALL), "target.bank=float32"]
    file = as_onnx(plan(words))
    ways = {"torch": words, "ONNX": of_onnx(words, file)}
    own, other = (answers(plan(given)) for given in ways.values())
    both = own.any(1) & other.any(1)
    apart = np.linalg.norm(own - other, axis=1)[both] / np.linalg.norm(own, axis=1)[both]
    print(f"{both.sum()} faces: the answers differ by at most {apart.max():.1e} of their length", flush=True)
    table = []
    for name, given in ways.items():
        scores = []
        for seed in range(seeds):
            run = plan([*given, f"seed={seed}"])
            ensure(run, train_run)
            scores.append(accuracy(run))
        row = [f"{score:.2f}" for score in scores]
        table.append([name, *row, f"{np.mean(scores):.2f} ± {np.std(scores, ddof=1):.2f}"])
    head = ["teacher", *(f"seed {seed}, %" for seed in range(seeds)), "pairs of strangers with the mirror, %"]
    print_table(head, table)


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[2:]]
    main(Path(sys.argv[1]).resolve(), *(numbers + [20, 3][len(numbers) :]))
