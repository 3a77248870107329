"""Bars for what takes long. Of several at a time the last one is on the terminal."""

from contextlib import suppress
from typing import ClassVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from facedistill.system.terminal import Output


class Bar(Progress):
    """A bar that goes from the terminal while another one is there, and then comes back."""

    _on_terminal: ClassVar[list["Bar"]] = []

    def start(self) -> None:
        if self.console.is_terminal and not self.disable:
            if self._on_terminal:
                self._on_terminal[-1]._hide()
            self._on_terminal.append(self)
        super().start()

    def stop(self) -> None:
        super().stop()
        if self in self._on_terminal:
            was_last = self._on_terminal[-1] is self
            self._on_terminal.remove(self)
            if was_last and self._on_terminal:
                Progress.start(self._on_terminal[-1])

    def _hide(self) -> None:
        leaves, self.live.transient = self.live.transient, True
        super().stop()
        self.live.transient = leaves


class _Decoration(Bar):
    """Ends nothing where it can't be shown."""

    def start(self) -> None:
        with suppress(Exception):
            super().start()

    def refresh(self) -> None:
        with suppress(Exception):
            super().refresh()

    def stop(self) -> None:
        with suppress(Exception):
            super().stop()


def progress_bar(amount: ProgressColumn | None = None) -> Progress:
    """A bar with counts (or another ``amount``) and the remaining time, on stderr; hidden if that is not a terminal."""
    console = Output(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), amount or MofNCompleteColumn(), TimeRemainingColumn())
    return _Decoration(*columns, console=console, transient=True, disable=not console.is_terminal)
