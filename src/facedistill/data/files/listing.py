"""What is in people's folders: images, folders, and what is neither, which is passed over and counted."""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from facedistill.data.files.faults import Faults
from facedistill.data.files.photos import SUFFIXES, UNREAD_SUFFIXES

# What systems and programs leave in folders, besides names that begin with a dot; in lower case.
_LEFT_BY_SYSTEMS = {
    *("__macosx", "icon\r", "network trash folder", "temporary items"),
    *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "__pycache__"),
    *("$recycle.bin", "recycler", "system volume information", "lost+found"),
    *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot"),
}


class ImageFile(NamedTuple):
    path: str
    size: int  # bytes
    modified: int  # ns

    @classmethod
    def of(cls, entry: os.DirEntry[str]) -> "ImageFile":
        status = entry.stat()
        return cls(entry.path, status.st_size, status.st_mtime_ns)


class Found(NamedTuple):
    """Images, which are regular files, and folders, both sorted by name; and how many files are no images."""

    images: list[os.DirEntry[str]]
    folders: list[os.DirEntry[str]]
    others: int


class Listing:
    """Reads folders, each once. Links are followed.

    Attributes:
        counts: how many entries were passed over, by kind.
        unread: how many of these are images that can't be decoded here, by suffix.
    """

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._read: dict[tuple[int, int], str] = {}
        self.counts: Counter[str] = Counter()
        self.unread: Counter[str] = Counter()

    @property
    def notes(self) -> list[str]:
        """For each suffix of ``unread``, what to do about it."""
        return [f"{count:,} {suffix} not read: {UNREAD_SUFFIXES[suffix]}" for suffix, count in self.unread.items()]

    def read(self, folder: str) -> Found:
        """What is in a folder. A folder that can't be read or was read, and a broken link, are faults."""
        found = Found([], [], 0)
        try:
            status = Path(folder).stat()
            first = self._read.setdefault((status.st_dev, status.st_ino), folder)
            if first != folder and os.path.realpath(first) == os.path.realpath(folder):
                self._faults.add(f"{folder} is the folder {first}: remove the link")
                return found
            with os.scandir(folder) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError as error:
            self._faults.add(f"{folder}: {error.strerror}: make the folder readable")
            return found
        others = 0
        for entry in entries:
            if is_left_by_a_system(entry.name):
                self.counts["left_by_systems"] += 1
                continue
            try:
                if entry.is_dir():
                    found.folders.append(entry)
                elif not stat.S_ISREG(entry.stat().st_mode):
                    self.counts["pipes_sockets_and_devices"] += 1
                elif (suffix := suffix_of(entry.name)) in SUFFIXES:
                    found.images.append(entry)
                elif suffix in UNREAD_SUFFIXES:
                    self.counts["images_not_read"] += 1
                    self.unread[suffix] += 1
                else:
                    others += 1
            except OSError as error:
                cure = ": mend or remove the link" if entry.is_symlink() else ""
                self._faults.add(f"{entry.path}: {error.strerror}{cure}")
        return found._replace(others=others)

    def walk(self, folder: str) -> Iterator[Found]:
        """What is in a folder, and in all folders below it, in the order of their names."""
        waiting = [folder]
        while waiting:
            found = self.read(waiting.pop())
            yield found
            waiting += [inner.path for inner in reversed(found.folders)]


def is_left_by_a_system(name: str) -> bool:
    """Whether a file or folder was left by a system or a program, as .DS_Store, ._x.jpg and @eaDir are."""
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS


def suffix_of(name: str) -> str:
    """In lower case, with its dot."""
    _, dot, suffix = name.lower().rpartition(".")
    return dot + suffix
