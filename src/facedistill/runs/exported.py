"""An export as a value: what ``contract.json`` says of a folder of model files, and whether they are still those.

Everything that an application, a card or a report asks of an export is here. It is read without torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from facedistill.errors import WeightsError
from facedistill.runs.typed_json import parsed
from facedistill.system.files import read_text_file, sha256, write_json
from facedistill.system.text import shown

CONTRACT, CARD, LABELS, LICENCES = "contract.json", "card.md", "labels.txt", "LICENCES.md"
VERSION = 1
KINDS = ("embedding", "logits", "landmarks")
MOST_SIDE, MOST_VALUES = 2048, 10_000_000
_AGAIN = "export it again, or copy the folder whole"


@dataclass(frozen=True)
class ImageInput:
    """The image that a model takes: [N, 3, height, width].

    Attributes:
        pixel: ``float32``, normalized as (x − mean) / std from pixels 0 … 255; or ``uint8``, pixels as they are, which
            the model normalizes itself.
        colour: the order of its channels.
    """

    height: int
    width: int
    pixel: str
    mean: list[float]
    std: list[float]
    colour: str = "rgb"
    name: str = "image"


@dataclass(frozen=True)
class Framing:
    """How a face in a photograph comes into that image.

    Attributes:
        kind: ``template``: a similarity moves its five landmarks closest to ``template``. ``landmarks``: a square
            around the box of the landmarks, ``side`` times as long as its longer side. ``box``: a square around the box
            of the face. ``centre``, ``whole``: the centre square of the photograph, or all of it padded with black; no
            face is looked for.
        resize: the side at which the square is kept, of whose centre the image is cut.
        template: [5, 2], x and y of the eyes, the nose and the mouth corners, in pixels of the image; left is left in
            the image, and 0 is the centre of the first pixel.
    """

    kind: str
    resize: int
    template: list[list[float]] = field(default_factory=list)
    side: float = 1.0

    @property
    def looks_for_faces(self) -> bool:
        return self.kind in ("template", "landmarks", "box")


@dataclass(frozen=True)
class ModelFile:
    """One file of an export, and what it did in its own runtime.

    Attributes:
        bytes: with ``beside``, the sha256 of other files that belong to it, by their names.
        exact: it computes in float32, as the network does.
        score: of the metric of the export, %; None: it can't be run here.
        cosine: mean cosine of its answers with those of the network.
        difference: the largest between its answers and the network's.
        median_ms, p95_ms: of one image, alone and warm; on ``Exported.processor``.
        thresholds, tar: as those of ``Judged``, by the file itself.
        note: how it was made, where there was a choice, and what else was tried.
    """

    format: str
    file: str
    bytes: int
    sha256: str
    exact: bool
    score: float | None = None
    cosine: float | None = None
    difference: float | None = None
    median_ms: float | None = None
    p95_ms: float | None = None
    thresholds: dict[str, float] = field(default_factory=dict)
    tar: dict[str, float] = field(default_factory=dict)
    note: str = ""
    beside: dict[str, str] = field(default_factory=dict)

    def check(self, folder: Path) -> None:
        """Raise ``WeightsError`` where it, or what belongs to it, is not what was proven."""
        for name, digest in {**self.beside, self.file: self.sha256}.items():
            check_bytes(folder / name, digest)

    def is_whole(self, folder: Path) -> bool:
        try:
            self.check(folder)
        except WeightsError:
            return False
        return True


@dataclass(frozen=True)
class Judged:
    """By what the files were judged.

    Attributes:
        metric: ``pairs``, ``cosine``, ``top1`` or ``nrmse``, all in %.
        of: on what, for people.
        samples: how many faces or pairs.
        score: of the network itself; ``low`` … ``high``: its 95 % interval.
        thresholds: by rate of false accepts, the cosine of plain embeddings from which on two faces are one person's.
        of_thresholds: on which pairs.
        tar: the share of the pairs of one person accepted there, %.
    """

    metric: str
    of: str
    samples: int
    score: float
    low: float
    high: float
    thresholds: dict[str, float] = field(default_factory=dict)
    of_thresholds: str = ""
    tar: dict[str, float] = field(default_factory=dict)

    @property
    def higher_is_better(self) -> bool:
        return self.metric != "nrmse"

    def loss(self, score: float) -> float:
        """Points that a score is worse than the network's; negative: better."""
        return self.score - score if self.higher_is_better else score - self.score


@dataclass(frozen=True)
class Exported:
    """What ``contract.json`` holds.

    Attributes:
        name: of the folder.
        kind: what the model gives of an image: an ``embedding``, ``logits`` of people, or ``landmarks``.
        output: the name of that in the graph; ``width``: how many values it has.
        normalized: the embedding has length 1.
        landmarks: x and y from −1 to 1, from edge to edge of the image.
        labels: sha256 of ``labels.txt``, a name a line; empty: there is none.
        identity: of the run, or of the file of weights, that was exported.
        ancestors: of the runs and files that it stands on, by role.
        teacher: the same table for the file that it imitates, where there is one.
        data: name, and what was trained on.
        licences: what the licences of its data allow, a line each.
        command: that made it.
        axes: it is compared with a teacher's gallery after a product with these, see docs/teachers.md.
    """

    name: str
    kind: str
    input: ImageInput
    framing: Framing
    width: int
    normalized: bool
    files: list[ModelFile]
    judged: Judged
    identity: str
    title: str
    command: str
    processor: str
    threads: int
    params: int
    macs: int
    data: str
    licences: list[str]
    calibration: str = ""
    labels: str = ""
    teacher: list[ModelFile] = field(default_factory=list)
    ancestors: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    output: str = ""
    axes: bool = False
    version: int = VERSION

    @classmethod
    def read(cls, folder: Path) -> Exported:
        """What a folder says of itself; whether its files are whole is asked by ``checked``.

        Raises:
            WeightsError: it is no export, or not as this version writes it.
        """
        path = folder / CONTRACT
        try:
            text = read_text_file(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise WeightsError(
                f"{folder} is no export (no {CONTRACT}): facedistill export run=RUN format=onnx makes one"
            ) from error
        except OSError as error:
            raise WeightsError(f"{path} can't be read: {error.strerror}") from error
        try:
            exported = _parsed(text)
            fault = next(_faults(exported), None)
        except (ValueError, RecursionError) as error:
            fault = str(error)
        if fault:
            raise WeightsError(f"{path} is not what an export says of itself: {shown(fault)[:200]}. {_AGAIN}")
        return exported

    def write(self, folder: Path) -> None:
        write_json(folder / CONTRACT, asdict(self))

    def checked(self, folder: Path, wanted: str) -> ModelFile:
        """The model file of a format, by its bytes the one that was proven.

        Raises:
            WeightsError: there is none, or it was changed since.
        """
        found = {model.format: model for model in self.files}
        if wanted not in found:
            raise WeightsError(f"{folder} holds no {wanted}: it has {', '.join(found)}")
        model = found[wanted]
        model.check(folder)
        return model

    def by(self, model: ModelFile) -> Exported:
        """With the thresholds of one of its files, where these were measured."""
        if not model.thresholds:
            return self
        return replace(self, judged=replace(self.judged, thresholds=model.thresholds, tar=model.tar))

    def names(self, folder: Path) -> list[str]:
        """The names that logits stand for. Raises ``WeightsError`` where their file was changed, or has too few."""
        check_bytes(folder / LABELS, self.labels)
        names = (folder / LABELS).read_text(encoding="utf-8", errors="replace").splitlines()
        if len(names) != self.width:
            raise WeightsError(f"{folder} has {len(names)} names for {self.width} people: {_AGAIN}")
        return names


def check_bytes(path: Path, expected: str) -> None:
    """Raise ``WeightsError`` where a file of an export is gone, or other than it was."""
    try:
        found = sha256(path)
    except OSError as error:
        raise WeightsError(f"{path} is missing or can't be read ({error.strerror}): {_AGAIN}") from error
    if found != expected:
        raise WeightsError(f"{path} was changed after it was proven (its checksum differs): {_AGAIN}")


def _faults(exported: Exported) -> Iterator[str]:
    taken = exported.input
    if exported.version != VERSION:
        yield f"version {exported.version}, this one reads {VERSION}"
    if exported.kind not in KINDS:
        yield f"kind {exported.kind}"
    if not (1 <= taken.height <= MOST_SIDE and 1 <= taken.width <= MOST_SIDE):
        yield f"an image of {taken.width} × {taken.height} pixels"
    if not 1 <= exported.width <= MOST_VALUES:
        yield f"{exported.width} values"
    if len(taken.mean) != 3 or len(taken.std) != 3 or 0 in taken.std or taken.pixel not in ("float32", "uint8"):
        yield "mean, std or pixel of its image"
    if not max(taken.height, taken.width) <= exported.framing.resize <= 2 * MOST_SIDE:
        yield f"a square of {exported.framing.resize} pixels"
    if exported.framing.kind == "template" and [len(point) for point in exported.framing.template] != [2] * 5:
        yield "a template that is not of five points"
    if not exported.files:
        yield "no files"
    for model in exported.files:
        for name in (model.file, *model.beside):
            if Path(name).name != name or name in (".", "..", "") or "\0" in name:
                yield f"a file outside of its folder, {name}"
    if exported.kind == "logits" and not exported.labels:
        yield "logits without names"


def _parsed(text: bytes) -> Exported:
    """Raises ``ValueError`` with what is wrong."""
    json.loads(text, parse_constant=_refused, parse_float=_finite, parse_int=_whole)
    return parsed(Exported, text)


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refused(text)


def _whole(text: str) -> int:
    if len(text) > 19:
        raise ValueError(f"{text[:19]}… is larger than any number of an export")
    return int(text)


def _refused(text: str) -> float:
    raise ValueError(f"{text} is not a finite number")
