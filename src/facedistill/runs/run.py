"""A run as a value: its identity, its directory, its record.

The identity hashes what changes the result (task, data, model, rate, initialization, target, schedule, seed, and
the identities of the runs it stands on), not where or how it is executed. Same identity, same directory. A run is
complete when its record is there: it is written by rename, as the very last act.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from facedistill.config.schema import Config
from facedistill.data.loading.view_schedule import banked_views
from facedistill.errors import WeightsError
from facedistill.system.files import hash_of, remove_parts, sha256, write_json

# Raised whenever a change of the code changes the numbers that a configuration gives.
RESULTS_VERSION = 3
MAKER = "maker.json"  # in a run's directory: who makes it, or began to


@dataclass(frozen=True)
class WeightsFile:
    """A finished network from elsewhere, in the place of a run.

    ``config``: of the run in whose place it stands; none for a bare backbone.
    """

    weights: Path
    config: Config | None = None

    @cached_property
    def identity(self) -> str:
        """The hash of its bytes.

        Raises:
            WeightsError: there is no such file.
        """
        if not self.weights.is_file():
            raise WeightsError(f"{self.weights} does not exist")
        return sha256(self.weights)[:12]

    @property
    def name(self) -> str:
        """How it is shown in a plan."""
        return str(self.weights)

    is_complete = True


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
        config, views = self.config, banked_views(self.config)
        task = {
            key: getattr(config.task, key)
            for key in ("name", "batch_size", "softmax", "images_per_identity", "options")
            if getattr(config.task, key) not in (None, {})
        }
        schedule = asdict(config.schedule)
        return {
            "version": RESULTS_VERSION,
            "task": task,
            "data": dict(self.data),
            "image": asdict(config.image),
            "model": config.network,
            "rate": config.rate,
            "init": config.init.name,
            "target": config.target.active(),
            # a number where every epoch has a view of its own
            **({"bank": [views if min(views) < 0 else len(views), config.target.bank]} if views else {}),
            "teacher_model": config.teacher.model if self.parents.keys() & {"teacher", "recognizer"} else None,
            "learning_rates": config.epoch_rates,
            "optimizer": {key: schedule[key] for key in ("momentum", "weight_decay")},
            "precision": config.trainer.precision,
            "threads": config.trainer.threads,
            **{name: True for name in ("compile", "sync_batchnorm") if getattr(config.trainer, name)},
            "seed": config.seed,
            "parents": {role: parent.identity for role, parent in self.parents.items()},
        }

    @cached_property
    def identity(self) -> str:
        """Twelve hex digits."""
        return hash_of(self.recipe)

    @property
    def name(self) -> str:
        """Every axis of the sweep, and the identity."""
        return "-".join([*self._axes, self.config.data["name"], f"s{self.config.seed}", self.identity])

    @property
    def title(self) -> str:
        """The axes in a few words, for a line that shows progress."""
        return " ".join([*self._axes, f"s{self.config.seed}"])

    @property
    def _axes(self) -> list[str]:
        config = self.config
        axes = [config.task.name + ("-softmax" if config.task.softmax else ""), f"r{config.rate}"]
        return axes if config.task.name in ("teacher", "hint") else [*axes, config.init.name, config.target.name]

    @property
    def directory(self) -> Path:
        """Where everything of the run is kept."""
        return Path(self.config.runs_dir) / self.name

    @property
    def weights(self) -> Path:
        """The published network, safetensors."""
        return self.directory / "weights.safetensors"

    @property
    def checkpoint(self) -> Path:
        """The state at the end of the last whole epoch; removed once the run is complete."""
        return self.directory / "last.ckpt"

    @property
    def lock(self) -> Path:
        """Held by the process that makes the run."""
        return self.directory / "lock"

    def claim(self) -> None:
        """Say who makes the run, and by which words: for those who wait for it, and for who finds it unfinished.

        To be called by who holds the lock: what another left half-written when it was killed is removed.
        """
        remove_parts(self.directory)
        made_by = {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "since": time.time(),
            "words": list(self.words),
            "parents": {role: parent.name for role, parent in self.parents.items()},
        }
        write_json(self.directory / MAKER, made_by)

    @property
    def maker(self) -> str:
        """Who makes the run, as far as it was said, and for how long."""
        told = read_json_object(self.directory / MAKER) or {}
        try:
            return f"process {told['process']} on {told['host']}, for {max(0.0, time.time() - told['since']):.0f} s"
        except (KeyError, TypeError):
            return "another process"

    @property
    def is_complete(self) -> bool:
        """Whether the record is there."""
        return read_record(self.directory) is not None

    @property
    def record(self) -> dict[str, Any]:
        """The record of a complete run."""
        record = read_record(self.directory)
        assert record is not None, f"{self.name} is not complete"
        return record

    def complete(self, record: Mapping[str, Any]) -> None:
        """Write the record: from now on the run is complete."""
        write_json(self.directory / "record.json", record)

    @property
    def role(self) -> str:
        """teacher, alone, or student: what it is in the paper's tables."""
        if self.config.is_teacher:
            return "teacher"
        return "student" if self.parents else "alone"


def read_record(directory: Path) -> dict[str, Any] | None:
    """The record in a run directory; None if the run is not complete (or its record is no JSON object)."""
    return read_json_object(directory / "record.json")


def read_json_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None if there is no such file, or no object in it."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def all_records(runs_dir: Path) -> list[dict[str, Any]]:
    """The records of all complete runs, in the order of their names."""
    found = [read_record(path.parent) for path in sorted(runs_dir.glob("*/record.json"))]
    return [record for record in found if record is not None]


if __name__ == "__main__":
    from facedistill.runs.__main__ import main

    sys.exit(main(sys.argv[1:]))
