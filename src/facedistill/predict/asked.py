"""What a person asks for: which export, which photos, and where the answers go."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from facedistill.errors import ConfigError, DataError, WeightsError
from facedistill.runs.exported import CONTRACT, Exported
from facedistill.system.cores import MOST_THREADS

OWN = ("model", "format", "out", "html", "embed", "threads", "threshold", "far", "framed")
SUFFIXES = {"out": (".png", ".jpg", ".jpeg"), "html": (".html", ".htm"), "embed": (".npz", ".parquet")}
_RECORD = "record.json"  # of a run; runs/record.py takes half a second to import


@dataclass(frozen=True)
class Asked:
    """The words of the command, checked one by one.

    Attributes:
        format: of the model file; None: the best that there is.
        out, html, embed: files to write.
        threshold, far: a similarity from which on two faces are one person's, or by which rate of false accepts to
            choose it; None: the export's own.
        framed: the photos are faces as the model takes them.
    """

    model: Path
    format: str | None = None
    out: Path | None = None
    html: Path | None = None
    embed: Path | None = None
    threads: int = 1
    threshold: float | None = None
    far: float | None = None
    framed: bool = False

    @classmethod
    def of(cls, words: Mapping[str, str], photos: Sequence[str]) -> Asked:
        """Raises ``ConfigError`` for a value that can't be meant."""
        if not words.get("model"):
            raise ConfigError(
                "model= is missing: the folder of an export, as in facedistill predict model=exports/NAME photo.jpg"
            )
        if not photos:
            raise ConfigError("no photo is named: facedistill predict model=exports/NAME photo.jpg, or a folder")
        threads = words.get("threads", "1")
        if not (threads.isdecimal() and len(threads) < 5 and 1 <= int(threads) <= MOST_THREADS):
            raise ConfigError(f"threads={threads} must be a whole number from 1 to {MOST_THREADS}")
        if (framed := words.get("framed", "false")) not in ("true", "false"):
            raise ConfigError(f"framed={framed}: choices are true, false")
        if "threshold" in words and "far" in words:
            raise ConfigError("threshold= and far= both choose the threshold: leave one of them out")
        threshold, far = _number(words, "threshold", -1), _number(words, "far", 0)
        files = {key: _file(words, key, photos) for key in SUFFIXES}
        model = Path(words["model"]).expanduser()
        others = {"threads": int(threads), "threshold": threshold, "far": far, "framed": framed == "true"}
        return cls(model, words.get("format"), **files, **others)  # type: ignore[arg-type]

    def check(self, kind: str) -> None:
        """Raise ``ConfigError`` where a model of this kind can't do what is asked for."""
        if kind == "embedding":
            return
        given = {"threshold": self.threshold, "far": self.far, "embed": self.embed}
        for key in (key for key, value in given.items() if value is not None):
            gives = {"logits": "names", "landmarks": "landmarks"}[kind]
            raise ConfigError(
                f"{key}= is for models that give embeddings, and {self.model} gives {gives}: leave it out"
            )


def _number(words: Mapping[str, str], key: str, least: float) -> float | None:
    if key not in words:
        return None
    try:
        value = float(words[key])
    except ValueError:
        value = math.nan
    if not least <= value <= 1:
        raise ConfigError(f"{key}={words[key]} must be a number from {least} to 1")
    return value


def _file(words: Mapping[str, str], key: str, photos: Sequence[str]) -> Path | None:
    if key not in words:
        return None
    path = Path(words[key]).expanduser()
    if path.suffix.lower() not in SUFFIXES[key] or path.is_dir():
        raise ConfigError(f"{key}={words[key]} must name a file that ends in {' or '.join(SUFFIXES[key])}")
    for photo in photos:
        if path.exists() and path.samefile(photo):
            raise ConfigError(f"{key}={words[key]} is one of the photos, and would be overwritten: name another file")
    return path


def exported_in(folder: Path) -> Exported:
    """The export in a folder. Raises ``WeightsError``, and says what to type."""
    made = "facedistill export run=RUN format=onnx makes one"
    if folder.is_file():
        if (folder.parent / CONTRACT).is_file():
            raise WeightsError(f"{folder} is a file of an export, which is wanted as a whole: model={folder.parent}")
        raise WeightsError(f"{folder} is a file, and an export is a folder that says what its model takes: {made}")
    if not folder.exists():
        raise WeightsError(f"{folder} does not exist: model= names the folder of an export; {made}")
    if (folder / _RECORD).is_file() and not (folder / CONTRACT).exists():
        raise WeightsError(f"{folder} is a run and no export: facedistill export run={folder} format=onnx makes one")
    return Exported.read(folder)


@dataclass(frozen=True)
class Listed:
    """Photos in the order in which they were named, folders by path; ``notes``: what was passed over in these."""

    paths: list[str]
    has_folders: bool
    notes: list[str]

    @classmethod
    def of(cls, words: Sequence[str]) -> Listed:
        """The photos behind words that name files or folders. Raises ``DataError`` for a folder without one."""
        from facedistill.data.files.faults import Faults
        from facedistill.data.files.listing import Listing

        paths: list[str] = []
        notes: list[str] = []
        has_folders = False
        for word in words:
            if not Path(word).is_dir():
                paths.append(word)
                continue
            has_folders, faults = True, Faults("skip")
            listing = Listing(faults)
            found = [image.path for one in listing.walk(word) for image in one.images]
            if not found:
                raise DataError(
                    "; ".join([f"{word}: no image is in it, nor in a folder below", *listing.notes, *faults.first])
                )
            paths += found
            notes += [f"{word}: {note}" for note in (*listing.notes, *faults.first)]
        return cls(paths, has_folders, notes)
