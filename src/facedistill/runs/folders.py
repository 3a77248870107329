"""The directories of runs: what each one tells, which stand on which, and removing them."""

from __future__ import annotations

import csv
import difflib
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from facedistill.errors import RunError
from facedistill.runs.run import MAKER, read_json_object, read_record
from facedistill.system.files import is_held

COMPLETE, MADE, CUT, EMPTY = "complete", "being made", "cut", "empty"
_PARTS = {"record.json", "last.ckpt", "lock", MAKER, "metrics.csv", "weights.safetensors"}  # of a run that was begun
_NAME = re.compile(r".+-[0-9a-f]{12}")  # of a run's directory, whatever is left in it


@dataclass(frozen=True)
class RunFolder:
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


def find_runs(runs_dir: Path) -> list[RunFolder]:
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


def _found(directory: Path) -> RunFolder:
    record = read_record(directory)
    unfinished = MADE if is_held(directory / "lock") else CUT if _begun(directory) else EMPTY
    try:
        with (directory / "metrics.csv").open(newline="", errors="replace") as file:
            rows = list(csv.DictReader(file))
    except (OSError, csv.Error):
        rows = []
    watched = [directory / "record.json"] if record is not None else [*directory.iterdir()]
    times = [stat.st_mtime for stat in _stats(path for path in watched if path.name != "lock")]
    return RunFolder(
        directory,
        state=unfinished if record is None else COMPLETE,
        maker=read_json_object(directory / MAKER) or {},
        record=record,
        rows=rows,
        changed=max(times, default=directory.stat().st_mtime),
    )


def chosen(runs: Sequence[RunFolder], names: Sequence[str]) -> list[RunFolder]:
    """The runs of names or patterns.

    Raises:
        RunError: one of them matches nothing; says what is near.
    """
    for name in names:
        if not any(fnmatch(run.name, name) for run in runs):
            near = difflib.get_close_matches(name, [run.name for run in runs], 3, 0.3)
            raise RunError(f"there is no run {name}" + (f". Near: {', '.join(near)}" if near else ""))
    return [run for run in runs if any(fnmatch(run.name, name) for name in names)]


def dependents(runs: Sequence[RunFolder], of: Iterable[str]) -> set[str]:
    """The runs, complete or being made, that stand on some, directly or not, by name."""
    found, new = set(of), set(of)
    while new:
        new = {run.name for run in runs if new & set(run.ancestors)} - found
        found |= new
    return found - set(of)


def remove(runs: Sequence[RunFolder], names: Sequence[str], with_dependents: bool) -> list[str]:
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
