"""Exact numbers of a network, on one device: every sample counts once.

python -m facedistill.evaluate run=RUN_DIR                          score the published weights of a finished run again
python -m facedistill.evaluate protocol=lfw root=LFW run=RUN_DIR    the same network on the 6,000 pairs of LFW
python -m facedistill.evaluate protocol=lfw root=LFW weights=FILE model.name=NAME [model.features=512] [model.mean=…]
                                                                    any timm network with a file of weights

protocol=cfp_fp, agedb_30, calfw or cplfw are InsightFace's .bin files, root=FILE.bin or a folder that holds it. They
name nobody, so pairs of people trained on can't be told apart. LFW is an image tree, or lfw.bin in the same way.

flip=concat (the default of a protocol) compares the embedding of an image and of its mirror, one after the other,
flip=sum their sum, flip=none that of the image alone. Any other word of a run may follow: image.resize=112
image.crop=112 (of a timm network; a run has its own), data.landmarks=FILE, cache_dir=…
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from facedistill.config.compose import compose_config
from facedistill.config.schema import Config
from facedistill.data.faces import Pairs
from facedistill.data.loading.datamodule import FaceData, pair_batches, read_faces
from facedistill.data.loading.views import FaceBatch
from facedistill.data.sources.verification_set import VerificationSet, protocol_source
from facedistill.errors import ConfigError, FacedistillError, RunError
from facedistill.metrics.pairs import verification_metrics
from facedistill.models.backbone import Backbone
from facedistill.models.network import build_network
from facedistill.models.weights import load_backbone, load_into, read_weights
from facedistill.runs.run import read_record
from facedistill.tasks.assemble import build_module, published_network
from facedistill.tasks.base import ScheduledModule, Scores

FLIPS = ("none", "concat", "sum")
Metrics = dict[str, float | None]


def device_for(accelerator: str) -> torch.device:
    """The device on which this process trains and scores: of several processes each has its own."""
    best = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator == "cpu" or best is None:
        return torch.device("cpu")
    return torch.device(best.type, int(os.environ.get("LOCAL_RANK", "0")) % torch.accelerator.device_count())


@torch.no_grad()
def measured(module: ScheduledModule, batches: Iterable[FaceBatch], device: torch.device) -> Scores:
    """The scores of a module's metric over ``batches``."""
    module.to(device).eval()
    module.metric.reset()
    for batch in batches:
        module.measure(batch.to(device))
    return module.scores()


@torch.no_grad()
def embeddings(
    backbone: Backbone, batches: Iterable[FaceBatch], device: torch.device, flip: str = "none"
) -> NDArray[np.float32]:
    """L2-normalized K of every sample, float32 [N, width], in order; ``flip`` adds the mirror (width × 2 if concat).

    Raises:
        AssertionError: a sample is missing or counted twice.
    """
    features, indices = [], []
    for batch in batches:
        images = batch.images.to(device)
        found = backbone(images).float()
        if flip != "none":
            mirrored = backbone(images.flip(3)).float()
            found = torch.cat([found, mirrored], 1) if flip == "concat" else found + mirrored
        features.append(F.normalize(found, dim=1).cpu())
        indices.append(batch.indices)
    assert torch.equal(torch.cat(indices), torch.arange(sum(len(part) for part in indices)))
    return torch.cat(features).numpy()


def pair_similarity(embedded: NDArray[np.float32], pairs: Pairs) -> NDArray[np.float64]:
    """Cosine of every pair [P] from L2-normalized embeddings [M, D]."""
    similarity: NDArray[np.float64] = (embedded[pairs.left].astype(np.float64) * embedded[pairs.right]).sum(1)
    return similarity


class Scored(NamedTuple):
    """Final metrics by name (%; None: too few pairs to tell).

    And of every pair its similarity and whether it is of one person [P], empty where there are no pairs.
    """

    metrics: Metrics
    similarity: NDArray[np.float64] = np.zeros(0)
    same: NDArray[np.bool_] = np.zeros(0, bool)


def final_scores(module: ScheduledModule, data: FaceData, device: torch.device) -> Scored:
    """The scores over the test split, over its named parts, and, where the source has pairs, those of verification.

    Pairs with a person who was trained on are left out; where that leaves not both kinds of pairs, there are none of
    these scores. The module's metric is left with the whole test split.
    """
    faces = data.faces
    parts: Metrics = {}
    for name, indices in faces.subsets.items():
        scores = measured(module, data.test_loader(indices), device)
        parts |= {f"{metric}_{name}": value for metric, value in scores.items()}
    whole = measured(module, data.val_dataloader(), device)
    metrics = {**whole, "test_samples": float(len(faces.test)), **parts}
    pairs = faces.pairs
    if pairs is None or module.config.task.needs != "identities":
        return Scored(metrics)
    new = ~pairs.trained_on
    if len(np.unique(pairs.same[new])) < 2:
        return Scored(metrics)
    batches = pair_batches(pairs, module.config)
    similarity = pair_similarity(embeddings(module.network.backbone, batches, device), pairs)[new]
    same = pairs.same[new]
    return Scored({**metrics, **verification_metrics(similarity, same, pairs.fold[new])}, similarity, same)


class FinishedRun(NamedTuple):
    """A complete run: its configuration as it is now, and its network with the published weights."""

    config: Config
    module: ScheduledModule

    @classmethod
    def read(cls, directory: Path, overrides: Sequence[str]) -> FinishedRun:
        """Build the network and load its weights.

        Raises:
            RunError: not a complete run, or one that has no output layer to score.
        """
        record = read_record(directory)
        if record is None:
            raise RunError(f"{directory} holds no finished run (no record.json): name a directory in runs/")
        config = compose_config([*record["overrides"], *overrides])
        if config.task.name == "hint":
            raise RunError(f"{directory} is the first stage of FitNet: it has no output layer to score")
        path = directory / "weights.safetensors"
        tensors, about = read_weights(path)
        module = build_module(config, published_network(config, int(about["num_identities"])))
        load_into(module.network, tensors, path)
        return cls(config, module)


def evaluate_run(directory: Path, overrides: Sequence[str]) -> Metrics:
    """Score the published weights of a finished run again."""
    config, module = FinishedRun.read(directory, overrides)
    torch.set_num_threads(config.trainer.threads)
    return final_scores(module, FaceData.of(config), device_for(config.trainer.accelerator)).metrics


def evaluate_protocol(config: Config, backbone: Backbone, flip: str, trained_on: set[str]) -> dict[str, Metrics]:
    """Scores over the pairs of ``config.data``: over all, and without those of people trained on, where there are any.

    Raises:
        DataError: the source has no pairs, or an image of them can't be used.
    """
    device = device_for(config.trainer.accelerator)
    torch.set_num_threads(config.trainer.threads)
    pairs = protocol_source(config.data).protocol(config.image.resize, Path(config.cache_dir).expanduser(), trained_on)
    batches = pair_batches(pairs, config)
    similarity = pair_similarity(embeddings(backbone.to(device).eval(), batches, device, flip), pairs)
    found = {f"{len(pairs.same)} pairs": verification_metrics(similarity, pairs.same, pairs.fold)}
    new = ~pairs.trained_on
    if not new.all():
        scores = verification_metrics(similarity[new], pairs.same[new], pairs.fold[new])
        found[f"{new.sum()} pairs of people who were not trained on"] = scores
    return found


def main(words: Sequence[str]) -> int:
    """The command."""
    if not words or "--help" in words:
        print(__doc__)
        return 0 if words else 2
    own = {key: value for key, _, value in (word.partition("=") for word in words) if key in _OWN}
    others = [word for word in words if word.split("=", 1)[0] not in _OWN]
    try:
        if "protocol" in own:
            _protocol(own, others)
        elif "run" in own:
            _run(Path(own["run"]), others)
        else:
            raise ConfigError("name what is scored: run=RUN_DIR, or protocol=lfw root=… with run= or weights=")
    except FacedistillError as error:
        print(f"facedistill: {error}", file=sys.stderr)
        return 2
    return 0


_OWN = ("run", "protocol", "root", "weights", "flip")


def _run(directory: Path, overrides: list[str]) -> None:
    metrics = evaluate_run(directory, overrides)
    recorded = (read_record(directory) or {})["metrics"]
    for name, value in metrics.items():
        print(f"{name:18} {_number(value)}   recorded {_number(recorded[name])}")


def _protocol(own: dict[str, str], others: list[str]) -> None:
    flip = own.get("flip", "concat")
    if flip not in FLIPS:
        raise ConfigError(f"flip={flip}: choices are {', '.join(FLIPS)}")
    if ("run" in own) == ("weights" in own):
        raise ConfigError("give one network: run=RUN_DIR, or weights=FILE with model.name=NAME of timm")
    pairs_of = [f"data={own['protocol']}", *([f"data.root={own['root']}"] if "root" in own else [])]
    trained_on: set[str] = set()
    if "run" in own:
        finished, module = FinishedRun.read(Path(own["run"]), [])
        backbone = module.network.backbone
        trained_on = set(read_faces(finished, finished.data).identities)
        image = [f"image.resize={finished.image.resize}", f"image.crop={finished.image.crop}"]
        config = compose_config([*pairs_of, *image, *others], trains=False)
    else:
        size = ["image.resize=112", "image.crop=112"]
        config = compose_config([*pairs_of, *size, "model=timm", "rate=1", *others], trains=False)
        backbone = build_network(config.model, rate=1).backbone
        path = Path(own["weights"])
        load_backbone(backbone, read_weights(path).tensors, path)
    source = protocol_source(config.data)
    aligned = f"{config.data.get('alignment', 'no')} alignment"
    if isinstance(source, VerificationSet):
        aligned = f"aligned as in {source.file.name}"
    print(f"{own['protocol']}: {aligned}, {config.image.resize} px, crop {config.image.crop}, flip={flip}")
    for title, metrics in evaluate_protocol(config, backbone, flip, trained_on).items():
        print(title)
        for name, value in metrics.items():
            print(f"  {name:16} {_number(value)}")


def _number(value: float | None) -> str:
    return "not enough pairs" if value is None else f"{value:8.3f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
