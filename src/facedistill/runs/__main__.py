"""What is in runs/: which runs are complete, being made, cut or empty; what depends on them; whether they are whole.

python -m facedistill.runs                    every run: state, who makes it, epochs, metric, age
python -m facedistill.runs stale              those that were begun and nobody makes: how to finish or remove them
python -m facedistill.runs remove NAME …      remove runs; those that others stand on, only with dependents=true
python -m facedistill.runs verify [NAME …]    whether records, weights and ancestors of complete runs fit together

A NAME is that of a folder in runs/, or a pattern in quotes: 'classify-r8-*'. runs_dir=FOLDER looks elsewhere.

Exit status 0: as it should be; 1: verify found a fault; 2: the command was not understood, or refused.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from facedistill.errors import FacedistillError, RunError
from facedistill.runs.folders import COMPLETE, CUT, EMPTY, MADE, RunFolder, chosen, find_runs, remove
from facedistill.runs.verify import faults


def _table(runs: Sequence[RunFolder], console: Console) -> None:
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


def _stale(runs: Sequence[RunFolder], console: Console) -> None:
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


def _verified(runs: Sequence[RunFolder], names: Sequence[str], console: Console) -> bool:
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


def _incomplete(run: RunFolder) -> str:
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
