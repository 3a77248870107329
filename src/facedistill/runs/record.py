"""The record of a complete run: everything that a table, a figure or a person will ever ask of it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from facedistill.config.compose import missing_keys
from facedistill.config.schema import Cell, Config
from facedistill.errors import RunError
from facedistill.runs.typed_json import parsed
from facedistill.system.files import hash_of, read_text_file, write_json
from facedistill.system.text import shown

RECORD = "record.json"
LARGEST, LARGEST_WHOLE = 2.0**128, 2**53  # numbers in a record: a float32, and what every reader of JSON keeps exact
DEEPEST = 16  # values within values
_COUNTED = ("params", "params_with_classifier", "macs", "weights_bytes", "latency_ms", "seconds", "images_per_second")
OF_A_SWEEP = ("cells=", "experiments=", "group=")  # words that say in which sweep a run was made


@dataclass(frozen=True)
class Record:
    """What ``record.json`` holds.

    Attributes:
        role: ``teacher``, ``alone`` or ``student``: what it is in the paper's tables.
        overrides: the command-line words that asked for it.
        recipe: what the identity is the hash of.
        parents: names of the runs and files that it stands on, by role.
        metrics: final scores, % (thresholds: cosines); None: there is too little to compute them.
        teacher_score: of its teacher, in the metric of the teacher's task.
        history: a row an epoch.
        data: counts of what was found and left out, and of both sides of the split.
        params, params_with_classifier: of the backbone, and of all that was published.
        macs: multiply-adds of one image.
        latency_ms: of one image on the CPU.
        seconds: of training.
        target_weights: of every active term of the target, as it was trained.
        without: the pictures that could not be drawn, and why.
    """

    identity: str
    name: str
    role: str
    overrides: list[str]
    recipe: dict[str, Any]
    config: Config
    parents: dict[str, str]
    metrics: dict[str, float | None]
    history: list[dict[str, float]]
    data: dict[str, int]
    params: int
    params_with_classifier: int
    macs: int
    weights_bytes: int
    weights_sha256: str
    latency_ms: float
    seconds: float
    images_per_second: float
    versions: dict[str, str]
    device: dict[str, Any]
    group: str | None = None
    teacher_score: float | None = None
    target_weights: dict[str, float] = field(default_factory=dict)
    without: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, directory: Path) -> Record | None:
        """The record in a run's directory; None if the run is not complete.

        Raises:
            RunError: there is a file, but it is not a record, as its reason says.
        """
        path = directory / RECORD
        try:
            text = read_text_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise RunError(f"{path} can't be read ({error.strerror})") from error
        try:
            value = json.loads(text, parse_constant=_finite, parse_float=_finite, parse_int=_whole)
            _check_depth(value)
            record = parsed(Record, _without_surrogates(json.dumps(value, ensure_ascii=False)).encode())
            _check_open_parts(record)
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path} is not a record as this version writes it: {str(error)[:200]}") from error
        return record

    def write(self, directory: Path) -> None:
        """Write it whole or not at all: from then on the run is complete."""
        write_json(directory / RECORD, asdict(self))

    @cached_property
    def cell(self) -> Cell:
        return self.config.cell

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def data_name(self) -> str:
        name: str = self.config.data["name"]
        return name

    @property
    def model_name(self) -> str:
        """The name of the architecture that it trained."""
        name: str = self.config.network["name"]
        return name

    @property
    def metric(self) -> str:
        return self.config.task.metric

    @property
    def score(self) -> float | None:
        return self.metrics.get(self.metric)

    @property
    def scores(self) -> dict[str, float]:
        """The metrics that could be computed."""
        return {name: value for name, value in self.metrics.items() if value is not None}

    @property
    def version(self) -> int:
        """Runs of other versions of the results are not comparable."""
        version: int = self.recipe["version"]
        return version

    @cached_property
    def cell_key(self) -> str:
        """What runs have in common that differ in nothing but their seed."""
        return hash_of({key: value for key, value in self.recipe.items() if key not in ("seed", "parents")})

    @cached_property
    def cell_options(self) -> str:
        """What a cell may have of its own beside its axes: the weights of its target, its batch, its learning rates."""
        return hash_of([self.recipe.get(part) for part in ("target", "task", "learning_rates")])

    @cached_property
    def setting(self) -> str:
        """What all cells of a table have in common: data, images, networks, schedule, and how they are computed."""
        config = self.config
        shared = ("version", "data", "image", "augment", "optimizer", "precision", "threads")
        parts = [self.recipe.get(part) for part in shared]
        rates = {name: asdict(rates) for name, rates in config.learning_rates.items()}
        networks = [config.model, config.teacher.model]
        return hash_of([*parts, asdict(config.schedule), rates, config.batch_sizes, *networks])

    @property
    def teacher_views(self) -> str:
        """How the teachers of its chain answered: from which views and type of bank, or live; empty if it has none."""
        return f"{self.config.target.views} {self.config.target.bank}" if self.parents else ""

    @property
    def run_parents(self) -> list[str]:
        """The names of the runs that it stands on; not the files from elsewhere."""
        identities = self.recipe["parents"]
        return [name for role, name in self.parents.items() if name.endswith(f"-{identities.get(role)}")]

    @property
    def own_words(self) -> list[str]:
        """Its words without those that say in which sweep it was made."""
        return [word for word in self.overrides if not word.startswith(OF_A_SWEEP)]


def _without_surrogates(text: str) -> str:
    """A path that is not UTF-8 has lone surrogates, which no other reader of JSON takes: they are escaped."""
    return re.sub("[\ud800-\udfff]", lambda found: json.dumps(shown(found[0]))[1:-1], text)


def _check_open_parts(record: Record) -> None:
    """Raise ``ValueError`` where a part that may hold anything lacks what every record has."""
    config, recipe = record.config, record.recipe
    for key in missing_keys(config):
        raise ValueError(f"config.{key} is missing")
    for node in (config.data, config.model, config.teacher.model):
        if not isinstance(node.get("name"), str):
            raise ValueError("config.data, config.model or config.teacher.model has no name")
    for role, teacher in config.teachers.items():
        if not isinstance(teacher.get("model", {}), dict):
            raise ValueError(f"config.teachers.{role}.model is not a model")
        config.contract_of(role)
    parents = recipe.get("parents")
    if type(recipe.get("version")) is not int or not isinstance(parents, dict):
        raise ValueError("recipe has no version, or no parents")
    if not all(isinstance(identity, str) for identity in parents.values()):
        raise ValueError("recipe.parents are not identities")
    for name in _COUNTED:
        if getattr(record, name) < 0:
            raise ValueError(f"{name} is negative")


def _check_depth(value: Any, depth: int = 0) -> None:
    """Raise ``ValueError`` where values are nested deeper than in any record."""
    if depth > DEEPEST:
        raise ValueError("its values are nested too deeply")
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_depth(part, depth + 1)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    if abs(value) > LARGEST:
        raise ValueError(f"{text} is larger than any number of a run")
    return value


def _whole(text: str) -> int:
    value = int(text)
    if abs(value) > LARGEST_WHOLE:
        raise ValueError(f"a number of {len(text)} digits is larger than any of a run")
    return value


def by_cell(records: Iterable[Record]) -> dict[str, list[Record]]:
    """The records that differ in nothing but their seed, by their ``cell_key``."""
    cells: dict[str, list[Record]] = {}
    for record in records:
        cells.setdefault(record.cell_key, []).append(record)
    return cells
