"""What benchmarks share: whole processes, ways that take turns, tables."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping


def alternating(ways: Mapping[str, Callable[[], float]], repetitions: int) -> dict[str, list[float]]:
    """What every way measures, a number a repetition. They take turns, so that a slow minute meets them all."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repetitions):
        for name, way in ways.items():
            found[name].append(way())
    return found


def seconds_of(*words: str) -> float:
    """Seconds that Python takes for a command line, start included; what it prints is shown if it fails."""
    start = time.perf_counter()
    process = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"python {shlex.join(words)}: status {process.returncode}\n{process.stdout[-4000:]}")
    return seconds


def print_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """A Markdown table; all but the first column are numbers."""
    head = list(head)
    print(f"| {' | '.join(head)} |\n| :-- |{' --: |' * (len(head) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print(flush=True)
