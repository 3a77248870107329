"""What a data source has, what is broken in it, and whether it can be trained on."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.faces import FaceSet, Pairs
from facedistill.data.files.store import progress_bar
from facedistill.data.sources.photo_source import PhotoSource
from facedistill.errors import DataError

LOOKED_AT = 5000  # images of a larger set, spread over it: seconds
PEOPLE, SHOTS, GAP = 10, 8, 2
_SHOWN = 5
_BAR = 30
_EDGES = (1, 2, 5, 10, 20, 50, 100, 200, 500)


@dataclass(frozen=True)
class Survey:
    """What was found in a source of N images.

    Attributes:
        form: what it is, and where.
        there: images and identities that there are, before any is left out.
        labels: int64 [N]. is_test: bool [N].
        whole: bool [N], not known to be broken.
        identities: names; none where there are landmarks only.
        checked: how it was found out what is broken.
        broken: the first complaints; ``broken_count`` of them there are.
        sizes: how often images of (width, height) were met.
        squares: some images as they are shown, uint8 [size, size, 3], by number.
        counts, notes: what else is known.
    """

    form: str
    there: tuple[int, int]
    labels: NDArray[np.int64]
    is_test: NDArray[np.bool_]
    whole: NDArray[np.bool_]
    identities: Sequence[str]
    checked: str
    broken: list[str]
    broken_count: int
    sizes: Counter[tuple[int, int]]
    squares: dict[int, NDArray[np.uint8]]
    counts: Mapping[str, int]
    notes: Sequence[str] = ()

    @property
    def trainable(self) -> bool:
        """Whether what is whole has both sides of the split, and two people where it has any."""
        sides = np.unique(self.is_test[self.whole])
        return len(sides) == 2 and (not self.identities or len(np.unique(self.labels[self.whole])) > 1)


def survey_photos(source: PhotoSource, size: int, cache_dir: Path, check_all: bool) -> Survey:
    """Decode some images, or all of a small set, or all with ``check_all``; nothing that is broken stops it.

    ``source`` must leave out what is broken (on_error=skip).

    Raises:
        DataError: there is nothing that could be looked at.
    """
    found = source.inventory(cache_dir)
    count = len(found.labels)
    some = not check_all and count > LOOKED_AT
    spread = np.linspace(0, count - 1, LOOKED_AT).astype(int) if some else np.arange(count)
    sheet = sheet_numbers(found.labels, bool(found.identities))
    numbers = np.union1d(spread, sheet)
    sizes: Counter[tuple[int, int]] = Counter()
    squares: dict[int, NDArray[np.uint8]] = {}
    broken: list[str] = []
    bad: list[int] = []

    def look(number: int) -> tuple[int, tuple[int, int], NDArray[np.uint8]] | tuple[int, str]:
        try:
            image = source.open(number)
            return number, image.size, source.show(number, image, size)[0]
        except DataError as error:
            return number, str(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool, progress_bar() as progress:
        bar = progress.add_task("decoding images", total=len(numbers))
        wanted = set(sheet.tolist())
        for seen in pool.map(look, numbers.tolist()):
            progress.advance(bar)
            if len(seen) == 2:
                bad.append(seen[0])
                broken.append(seen[1])
                continue
            sizes[seen[1]] += 1
            if seen[0] in wanted:
                squares[seen[0]] = seen[2]
    whole = np.ones(count, np.bool_)
    whole[bad] = False
    return Survey(
        f"{found.form} in {found.path}",
        found.there,
        found.labels,
        found.is_test,
        whole,
        found.identities,
        f"{len(numbers):,} of {count:,} images were decoded, spread over all; check=all decodes every one"
        if some
        else "every image was decoded",
        [*source.faults.first, *broken][:_SHOWN],
        source.faults.count + len(broken),
        sizes,
        squares,
        found.counts,
        found.notes,
    )


def survey_faces(faces: FaceSet, form: str, checked: str) -> Survey:
    """Of faces that are decoded already."""
    size = faces.images.shape[1]
    return Survey(
        form,
        (len(faces.labels), len(faces.identities)),
        faces.labels,
        faces.is_test,
        np.ones(len(faces.labels), np.bool_),
        faces.identities,
        checked,
        [],
        0,
        Counter({(size, size): len(faces.labels)}),
        {int(i): faces.images[i] for i in sheet_numbers(faces.labels, bool(faces.identities))},
        {name: n for name, n in faces.counts.items() if name not in ("images", "identities", "skipped")},
    )


def sheet_numbers(labels: NDArray[np.int64], by_identity: bool) -> NDArray[np.int64]:
    """The images of a contact sheet: ``SHOTS`` of each of ``PEOPLE`` identities, both spread; or spread over all.

    Identities with fewer images are shown only where there are not ten with as many.
    """
    if not by_identity:
        return np.unique(np.linspace(0, len(labels) - 1, PEOPLE * SHOTS).astype(np.int64))
    order = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    tenth = np.sort(counts)[-PEOPLE:][0]
    people = np.flatnonzero(counts >= min(tenth, SHOTS))
    chosen = people[np.unique(np.linspace(0, len(people) - 1, PEOPLE).astype(int))]
    rows = [order[starts[row] : starts[row] + counts[row]] for row in chosen]
    return np.concatenate([row[np.unique(np.linspace(0, len(row) - 1, SHOTS).astype(int))] for row in rows])


def contact_sheet(rows: Sequence[Sequence[NDArray[np.uint8]]], size: int) -> Image.Image:
    """Images uint8 [size, size, 3] in rows, on white."""
    columns = max(map(len, rows))
    sheet = np.full((len(rows) * (size + GAP), columns * (size + GAP), 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = i * (size + GAP), j * (size + GAP)
            sheet[top : top + size, left : left + size] = image
    return Image.fromarray(sheet)


def sheet_rows(survey: Survey) -> list[list[NDArray[np.uint8]]]:
    """The rows of a contact sheet: an identity each, where there are identities."""
    squares = list(survey.squares.items())
    if not survey.identities:
        images = [image for _, image in squares]
        return [images[i : i + SHOTS] for i in range(0, len(images), SHOTS)]
    rows: dict[int, list[NDArray[np.uint8]]] = {}
    for number, image in squares:
        rows.setdefault(int(survey.labels[number]), []).append(image)
    return list(rows.values())


def pair_rows(pairs: Pairs) -> list[list[NDArray[np.uint8]]]:
    """The two images of some pairs, beside each other: first of one person, then of two."""
    same, other = np.flatnonzero(pairs.same), np.flatnonzero(~pairs.same)
    half = PEOPLE * SHOTS // 4
    chosen = [np.linspace(0, len(pairs) - 1, half).astype(int) for pairs in (same, other)]
    images = [
        image
        for i in [*same[chosen[0]], *other[chosen[1]]]
        for image in (pairs.images[pairs.left[i]], pairs.images[pairs.right[i]])
    ]
    return [images[i : i + SHOTS] for i in range(0, len(images), SHOTS)]


def described(survey: Survey, published: Mapping[str, Sequence[int]]) -> list[str]:
    """The survey in lines of text."""
    images, identities = survey.there
    lines = [*counted(images, identities, published)]
    if survey.identities:
        lines += _images_an_identity(np.unique(survey.labels, return_counts=True)[1])
    lines += [_line(name.replace("_", " "), count) for name, count in survey.counts.items() if count]
    lines += [_line("note", "", note) for note in survey.notes]
    common = ", ".join(f"{width}×{height} ({count:,})" for (width, height), count in survey.sizes.most_common(3))
    others = len(survey.sizes) - 3
    lines.append(_line("image sizes", "", common + (f" and {others:,} others" if others > 0 else "")))
    lines.append(_line("broken", survey.broken_count, survey.checked))
    lines += [f"    {complaint}" for complaint in survey.broken]
    if survey.broken_count > len(survey.broken):
        lines.append(f"    … and {survey.broken_count - len(survey.broken):,} more")
    tests = survey.is_test[survey.whole]
    lines.append(_line("to train on", int((~tests).sum()), f"{tests.sum():,} to test on"))
    return lines


def _line(name: str, count: int | str, remark: str = "") -> str:
    number = f"{count:,}" if isinstance(count, int) else count
    return f"  {name:28} {number:>11}  {remark}".rstrip() if number else f"  {name:28} {remark}"


def counted(images: int, identities: int, published: Mapping[str, Sequence[int]]) -> list[str]:
    """Images and identities, beside the published numbers that are nearest."""
    counted = {"images": images} | ({"identities": identities} if identities else {})
    if not published:
        return [_line(name, count) for name, count in counted.items()]

    def distance(numbers: Sequence[int]) -> float:
        return sum(abs(math.log(a / max(b, 1))) for a, b in zip(numbers, (images, identities), strict=True))

    title, numbers = min(published.items(), key=lambda item: distance(item[1]))
    lines = []
    for (name, count), number in zip(counted.items(), numbers, strict=False):
        less = f"{number - count:,} fewer than {title}, {number:,}"
        more = f"{count - number:,} more than {title}, {number:,}"
        lines.append(_line(name, count, title if count == number else less if count < number else more))
    return lines


def _images_an_identity(counts: NDArray[Any]) -> list[str]:
    """Range, median and a histogram."""
    lines = [_line("images an identity", "", f"{counts.min():,} to {counts.max():,}, median {np.median(counts):,.0f}")]
    edges = [edge for edge in _EDGES if edge <= counts.max()]
    people = np.histogram(counts, [*edges, counts.max() + 1 if counts.max() >= edges[-1] else edges[-1]])[0]
    for i, number in enumerate(people.tolist()):
        if number:
            last = edges[i + 1] - 1 if i + 1 < len(edges) else int(counts.max())
            title = f"{edges[i]}" if last == edges[i] else f"{edges[i]}-{last}"
            bar = "█" * max(1, round(_BAR * number / people.max()))
            lines.append(f"    {title:>9}  {bar} {number:,} {'identity' if number == 1 else 'identities'}")
    return lines
