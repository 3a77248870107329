"""Unusable files: say where a fault is, and stop there or leave the image out."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from facedistill.errors import DataError

ON_ERROR = ("raise", "skip")
_KEPT = 5


class Faults:
    """Images that can't be used: ``raise`` at the first one, or ``skip`` and count them, with the first messages."""

    def __init__(self, on_error: str) -> None:
        if on_error not in ON_ERROR:
            raise DataError(f"data.on_error={on_error}: choices are {', '.join(ON_ERROR)}")
        self.on_error = on_error
        self.count = 0
        self.first: list[str] = []

    def add(self, fault: object) -> None:
        """Count an image that is left out, or raise ``DataError``."""
        if self.on_error == "raise":
            raise refusal(fault) from (fault if isinstance(fault, Exception) else None)
        self.count += 1
        if len(self.first) < _KEPT:
            self.first.append(str(fault))


def refusal(fault: object) -> DataError:
    """An error about one of many images, which also says how to continue without it."""
    return DataError(f"{fault}. To skip what can't be used: data.on_error=skip")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn any ``OSError`` that the block raises into a ``DataError`` with the file and the system's reason."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{error.filename or path}: {error.strerror}") from error


@contextmanager
def located(location: str) -> Iterator[None]:
    """Put a location in front of the message of any ``DataError`` that the block raises."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{location}: {error}") from error
