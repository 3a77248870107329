"""What a data source has, what is broken in it, and whether it can be trained on."""

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.faces import FaceSet, Pairs, Samples
from facedistill.data.files.photos import full_size
from facedistill.data.placement import judge_placement
from facedistill.data.sources.photo_source import Inventory, PhotoSource, tested_only
from facedistill.errors import DataError
from facedistill.system.progress import progress_bar

Images = Sequence[NDArray[np.uint8]]  # each [size, size, 3]
MOST_DECODED = 5000  # images of a larger set, evenly spaced: seconds
ROWS, COLUMNS, GAP = 10, 8, 2  # of a contact sheet; the gap in pixels
_ERRORS_SHOWN = 5
_BAR = 30
_EDGES = (1, 2, 5, 10, 20, 50, 100, 200, 500)


@dataclass(frozen=True)
class Survey:
    """The N images of a source.

    Attributes:
        title: what it is, and where.
        inventory: of all of them, before any was decoded.
        checked: how broken images were searched for.
        sizes: the number of images by (width, height).
        thumbnails: some images as a network sees them, uint8 [size, size, 3], by number.
        usable: bool [N], not known to be broken.
        errors: the first messages about what can't be used.
        unusable_names: how many names of files, or lines of lists, are at fault.
        broken_count: how many images are broken.
        prepared: what is known of faces that are prepared already, all of them usable.
    """

    title: str
    inventory: Inventory
    checked: str
    sizes: Counter[tuple[int, int]]
    thumbnails: dict[int, NDArray[np.uint8]]
    usable: NDArray[np.bool_]
    errors: Sequence[str] = ()
    unusable_names: int = 0
    broken_count: int = 0
    prepared: Samples | None = None

    @property
    def samples(self) -> Samples:
        """Those of the usable images."""
        if self.prepared is not None:
            return self.prepared
        samples = self.inventory.samples
        return replace(samples, labels=samples.labels[self.usable], is_test=samples.is_test[self.usable])


def survey_photos(source: PhotoSource, size: int, cache_dir: Path, check_all: bool) -> Survey:
    """Decode some images, or all of a small set, or all with ``check_all``; broken ones are counted.

    ``source`` must skip broken images (on_error=skip). Raises ``DataError`` if there is nothing to decode.
    """
    inventory = source.inventory(cache_dir)
    count = len(inventory.labels)
    some = not check_all and count > MOST_DECODED
    spread = np.linspace(0, count - 1, MOST_DECODED).astype(int) if some else np.arange(count)
    on_sheet = sheet_numbers(inventory.labels, bool(inventory.identities))
    numbers = np.union1d(spread, on_sheet)
    sizes: Counter[tuple[int, int]] = Counter()
    thumbnails: dict[int, NDArray[np.uint8]] = {}
    errors: list[str] = []
    usable = np.ones(count, np.bool_)

    def decode(number: int) -> tuple[tuple[int, int], NDArray[np.uint8]] | str:
        try:
            image = source.open(number)
            return full_size(image), source.to_square(number, image, size)[0]
        except DataError as error:
            return str(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool, progress_bar() as progress:
        bar = progress.add_task("decoding images", total=len(numbers))
        wanted = set(on_sheet.tolist())
        for number, decoded in zip(numbers.tolist(), pool.map(decode, numbers.tolist()), strict=True):
            progress.advance(bar)
            if isinstance(decoded, str):
                usable[number] = False
                errors.append(decoded)
                continue
            sizes[decoded[0]] += 1
            if number in wanted:
                thumbnails[number] = decoded[1]
    spread_over = f"{len(numbers):,} of {count:,} images were decoded, spread over all; check=all decodes every one"
    checked = spread_over if some else "every image was decoded"
    shown = [*source.faults.first, *errors][:_ERRORS_SHOWN]
    title = f"{inventory.kind} in {inventory.path}"
    return Survey(title, inventory, checked, sizes, thumbnails, usable, shown, source.faults.count, len(errors))


def survey_faces(faces: FaceSet, title: str, checked: str) -> Survey:
    """The survey of faces that are prepared already."""
    count, size, labels = len(faces.labels), faces.images.shape[1], faces.labels
    others = {name: n for name, n in faces.counts.items() if name not in ("images", "identities", "skipped")}
    inventory = Inventory(
        kind=title,
        path=Path(),
        available=(count, len(faces.identities)),
        identities=faces.identities,
        labels=labels,
        is_test=faces.is_test,
        stamp=None,
        has_landmarks=faces.landmarks is not None,
        has_eyes=faces.samples.has_eyes,
        counts=others,
    )
    thumbnails = {int(i): faces.images[i] for i in sheet_numbers(labels, bool(faces.identities))}
    sizes, usable = Counter({(size, size): count}), np.ones(count, np.bool_)
    return Survey(title, inventory, checked, sizes, thumbnails, usable, prepared=faces.samples)


def sheet_numbers(labels: NDArray[np.int64], by_identity: bool) -> NDArray[np.int64]:
    """The images of a contact sheet: ``COLUMNS`` of each of ``ROWS`` identities, or as many of all, evenly spaced.

    Identities with fewer images are shown only if fewer than ten have as many.
    """
    if not by_identity:
        return np.unique(np.linspace(0, len(labels) - 1, ROWS * COLUMNS).astype(np.int64))
    order = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    tenth = np.sort(counts)[-ROWS:][0]
    identities = np.flatnonzero(counts >= min(tenth, COLUMNS))
    chosen = identities[np.unique(np.linspace(0, len(identities) - 1, ROWS).astype(int))]
    images = [order[starts[identity] : starts[identity] + counts[identity]] for identity in chosen]
    return np.concatenate([part[np.unique(np.linspace(0, len(part) - 1, COLUMNS).astype(int))] for part in images])


def contact_sheet(rows: Sequence[Images], size: int) -> Image.Image:
    """Rows of images uint8 [size, size, 3] on white."""
    sheet = np.full((len(rows) * (size + GAP), max(map(len, rows)) * (size + GAP), 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = i * (size + GAP), j * (size + GAP)
            sheet[top : top + size, left : left + size] = image
    return Image.fromarray(sheet)


def sheet_rows(survey: Survey) -> list[Images]:
    """The rows of a contact sheet, one per identity if there are identities."""
    if not survey.inventory.identities:
        return _in_rows(list(survey.thumbnails.values()))
    rows: dict[int, list[NDArray[np.uint8]]] = {}
    for number, image in survey.thumbnails.items():
        rows.setdefault(int(survey.inventory.labels[number]), []).append(image)
    return list(rows.values())


def pair_rows(pairs: Pairs) -> list[Images]:
    """Some pairs, their two images next to each other: first of one person, then of two."""
    same, different = np.flatnonzero(pairs.same), np.flatnonzero(~pairs.same)
    half = ROWS * COLUMNS // 4
    chosen = [part[np.linspace(0, len(part) - 1, half).astype(int)] for part in (same, different) if len(part)]
    indices = [index for i in np.concatenate(chosen) for index in (pairs.left[i], pairs.right[i])]
    return _in_rows([pairs.images[index] for index in indices])


def pairs_line(pairs: Pairs) -> str:
    """How many pairs there are, and of whom."""
    trained = int(pairs.trained_on.sum())
    remark = f"{int(pairs.same.sum()):,} of one person" + (f"; {trained:,} with people trained on" if trained else "")
    return _line("pairs", len(pairs.same), remark)


def alignment_line(source: PhotoSource, survey: Survey) -> str:
    """Where the faces of a source lie. Raises ``DataError`` where recognizers fail on them."""
    return _line("alignment", "", judge_placement(source, len(survey.usable)))


def _in_rows(images: Images) -> list[Images]:
    return [images[i : i + COLUMNS] for i in range(0, len(images), COLUMNS)]


def described(survey: Survey, published: Mapping[str, Sequence[int]]) -> list[str]:
    """The survey as lines of text; ``published``: numbers of images and identities by title."""
    inventory, usable = survey.inventory, survey.samples
    if usable.has_liveness:
        lines = [_line("images", inventory.available[0])]
        lines += [_line(name, int((inventory.labels == i).sum())) for i, name in enumerate(inventory.identities)]
        unused = inventory.available[0] - len(usable.labels)
        lines.append(_line("not used", unused, "of people who are trained on, in the domain held out"))
    else:
        lines = count_lines(*inventory.available, published)
        if inventory.identities:
            lines += _histogram(np.unique(inventory.labels, return_counts=True)[1])
    counts = inventory.counts | tested_only(usable.labels, usable.is_test)
    few = {"identities_below_min_images": f"with {inventory.available[0] - len(inventory.labels):,} images"}
    lines += [_line(name.replace("_", " "), count, few.get(name, "")) for name, count in counts.items() if count]
    lines += [_line("note", "", note) for note in inventory.notes]
    common = ", ".join(f"{width}×{height} ({count:,})" for (width, height), count in survey.sizes.most_common(3))
    others = len(survey.sizes) - 3
    lines.append(_line("image sizes", "", common + (f" and {others:,} others" if others > 0 else "")))
    lines.append(_line("broken", survey.broken_count, survey.checked))
    if survey.unusable_names:
        lines.append(_line("names or lines at fault", survey.unusable_names))
    lines += [f"    {error}" for error in survey.errors]
    if (more := survey.broken_count + survey.unusable_names - len(survey.errors)) > 0:
        lines.append(f"    … and {more:,} more")
    lines.append(_line("to train on", int((~usable.is_test).sum()), f"{usable.is_test.sum():,} to test on"))
    return lines


def _line(name: str, count: int | str, remark: str = "") -> str:
    number = f"{count:,}" if isinstance(count, int) else count
    return f"  {name:28} {number:>11}  {remark}".rstrip() if number else f"  {name:28} {remark}"


def count_lines(images: int, identities: int, published: Mapping[str, Sequence[int]]) -> list[str]:
    """Numbers of images and identities, compared with the closest published ones."""
    counts = {"images": images} | ({"identities": identities} if identities else {})
    if not published:
        return [_line(name, count) for name, count in counts.items()]

    def distance(numbers: Sequence[int]) -> float:
        return sum(abs(math.log(a / max(b, 1))) for a, b in zip(numbers, (images, identities), strict=True))

    title, numbers = min(published.items(), key=lambda item: distance(item[1]))
    lines = []
    for (name, count), number in zip(counts.items(), numbers, strict=False):
        less = f"{number - count:,} fewer than {title}, {number:,}"
        more = f"{count - number:,} more than {title}, {number:,}"
        lines.append(_line(name, count, title if count == number else less if count < number else more))
    return lines


def _histogram(counts: NDArray[Any]) -> list[str]:
    """Range, median and histogram of the number of images per identity."""
    lines = [_line("images per identity", "", f"{counts.min():,} to {counts.max():,}, median {np.median(counts):,.0f}")]
    edges = [edge for edge in _EDGES if edge <= counts.max()]
    people = np.histogram(counts, [*edges, counts.max() + 1 if counts.max() >= edges[-1] else edges[-1]])[0]
    for i, number in enumerate(people.tolist()):
        if number:
            last = edges[i + 1] - 1 if i + 1 < len(edges) else int(counts.max())
            title = f"{edges[i]}" if last == edges[i] else f"{edges[i]}-{last}"
            bar = "█" * max(1, round(_BAR * number / people.max()))
            lines.append(f"    {title:>9}  {bar} {number:,} {'identity' if number == 1 else 'identities'}")
    return lines
