"""Answers as one page that needs nothing else: no network, no script, its pictures within."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.faces import LANDMARKS
from facedistill.predict.answers import SAME, Threshold
from facedistill.predict.faces import Face, Points
from facedistill.predict.pictures import drawn, nearest
from facedistill.runs.exported import Exported, ModelFile
from facedistill.system.files import disk_of, write_aside
from facedistill.system.text import shown

BARS = 12  # at most, of a face
METRICS = {
    "pairs": "accuracy on pairs",
    "cosine": "cosine with the network",
    "top1": "top 1",
    "rank1": "rank 1",
    "nrmse": "NRMSE",
}


@dataclass(frozen=True)
class Bar:
    """A row of a card.

    Attributes:
        share: how long the bar is, 0 … 1.
        text: its number.
        face: the number of the face that it is about.
        verdict: on it, in words.
    """

    label: str
    share: float
    text: str
    face: int | None = None
    verdict: str = ""

    @property
    def accepted(self) -> bool:
        return self.verdict == SAME


@dataclass(frozen=True)
class Card:
    """A photo on the page: data URLs of the photo and of what the model sees, and what it says of that."""

    name: str
    photo: str
    seen: str
    side: str
    bars: list[Bar] = field(default_factory=list)
    points: list[tuple[str, float, float]] = field(default_factory=list)
    more: int = 0


def write_page(
    path: Path,
    exported: Exported,
    model: ModelFile,
    cards: Sequence[Card],
    threshold: Threshold | None = None,
    verdict: tuple[str, str] | None = None,
    remarks: Sequence[str] = (),
) -> None:
    """Write the page. ``verdict``: on two faces, and what it means; ``remarks``: what was said of photos."""
    environment = Environment(
        loader=PackageLoader("facedistill.predict", "."),
        autoescape=True,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html").render(
        exported=exported,
        model=model,
        cards=cards,
        threshold=threshold,
        mark=None if threshold is None else 100 * min(max(threshold.value, 0.0), 1.0),
        verdict=verdict,
        same=SAME,
        remarks=remarks,
        metric=METRICS.get(exported.judged.metric, exported.judged.metric),
    )
    with disk_of("pages", "html=FILE", path.parent), write_aside(path) as part:
        part.write_text(page, encoding="utf-8")


def similarity_cards(faces: Sequence[Face], cosines: NDArray[np.float64], threshold: Threshold | None) -> list[Card]:
    cards = []
    for number, face in enumerate(faces):
        bars = []
        for other in nearest(cosines, number)[:BARS]:
            cosine = float(cosines[number, other])
            verdict = threshold.verdict(cosine) if threshold else ""
            bars.append(Bar(faces[other].path, max(cosine, 0.0), f"{cosine:z.3f}", other, verdict))
        cards.append(_card(face, face.points, bars=bars, more=len(faces) - 1 - len(bars)))
    return cards


def names_card(face: Face, likely: Sequence[tuple[str, float]]) -> Card:
    return _card(face, face.points, bars=[Bar(name, share, f"{100 * share:.1f} %") for name, share in likely])


def landmarks_card(face: Face, points: Points) -> Card:
    rows = [(name, x, y) for name, (x, y) in zip(LANDMARKS, points.tolist(), strict=True)]
    return _card(face, points, points=rows)


def _card(face: Face, marks: Points | None, bars: list[Bar] | None = None,
          points: list[tuple[str, float, float]] | None = None, more: int = 0) -> Card:  # fmt: skip
    height, width = face.pixels.shape[:2]
    photo, seen = _url(drawn(face, marks)), _url(Image.fromarray(face.pixels))
    return Card(face.path, photo, seen, f"{width} × {height}", bars or [], points or [], more)


def _url(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
