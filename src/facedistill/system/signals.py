"""What ends a process: SIGINT (Ctrl-C) and SIGTERM, in order; the end of the process that started it, at once."""

import os
import signal
import sys
import threading
import time
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
RESUMABLE = "stopped; nothing complete is lost, and the same command resumes each run after its last whole epoch"


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


def end_with_parent(parent: int) -> None:
    """Have this process end at once when ``parent``, which started it, is gone, even while it hears no signal.

    The parent had best pass its number itself: this process may ask for it too late.
    """
    threading.Thread(target=_end_without, args=(parent,), daemon=True).start()


def _end_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
