"""What ends a process in order: SIGINT (Ctrl-C) and SIGTERM."""

from __future__ import annotations

import signal
import sys
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
RESUMABLE = "stopped; nothing that was complete is lost, and the same command goes on from the last whole epoch"


def stop_on_signals() -> None:
    """Let the first SIGINT or SIGTERM raise ``SystemExit`` with the status of shells, 130 or 143; a second ends it.

    What is being written is written aside, so a checkpoint is the whole new one or the whole old one.
    """
    for number in SIGNALS:
        signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    print(f"\nfacedistill: {RESUMABLE}", file=sys.stderr, flush=True)
    raise SystemExit(128 + number)
