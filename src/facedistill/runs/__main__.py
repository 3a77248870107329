"""What is in runs/: which runs are complete, running, interrupted or empty, and whether they are sound.

facedistill runs                    every run: state, owner, epochs, metric, age
facedistill runs stale              those that were begun and that nobody trains: how to finish or remove them
facedistill runs remove NAME …      remove runs; those that others stand on, only with dependents=true
facedistill runs verify [NAME …]    whether records, weights and ancestors of complete runs fit together; without a
                                    NAME, also whether everything in the cache is what was written

A NAME is that of a folder in runs/, or a pattern in quotes: 'classify-r8-*'. runs_dir=FOLDER looks elsewhere, and
cache_dir=FOLDER names another cache.

Exit status 0: as it should be; 1: verify found a fault; 2: the command was not understood, or refused.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from facedistill.cli import run_command
from facedistill.config.compose import compose_config
from facedistill.errors import RunError
from facedistill.runs.folders import COMPLETE, EMPTY, INTERRUPTED, RUNNING, RunFolder, chosen, find_runs, remove
from facedistill.runs.verify import faults_of, faults_of_cache
from facedistill.system.files import is_file
from facedistill.system.terminal import Output
from facedistill.system.text import command_line, shown


def main(words: Sequence[str]) -> int:
    return run_command(words, __doc__, _runs)


def _runs(words: list[str]) -> int:
    settings = dict(word.split("=", 1) for word in words if "=" in word)
    plain = [word for word in words if "=" not in word]
    console = Output()
    for key in settings.keys() - {"runs_dir", "cache_dir", "dependents"}:
        words_are = "runs_dir=FOLDER, to verify cache_dir=FOLDER and, to remove, dependents=true"
        raise RunError(f"{key}={settings[key]}: words are {words_are}")
    if (value := settings.get("dependents", "true")) != "true":
        raise RunError(f"dependents={value}: the choice is dependents=true, or nothing")
    runs = find_runs(Path(settings.get("runs_dir", "runs")))
    match plain:
        case []:
            _print_table(runs, console)
        case ["stale"]:
            _print_stale(runs, console)
        case ["remove", *names]:
            for name in remove(runs, names, "dependents" in settings):
                console.print_text(f"removed {name}")
        case ["verify", *names]:
            sound = _verify(runs, names, console)
            if not names:
                cache = settings.get("cache_dir") or compose_config([]).cache_dir
                sound &= _verify_cache(Path(cache).expanduser(), console)
            return 0 if sound else 1
        case _:
            raise RunError(
                f"{' '.join(plain)}: choices are stale, remove NAME …, verify [NAME …], or nothing for the table"
            )
    return 0


def _print_table(runs: Sequence[RunFolder], console: Output) -> None:
    table = Table("run", "state", "by", "epochs", "metric", "age", box=None)
    for run in runs:
        owner = ""
        if run.state == RUNNING:
            known = {"host", "process"} <= run.owner.keys()
            owner = f"{run.owner['host']}:{run.owner['process']}" if known else "a process"
        cells = (run.name, run.state, owner, str(len(run.history) or ""), run.metric, _age(run.changed))
        table.add_row(*(Text(shown(cell)) for cell in cells))
    console.print_whole(table)
    for run in runs:
        if run.damage:
            console.print_text(f"{run.name} is left out: {run.damage}")
    states = {state: sum(run.state == state for run in runs) for state in (COMPLETE, RUNNING, INTERRUPTED, EMPTY)}
    console.print(", ".join(f"{count} {state}" for state, count in states.items() if count) or "no runs")


def _print_stale(runs: Sequence[RunFolder], console: Output) -> None:
    stale = [run for run in runs if run.state in (INTERRUPTED, EMPTY)]
    for run in stale:
        summary = f"{run.name}: {len(run.history)} epochs, {run.bytes / 2**20:.1f} MB, {_age(run.changed)} old"
        console.print_text(summary)
        words = run.owner.get("words")
        known = command_line(map(str, words)) if isinstance(words, list) else "… (with the words that began it)"
        console.print_text(f"  facedistill train {known}")
    if stale:
        where = [] if stale[0].directory.parent == Path("runs") else [f"runs_dir={stale[0].directory.parent}"]
        words = command_line(["remove", stale[0].name, *where])
        console.print_text(f"The command under each finishes it. To remove: facedistill runs {words}")
    else:
        console.print("no run was left unfinished")


def _age(since: float) -> str:
    seconds = max(0.0, time.time() - since)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _verify(runs: Sequence[RunFolder], names: Sequence[str], console: Output) -> bool:
    asked = chosen(runs, names) if names else [run for run in runs if run.record is not None or run.damage]
    complete = {run.name for run in runs if run.record is not None}
    bad = 0
    for run in asked:
        faults = faults_of(run, runs) if run.record is not None else [run.damage or f"not complete: {run.state}"]
        bad += bool(faults)
        for fault in faults:
            console.print_text(f"{run.name}: {fault}", style="red")
        for name in run.ancestors:
            if name not in complete and not is_file(name):
                console.print_text(f"{run.name}: {name}, which it stands on, is not here")
    console.print(f"{len(asked) - bad} of {len(asked)} complete runs are sound")
    return not bad


def _verify_cache(folder: Path, console: Output) -> bool:
    count, faults = faults_of_cache(folder)
    for fault in faults:
        console.print_text(fault, style="red")
    if count:
        console.print(f"{count - len(faults)} of {count} stores, packs and indexes in {folder} are what was written")
    if faults:
        console.print("What is damaged is made again by the run that needs it; a pack is not")
    return not faults


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
