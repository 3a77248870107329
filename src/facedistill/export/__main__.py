"""Make model files of a network, each proven in its own runtime, in a folder that an application ships.

facedistill export run=RUN_DIR [format=onnx,onnx-int8] [pairs=LFW] [KEY=VALUE ...]
facedistill export experiments=table1 [runs_dir=runs] [format=onnx,onnx-int8] [KEY=VALUE ...]

  facedistill export run=runs/NAME format=onnx,onnx-int8
  facedistill export run=runs/NAME format=onnx,onnx-int8 pairs=/path/to/lfw name=student
  facedistill export weights=FILE model.name=edgenext_x_small model.features=512 contract=edgeface \\
      format=onnx,onnx-int8 pairs=/path/to/lfw faces=FOLDER data.alignment=detect
  facedistill export experiments=table1 format=onnx,onnx-int8
  facedistill report                                          what they score and take, side by side

run= is a finished run of any task; weights= a recognizer of timm, by its contract, as `facedistill evaluate` takes it.
format= names formats: {formats}. The folder, exports/NAME (out=exports, name=the run's), holds the files, contract.json
(what a program has to know), card.md, LICENCES.md, and for a classifier labels.txt.

Each file is scored again in its own runtime, beside the network: on pairs= (a folder like LFW's) or on the test split
of its data. One that loses more than 0.1 points, int8 0.5, is refused; tolerance=1 allows a point. Quantized files are
calibrated on faces that the network was trained on: calibrate=256 of them; faces=FOLDER where a file came without any.
Latency is that of one image alone, on one thread (threads=1).

pixel=uint8 takes pixels as they are, instead of (x − 127.5) / 127.5. normalize=true gives an embedding of length 1
instead of the embedding as it is. licence=NAME is that of the card. Further words say where the data are now:
data.root=FOLDER. What was interrupted goes on with the files that are proven already.

experiments= takes every finished student of a table or of another group of runs, one after the other; runs_dir= alone
takes all students of a folder. One that is refused does not stop the others (exit status 2), and an export that is
there already is left as it is: remove its folder to have it made again. The export of a run that Weights & Biases knows
is an artifact of that run; logger.mode=offline asks no server.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facedistill.cli import ALL_CORES, run_command, split_words
from facedistill.config.compose import compose_config
from facedistill.errors import ConfigError
from facedistill.system.cores import MOST_THREADS
from facedistill.system.signals import stop_on_signals
from facedistill.system.terminal import Output
from facedistill.system.text import command_line, shown

if TYPE_CHECKING:  # torch takes seconds, and --help needs none
    from facedistill.export.subject import Subject
    from facedistill.runs.exported import Exported

_OWN = (
    *("run", "weights", "experiments", "runs_dir", "format", "pairs", "faces", "out", "name", "calibrate", "tolerance"),
    *("threads", "pixel", "normalize", "licence"),
)
EXPORTS, FORMATS = "exports", "onnx,onnx-int8"
_MOST = 1_000_000


def main(words: Sequence[str]) -> int:
    names = ", ".join(sorted(path.stem.replace("_", "-") for path in Path(__file__).parent.glob("formats/[!_]*.py")))
    return run_command(words, (__doc__ or "").format(formats=names), _export, bare=False)


def _export(words: list[str]) -> int:
    stop_on_signals()
    own, others = split_words(words, _OWN)
    several = "experiments" in own or "runs_dir" in own
    if ("run" in own) + ("weights" in own) + several != 1:
        raise ConfigError(
            "name one network: run=RUN_DIR, a finished run, or weights=FILE with its contract=NAME; or every student "
            "of a table: experiments=table1"
        )
    if several:
        return _export_many(words, own)
    if "run" in own:
        from facedistill.runs.finished import finished

        finished(Path(own["run"]))  # at once, before torch
    formats, asked = _formats(own), _asked(own)
    from facedistill.export.make import Wish, export

    subject = _subject(own, others)
    folder = Path(own.get("out", EXPORTS)) / _folder(own.get("name", subject.name))
    wish = Wish(formats, folder, f"facedistill export {command_line(words)}", **asked)
    report(subject, export(subject, wish), wish.folder)
    return 0


def report(subject: "Subject", exported: "Exported", folder: Path) -> None:
    """Print what an export holds, and add it to its run in Weights & Biases, where that is there."""
    print_export(exported, folder)
    if subject.record is not None and subject.record.config.logger.wandb and subject.config.logger.wandb:
        from facedistill.tracking.wandb_export import log_export  # late: W&B takes seconds

        log_export(subject.file.parent, subject.record, exported, folder, subject.config.logger.mode)


def _export_many(words: Sequence[str], own: Mapping[str, str]) -> int:
    from facedistill.export.many import export_each, students

    if "name" in own:
        raise ConfigError("name= is for one export: each of several has the name of its run; out=FOLDER is theirs")
    chosen = students(Path(own.get("runs_dir", "runs")), _listed(own.get("experiments", "")))
    formats = _formats(own)
    theirs = [word for word in words if word.partition("=")[0] not in ("experiments", "runs_dir")]
    return export_each(chosen, formats, Path(own.get("out", EXPORTS)), lambda run: _export([*run, *theirs]))


def print_export(exported: "Exported", folder: Path) -> None:
    """The table of files, and what to do next."""
    from rich.table import Table

    judged = exported.judged
    drawn = Table(
        "", "format", "MB", f"{judged.metric}, %", "cosine with the network", "ms, median", "ms, 95th percentile"
    )
    drawn.add_row("the network in torch", "", f"{4 * exported.params / 1e6:.2f}", f"{judged.score:.2f}", "", "", "")
    for model in (*exported.files, *exported.teacher):
        numbers = ((model.score, 2), (model.cosine, 4), (model.median_ms, 2), (model.p95_ms, 2))
        whose = "" if model in exported.files else "teacher: "
        cells = ["" if value is None else f"{value:.{digits}f}" for value, digits in numbers]
        drawn.add_row(f"{whose}{shown(model.file)}", model.format, f"{model.bytes / 1e6:.2f}", *cells)
    Output().print_whole(drawn)
    for model in exported.files:
        if model.note:
            print(f"{model.file}: {model.note}")
    print(f"on {judged.of}; a face at a time, threads={exported.threads}, {exported.processor}")
    photos = "one.jpg other.jpg" if exported.kind == "embedding" else "photo.jpg"
    print(f"The export is {shown(folder)}. Try it: facedistill predict model={command_line([str(folder)])} {photos}")


def _subject(own: Mapping[str, str], others: Sequence[str]) -> "Subject":
    from facedistill.export.subject import Subject

    if "run" in own:
        if "faces" in own:
            raise ConfigError(
                "faces= is for weights=FILE: a run knows its faces; data.root=FOLDER says where they are now"
            )
        return Subject.of_run(Path(own["run"]), others)
    from facedistill.evaluate import recognizer
    from facedistill.export.subject import NOWHERE

    named = any(word.startswith("data.root=") for word in others)
    roots = [] if named else [f"data.root={own.get('faces', NOWHERE)}"]
    file, config = recognizer(
        own["weights"], ["data=photos", "task=embed", "target=cosine", "rate=1", *roots, ALL_CORES, *others]
    )
    return Subject.of_file(file, config)


def _asked(own: Mapping[str, str]) -> dict[str, Any]:
    """What is asked of an export beside its formats, see ``Wish``."""
    if "name" in own:
        _folder(own["name"])
    return {
        "pixel": _one_of(own, "pixel", ("float32", "uint8")),
        "normalized": _one_of(own, "normalize", ("false", "true")) == "true",
        "pairs": compose_config(["data=lfw", f"data.root={own['pairs']}"], trains=False) if "pairs" in own else None,
        "calibrate": _count(own, "calibrate", 256, _MOST),
        "tolerance": _points(own["tolerance"]) if "tolerance" in own else None,
        "threads": _count(own, "threads", 1, MOST_THREADS),
        "licence": _licence(own.get("licence", "other")),
    }


def _licence(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name):
        raise ConfigError(f"licence={name} must be named as on Hugging Face: apache-2.0, mit, cc-by-nc-4.0, other, …")
    return name


def _formats(own: Mapping[str, str]) -> list[str]:
    """Those that are asked for, each of which can be made here."""
    from facedistill.export.format import named

    formats = _listed(own.get("format", FORMATS))
    if not formats:
        raise ConfigError(f"format= names no format: format={FORMATS}")
    for name in formats:
        named(name)
    return formats


def _folder(name: str) -> str:
    if name in ("", ".", "..") or Path(name).name != name or shown(name) != name:
        raise ConfigError(f"name={name} must be the name of a folder, in out=FOLDER")
    return name


def _listed(text: str) -> list[str]:
    return [name for name in text.strip("[]").split(",") if name]


def _count(own: Mapping[str, str], key: str, default: int, most: int) -> int:
    text = own.get(key, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 8 and 1 <= int(text) <= most):
        raise ConfigError(f"{key}={text} must be a whole number from 1 to {most}")
    return int(text)


def _points(text: str) -> float:
    try:
        points = float(text)
    except ValueError:
        points = -1.0
    if not 0 <= points <= 100:
        raise ConfigError(f"tolerance={text} must be a number of points, from 0 to 100")
    return points


def _one_of(own: Mapping[str, str], key: str, choices: Sequence[str]) -> str:
    value = own.get(key, choices[0])
    if value not in choices:
        raise ConfigError(f"{key}={value}: choices are {', '.join(choices)}")
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
