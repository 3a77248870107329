"""Files that are either whole or not there, the disks that they lie on, and locks that say who has them."""

import errno
import hashlib
import json
import os
import socket
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from facedistill.errors import BusyError, DiskError
from facedistill.system.terminal import say

NOTICE_AFTER = 1.0  # seconds that a process waits for a lock before it says for whom
MOST_TEXT = 2**25  # bytes of a record, a history or another text of a run


@contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` once the block ends without an error.

    A reader sees the old file or the new one, never a part. On an error the temporary file is removed. An ``OSError``
    names ``path``, also that of a full disk, which names no file.
    """
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        part = Path(name)
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o666 & ~umask)
        part.replace(path)
    except OSError as error:
        if error.filename is None or Path(error.filename).parent == path.parent:
            error.filename = str(path)
        raise
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


@contextmanager
def disk_of(what: str, word: str, folder: Path) -> Iterator[None]:
    """Turn an ``OSError`` of what is written to ``folder`` into a ``DiskError``, which says how to name another place.

    Args:
        what: which files these are, for people: "the cache".
        word: the word of the command line that names their place: "cache_dir=FOLDER".
    """
    try:
        yield
    except BrokenPipeError:  # a reader of what is printed has left
        raise
    except OSError as error:
        path = Path(error.filename or folder)
        fault = f"{path}: {error.strerror or error}"
        if not (path.is_relative_to(folder) or folder.is_relative_to(path)):
            raise DiskError(fault) from error
        cure = "a shorter data.name=… may do" if error.errno == errno.ENAMETOOLONG else "mend that"
        raise DiskError(
            f"{fault}. It belongs to {what}: {cure}, or name another place, {word}. Nothing complete was damaged; the "
            "same command resumes"
        ) from error


def remove_parts(folder: Path) -> None:
    """Remove what a process left that was killed amid ``write_aside``; only for the one process that writes there."""
    for part in folder.glob(".*.part"):
        part.unlink(missing_ok=True)


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading. Raises ``OSError`` for a FIFO, which would wait for ever, a device or a folder, too."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.ENXIO, "not a regular file", str(path))
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")  # it might have become one since


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON, whole or not at all. NaN is refused: a record holds numbers."""
    with write_aside(path) as part:
        part.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def is_file(path: str | Path) -> bool:
    """Whether there is such a file; a path that can't be asked for, as one that is too long, is none."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def read_text_file(path: Path) -> bytes:
    """The bytes of a text of a run. Raises ``OSError`` for what is no regular file, or too large to be one."""
    with open_regular(path) as file:
        content = file.read(MOST_TEXT + 1)
    if len(content) > MOST_TEXT:
        raise OSError(errno.EFBIG, f"larger than {MOST_TEXT >> 20} MiB", str(path))
    return content


def read_json_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None if there is no such file, or no object in it."""
    try:
        value = json.loads(read_text_file(path))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def this_process() -> dict[str, Any]:
    """What others may want to know of this process, to be written into a file."""
    return {"host": socket.gethostname(), "process": os.getpid(), "since": time.time()}


def process_in(path: Path) -> str:
    """The process that a file names, as far as it is known, and for how long it has been at work."""
    found = read_json_object(path) or {}
    try:
        return f"process {found['process']} on {found['host']}, for {max(0.0, time.time() - found['since']):.0f} s"
    except (KeyError, TypeError):
        return "another process"


@contextmanager
def held(lock: Path, work: str, wait: bool = True) -> Iterator[None]:
    """Hold a lock; a process that waits for it says on stderr for whom, and what ``work`` that one does.

    Raises ``BusyError`` if another process holds it, and ``wait`` is false; ``OSError`` if there can be no lock.
    """
    holder, own = lock.with_name(f"{lock.name}-holder"), FileLock(lock)
    try:
        own.acquire(timeout=NOTICE_AFTER if wait else 0)
    except NotImplementedError as error:
        raise OSError(errno.ENOLCK, "this disk has no file locks", str(lock)) from error
    except Timeout as error:
        if not wait:
            raise BusyError(f"{process_in(holder)} holds {lock}") from error
        say(f"waiting for {process_in(holder)}: {work}")
        own.acquire()
    try:
        holder.write_text(json.dumps(this_process()))
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        own.release()


def is_held(lock: Path) -> bool:
    """Whether some process holds a lock, or that can't be found out; no file is made where there is none."""
    try:
        if not lock.is_file():
            return False
        with FileLock(lock).acquire(timeout=0):
            return False
    except (Timeout, PermissionError):
        return True
    except OSError:  # a disk that can't be written: nobody works on it
        return False


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_of(value: Any, length: int = 12) -> str:
    """Hex digest of a JSON-able value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def hash_of_lines(lines: Iterable[str]) -> str:
    """Hex digest of many short texts, which may be names of files of any coding."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()[:32]
