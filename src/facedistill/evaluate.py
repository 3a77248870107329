"""Exact numbers of a network, on one device: every sample counts once.

facedistill evaluate run=RUN_DIR                          score the published weights of a finished run again
facedistill evaluate protocol=lfw root=LFW run=RUN_DIR    the same network on the 6,000 pairs of LFW
facedistill evaluate protocol=lfw root=LFW weights=FILE model.name=NAME [model.features=512] [model.mean=…]
                                                          any timm network with a file of weights

protocol=cfp_fp, agedb_30, calfw or cplfw are InsightFace's .bin files, root=FILE.bin or a folder that holds it. They
name nobody, so pairs of people trained on can't be left out. LFW is an image tree, or lfw.bin in the same way.

flip=concat (the default of a protocol) compares the embedding of an image and of its mirror, one after the other,
flip=sum their sum, flip=none that of the image alone. Keys of a configuration may follow: image.resize=112
image.crop=112 (of a timm network; a run has its own), data.landmarks=FILE, cache_dir=…
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from facedistill.cli import run_command, split_words
from facedistill.config.compose import compose_config, with_words
from facedistill.config.schema import Config
from facedistill.errors import ConfigError, RunError
from facedistill.runs.record import Record
from facedistill.runs.run import WEIGHTS

if TYPE_CHECKING:  # torch takes seconds, and --help needs none
    from facedistill.distill.teacher import NetworkTeacher
    from facedistill.evaluation.scoring import Metrics

FLIPS = ("none", "concat", "sum")
_OWN = ("run", "protocol", "root", "weights", "flip")


def main(words: Sequence[str]) -> int:
    return run_command(words, __doc__, _evaluate, bare=False)


def _evaluate(words: list[str]) -> int:
    own, others = split_words(words, _OWN)
    if "protocol" in own:
        _print_protocol(own, others)
    elif "run" in own:
        record = finished(Path(own["run"]))
        for name, value in evaluate_run(Path(own["run"]), others).items():
            print(f"{name:18} {_number(value)}   recorded {_number(record.metrics[name])}")
    else:
        raise ConfigError("name what is scored: run=RUN_DIR, or protocol=lfw root=… with run= or weights=")
    return 0


def finished(directory: Path) -> Record:
    """The record of a finished run. Raises ``RunError``."""
    record = Record.read(directory)
    if record is None:
        raise RunError(f"{directory} holds no finished run (no record.json): name a directory in runs/")
    return record


def evaluate_run(directory: Path, words: Sequence[str]) -> Metrics:
    """Score the published weights of a finished run again; ``words`` change keys of its configuration.

    Raises:
        RunError: not a complete run, or one that has no output layer to score.
    """
    config = with_words(on_this_machine(finished(directory).config), words)
    if config.task.intermediate:
        raise RunError(f"{directory} is the first stage of FitNet: it has no output layer to score")
    import torch

    from facedistill.data.loading.datamodule import FaceData
    from facedistill.evaluation.scoring import device_for, final_scores
    from facedistill.tasks.assemble import build_evaluation

    torch.set_num_threads(config.trainer.threads)
    device = device_for(config.trainer.accelerator)
    network = network_of(directory, config).network.to(device)
    evaluation, data = build_evaluation(config, network), FaceData.of(config)
    measure = lambda batch: evaluation.update(network(batch.images), batch)  # noqa: E731
    return final_scores(config, evaluation, measure, network.backbone, data, device).metrics


def on_this_machine(config: Config) -> Config:
    """The configuration of a record, but for where it reads caches and computes: no record says where to write."""
    here = compose_config([])
    threads = min(config.trainer.threads, os.cpu_count() or 1)
    trainer = replace(here.trainer, threads=threads, precision=config.trainer.precision)
    return replace(config, trainer=trainer, logger=here.logger, runs_dir=here.runs_dir, cache_dir=here.cache_dir)


def network_of(directory: Path, config: Config) -> NetworkTeacher:
    """The published network of a finished run."""
    from facedistill.distill.teacher import NetworkTeacher

    return NetworkTeacher.load(directory / WEIGHTS, config.network, config.rate)


def _print_protocol(own: dict[str, str], others: list[str]) -> None:
    flip = own.get("flip", "concat")
    if flip not in FLIPS:
        raise ConfigError(f"flip={flip}: choices are {', '.join(FLIPS)}")
    if ("run" in own) == ("weights" in own):
        raise ConfigError("give one network: run=RUN_DIR, or weights=FILE with model.name=NAME of timm")
    pairs_of = [f"data={own['protocol']}", *([f"data.root={own['root']}"] if "root" in own else [])]
    if "run" in own:
        trained = on_this_machine(finished(Path(own["run"])).config)
        size = [f"image.resize={trained.image.resize}", f"image.crop={trained.image.crop}"]
        config = compose_config([*pairs_of, *size, *others], trains=False)
    else:
        size = ["image.resize=112", "image.crop=112", "model=timm", "rate=1"]
        config = compose_config([*pairs_of, *size, *others], trains=False)
    from facedistill.data.loading.datamodule import read_faces
    from facedistill.data.sources.verification_set import VerificationSet, protocol_source
    from facedistill.distill.teacher import NetworkTeacher
    from facedistill.evaluation.scoring import protocol_scores

    trained_on: set[str] = set()
    if "run" in own:
        teacher = network_of(Path(own["run"]), trained)
        trained_on = set(read_faces(trained, trained.data).identities)
    else:
        teacher = NetworkTeacher.load(Path(own["weights"]), config.model)
    source = protocol_source(config.data)
    aligned = f"{config.data.get('alignment', 'no')} alignment"
    if isinstance(source, VerificationSet):
        aligned = f"aligned as in {source.file.name}"
    print(f"{own['protocol']}: {aligned}, {config.image.resize} px, crop {config.image.crop}, flip={flip}")
    for title, metrics in protocol_scores(config, teacher.network.backbone, flip, trained_on).items():
        print(title)
        for name, value in metrics.items():
            print(f"  {name:16} {_number(value)}")


def _number(value: float | None) -> str:
    return "not enough pairs" if value is None else f"{value:8.3f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
