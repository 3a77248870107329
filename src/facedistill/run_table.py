"""What is in runs/: which runs are complete, being made, cut or empty; what depends on them; whether they are whole.

python -m facedistill.runs                    every run: state, who makes it, epochs, metric, age
python -m facedistill.runs stale              those that were begun and nobody makes: how to finish or remove them
python -m facedistill.runs remove NAME …      remove runs; those that others stand on, only with dependents=true
python -m facedistill.runs verify [NAME …]    whether records, weights and ancestors of complete runs fit together

A NAME is that of a folder in runs/, or a pattern in quotes: 'classify-r8-*'. runs_dir=FOLDER looks elsewhere.

Exit status 0: as it should be; 1: verify found a fault; 2: the command was not understood, or refused.
"""

from __future__ import annotations

import csv
import difflib
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console
from rich.table import Table
from rich.text import Text

from facedistill.errors import FacedistillError, RunError, WeightsError
from facedistill.files import hash_of, sha256
from facedistill.runs import MAKER, WeightsFile, read_object, read_record

COMPLETE, MADE, CUT, EMPTY = "complete", "being made", "cut", "empty"
_PARTS = {"record.json", "last.ckpt", "lock", MAKER, "metrics.csv", "weights.safetensors"}  # of a run that was begun
_NAME = re.compile(r".+-[0-9a-f]{12}")  # of a run's directory, whatever is left in it
# What ``fit.describe`` writes; the checksum of the weights came later, group and teacher's score may be null.
_RECORD: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("identity", "name", "role"), str),
    **dict.fromkeys(("recipe", "config", "parents", "metrics", "data", "versions", "device"), dict),
    **dict.fromkeys(("overrides", "history"), list),
    **dict.fromkeys(("params", "params_with_classifier", "macs", "weights_bytes"), int),
    **dict.fromkeys(("seconds", "images_per_second"), (int, float)),
}
_STATISTICS = ("running_mean", "running_var")  # of BatchNorm: in the weights, but no parameters


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
            last = self.rows[-1].items() if self.rows else ()
            scores = [(key.removeprefix("test/"), float(value)) for key, value in last if key.startswith("test/")]
        except (KeyError, TypeError, ValueError, AttributeError):  # a cut or a changed file
            return "unreadable: see verify" if self.record is not None else "unreadable"
        return f"{scores[0][0]} {scores[0][1]:.2f}" if scores else ""

    @property
    def bytes(self) -> int:
        files = [Path(folder, name) for folder, _, names in os.walk(self.directory) for name in names]
        return sum(stat.st_size for stat in _stats(files))

    @property
    def ancestors(self) -> list[str]:
        """The names of the runs it stands on, where it is complete or being made."""
        parents = (self.record or (self.maker if self.state == MADE else {})).get("parents")
        return [str(name) for name in parents.values()] if isinstance(parents, dict) else []


def _stats(paths: Iterable[Path]) -> list[os.stat_result]:
    """Of those that are still there: what is written aside vanishes any time."""
    found = []
    for path in paths:
        with suppress(FileNotFoundError):
            found.append(path.lstat())
    return found


def find_runs(runs_dir: Path) -> list[Found]:
    """Every directory that is a run, by name.

    Raises:
        RunError: there is no such folder.
    """
    if not runs_dir.is_dir():
        raise RunError(f"runs_dir={runs_dir} does not exist")
    folders = [path for path in sorted(runs_dir.iterdir()) if path.is_dir()]
    return [_found(folder) for folder in folders if _NAME.fullmatch(folder.name) or _begun(folder)]


def _begun(directory: Path) -> bool:
    return any((directory / part).exists() for part in _PARTS)


def _found(directory: Path) -> Found:
    record = read_record(directory)
    unfinished = MADE if _is_held(directory / "lock") else CUT if _begun(directory) else EMPTY
    try:
        with (directory / "metrics.csv").open(newline="", errors="replace") as file:
            rows = list(csv.DictReader(file))
    except (OSError, csv.Error):
        rows = []
    watched = [directory / "record.json"] if record is not None else [*directory.iterdir()]
    times = [stat.st_mtime for stat in _stats(path for path in watched if path.name != "lock")]
    return Found(
        directory,
        state=unfinished if record is None else COMPLETE,
        maker=read_object(directory / MAKER) or {},
        record=record,
        rows=rows,
        changed=max(times, default=directory.stat().st_mtime),
    )


def _is_held(lock: Path) -> bool:
    if not lock.is_file():
        return False
    try:
        with FileLock(lock).acquire(timeout=0):
            return False
    except (Timeout, PermissionError):  # where it can't be told, nothing may be removed
        return True
    except OSError:  # a disk that can't be written: nobody makes a run on it
        return False


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
    """The runs, complete or being made, that stand on some, directly or not, by name."""
    found, new = set(of), set(of)
    while new:
        new = {run.name for run in runs if new & set(run.ancestors)} - found
        found |= new
    return found - set(of)


def remove(runs: Sequence[Found], names: Sequence[str], with_dependents: bool) -> list[str]:
    """Remove runs, each with its record first: what is left of a cut removal is no complete run.

    Whoever stands on another goes before it, so that the same command goes on where a removal was cut.

    Raises:
        RunError: one is being made or is a link, or others stand on one.
    """
    if not names:
        raise RunError("name the runs to remove: `python -m facedistill.runs` lists them")
    named = {run.name for run in chosen(runs, names)}
    standing = dependents(runs, named)
    if standing and not with_dependents:
        raise RunError(f"other runs stand on these: {', '.join(sorted(standing))}. To remove them too: dependents=true")
    doomed = [run for run in runs if run.name in named | standing]
    if busy := [run.name for run in doomed if run.state == MADE]:
        raise RunError(f"{busy[0]} is being made: stop its process first")
    if links := [run for run in doomed if run.directory.is_symlink()]:
        raise RunError(f"{links[0].directory} is a link to {links[0].directory.readlink()}: remove both by hand")
    doomed.sort(key=lambda run: len(dependents(runs, [run.name])))
    for run in doomed:
        try:
            with FileLock(run.directory / "lock").acquire(timeout=0):  # nobody begins it meanwhile
                (run.directory / "record.json").unlink(missing_ok=True)
                shutil.rmtree(run.directory)
        except Timeout as error:
            raise RunError(f"{run.name} is being made: stop its process first") from error
    return [run.name for run in doomed]


def faults(run: Found, runs: Sequence[Found]) -> list[str]:
    """What does not fit together in a complete run; nothing, if all does."""
    from facedistill.models.weights import read_weights  # torch takes seconds

    record = run.record
    assert record is not None
    if improper := [key for key, kind in _RECORD.items() if not isinstance(record.get(key), kind)]:
        return [f"record.json has no proper {', '.join(improper)}"]
    found = []
    if not _is_hash(record["identity"], record["recipe"]):
        found.append("its identity is not the hash of its recipe: record.json was changed")
    if record["name"] != run.name or not run.name.endswith(record["identity"]):
        found.append(f"its record is that of {record['name']}: the folder was renamed")
    found += _strange_ancestors(run, runs)
    weights = run.directory / "weights.safetensors"
    try:
        tensors, about = read_weights(weights)
    except WeightsError as error:
        return [*found, str(error)]
    if "weights_sha256" in record and record["weights_sha256"] != sha256(weights):
        found.append("weights.safetensors is not what the run wrote: its SHA-256 is another")
    if not isinstance(about, dict) or about.get("run") != record["identity"]:
        found.append("weights.safetensors does not say that it is of this run")
    if (size := weights.stat().st_size) != record["weights_bytes"]:
        found.append(f"weights.safetensors has {size} bytes, not {record['weights_bytes']}")
    learnt = [tensor for name, tensor in tensors.items() if name.rpartition(".")[2] not in _STATISTICS]
    count = sum(tensor.numel() for tensor in learnt if tensor.is_floating_point())
    if count != record["params_with_classifier"]:
        found.append(f"weights.safetensors has {count} parameters, not {record['params_with_classifier']}")
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        found.append("weights.safetensors holds a number that is not finite")
    return found


def _is_hash(identity: str, recipe: dict[str, Any]) -> bool:
    try:
        return hash_of(recipe) == identity
    except ValueError:  # NaN
        return False


def _strange_ancestors(run: Found, runs: Sequence[Found]) -> list[str]:
    """Faults of the ancestors, runs or files of weights, that are there: each must have the identity in the recipe."""
    assert run.record is not None
    names, identities = run.record["parents"], run.record["recipe"].get("parents")
    if not isinstance(identities, dict) or identities.keys() != names.keys():
        return ["its ancestors are not those of its recipe"]
    there = {other.name: other.record.get("identity") for other in runs if other.record is not None}
    there |= {name: WeightsFile(Path(name)).identity for name in run.ancestors if Path(name).is_file()}
    return [
        f"its {role}, {name}, is not the one that it was made with"
        for role, name in names.items()
        if str(name) in there and there[str(name)] != identities[role]
    ]


def _table(runs: Sequence[Found], console: Console) -> None:
    table = Table("run", "state", "by", "epochs", "metric", "age", box=None)
    for run in runs:
        by = ""
        if run.state == MADE:
            by = (
                f"{run.maker['host']}:{run.maker['process']}"
                if {"host", "process"} <= run.maker.keys()
                else "a process"
            )
        cells = (run.name, run.state, by, str(len(run.rows) or ""), run.metric, _age(run.changed))
        table.add_row(*map(Text, cells))
    whole = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    console.width = max(console.width, whole)  # a name is not cut, whatever the terminal
    console.print(table)
    states = {state: sum(run.state == state for run in runs) for state in (COMPLETE, MADE, CUT, EMPTY)}
    console.print(", ".join(f"{count} {state}" for state, count in states.items() if count) or "no runs")


def _stale(runs: Sequence[Found], console: Console) -> None:
    stale = [run for run in runs if run.state in (CUT, EMPTY)]
    for run in stale:
        told = f"{run.name}: {len(run.rows)} epochs, {run.bytes / 2**20:.1f} MB, {_age(run.changed)} old"
        console.print(told, markup=False)
        words = run.maker.get("words")
        said = shlex.join(map(str, words)) if isinstance(words, list) else "… (with the words that began it)"
        console.print(f"  python -m facedistill.train {said}", markup=False)
    if stale:
        where = [] if stale[0].directory.parent == Path("runs") else [f"runs_dir={stale[0].directory.parent}"]
        words = shlex.join(["remove", stale[0].name, *where])
        told = f"The command under each finishes it. To remove: python -m facedistill.runs {words}"
        console.print(told, markup=False)
    else:
        console.print("no run was left unfinished")


def _age(since: float) -> str:
    seconds = max(0.0, time.time() - since)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _verified(runs: Sequence[Found], names: Sequence[str], console: Console) -> bool:
    asked = chosen(runs, names) if names else [run for run in runs if (run.directory / "record.json").exists()]
    complete = {run.name for run in runs if run.record is not None}
    bad = 0
    for run in asked:
        told = faults(run, runs) if run.record is not None else [_incomplete(run)]
        bad += bool(told)
        for fault in told:
            console.print(f"{run.name}: {fault}", style="red", markup=False)
        for name in run.ancestors:
            if name not in complete and not Path(name).is_file():
                console.print(f"{run.name}: {name}, which it stands on, is not here", markup=False)
    console.print(f"{len(asked) - bad} of {len(asked)} complete runs are whole")
    return not bad


def _incomplete(run: Found) -> str:
    if (run.directory / "record.json").exists():
        return (
            "record.json is no whole JSON object, so the run is not complete: the command that made it makes it again"
        )
    return f"not complete: {run.state}"


def main(words: Sequence[str]) -> int:
    """The command."""
    if "--help" in words:
        print(__doc__)
        return 0
    settings = dict(word.split("=", 1) for word in words if "=" in word)
    plain = [word for word in words if "=" not in word]
    console = Console(highlight=False, soft_wrap=True)
    try:
        if unknown := settings.keys() - {"runs_dir", "dependents"}:
            raise RunError(f"{min(unknown)}=: words are runs_dir=FOLDER and, to remove, dependents=true")
        if (value := settings.get("dependents", "true")) != "true":
            raise RunError(f"dependents={value}: the choice is dependents=true, or nothing")
        runs = find_runs(Path(settings.get("runs_dir", "runs")))
        match plain:
            case []:
                _table(runs, console)
            case ["stale"]:
                _stale(runs, console)
            case ["remove", *names]:
                removed = remove(runs, names, "dependents" in settings)
                console.print(*(f"removed {name}" for name in removed), sep="\n", markup=False)
            case ["verify", *names]:
                return 0 if _verified(runs, names, console) else 1
            case _:
                raise RunError(
                    f"{' '.join(plain)}: choices are stale, remove NAME …, verify [NAME …], or nothing for the table"
                )
    except (FacedistillError, OSError) as error:
        print(f"facedistill: {error}", file=sys.stderr)
        return 2
    return 0
