"""What is wrong with people's files: where it is, and whether to stop there or to go on without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from facedistill.errors import DataError

ON_ERROR = ("raise", "skip")
_SHOWN = 5


class Faults:
    """The images that can't be used: ``raise`` at the first one, or ``skip`` and count them.

    Attributes:
        count: how many were skipped.
        first: what is wrong with the first few of them.
    """

    def __init__(self, on_error: str) -> None:
        if on_error not in ON_ERROR:
            raise DataError(f"data.on_error={on_error}: choices are {', '.join(ON_ERROR)}")
        self.on_error = on_error
        self.count = 0
        self.first: list[str] = []

    def add(self, complaint: object) -> None:
        """Take note of an image that is left out. Raises ``DataError`` where none is to be."""
        if self.on_error == "raise":
            raise refusal(complaint) from (complaint if isinstance(complaint, Exception) else None)
        self.count += 1
        if len(self.first) < _SHOWN:
            self.first.append(str(complaint))


def refusal(complaint: object) -> DataError:
    """A complaint about one of many, and how to go on without it."""
    return DataError(f"{complaint}. To leave such things out: data.on_error=skip")


@contextmanager
def located(place: str) -> Iterator[None]:
    """Say where a ``DataError`` of the block comes from."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{place}: {error}") from error
