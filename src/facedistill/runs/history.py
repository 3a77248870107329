"""The history of a run as a file: a row an epoch, rewritten whole at each epoch's end."""

import csv
from pathlib import Path

from facedistill.runs.run import HISTORY


def read_history(directory: Path) -> list[dict[str, float]]:
    """The rows so far, for as long as they are whole; none where there is no file."""
    rows: list[dict[str, float]] = []
    try:
        with (directory / HISTORY).open(newline="", errors="replace") as file:
            rows.extend({name: float(value) for name, value in row.items()} for row in csv.DictReader(file))
    except (OSError, csv.Error, ValueError, TypeError, AttributeError):
        pass  # no file, or one that a person has changed
    return rows
