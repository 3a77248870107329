"""Exact numbers of a network, on one device: every sample counts once.

python -m facedistill.evaluate run=RUN_DIR      scores the published weights of a finished run again
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from facedistill.config import Config, compose_config
from facedistill.data.module import FaceData
from facedistill.data.source import Pairs
from facedistill.data.views import FaceBatch
from facedistill.errors import FacedistillError, RunError
from facedistill.metrics.pairs import roc, verification_metrics
from facedistill.models.network import Network
from facedistill.models.weights import load_into, read_weights
from facedistill.runs import read_record
from facedistill.tasks.base import ScheduledModule, Scores
from facedistill.tasks.build import build_module, published_network


def device_for(accelerator: str) -> torch.device:
    """The one device on which a run trains and is scored."""
    best = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator == "cpu" or best is None:
        return torch.device("cpu")
    return best


@torch.no_grad()
def measured(module: ScheduledModule, batches: Iterable[FaceBatch], device: torch.device) -> Scores:
    """The scores of a module's metric over ``batches``."""
    module.to(device).eval()
    module.metric.reset()
    for batch in batches:
        module.measure(batch.to(device))
    return module.scores()


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


class Scored(NamedTuple):
    """Final metrics by name (%; None: too few pairs to tell), and false and true accept rates where there are pairs."""

    metrics: dict[str, float | None]
    roc: tuple[NDArray[np.float64], NDArray[np.float64]] | None


def final_scores(module: ScheduledModule, data: FaceData, device: torch.device) -> Scored:
    """The scores over the test split, over its named parts, and, where the source has pairs, those of verification.

    Pairs with a person who was trained on are left out. The module's metric is left with the whole test split.
    """
    faces = data.faces
    parts: dict[str, float | None] = {}
    for name, indices in faces.subsets.items():
        scores = measured(module, data.test_loader(indices), device)
        parts |= {f"{metric}_{name}": value for metric, value in scores.items()}
    whole = measured(module, data.val_dataloader(), device)
    metrics = {**whole, "test_samples": float(len(faces.test)), **parts}
    loader, pairs = data.pairs_loader(), faces.pairs
    if loader is None or pairs is None or module.config.task.needs != "identities":
        return Scored(metrics, None)
    new = ~pairs.trained_on
    similarity, same = pair_similarity(embeddings(module.network, loader, device), pairs)[new], pairs.same[new]
    far, tar, _ = roc(similarity, same)
    return Scored({**metrics, **verification_metrics(similarity, same, pairs.fold[new])}, (far, tar))


def pair_similarity(embedded: NDArray[np.float32], pairs: Pairs) -> NDArray[np.float64]:
    """Cosine of every pair [P] from L2-normalized embeddings [M, D]."""
    similarity: NDArray[np.float64] = (embedded[pairs.left].astype(np.float64) * embedded[pairs.right]).sum(1)
    return similarity


def evaluate_run(directory: Path, overrides: list[str]) -> dict[str, float | None]:
    """Score the published weights of a finished run.

    Raises:
        RunError: not a complete run, or one that has no output layer to score.
    """
    record = read_record(directory)
    if record is None:
        raise RunError(f"{directory} holds no finished run (no record.json): name a directory in runs/")
    config: Config = compose_config([*record["overrides"], *overrides])
    if config.task.name == "hint":
        raise RunError(f"{directory} is the first stage of FitNet: it has no output layer to score")
    data = FaceData.of(config)
    module = build_module(config, published_network(config, len(data.faces.identities)))
    path = directory / "weights.safetensors"
    load_into(module.network, read_weights(path).tensors, path)
    return final_scores(module, data, device_for(config.trainer.accelerator)).metrics


def _number(value: float | None) -> str:
    return "too few" if value is None else f"{value:8.3f}"


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
        print(f"{name:18} {_number(value)}   recorded {_number(recorded[name])}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
