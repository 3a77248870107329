"""Damages files in many ways. A reader must return what they contain, or say what is wrong with them."""

import random
import resource
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from facedistill.errors import DataError

FEW = 2000
RUNS = [(FEW, 0), *(pytest.param(10 * FEW, seed, marks=pytest.mark.slow) for seed in range(1, 6))]  # files, seed
MEMORY = 200 * 2**20  # bytes for all files of a run
SECONDS = 5  # of processor time per file
LONGEST = 600  # characters of a message


def damaged(data: bytes, draw: random.Random, words: Sequence[bytes] = (), places: Sequence[int] = ()) -> bytes:
    """A copy after one to four accidents.

    Args:
        words: of the format, which are inserted where they do not belong.
        places: bytes, from the end if negative, at which half of the accidents happen.
    """
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        size = len(changed)
        at, other = draw.randrange(size + 1), draw.randrange(size + 1)
        if places and draw.random() < 0.5:
            at = draw.choice(places) % (size + 1)
        few = draw.choice([1, 1, 2, 4, 8, draw.randrange(1, 300)])
        match draw.randrange(10 if words else 8):
            case 0:  # cut
                del changed[at:]
            case 1:  # a byte of another value
                changed[at : at + 1] = draw.randbytes(1)
            case 2 if at < size:  # a bit
                changed[at] ^= 1 << draw.randrange(8)
            case 3:  # an absurd number
                width = draw.choice([1, 2, 4, 8])
                most = 256**width - 1
                value = draw.choice([0, 1, most, most // 2, most // 2 + 1, size & most, draw.randint(0, most)])
                changed[at : at + width] = value.to_bytes(width, draw.choice(["little", "big"]))
            case 4:  # lost
                del changed[at : at + few]
            case 5:  # repeated
                changed[at:at] = changed[other : other + few]
            case 6:  # in the place of something else
                changed[at : at + few] = changed[other : other + few]
            case 7:  # a line repeated, or moved
                lines = changed.splitlines(keepends=True)
                if lines:
                    line = draw.choice(lines) if draw.random() < 0.5 else lines.pop(draw.randrange(len(lines)))
                    lines.insert(draw.randrange(len(lines) + 1), line)
                    changed = bytearray(b"".join(lines))
            case 8:  # a word too many
                changed[at:at] = draw.choice(words)
            case 9:  # a word too many, and often
                changed[at:at] = draw.choice(words) * draw.choice([2, 30, 2000])
    return bytes(changed)


def fuzz(
    folder: Path,
    count: int,
    seed: int,
    damage: Callable[[random.Random], dict[str, bytes]],
    read: Callable[[Path], Any],
    judge: Callable[[dict[str, bytes], Any], str],
) -> Counter[str]:
    """Read ``count`` damaged files in bounded time and memory. Each is a function of its number and the seed.

    Args:
        damage: the files of one data set by suffix; ``read`` gets the path of the first.
        judge: asserts that ``read`` may return this for these files, or raise it if it is a ``DataError``, and returns
            the kind of the result.

    Returns:
        How often each kind of result occurred.
    """
    tally: Counter[str] = Counter()
    with _limits():
        for number in range(count):
            files = damage(random.Random(f"{seed} {number}"))
            paths = [folder / f"{number}{suffix}" for suffix in files]  # overwriting is slow on many disks
            for path, data in zip(paths, files.values(), strict=True):
                path.write_bytes(data)
            try:
                tally[judge(files, _result(read, paths[0]))] += 1
            except BaseException as error:
                error.add_note(f"file {number} of seed {seed}: {str(files)[:3000]}")
                raise
            for path in paths:
                path.unlink()
    return tally


def said(error: DataError, path: Path) -> DataError:
    """The error, if its message is short and names a file of the data set."""
    message = str(error)
    assert str(path.with_suffix("")) in message, message
    assert len(message) < LONGEST, message
    return error


def _result(read: Callable[[Path], Any], path: Path) -> Any:
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        return read(path)
    except DataError as error:
        return said(error, path)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


@contextmanager
def _limits() -> Iterator[None]:
    """Raises ``MemoryError`` and ``TimeoutError`` beyond the limits, and NumPy's warnings about bad numbers."""

    def late(*_: object) -> None:
        raise TimeoutError(f"a file took {SECONDS} seconds")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGPROF, late)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, limits[1]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGPROF, before)
