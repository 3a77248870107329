"""Answers drawn on photos, by Pillow: no figure library starts for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from facedistill.data.files.photos import full_size, open_photo
from facedistill.predict.answers import Threshold
from facedistill.predict.faces import Face, Points
from facedistill.system.files import disk_of, write_aside
from facedistill.system.text import shown

PAPER, INK, SOFT, LINE = "#ffffff", "#1b1c1d", "#5a5f66", "#d5d9de"
SAME, DIFFERENT, POINT = "#0072b2", "#d55e00", "#ffd23f"
LONGEST, ALONE = 420, 1600  # pixels of the longer side of a photo, among others and alone
_GAP, _TEXT, _FACE, _COLUMNS, NEAREST = 16, 16, 88, 4, 5
_MOST_UP = 4  # times that a small photo is enlarged
_FINER = 2  # pixels that are drawn for one, so that lines are smooth


def drawn(face: Face, points: Points | None, longest: int = LONGEST) -> Image.Image:
    """The photo of a face, at most ``longest`` pixels long: what the model sees of it in a frame, and landmarks."""
    photo = open_photo(Path(face.path))
    scale = _FINER * min(longest / max(photo.size), _MOST_UP)
    size = [max(1, round(side * scale)) for side in photo.size]
    large = photo.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    pen, thin = ImageDraw.Draw(large), max(2 * _FINER, round(max(size) / 240))
    ratio = np.array(size) / full_size(photo)
    corners = [tuple(corner) for corner in ((face.corners + 0.5) * ratio - 0.5).tolist()]
    for colour, width in (("#000000", 2 * thin), ("#ffffff", thin)):
        pen.line([*corners, corners[0]], fill=colour, width=width, joint="curve")
    if points is not None:
        eyes = float(np.linalg.norm((points[0] - points[1]) * ratio))
        radius = min(max(3.0 * _FINER, eyes / 14), max(size) / 60 + 2)
        for x, y in ((points + 0.5) * ratio - 0.5).tolist():
            pen.ellipse(
                (x - radius, y - radius, x + radius, y + radius), fill=POINT, outline="#000000", width=thin // 2
            )
    return large.reduce(_FINER)


def cards(faces: Sequence[Face], points: Sequence[Points | None], captions: Sequence[Sequence[str]]) -> Image.Image:
    """The photos in rows, each above its lines of text, of which the first is its name."""
    columns = min(_COLUMNS, len(faces))
    text = max(map(len, captions)) * (_TEXT + 6)
    sheet = _paper(columns * (LONGEST + _GAP) + _GAP, _rows(len(faces), columns) * (LONGEST + text + 2 * _GAP) + _GAP)
    pen = ImageDraw.Draw(sheet)
    for number, (face, marks, lines) in enumerate(zip(faces, points, captions, strict=True)):
        row, column = divmod(number, columns)
        left, top = _GAP + column * (LONGEST + _GAP), _GAP + row * (LONGEST + text + 2 * _GAP)
        photo = drawn(face, marks)
        sheet.paste(photo, (left + (LONGEST - photo.width) // 2, top + (LONGEST - photo.height) // 2))
        for line, words in enumerate(lines):
            _write(pen, left, top + LONGEST + 8 + line * (_TEXT + 6), words, LONGEST, INK if line else SOFT)
    return sheet


def compared(faces: Sequence[Face], cosines: NDArray[np.float64], threshold: Threshold | None) -> Image.Image:
    """The matrix of similarities, and below it each face beside those that are nearest to it."""
    count = len(faces)
    cell = 52 if count <= 20 else 30
    side, wide = (count + 1) * cell, _FACE + 60 + NEAREST * (_FACE + _GAP)
    columns = max(1, side // (wide + 2 * _GAP))
    row, name = _FACE + 2 * _TEXT + _GAP, _TEXT + 8
    below = _rows(count, columns) * (row + name)
    sheet = _paper(max(side, columns * (wide + 2 * _GAP)) + 2 * _GAP, side + below + 5 * _GAP + _TEXT)
    _matrix(sheet, faces, cosines, threshold, cell)
    pen, top = ImageDraw.Draw(sheet), side + 3 * _GAP
    _write(pen, _GAP, top, "Each face beside those that are most similar to it", sheet.width - 2 * _GAP, SOFT)
    for number, face in enumerate(faces):
        line, column = divmod(number, columns)
        left, y = _GAP + column * (wide + 2 * _GAP), top + _TEXT + _GAP + line * (row + name)
        _write(pen, left, y, f"{number + 1}  {Path(face.path).name}", wide, INK)
        y += name
        sheet.paste(_small(face, _FACE), (left, y))
        for place, other in enumerate(nearest(cosines, number)[:NEAREST]):
            x = left + _FACE + 44 + place * (_FACE + _GAP)
            sheet.paste(_small(faces[other], _FACE), (x, y))
            colour = _colour(cosines[number, other], threshold)
            pen.rectangle((x - 3, y - 3, x + _FACE + 2, y + _FACE + 2), outline=colour, width=3)
            _write(pen, x, y + _FACE + 6, f"{other + 1}: {cosines[number, other]:z.2f}", _FACE, colour)
    return sheet


def nearest(cosines: NDArray[np.float64], number: int) -> list[int]:
    """All other faces, the most similar first."""
    order = np.argsort(-cosines[number], kind="stable").tolist()
    return [other for other in order if other != number]


def save_picture(path: Path, picture: Image.Image) -> None:
    with disk_of("pictures", "out=FILE", path.parent), write_aside(path) as part:
        picture.save(part, format="png" if path.suffix.lower() == ".png" else "jpeg", quality=90)


def _matrix(
    sheet: Image.Image, faces: Sequence[Face], cosines: NDArray[np.float64], threshold: Threshold | None, cell: int
) -> None:
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(cell // 3)
    for number, face in enumerate(faces):
        small, place = _small(face, cell - 2), _GAP + (number + 1) * cell
        sheet.paste(small, (_GAP, place))
        sheet.paste(small, (place, _GAP))
    for (row, column), cosine in np.ndenumerate(cosines):
        x, y = _GAP + (column + 1) * cell, _GAP + (row + 1) * cell
        if row == column:
            pen.rectangle((x, y, x + cell - 3, y + cell - 3), fill="#eceff2")
            continue
        share = max(0.0, float(cosine))
        fill = tuple(round(255 + share * (to - 255)) for to in (0, 84, 147))
        pen.rectangle((x, y, x + cell - 3, y + cell - 3), fill=fill, outline=LINE)
        if threshold and threshold.accepts(float(cosine)):
            pen.rectangle((x, y, x + cell - 3, y + cell - 3), outline=INK, width=2)
        if cell > 40:
            colour = PAPER if share > 0.45 else INK
            pen.text((x + cell / 2 - 1, y + cell / 2 - 1), f"{cosine:z.2f}", colour, font, "mm")
    words = "Similarity of faces: white 0, blue 1"
    if threshold:
        words += f"; framed: {threshold.value:.3f} and above, the same person"
    _write(pen, _GAP, _GAP + (len(faces) + 1) * cell + 4, words, sheet.width - 2 * _GAP, SOFT)


def _colour(cosine: float, threshold: Threshold | None) -> str:
    return SOFT if threshold is None else SAME if threshold.accepts(float(cosine)) else DIFFERENT


def _small(face: Face, side: int) -> Image.Image:
    """What the model sees, in the middle of a square."""
    image = Image.fromarray(face.pixels)
    scale = side / max(image.size)
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    square = _paper(side, side)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def _paper(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), PAPER)


def _rows(count: int, columns: int) -> int:
    return -(-count // columns)


def _write(pen: ImageDraw.ImageDraw, x: float, y: float, text: str, width: float, colour: str) -> None:
    """A line of text, which others may have written; what does not fit is left out at its middle."""
    font, words = ImageFont.load_default(_TEXT), shown(text)
    if font.getlength(words) > width:
        kept = len(words)
        while kept > 2 and font.getlength(_short(words, kept)) > width:
            kept -= 1
        words = _short(words, kept)
    pen.text((x, y), words, colour, font)


def _short(words: str, kept: int) -> str:
    return f"{words[: kept // 2]}…{words[len(words) - (kept - kept // 2) :]}"
