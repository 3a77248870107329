"""Pictures, curves, dashboards: what a run or a report is complete without."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from facedistill.system.terminal import say
from facedistill.system.text import shown


@contextmanager
def decoration(what: str, failed: list[str]) -> Iterator[None]:
    """Keep an ``Exception`` of the block from going on: note it in ``failed``, and say on stderr what there is not."""
    try:
        yield
    except Exception as error:
        failed.append(f"{what}: {reason_of(error)}")
        say(f"facedistill: without {failed[-1]}")


class Display:
    """What a person watches, for as long as it works: after its first failure nothing more is shown."""

    def __init__(self, what: str) -> None:
        self._what, self._failed = what, list[str]()

    def show(self, something: Callable[[], object]) -> None:
        if not self._failed:
            with decoration(self._what, self._failed):
                something()


def reason_of(error: BaseException) -> str:
    """The type and the text of an error of another package, on one line of at most 300 characters."""
    return shown(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
