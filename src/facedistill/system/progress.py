"""A bar for what takes long."""

from contextlib import suppress

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from facedistill.system.terminal import Output


class _Bar(Progress):
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
    return _Bar(*columns, console=console, transient=True, disable=not console.is_terminal)
