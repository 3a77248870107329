"""Records of runs that nobody trained, and those of a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facedistill.runs.record import RECORD, Record
from facedistill.runs.run import Run


def record_of(run: Run, **changes: Any) -> Record:
    """The record of a run as if it had been trained; ``changes`` replace some of it."""
    fields: dict[str, Any] = {
        "identity": run.identity,
        "name": run.name,
        "role": run.role,
        "overrides": list(run.words),
        "recipe": run.recipe,
        "config": run.config,
        "parents": {role: parent.name for role, parent in run.parents.items()},
        "metrics": {run.config.task.metric: 50.0},
        "history": [],
        "data": {"train": 8, "test": 2},
        **dict.fromkeys(("params", "params_with_classifier", "macs", "weights_bytes"), 1),
        **dict.fromkeys(("latency_ms", "seconds", "images_per_second"), 1.0),
        "weights_sha256": "",
        "versions": {},
        "device": {},
    }
    return Record(**{**fields, **changes})


def complete(run: Run, title: str = "", **changes: Any) -> None:
    """Write the record, as training would in the end."""
    record_of(run, **changes).write(run.directory)


def all_records(runs_dir: Path) -> Sequence[Record]:
    """Of all complete runs in a folder, in the order of their names."""
    found = [Record.read(path.parent) for path in sorted(runs_dir.glob(f"*/{RECORD}"))]
    return [record for record in found if record is not None]
