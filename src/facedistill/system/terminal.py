"""What is printed for people: whole lines, on a terminal or into a pipe whose reader may leave."""

import os
import signal
import sys

from rich.console import Console

CLOSED = 128 + signal.SIGPIPE  # the exit status, as in a shell, of a command whose reader has left


class Output(Console):
    """Lines that are not wrapped and not cut; a table or a tree is as wide as it needs."""

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, soft_wrap=True, highlight=False)
        if not self.is_terminal:
            self.width = 10_000

    def on_broken_pipe(self) -> None:
        """End quietly; where nobody reads stderr, go on in silence."""
        if not self.stderr:
            raise SystemExit(leave_pipe())
        self.quiet = True


def leave_pipe() -> int:
    """The exit status once the reader has left; what is not written yet is dropped, or Python complains at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return CLOSED
