"""The directories of runs: what is in each, which stand on which, and removing them."""

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
from facedistill.runs.record import RECORD, Record
from facedistill.runs.run import CHECKPOINT, HISTORY, LOCK, OWNER, WEIGHTS, read_history
from facedistill.system.files import is_held, read_json_object

COMPLETE, RUNNING, INTERRUPTED, EMPTY = "complete", "running", "interrupted", "empty"
_FILES = (RECORD, CHECKPOINT, LOCK, OWNER, HISTORY, WEIGHTS)  # of a run that was begun
_NAME = re.compile(r".+-[0-9a-f]{12}")  # of a run's directory, whatever is left in it


@dataclass(frozen=True)
class RunFolder:
    """A run's directory and what is in it.

    Attributes:
        owner: host, process and words of the process that trains it or began to, if known.
        record: of a complete run.
        damage: why the record that is there can't be read; empty, if it can or there is none.
        history: a row an epoch.
        changed: when anything of it was last written, seconds since 1970.
    """

    directory: Path
    state: str
    owner: dict[str, Any]
    record: Record | None
    damage: str
    history: list[dict[str, float]]
    changed: float

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def metric(self) -> str:
        """The score of its task, or of the last epoch that was scored."""
        if self.record is not None:
            return "" if self.record.score is None else f"{self.record.metric} {self.record.score:.2f}"
        for row in reversed(self.history):
            for key, value in row.items():
                if key.startswith("test/"):
                    return f"{key.removeprefix('test/')} {value:.2f}"
        return ""

    @property
    def bytes(self) -> int:
        files = [Path(folder, name) for folder, _, names in os.walk(self.directory) for name in names]
        return sum(stat.st_size for stat in _stats(files))

    @property
    def ancestors(self) -> list[str]:
        """The names of the runs it stands on, where it is complete or running."""
        if self.record is not None:
            return list(self.record.parents.values())
        parents = self.owner.get("parents") if self.state == RUNNING else None
        return [str(name) for name in parents.values()] if isinstance(parents, dict) else []


def _stats(paths: Iterable[Path]) -> list[os.stat_result]:
    """Of those that are still there: what is written aside vanishes any time, and so may a run."""
    found = []
    for path in paths:
        with suppress(OSError):
            found.append(path.lstat())
    return found


def find_runs(runs_dir: Path) -> list[RunFolder]:
    """Every directory that is a run, by name. Raises ``RunError`` where there is no such folder."""
    if not runs_dir.is_dir():
        raise RunError(f"runs_dir={runs_dir} does not exist: name the folder of the runs, runs_dir=FOLDER")
    folders = [path for path in sorted(runs_dir.iterdir()) if path.is_dir()]
    runs = [_read(folder) for folder in folders if _NAME.fullmatch(folder.name) or _begun(folder)]
    return [run for run in runs if run.directory.is_dir()]  # it may have been removed meanwhile


def _begun(directory: Path) -> bool:
    return any(os.path.lexists(directory / name) for name in _FILES)


def _read(directory: Path) -> RunFolder:
    unfinished = RUNNING if is_held(directory / LOCK) else INTERRUPTED if _begun(directory) else EMPTY
    record, damage = None, ""
    try:
        record = Record.read(directory)  # after the lock: a run that completes meanwhile is one or the other
    except RunError as error:
        damage = str(error)
    watched = [directory / RECORD] if record is not None else _files(directory)
    times = [stat.st_mtime for stat in _stats([path for path in watched if path.name != LOCK] or [directory])]
    return RunFolder(
        directory,
        state=unfinished if record is None else COMPLETE,
        owner=read_json_object(directory / OWNER) or {},
        record=record,
        damage=damage,
        history=read_history(directory),
        changed=max(times, default=0.0),
    )


def _files(directory: Path) -> list[Path]:
    """What is in a directory; nothing, if it can't be read."""
    with suppress(OSError):
        return list(directory.iterdir())
    return []


def chosen(runs: Sequence[RunFolder], names: Sequence[str]) -> list[RunFolder]:
    """The runs of names or patterns. Raises ``RunError`` where one matches nothing, and says what is near."""
    for name in names:
        if not any(fnmatch(run.name, name) for run in runs):
            near = difflib.get_close_matches(name, [run.name for run in runs], 3, 0.3)
            raise RunError(f"there is no run {name}. Near: {', '.join(near) or 'none; `facedistill runs` lists all'}")
    return [run for run in runs if any(fnmatch(run.name, name) for name in names)]


def dependents(runs: Sequence[RunFolder], of: Iterable[str]) -> set[str]:
    """The runs, complete or running, that stand on some, directly or not, by name."""
    found, new = set(of), set(of)
    while new:
        new = {run.name for run in runs if new & set(run.ancestors)} - found
        found |= new
    return found - set(of)


def remove(runs: Sequence[RunFolder], names: Sequence[str], with_dependents: bool) -> list[str]:
    """Remove runs, each with its record first: what an interrupted removal leaves is not a complete run.

    Dependents are removed before what they stand on, so that the same command continues an interrupted removal.

    Raises:
        RunError: one is running or is a link, or others stand on one.
    """
    if not names:
        raise RunError("name the runs to remove: `facedistill runs` lists them")
    named = {run.name for run in chosen(runs, names)}
    standing = dependents(runs, named)
    if standing and not with_dependents:
        raise RunError(f"other runs stand on these: {', '.join(sorted(standing))}. To remove them too: dependents=true")
    removed = [run for run in runs if run.name in named | standing]
    if busy := [run.name for run in removed if run.state == RUNNING]:
        raise RunError(f"{busy[0]} is running: stop its process first")
    if links := [run for run in removed if run.directory.is_symlink()]:
        raise RunError(f"{links[0].directory} is a link to {links[0].directory.readlink()}: remove both by hand")
    removed.sort(key=lambda run: len(dependents(runs, [run.name])))
    for run in removed:
        try:
            with FileLock(run.directory / LOCK).acquire(timeout=0):  # nobody begins it meanwhile
                (run.directory / RECORD).unlink(missing_ok=True)
                shutil.rmtree(run.directory)
        except Timeout as error:
            raise RunError(f"{run.name} is running: stop its process first") from error
    return [run.name for run in removed]
