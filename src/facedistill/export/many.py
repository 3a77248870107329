"""Every finished student of a sweep as an export, one after the other."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from facedistill.config.choices import nodes
from facedistill.errors import FacedistillError, RunError, WeightsError
from facedistill.runs.exported import Exported
from facedistill.runs.folders import RunFolder, find_runs
from facedistill.runs.record import Record
from facedistill.system.decoration import reason_of
from facedistill.system.terminal import REFUSED, Output, say
from facedistill.system.text import shown


def students(runs_dir: Path, experiments: Sequence[str] = ()) -> dict[Path, Record]:
    """The finished students of a folder by their directories, each once; what can't be read is said.

    Args:
        experiments: only those of files in ``experiments/``, or of groups, by name.

    Raises:
        RunError: there is none.
    """
    found: dict[str, RunFolder] = {}
    groups: set[str] = set()
    for run in find_runs(runs_dir):
        if run.damage:
            say(f"{run.name} is left out: {run.damage}")
        if run.record is None or run.record.role == "teacher" or run.record.config.task.intermediate:
            continue
        groups.add(run.record.group or "")
        if not experiments or any(belongs(run.record, name) for name in experiments):
            first = found.setdefault(run.record.identity, run)
            if run.name == run.record.name != first.name:  # the other is a copy
                found[run.record.identity] = run
    if not found:
        which = f" of experiments={','.join(experiments)}" if experiments else ""
        there = f" Its groups: {shown(', '.join(sorted(filter(None, groups))))}." if any(groups) else ""
        raise RunError(f"runs_dir={runs_dir} has no finished student{which}.{there} `facedistill runs` lists all")
    return {run.directory: run.record for run in found.values() if run.record is not None}


def belongs(record: Record, experiment: str) -> bool:
    """Whether a run is a cell of an experiment: by its group, or because both have that cell.

    In a sweep of several tables, a cell that they share stands in the group of the first. The words of a cell follow
    that of its group; those of the command line, which may be the same as a grid's, come after them.
    """
    if record.group == experiment:
        return True
    words = tuple(record.overrides[1:])
    grids = (grid for name in nodes("experiments") for grid in _grids_of(name))
    own = [cell for name, cells in grids if name == record.group for cell in cells if words[: len(cell)] == cell]
    longest = max(map(len, own), default=0)
    theirs = [set(cell) for _, cells in _grids_of(experiment) for cell in cells]
    return any(set(cell) in theirs for cell in own if len(cell) == longest)


@cache
def _grids_of(experiment: str) -> list[tuple[str, list[tuple[str, ...]]]]:
    """The grids of an experiment by their names: the words of every cell."""
    node = nodes("experiments").get(experiment, {})
    grids = node.get("hydra", {}).get("sweeper", {}).get("grids", {})
    return [(name, [cell for grid in union for cell in _cells_of(grid)]) for name, union in grids.items()]


def _cells_of(grid: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Every combination of a grid's values, in words as the sweeper makes them."""
    overrides = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in grid.items()])
    words = [
        [
            f"{one.get_key_element()}={value}"
            for value in (one.sweep_string_iterator() if one.is_sweep_override() else [one.get_value_element_as_str()])
        ]
        for one in overrides
    ]
    return list(product(*words))


def export_each(
    chosen: dict[Path, Record], formats: Sequence[str], out: Path, export: Callable[[list[str]], object]
) -> int:
    """Export runs one after the other; the exit status. What is refused does not stop the others.

    Args:
        chosen: the runs by their directories.
        out: the folder of the exports: one that is there already, whole, with these formats, is left.
        export: makes one, by the words that name it.
    """
    output, refused = Output(), []
    for number, (directory, record) in enumerate(chosen.items(), start=1):
        folder = out / record.name
        is_there = _is_there(folder, record.identity, formats)
        left = f" is there already, in {out}" if is_there else ""
        output.print_text(f"{number} of {len(chosen)}: {record.name}{left}")
        if is_there:
            continue
        try:
            export([f"run={directory}"])
        except BrokenPipeError:  # a reader of what is printed has left
            raise
        except Exception as error:  # of a converter or a runtime: the others are of other networks
            why = str(error) if isinstance(error, FacedistillError) else reason_of(error)
            refused.append(record.name)
            say(f"facedistill: {record.name} is not exported: {why}")
    if refused:
        say(f"{len(refused)} of {len(chosen)} are not exported: {', '.join(refused)}")
    return REFUSED if refused else 0


def _is_there(folder: Path, identity: str, formats: Sequence[str]) -> bool:
    try:
        found = Exported.read(folder)
        for name in formats:
            found.checked(folder, name)
    except WeightsError:
        return False
    return found.identity == identity
