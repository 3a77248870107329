"""Make a small student of a recognizer: from faces without labels, in one command.

facedistill compress teacher=FILE faces=FOLDER [size=1MB] [pairs=LFW] [format=onnx,onnx-int8] [KEY=VALUE ...]

  facedistill compress teacher=recognizer.onnx contract=arcface faces=FOLDER data.alignment=none
  facedistill compress teacher=weights.safetensors model@teacher.model=timm teacher.model.name=edgenext_x_small \\
      teacher.model.features=512 contract=edgeface faces=FOLDER data.landmarks=landmarks.txt

teacher=FILE is an ONNX file, or weights of a network of timm; contract= says what it takes. teacher=runs/NAME is a run
of ours, whose file says it all.
faces=FOLDER holds faces that are aligned (data.alignment=none), that a list of landmarks aligns (data.landmarks=FILE),
or that are looked for (data.alignment=detect); images on which recognizers fail are refused. faces=[A,B] are several
folders. size= is how large the int8 file of the student may be: 500kB, 1MB (the default), 4MB. pairs= is a folder
like LFW's with its pairs, on which both are scored in the end; faces of people in them, whom the teacher knows again,
are left out (data.leave_out=FILE: the images that are named in a list of your own).

The student imitates the embedding: vectors of the two can be compared with each other. Any other words go into the run
(schedule.epochs=100, image.resize=80, model.width=…), and the command that trains it is printed first; it takes all
cores (trainer.threads). plan=true trains nothing. What is complete is not trained again; what was interrupted resumes.
In the end it is exported to exports/: files of each format=, proven in their own runtimes (facedistill export --help);
format=none leaves that out.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facedistill.cli import ALL_CORES, run_command, split_words
from facedistill.config.compose import compose_config
from facedistill.config.schema import TEACHER, Config
from facedistill.data.loading.view_schedule import banked_views
from facedistill.data.placement import judge_placement
from facedistill.data.sources.photo_source import PhotoSource
from facedistill.data.sources.photos import Photos
from facedistill.data.sources.source import build_source
from facedistill.data.sources.verification_set import protocol_source
from facedistill.errors import ConfigError, DataError
from facedistill.runs.data_identity import Identities
from facedistill.runs.plan import check_data, check_tree, plan, tree, width_of
from facedistill.runs.run import Run, WeightsFile
from facedistill.runs.student_size import int8_bytes, layers_within, size_of, width_for
from facedistill.system.signals import stop_on_signals
from facedistill.system.terminal import REFUSED, Output, say
from facedistill.system.text import command_line, shown
from facedistill.train import run_cell

if TYPE_CHECKING:  # torch takes seconds, and --help needs none
    import torch

    from facedistill.data.loading.augment import Augmentation

_OWN = ("teacher", "faces", "size", "pairs", "format")
FORMATS = "onnx,onnx-int8"
ON_PAIRS = "pairs of LFW with the mirror, %"
TIMED = 32  # images of the batch by which a forecast is made
Row = tuple[str, float | None, float | None]  # a title, the teacher's number, the student's
RECIPE = ("task=embed", "target=cosine", "scale=imitation", "augment=recognizer", "data=photos", "rate=1")
EPOCHS_OF_LAYERS = "schedule.epochs=20"  # half of those that random weights take


def main(words: Sequence[str]) -> int:
    return run_command(words, __doc__, _compress, bare=False)


def _compress(words: list[str]) -> int:
    stop_on_signals()
    own, others = split_words(words, _OWN)
    for name, what in (("teacher", "the file of a recognizer"), ("faces", "a folder of faces")):
        if not own.get(name):
            raise ConfigError(f"{name}= is missing: {what}, as in facedistill compress teacher=FILE faces=FOLDER")
    formats = formats_of(own.get("format"))
    run = run_of(own, others)
    check_data(run)
    check_tree(run)
    if pairs := own.get("pairs"):
        check_pairs(pairs, run)
        if not run.config.plan:
            check_contract_on_pairs(pairs, run)
            run = without_people_of(pairs, run, own, others)
    print(f"facedistill train {command_line(run.words)}\n", flush=True)
    if run.config.plan:
        Output().print_whole(tree(run))
        return 0
    if not run.is_complete:
        check_placement(run)
        print(forecast(run), flush=True)
    run_cell(run)
    if not run.is_complete:  # where several processes train it, that is said and not raised
        return REFUSED
    metrics = run.record.metrics
    table: list[Row] = [("cosine with the teacher, %", None, metrics["cosine"])]
    table.append(("of the teacher's embedding explained, %", None, metrics["explained"]))
    if pairs:
        table += scored_on_pairs(run, pairs)
    _print(run, table)
    if formats:
        export_student(run, formats, pairs, table, f"facedistill compress {command_line(words)}")
    return 0


def formats_of(asked: str | None) -> list[str]:
    """The formats that the student is exported to. Raises ``ConfigError`` for one that can't be made here, if asked."""
    if asked == "none":
        return []
    from facedistill.export.format import named  # late: its packages are an extra

    formats = (asked or FORMATS).split(",")
    try:
        for name in formats:
            named(name)
    except ConfigError as error:
        if asked:
            raise
        say(f"the student will not be exported: {error}")
        return []
    return formats


def export_student(run: Run, formats: Sequence[str], pairs: str | None, table: Sequence[Row], command: str) -> None:
    """Make and prove the files of a student, and print what they score. Raises as ``export``."""
    from facedistill.export.__main__ import EXPORTS, report
    from facedistill.export.make import Wish, export
    from facedistill.export.subject import Subject

    config = run.config
    own = [f"cache_dir={config.cache_dir}", f"trainer.threads={config.trainer.threads}"]
    own.append(f"logger.mode={config.logger.mode}")
    scores = {title: teacher for title, teacher, _ in table}
    wish = Wish(
        formats,
        Path(EXPORTS) / run.name,
        command,
        pairs=config_of_pairs(pairs, run) if pairs else None,
        teacher_score=scores.get(ON_PAIRS),
    )
    subject = Subject.of_run(run.directory, own)
    report(subject, export(subject, wish), wish.folder)


def run_of(own: Mapping[str, str], others: Sequence[str]) -> Run:
    """The run that the words of this command ask for; ``others`` win over the recipe.

    Raises as ``plan``.
    """
    given = {word.partition("=")[0].lstrip("+~") for word in others}
    recipe = [word for word in (*RECIPE, ALL_CORES) if word.partition("=")[0] not in given]
    named = [*recipe, f"data.root={own['faces']}", f"teacher.weights={own['teacher']}", *others]
    known: Identities = {}  # of a large folder it takes a while
    teacher, size = plan(named, data=known).parents[TEACHER], size_of(own.get("size", "1MB"))
    own_network = any(key == "model" or key.startswith(("model.", "image.")) for key in given - {"model.features"})
    own_network |= "init" in given and "init=layers" not in others
    features = compose_config(named).network.get("features") if "model.features" in given else None
    if not own_network and (layers := layers_within(size, teacher, features)):
        epochs = [] if "schedule.epochs" in given else [EPOCHS_OF_LAYERS]
        return plan([*(word for word in named if word != "init=layers"), *layers, *epochs], data=known)
    if "image.resize" in given and "image.crop" not in given:
        resize = compose_config(named).image.resize
        named.append(f"image.crop={resize * 7 // 8}")
    if "model.features" not in given:
        named.append(f"model.features={width_of(teacher)}")
    config = compose_config(named)
    if "width" in config.network and "model.width" not in given:
        named.append(f"model.width={width_for(size, config)}")
    elif "size" in own and (found := int8_bytes(config.network, config.rate)) > size:
        raise ConfigError(f"size={own['size']}: this {config.network['name']} takes {found:,}. Leave out size=")
    return plan(named, data=known)


def check_placement(run: Run) -> None:
    """Say where the faces lie. Raises ``DataError`` where recognizers fail on them."""
    source = build_source(run.config.data)
    if isinstance(source, PhotoSource):
        count = len(source.inventory(Path(run.config.cache_dir).expanduser()).labels)
        print(f"Alignment: {judge_placement(source, count)}", flush=True)


def without_people_of(pairs: str, run: Run, own: Mapping[str, str], others: Sequence[str]) -> Run:
    """The run without the faces of people in the pairs; as it is where a list of these is given, or there are none."""
    source = build_source(run.config.data)
    if not isinstance(source, Photos) or source.leave_out:
        return run
    from facedistill.training.left_out import write_left_out

    files, count, cosine = write_left_out(run, source, config_of_pairs(pairs, run))
    say(
        f"{count:,} faces are left out, of people in the pairs: cosine with an image of them at least {cosine:.2f}"
        f"{''.join(f', {file}' for file in files if file)}"
    )
    if not count:
        return run
    named = [str(file) if file else "null" for file in files]
    word = f"data.leave_out={named[0] if len(named) == 1 else '[' + ','.join(named) + ']'}"
    return run_of(own, [*others, word])


def forecast(run: Run) -> str:
    """How many faces there are and about how long it takes, from a batch that teacher and student answer now."""
    import torch

    from facedistill.data.loading.augment import Augmentation
    from facedistill.models.network import build_network
    from facedistill.training.teachers import load_teacher

    config, parent = run.config, run.parents[TEACHER]
    torch.set_num_threads(config.trainer.threads)
    teacher, student = load_teacher(parent, 0, config.trainer.threads), build_network(config.network, config.rate)
    own = parent.pixels if isinstance(parent, WeightsFile) else None

    def trained(images: torch.Tensor) -> None:
        student(images).embedding.square().sum().backward()

    answer = _seconds(lambda images: teacher(images), (own or config.image).crop)
    augmentation = Augmentation(config.image.crop, config.seed, config.augment.name)
    step = _seconds(trained, config.image.crop) + _seconds_a_view(augmentation, config.image.resize)
    samples = build_source(config.data).samples(Path(config.cache_dir).expanduser())
    if samples is None:
        return ""
    test, train, epochs = int(samples.is_test.sum()), int((~samples.is_test).sum()), len(config.epoch_rates)
    answers = (2 if own else len(banked_views(config) or ())) * train + test
    return (
        f"{train:,} faces to train on and {test:,} to test on. The teacher answers {answers:,} times, once and for all "
        f"students: about {_minutes(answer * answers)}. {epochs} epoch{'s' * (epochs > 1)} of training: about "
        f"{_minutes(step * train * epochs)}"
    )


def _seconds(answer: Callable[[torch.Tensor], object], size: int) -> float:
    """Of one image of ``size`` × ``size`` pixels in a batch."""
    import torch

    images = torch.zeros(TIMED, 3, size, size, dtype=torch.uint8)
    answer(images)
    started = time.perf_counter()
    answer(images)
    return (time.perf_counter() - started) / TIMED


def _seconds_a_view(augmentation: Augmentation, size: int) -> float:
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    nowhere = np.zeros((0, 2), np.float32)
    started = time.perf_counter()
    for view in range(TIMED):
        augmentation(image, nowhere, 0, view)
    return (time.perf_counter() - started) / TIMED


def _minutes(seconds: float) -> str:
    return f"{max(1, round(seconds / 60)):,} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def config_of_pairs(root: str, run: Run) -> Config:
    """Of a folder like LFW's, read as the run reads its own."""
    config = compose_config(["data=lfw", f"data.root={root}"], trains=False)
    return replace(config, cache_dir=run.config.cache_dir, trainer=run.config.trainer)


def check_pairs(root: str, run: Run) -> None:
    """Raise ``DataError`` where a folder holds no pairs that can be scored, before anything is trained."""
    try:
        protocol_source(config_of_pairs(root, run).data).identity()
    except DataError as error:
        look = command_line(["data=lfw", f"data.root={root}"])
        raise DataError(f"pairs={root} can't be read as LFW is: facedistill data {look} says why") from error


def check_contract_on_pairs(root: str, run: Run) -> None:
    """Have the teacher show on pairs of people that its contract is right. Raises ``WeightsError`` where it is not."""
    parent = run.parents[TEACHER]
    assert isinstance(parent, WeightsFile)
    if not run.config.teacher.check or parent.image is not None:  # a file of ours says itself what it takes
        return
    from facedistill.training.contract_check import check_on_protocol

    check_on_protocol(parent, config_of_pairs(root, run), run.config.image)


def scored_on_pairs(run: Run, root: str) -> list[Row]:
    """Ten-fold accuracy on the pairs of LFW, mirror included."""
    from facedistill.training.pair_scores import pair_scores

    say(f"scoring both on the pairs of {root}")
    scores = pair_scores(run, config_of_pairs(root, run))
    of = {name: metrics["pairs"] for name, metrics in scores.items()}
    return [
        (ON_PAIRS, of["teacher"], of["student"]),
        ("probes of the student in the teacher's gallery, %", None, of["gallery"]),
    ]


def cost_of(run: Run, teacher: WeightsFile) -> tuple[float | None, float | None]:
    """Millions of weights of a run's teacher, and of its multiply-adds for a face; None: an ONNX file does not say."""
    if teacher.is_onnx:
        return None, None
    from facedistill.models.cost import multiply_adds
    from facedistill.models.load import load_network

    backbone = load_network(teacher.weights, teacher.network, key=teacher.key, identities=0).network.backbone
    weights = sum(part.numel() for part in backbone.parameters())
    crop = (teacher.pixels or run.config.image).crop
    return weights / 1e6, multiply_adds(backbone, crop, crop) / 1e6


def _print(run: Run, scores: Sequence[Row]) -> None:
    from rich.table import Table

    parent, record = run.parents[TEACHER], run.record
    assert isinstance(parent, WeightsFile)
    files = [parent.weights, *(parent.graph.files if parent.is_onnx else ())]
    of_teacher = sum(file.stat().st_size for file in files)
    weights, macs = cost_of(run, parent)
    rows: list[Row] = [("file, MB", of_teacher / 1e6, record.weights_bytes / 1e6)]
    rows.append(("with a byte a weight, MB", weights, record.params / 1e6))
    rows.append(("million multiply-adds a face", macs, record.macs / 1e6))
    table = Table("", "teacher", "student")
    for title, *values in (*rows, *scores):
        table.add_row(title, *("" if value is None else f"{value:.2f}" for value in values))
    Output().print_whole(table)
    print(f"The student is {shown(run.weights)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
