"""What is in runs/: which runs are complete, being made, or cut; what depends on them; whether they are whole.

python -m facedistill.runs                    every run: state, who makes it, epochs, metric, age
python -m facedistill.runs stale              those that were begun and nobody makes: how to finish or remove them
python -m facedistill.runs remove NAME …      remove runs; what other complete runs stand on, with dependents=true
python -m facedistill.runs verify [NAME …]    whether records, weights and ancestors of complete runs fit together

A NAME is that of a folder in runs/, or a pattern in quotes: 'classify-r8-*'. runs_dir=FOLDER looks elsewhere.

Exit status 0: as it should be; 1: verify found a fault; 2: the command was not understood, or refused.
"""

from __future__ import annotations

import csv
import difflib
import json
import shlex
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console
from rich.table import Table

from facedistill.errors import FacedistillError, RunError, WeightsError
from facedistill.files import hash_of, sha256
from facedistill.runs import MAKER, read_record

COMPLETE, MADE, CUT = "complete", "being made", "cut"
_PARTS = {"record.json", "last.ckpt", "lock", MAKER, "metrics.csv", "weights.safetensors", "log.txt"}  # of a run


@dataclass(frozen=True)
class Found:
    """A run's directory and what it tells.

    Attributes:
        maker: host, process and words of who makes it or began to, where it said so.
        record: of a complete run.
        rows: of its history.
        changed: when anything of it was last written, seconds since 1970.
    """

    directory: Path
    state: str
    maker: dict[str, Any]
    record: dict[str, Any] | None
    rows: list[dict[str, str]]
    changed: float

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def metric(self) -> str:
        """The score of its task, or of its last epoch."""
        try:
            if self.record is not None:
                name = self.record["config"]["task"]["metric"]
                return f"{name} {self.record['metrics'][name]:.2f}"
        except (KeyError, TypeError, ValueError):
            return "unreadable: see verify"
        scores = [f"{key.removeprefix('test/')} {float(value):.2f}" for key, value in self._last if value]
        return scores[0] if scores else ""

    @property
    def _last(self) -> list[tuple[str, str]]:
        return [(key, value) for key, value in self.rows[-1].items() if key.startswith("test/")] if self.rows else []

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.directory.rglob("*") if path.is_file())

    @property
    def ancestors(self) -> list[str]:
        """The names of the runs it stands on, where it is complete."""
        return list(self.record.get("parents", {}).values()) if self.record else []


def find_runs(runs_dir: Path) -> list[Found]:
    """Every directory that is a run, by name.

    Raises:
        RunError: there is no such folder.
    """
    if not runs_dir.is_dir():
        raise RunError(f"runs_dir={runs_dir} does not exist")
    folders = [path for path in sorted(runs_dir.iterdir()) if path.is_dir()]
    return [_found(folder) for folder in folders if _PARTS & {path.name for path in folder.iterdir()}]


def _found(directory: Path) -> Found:
    record = read_record(directory)
    state = COMPLETE if record else MADE if _is_held(directory / "lock") else CUT
    try:
        maker = json.loads((directory / MAKER).read_text())
    except (OSError, ValueError):
        maker = {}
    try:
        with (directory / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, csv.Error):
        rows = []
    times = [path.stat().st_mtime for path in directory.iterdir() if path.name != "lock"]
    made = (directory / "record.json").stat().st_mtime if record else max(times, default=directory.stat().st_mtime)
    return Found(directory, state, maker if isinstance(maker, dict) else {}, record, rows, made)


def _is_held(lock: Path) -> bool:
    if not lock.exists():
        return False
    try:
        with FileLock(lock).acquire(timeout=0):
            return False
    except Timeout:
        return True


def chosen(runs: Sequence[Found], names: Sequence[str]) -> list[Found]:
    """The runs of names or patterns.

    Raises:
        RunError: one of them matches nothing; says what is near.
    """
    for name in names:
        if not any(fnmatch(run.name, name) for run in runs):
            near = difflib.get_close_matches(name, [run.name for run in runs], 3, 0.3)
            raise RunError(f"there is no run {name}" + (f". Near: {', '.join(near)}" if near else ""))
    return [run for run in runs if any(fnmatch(run.name, name) for name in names)]


def dependents(runs: Sequence[Found], of: Iterable[str]) -> set[str]:
    """The complete runs that stand on some, directly or not, by name."""
    found, new = set(of), set(of)
    while new:
        new = {run.name for run in runs if new & set(run.ancestors)} - found
        found |= new
    return found - set(of)


def remove(runs: Sequence[Found], names: Sequence[str], with_dependents: bool) -> list[str]:
    """Remove runs; the record goes first, so that what is left of a cut removal is no complete run.

    Raises:
        RunError: one is being made, or complete runs stand on one.
    """
    if not names:
        raise RunError("name the runs to remove: `python -m facedistill.runs` lists them")
    named = {run.name for run in chosen(runs, names)}
    standing = dependents(runs, named)
    if standing and not with_dependents:
        raise RunError(
            f"complete runs stand on these: {', '.join(sorted(standing))}. To remove them too: dependents=true"
        )
    doomed = [run for run in runs if run.name in named | standing]
    if busy := [run.name for run in doomed if run.state == MADE]:
        raise RunError(f"{busy[0]} is being made: stop its process first")
    for run in doomed:
        (run.directory / "record.json").unlink(missing_ok=True)
        shutil.rmtree(run.directory)
    return [run.name for run in doomed]


def faults(run: Found, runs: Sequence[Found]) -> list[str]:
    """What does not fit together in a complete run; nothing, if all does."""
    from facedistill.models.weights import read_weights  # torch takes seconds

    record = run.record
    assert record is not None
    missing = [key for key in ("identity", "name", "recipe", "config", "parents", "metrics") if key not in record]
    if missing:
        return [f"record.json has no {', '.join(missing)}"]
    found = []
    if hash_of(record["recipe"]) != record["identity"]:
        found.append("its identity is not the hash of its recipe: record.json was changed")
    if record["name"] != run.name or not run.name.endswith(record["identity"]):
        found.append(f"its record is that of {record['name']}: the folder was renamed")
    weights = run.directory / "weights.safetensors"
    try:
        tensors, about = read_weights(weights)
    except WeightsError as error:
        return [*found, str(error)]
    if record.get("weights_sha256", sha256(weights)) != sha256(weights):
        found.append("weights.safetensors is not what the run wrote: its SHA-256 is another")
    if about.get("run") not in (None, record["identity"]):
        found.append(f"weights.safetensors is that of run {about['run']}")
    if weights.stat().st_size != record.get("weights_bytes", weights.stat().st_size):
        found.append(f"weights.safetensors has {weights.stat().st_size} bytes, not {record['weights_bytes']}")
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        found.append("weights.safetensors holds a number that is not finite")
    for role, name in record["parents"].items():
        parent = next((other.record for other in runs if other.name == name and other.record), None)
        if parent is not None and parent.get("identity") != record["recipe"].get("parents", {}).get(role):
            found.append(f"its {role}, {name}, is not the run that it was made with")
    return found


def _table(runs: Sequence[Found], console: Console) -> None:
    table = Table("run", "state", "by", "epochs", "metric", "age", box=None)
    for column in table.columns:
        column.no_wrap = True
    for run in runs:
        by = f"{run.maker.get('host', '?')}:{run.maker.get('process', '?')}" if run.state == MADE and run.maker else ""
        table.add_row(run.name, run.state, by, str(len(run.rows) or ""), run.metric, _age(run.changed))
    console.print(table)
    states = {state: sum(run.state == state for run in runs) for state in (COMPLETE, MADE, CUT)}
    console.print(", ".join(f"{count} {state}" for state, count in states.items() if count) or "no runs")


def _stale(runs: Sequence[Found], console: Console) -> None:
    stale = [run for run in runs if run.state == CUT]
    for run in stale:
        told = f"{run.name}: {len(run.rows)} epochs, {run.bytes / 2**20:.1f} MB, {_age(run.changed)} old"
        console.print(told, markup=False)
        if words := run.maker.get("words"):
            console.print(f"  python -m facedistill.train {shlex.join(words)}", markup=False)
    if stale:
        console.print(
            f"The command under each finishes it. To remove: python -m facedistill.runs remove {stale[0].name}"
        )
    else:
        console.print("no run was left unfinished")


def _age(since: float) -> str:
    seconds = max(0.0, time.time() - since)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _verified(runs: Sequence[Found], names: Sequence[str], console: Console) -> bool:
    complete = [run for run in (chosen(runs, names) if names else runs) if run.record is not None]
    bad = 0
    for run in complete:
        told = faults(run, runs)
        bad += bool(told)
        for fault in told:
            console.print(f"{run.name}: {fault}", style="red", markup=False)
        gone = [name for name in run.ancestors if not any(other.name == name for other in runs)]
        for name in gone:
            console.print(f"{run.name}: {name}, which it stands on, is not here", markup=False)
    console.print(f"{len(complete) - bad} of {len(complete)} complete runs are whole")
    return not bad


def main(words: Sequence[str]) -> int:
    """The command."""
    if "--help" in words:
        print(__doc__)
        return 0
    settings = dict(word.split("=", 1) for word in words if "=" in word)
    plain = [word for word in words if "=" not in word]
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 200
    try:
        if unknown := settings.keys() - {"runs_dir", "dependents"}:
            raise RunError(f"{min(unknown)}=: words are runs_dir=FOLDER and, to remove, dependents=true")
        runs = find_runs(Path(settings.get("runs_dir", "runs")))
        match plain:
            case []:
                _table(runs, console)
            case ["stale"]:
                _stale(runs, console)
            case ["remove", *names]:
                removed = remove(runs, names, settings.get("dependents") == "true")
                console.print(*(f"removed {name}" for name in removed), sep="\n", markup=False)
            case ["verify", *names]:
                return 0 if _verified(runs, names, console) else 1
            case _:
                raise RunError(
                    f"{plain[0]}: choices are stale, remove NAME …, verify [NAME …], or nothing for the table"
                )
    except FacedistillError as error:
        print(f"facedistill: {error}", file=sys.stderr)
        return 2
    return 0
