"""What is printed for people: whole lines, on a terminal or into a pipe whose reader may leave."""

import os
import signal
import sys
from contextlib import suppress

from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from facedistill.system.text import shown

# Exit statuses: a command was not understood, or can't be done; as in a shell, its reader has left.
REFUSED, CLOSED = 2, 128 + signal.SIGPIPE
_WIDEST = 10_000


class Output(Console):
    """Lines that are not wrapped and not cut."""

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, soft_wrap=True, highlight=False)
        if not self.is_terminal:
            self.width = _WIDEST

    def print_whole(self, drawn: Table | Tree) -> None:
        """A table or a tree as wide as it needs: a name is not cut, whatever the terminal."""
        needed = self.measure(drawn, options=self.options.update(max_width=_WIDEST)).maximum
        self.width = max(self.width, needed)
        self.print(drawn)

    def print_text(self, text: object, style: str | None = None) -> None:
        """A line of text that others wrote: as it is ``shown``, and none of it is markup."""
        self.print(shown(text), style=style, markup=False)

    def on_broken_pipe(self) -> None:
        """End quietly; where nobody reads stderr, go on in silence."""
        if not self.stderr:
            raise SystemExit(leave_pipe())
        self.quiet = True


def say(text: object) -> None:
    """A line on stderr, as it is ``shown``, if there is still somebody to read it."""
    with suppress(OSError, ValueError):
        print(shown(text), file=sys.stderr, flush=True)


def leave_pipe() -> int:
    """The exit status once the reader has left; what is not written yet is dropped, or Python complains at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return CLOSED
