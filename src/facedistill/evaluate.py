"""Exact numbers of a network, on one device: every sample counts once.

facedistill evaluate run=RUN_DIR                          score the published weights of a finished run again
facedistill evaluate protocol=lfw root=LFW run=RUN_DIR    the same network on the 6,000 pairs of LFW
facedistill evaluate protocol=lfw root=LFW weights=FILE.onnx contract=arcface
facedistill evaluate protocol=lfw root=LFW weights=FILE model.name=NAME [model.features=512] contract=edgeface
                                                          whatever can be a teacher: an ONNX file, a timm network with
                                                          its weights, a network of your own (docs/extending.md)
facedistill evaluate doctor=true weights=FILE contract=NAME protocol=lfw root=LFW [model.name=NAME …]
                                                          which contract a recognizer fits, and what others score;
                                                          faces=FOLDER data.alignment=… where there are no pairs

protocol=cfp_fp, agedb_30, calfw or cplfw are InsightFace's .bin files, root=FILE.bin or a folder that holds it. They
name nobody, so pairs of people trained on can't be left out. LFW is an image tree, or lfw.bin in the same way.

contract= says by which convention a network was trained; single keys of it as teacher.contract.colour=bgr, or the mean
and std alone as model.mean=[…] model.std=[…]. The faces have the size that the contract, the graph or the run says,
else 112 pixels; image.resize=… image.crop=… are others. Further keys: data.landmarks=FILE, cache_dir=…

flip=concat (the default of a protocol) compares the embedding of an image and of its mirror, one after the other,
flip=sum their sum, flip=none that of the image alone. Two images are of one person if the cosine is at least the
threshold: threshold_at_far_1e-3 is the lowest at which at most one of 1,000 pairs of two people is accepted, and
tar_at_far_1e-3 the share of the pairs of one person that are accepted there. It is one for this flip: an application
that compares plain embeddings takes that of flip=none. threshold=0.3 prints how often that one is wrong; pairs of one
kind only, for which accuracy means nothing, have that and the distribution of their cosines.

A protocol is scored on all cores; trainer.threads=1 takes one, and the last digits of cosines may differ. A bar on the
terminal says how long it takes yet. A run is scored again with one thread, as it was, unless trainer.threads=… says
otherwise.

Of a run's record come its network, its images and its data, whose paths are read as they stand there (data.root=… names
others); where and how to compute are these words' alone.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from facedistill.cli import ALL_CORES, run_command, split_words
from facedistill.config.compose import compose_config, with_words
from facedistill.config.groups import ImageConfig
from facedistill.config.schema import TEACHER, Config
from facedistill.errors import ConfigError, RunError
from facedistill.runs.finished import as_recorded, finished, scored_config
from facedistill.runs.plan import check_contract
from facedistill.runs.run import WeightsFile
from facedistill.system.terminal import say
from facedistill.system.text import shown

if TYPE_CHECKING:  # torch takes seconds, and --help needs none
    from facedistill.evaluation.scoring import Metrics

FLIPS = ("none", "concat", "sum")
_OWN = ("run", "protocol", "root", "weights", "flip", "threshold", "doctor", "faces")
COSINES = ("threshold", "similarity")  # the names of metrics that are no percentages begin so


def main(words: Sequence[str]) -> int:
    return run_command(words, __doc__, _evaluate, bare=False)


def _evaluate(words: list[str]) -> int:
    own, others = split_words(words, _OWN)
    if "doctor" in own:
        _print_contracts(own, others)
    elif "protocol" in own:
        _print_protocol(own, others)
    elif "run" in own:
        record = finished(Path(own["run"]))
        say(f"scoring {own['run']} on the test images of its data")
        for name, value in evaluate_run(Path(own["run"]), others).items():
            recorded = _number(record.metrics[name]) if name in record.metrics else "nothing"
            print(f"{name:18} {_number(value)}   recorded {recorded}")
    else:
        raise ConfigError("name what is scored: run=RUN_DIR, or protocol=lfw root=… with run= or weights=")
    return 0


def evaluate_run(directory: Path, words: Sequence[str]) -> Metrics:
    """Score the published weights of a finished run again; ``words`` change keys of its configuration.

    Raises:
        RunError: not a complete run, or one that has no output layer to score, or can't be scored here.
    """
    record = finished(directory)
    if record.config.task.intermediate:
        task = record.config.task.name
        raise RunError(f"{directory} is what others stand on, task={task}: it has no output layer to score")
    import torch

    from facedistill.data.loading.datamodule import FaceData
    from facedistill.evaluation.scoring import device_for, final_scores
    from facedistill.tasks.assemble import build_evaluation
    from facedistill.training.published import imitated, network_of

    with as_recorded(directory):
        taken = scored_config(record)
    config = with_words(taken, words)
    with as_recorded(directory):
        torch.set_num_threads(config.trainer.threads)
        device = device_for(config.trainer.accelerator)
        network = network_of(directory, config).network.to(device)
        evaluation, data = build_evaluation(config, network), FaceData.of(config)
        measure = lambda batch: evaluation.measure(network, batch)  # noqa: E731
        gallery = imitated(directory, record, config, data, device) if config.task.imitates else None
        return final_scores(config, evaluation, measure, network.backbone, data, device, gallery).metrics


def _print_protocol(own: dict[str, str], others: list[str]) -> None:
    flip = own.get("flip", "concat")
    if flip not in FLIPS:
        raise ConfigError(f"flip={flip}: choices are {', '.join(FLIPS)}")
    threshold = _threshold(own["threshold"]) if "threshold" in own else None
    if ("run" in own) == ("weights" in own):
        raise ConfigError(
            "give one network: run=RUN_DIR, or weights=FILE with contract=NAME, or model.name=NAME of timm"
        )
    pairs_of = [f"data={own['protocol']}", *([f"data.root={own['root']}"] if "root" in own else [])]
    if "run" in own:
        directory = Path(own["run"])
        record = finished(directory)
        with as_recorded(directory):
            trained = scored_config(record)
        if trained.task.bands:
            raise RunError(f"{directory} sees bands about the eyes, and pairs are of whole faces: leave out protocol=")
        size = [f"image.resize={trained.image.resize}", f"image.crop={trained.image.crop}"]
        config = compose_config([*pairs_of, *size, ALL_CORES, *others], trains=False)
    else:
        file, config = recognizer(own["weights"], [*pairs_of, ALL_CORES, *others])
        check_contract(file, config, TEACHER)
    say(f"scoring {own.get('run', own.get('weights'))} on the pairs of {own['protocol']}")
    from facedistill.data.loading.datamodule import read_faces
    from facedistill.data.sources.verification_set import VerificationSet, protocol_source
    from facedistill.distill.teacher import Teacher
    from facedistill.evaluation.scoring import protocol_scores
    from facedistill.training.published import network_of
    from facedistill.training.teachers import load_teacher

    teacher: Teacher
    trained_on: set[str] = set()
    if "run" in own:
        with as_recorded(directory):
            teacher = network_of(directory, trained)
            trained_on = set(read_faces(replace(trained, cache_dir=config.cache_dir), trained.data).identities)
    else:
        teacher = load_teacher(file, 0, config.trainer.threads)
    source = protocol_source(config.data)
    aligned = f"{config.data.get('alignment', 'no')} alignment"
    if isinstance(source, VerificationSet):
        aligned = f"aligned as in {source.file.name}"
    crop = f"crop {config.image.crop}"
    if teacher.input.columns:
        crop += f", of which the {teacher.input.columns} columns in the middle"
    how = f"{own['protocol']}: {aligned}, {config.image.resize} px, {crop}, flip={flip}"
    print(shown(how), *map(shown, source.pair_notes), sep="\n", flush=True)
    for title, metrics in protocol_scores(config, teacher, flip, trained_on, threshold).items():
        print(title)
        for name, value in metrics.items():
            print(f"  {name:21} {_number(value, 4 if name.startswith(COSINES) else 3)}")


def _print_contracts(own: dict[str, str], others: list[str]) -> None:
    if own["doctor"] != "true" or not own.get("weights") or ("protocol" in own) == ("faces" in own):
        raise ConfigError(
            "the doctor takes doctor=true weights=FILE, the file of a recognizer, and faces to try contracts on: "
            "protocol=lfw root=LFW, or faces=FOLDER with data.alignment=none or data.landmarks=FILE"
        )
    data = own.get("protocol", "photos")
    root = own.get("faces") or own.get("root")
    roots = [f"data.root={root}"] if root else []
    file, config = recognizer(own["weights"], [f"data={data}", *roots, "rate=1", *others])
    say(f"trying contracts on {file.weights}")
    from facedistill.training.contract_doctor import examine

    examine(file, config, "protocol" in own)


def recognizer(weights: str, words: Sequence[str]) -> tuple[WeightsFile, Config]:
    """A network in a file, as a teacher would be named, and the configuration by which faces come at its size.

    ``model…`` is short for ``teacher.model…``, and without a family it is of timm. A file that is given no model says
    itself which it is of. Words win over the size that the contract, the graph or the file says.

    Raises ``WeightsError`` if there is no such file.
    """
    words = [re.sub(r"^(\+*)model(?=\.)", r"\1teacher.model", word) for word in words]
    words = [re.sub(r"^model=", "model@teacher.model=", word) for word in words]
    keys = [word.partition("=")[0].lstrip("+") for word in words]
    named = any(key.startswith("teacher.model.") for key in keys)
    family = ["model@teacher.model=timm"] if named and "model@teacher.model" not in keys else []
    words = [f"teacher.weights={weights}", *family, *words]
    own = compose_config(words, trains=False).teacher
    model = own.model if named or "model@teacher.model" in keys else {}
    file = replace(WeightsFile.imitated(own), model=model)
    size = file.graph.size if file.is_onnx else 112
    image = file.pixels or ImageConfig(size, size)
    config = compose_config([f"image.resize={image.resize}", f"image.crop={image.crop}", *words], trains=False)
    return file, config


def _threshold(text: str) -> float:
    try:
        threshold = float(text)
    except ValueError:
        threshold = math.nan
    if not -1 <= threshold <= 1:
        raise ConfigError(f"threshold={text} must be a cosine, -1 … 1")
    return threshold


def _number(value: float | None, digits: int = 3) -> str:
    return "not enough pairs" if value is None else f"{value:8.{digits}f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
