"""Exact numbers of a network, on one device: every sample counts once.

python -m facedistill.evaluate run=RUN_DIR      scores the published weights of a finished run again
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from facedistill.config import Config, compose_config
from facedistill.data.module import FaceData
from facedistill.data.views import FaceBatch
from facedistill.errors import FacedistillError, RunError
from facedistill.metrics.pairs import ten_fold_accuracy
from facedistill.models.network import Network, build_network
from facedistill.models.weights import load_into, read_weights
from facedistill.runs import read_record


def device_for(accelerator: str) -> torch.device:
    """The one device on which a run trains and is scored."""
    best = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator == "cpu" or best is None:
        return torch.device("cpu")
    return best


@torch.no_grad()
def count_correct(network: Network, batches: Iterable[FaceBatch], device: torch.device) -> tuple[int, int]:
    """How many samples get their own identity as top-1, of how many."""
    right, seen = 0, 0
    for batch in batches:
        logits = network(batch.images.to(device)).logits
        right += int((logits.argmax(1) == batch.labels.to(device)).sum())
        seen += len(batch.labels)
    return right, seen


@torch.no_grad()
def embeddings(network: Network, batches: Iterable[FaceBatch], device: torch.device) -> NDArray[np.float32]:
    """L2-normalized K of every sample, float32 [N, width], in order.

    Raises:
        AssertionError: a sample is missing or counted twice.
    """
    features, indices = [], []
    for batch in batches:
        features.append(F.normalize(network(batch.images.to(device)).features.float(), dim=1).cpu())
        indices.append(batch.indices)
    assert torch.equal(torch.cat(indices), torch.arange(sum(len(part) for part in indices)))
    return torch.cat(features).numpy()


def classification_metrics(network: Network, data: FaceData, device: torch.device) -> dict[str, float]:
    """Top-1 on the test split, %, and where the source has pairs, ten-fold accuracy over them, %."""
    network.to(device).eval()
    right, seen = count_correct(network, data.val_dataloader(), device)
    metrics = {"top1": 100 * right / seen, "test_samples": float(seen)}
    loader, pairs = data.pairs_loader(), data.faces.pairs
    if loader is not None and pairs is not None:
        found = embeddings(network, loader, device)
        similarity = (found[pairs.left].astype(np.float64) * found[pairs.right]).sum(1)
        accuracies = ten_fold_accuracy(similarity, pairs.same, pairs.fold)
        metrics["pairs"] = 100 * float(accuracies.mean())
    return metrics


def evaluate_run(directory: Path, overrides: list[str]) -> dict[str, float]:
    """Score the published weights of a finished classification run.

    Raises:
        RunError: not a complete run, or one that is not scored by classification.
    """
    record = read_record(directory)
    if record is None:
        raise RunError(f"{directory} holds no finished run (no record.json): name a directory in runs/")
    config: Config = compose_config([*record["overrides"], *overrides])
    if config.task.name == "hint":
        raise RunError(f"{directory} is the first stage of FitNet: it has no output layer to score")
    data = FaceData.of(config)
    network = build_network(config.network, config.rate, len(data.faces.identities))
    path = directory / "weights.safetensors"
    load_into(network, read_weights(path).tensors, path)
    return classification_metrics(network, data, device_for(config.trainer.accelerator))


def main(words: list[str]) -> int:
    """The command: ``run=RUN_DIR`` and, where the data has moved, ``data.root=…``."""
    named = [word.removeprefix("run=") for word in words if word.startswith("run=")]
    if len(named) != 1 or "--help" in words:
        print(__doc__)
        return 0 if "--help" in words else 2
    directory = Path(named[0])
    try:
        metrics = evaluate_run(directory, [word for word in words if not word.startswith("run=")])
    except FacedistillError as error:
        print(f"facedistill: {error}", file=sys.stderr)
        return 2
    recorded = (read_record(directory) or {})["metrics"]
    for name, value in metrics.items():
        print(f"{name:14} {value:8.3f}   recorded {recorded[name]:8.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
