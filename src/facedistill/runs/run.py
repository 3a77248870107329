"""A run as a value: its identity, its directory, its record.

Same identity, same directory. A run is complete when its record is there: it is written by rename, as the very last
act.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from facedistill.config.groups import ImageConfig
from facedistill.config.recognizer import ContractConfig, TeacherConfig
from facedistill.config.schema import Config
from facedistill.errors import RunError, WeightsError
from facedistill.model_files.file_kinds import check_kind
from facedistill.model_files.onnx_file import OnnxGraph, read_onnx
from facedistill.runs.identity import numbers_of, recipe_of
from facedistill.runs.record import Record
from facedistill.system.files import (
    hash_of,
    process_in,
    read_text_file,
    remove_parts,
    sha256,
    this_process,
    write_json,
)
from facedistill.system.text import shown

_OUTPUT_LAYER = re.compile(r"(^|[._])(fc|head|classifier|logits)\.weight$")
OWNER = "owner.json"  # in a run's directory: which process trains it, or began to
WEIGHTS, CHECKPOINT, LOCK, HISTORY, LOG = "weights.safetensors", "last.ckpt", "lock", "metrics.csv", "log.txt"


@dataclass(frozen=True)
class WeightsFile:
    """A network from elsewhere, in the place of a run.

    ``model``: its architecture, a ``conf/model`` node; empty where the file says it, or where it is the run's own.
    ``config``: of the run in whose place it stands, where there is one.
    ``key``: that of ``model`` in a configuration.
    ``contract``: what it takes.
    ``image``: the pixels that a run of ours was trained on, where it is to see these and not its students'.

    Raises ``WeightsError`` if there is no such file, or one of another kind.
    """

    weights: Path
    model: Mapping[str, Any] = field(default_factory=dict)
    config: Config | None = None
    key: str = "teacher.model"
    contract: ContractConfig = field(default_factory=ContractConfig)
    image: ImageConfig | None = None

    @classmethod
    def imitated(cls, teacher: TeacherConfig) -> WeightsFile:
        """The recognizer that a student imitates: a file, or the directory of a run, which says all of itself."""
        assert teacher.weights is not None
        path = Path(teacher.weights)
        path = path / WEIGHTS if path.is_dir() else path
        check_kind(path, takes_onnx=True)
        about = _about(path)
        model = {} if {"model", "rate"} <= about.keys() else teacher.model
        image = _image(path, about["image"]) if "image" in about else None
        return cls(path, model, contract=teacher.contract, image=image)

    @property
    def pixels(self) -> ImageConfig | None:
        """The pixels of a face that it sees, whatever its students do; None: theirs."""
        return self.contract.image or self.image

    def __post_init__(self) -> None:
        check_kind(self.weights, takes_onnx=True)

    @cached_property
    def is_onnx(self) -> bool:
        return check_kind(self.weights, takes_onnx=True)

    @property
    def network(self) -> Mapping[str, Any]:
        """Its architecture, normalizing as its contract says; empty where the file says it all."""
        return {} if self.is_onnx else self.contract.of_model(self.model)

    @property
    def contract_key(self) -> str:
        return f"{self.key.removesuffix('model')}contract"

    @cached_property
    def graph(self) -> OnnxGraph:
        """Of an ONNX file. Raises as ``read_onnx``."""
        return read_onnx(self.weights)

    @cached_property
    def particulars(self) -> list[Any]:
        """What decides its answers beside its bytes and its architecture; empty for most."""
        numbers = [self.contract.numbers] if self.contract.numbers else []
        numbers += [asdict(self.image)] if self.image and self.pixels == self.image else []
        return [*numbers, *(sha256(file) for file in (self.graph.files if self.is_onnx else ()))]

    @cached_property
    def identity(self) -> str:
        return hash_of([sha256(self.weights), numbers_of(self.network), *self.particulars])

    @cached_property
    def tensor_names(self) -> frozenset[str]:
        """What the header of a safetensors file names; empty for other files, which only torch reads."""
        from safetensors import safe_open  # late: few plans have such a file

        try:
            with safe_open(self.weights, framework="numpy") as file:
                return frozenset(file.keys())
        except Exception:  # a stranger's file: whoever loads it says what is wrong with it
            return frozenset()

    @property
    def may_classify(self) -> bool:
        """Whether its tensors' names are like those of a classifier, or only torch can tell."""
        if self.is_onnx:
            return False
        names = self.tensor_names
        own = 1 if self.model.get("features") else 0  # the last layer of the network is its embedding
        return not names or sum(bool(_OUTPUT_LAYER.search(name)) for name in names) > own

    @property
    def name(self) -> str:
        """How it is shown in a plan."""
        return str(self.weights)

    is_complete = True


def refuse_bands(weights: Path, about: Mapping[str, Any]) -> None:
    """Raise ``WeightsError`` where a file says of itself that it is of a network that sees no whole faces."""
    if about.get("bands"):
        raise WeightsError(
            f"{weights} is of task=periocular: it sees the band about the eyes alone, and is asked about whole faces. "
            "Name a recognizer of faces"
        )


def _about(path: Path) -> dict[str, Any]:
    """What a safetensors file of ours says of itself; empty for others."""
    from safetensors import safe_open  # late: few plans have such a file

    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {})["facedistill"])
    except Exception:  # a stranger's file: whoever loads it says what is wrong with it
        return {}
    return about if isinstance(about, dict) else {}


def _image(path: Path, said: Any) -> ImageConfig:
    """Raises ``WeightsError`` for what is no size of images."""
    try:
        image = ImageConfig(**said)
        wrong = next(image.complaints(), None) or not all(type(side) is int for side in said.values())
    except TypeError:
        wrong = True
    if wrong:
        raise WeightsError(f"{path} says that it takes images of {shown(said)}, which is no size: it is damaged")
    return image


@dataclass(frozen=True)
class Run:
    """One cell, with the runs it stands on by their role (``teacher``, ``init``).

    ``words``: the command-line words that ask for it; ``data``: the identity of its data source.
    """

    config: Config
    words: tuple[str, ...]
    data: Mapping[str, Any]
    parents: Mapping[str, Run | WeightsFile]

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """Everything that changes the result, as plain values."""
        return recipe_of(self.config, self.data, {role: parent.identity for role, parent in self.parents.items()})

    @cached_property
    def identity(self) -> str:
        return hash_of(self.recipe)

    @property
    def name(self) -> str:
        """Every axis of the sweep, and the identity."""
        return "-".join([*self.config.axes, self.config.data["name"], f"s{self.config.seed}", self.identity])

    @property
    def title(self) -> str:
        """The axes in a few words, for a line that shows progress."""
        return " ".join([*self.config.axes, f"s{self.config.seed}"])

    @property
    def directory(self) -> Path:
        return Path(self.config.runs_dir) / self.name

    @property
    def weights(self) -> Path:
        """The published network, safetensors."""
        return self.directory / WEIGHTS

    @property
    def checkpoint(self) -> Path:
        """The state at the end of the last whole epoch; removed once the run is complete."""
        return self.directory / CHECKPOINT

    @property
    def lock(self) -> Path:
        """Held by the process that trains the run."""
        return self.directory / LOCK

    def claim(self) -> None:
        """Write down which process trains the run and by which words, for those that wait for it or find it unfinished.

        To be called by the holder of the lock: what another left half-written when it was killed is removed.
        """
        remove_parts(self.directory)
        owner = {
            **this_process(),
            "words": list(self.words),
            "parents": {role: parent.name for role, parent in self.parents.items()},
        }
        write_json(self.directory / OWNER, owner)

    def forget(self) -> None:
        """Remove the directory of a run that was refused before its first epoch: there is nothing to finish.

        To be called by the holder of the lock. What else lies in the directory, as the log of a job, is kept.
        """
        if not any((self.directory / name).exists() for name in (HISTORY, CHECKPOINT)):
            for name in (OWNER, LOCK):
                (self.directory / name).unlink(missing_ok=True)
            with suppress(OSError):
                self.directory.rmdir()

    @property
    def owner(self) -> str:
        """Which process trains the run, as far as it is known, and for how long."""
        return process_in(self.directory / OWNER)

    @property
    def is_complete(self) -> bool:
        try:
            record = Record.read(self.directory)
        except RunError:
            return False
        return record is not None and record.identity == self.identity

    @property
    def record(self) -> Record:
        record = Record.read(self.directory)
        assert record is not None, f"{self.name} is not complete"
        return record

    @property
    def role(self) -> str:
        """``teacher``, ``alone`` or ``student``: what it is in the paper's tables."""
        if self.config.is_teacher:
            return "teacher"
        return "student" if self.parents else "alone"


def read_history(directory: Path) -> list[dict[str, float]]:
    """The rows so far, for as long as they are whole; none where there is no file."""
    rows: list[dict[str, float]] = []
    try:
        lines = read_text_file(directory / HISTORY).decode(errors="replace").splitlines()
        for row in csv.DictReader(lines):  # a cell is empty where an epoch was not scored
            rows.append({name: float(value) for name, value in row.items() if value != ""})
    except (OSError, csv.Error, ValueError, TypeError, AttributeError):
        pass  # no file, or one that a person has changed
    return rows
