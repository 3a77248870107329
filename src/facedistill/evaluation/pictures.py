"""Pictures of one run, drawn from arrays: learning curves, test faces with predictions, ROC, error curve."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from facedistill.system.files import write_aside
from facedistill.system.text import shown

SHOWN, COLUMNS = 24, 8
CORRECT, WRONG, TRUE = "black", "#d55e00", "#0072b2"


def save_pictures(pictures: Mapping[str, Figure], directory: Path) -> None:
    """Write each as ``<name>.png``, atomically, the same bytes for the same picture."""
    for name, figure in pictures.items():
        with write_aside(directory / f"{name}.png") as part:
            figure.savefig(part, format="png", dpi=110, metadata={"Software": None})


def spread(indices: NDArray[np.int64], count: int = SHOWN) -> NDArray[np.int64]:
    """``count`` of the indices, evenly spread."""
    places = np.linspace(0, len(indices) - 1, min(count, len(indices)))
    return np.asarray(indices[places.astype(int)])


def curves(rows: Sequence[Mapping[str, float]], metric: str, title: str) -> Figure:
    """Training losses by epoch and, of the epochs that were scored, the test metric."""
    losses, score = [key for key in rows[0] if key.startswith("train/")], f"test/{metric}"
    panels = [losses, [score]] if any(score in row for row in rows) else [losses]
    figure = Figure(figsize=(4 * len(panels), 3))
    figure.subplots_adjust(left=0.16 / len(panels), right=0.98, bottom=0.16, top=0.88)
    for axes, names in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name in names:
            known = [row for row in rows if name in row]
            axes.plot([row["epoch"] + 1 for row in known], [row[name] for row in known], marker=".", label=name)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.suptitle(shown(title), fontsize=9, parse_math=False)
    return figure


def identified(images: NDArray[np.uint8], true: Sequence[str], predicted: Sequence[str]) -> Figure:
    """Faces [N, S, S, 3] with their true identities, and the predicted ones where they differ."""
    figure, axes, corners = _faces(images)
    size = images.shape[1]
    for (left, top), name, guess in zip(corners, true, predicted, strict=True):
        correct = name == guess
        _write(axes, left + size / 2, top, _short(name) + ("" if correct else f"\nnot {_short(guess)}"), correct)
    return figure


def nearest(images: NDArray[np.uint8], neighbours: NDArray[np.uint8], correct: Sequence[bool]) -> Figure:
    """Faces [N, S, W, 3], each beside its nearest test face."""
    figure, axes, corners = _faces(np.concatenate([images, neighbours], axis=2))
    for (left, top), ok in zip(corners, correct, strict=True):
        _write(axes, left + images.shape[2], top, "same person" if ok else "another person", ok)
    return figure


def landmarks(images: NDArray[np.uint8], true: NDArray[np.float32], predicted: NDArray[np.float32]) -> Figure:
    """Faces [N, S, S, 3] with true and predicted landmarks [N, 5, 2], in pixels of the face."""
    figure, axes, corners = _faces(images, gap=images.shape[1] // 8)
    for points, color, marker, label in ((true, TRUE, "o", "true"), (predicted, WRONG, "x", "predicted")):
        moved = points + np.array(corners)[:, None]
        axes.plot(*moved.reshape(-1, 2).T, marker, color=color, markersize=4, fillstyle="none", label=label)
    axes.legend(loc="upper left", ncols=2, fontsize=7, frameon=False, borderaxespad=0, labelcolor="black")
    return figure


def error_curve(errors: NDArray[np.float64], fraction: NDArray[np.float64], title: str) -> Figure:
    """Cumulative error curve: the fraction of faces with at most each error (NRMSE, %)."""
    figure, axes = _plot(title, "NRMSE, %", "faces, %")
    axes.plot(errors, 100 * fraction, color=TRUE)
    for threshold in (8, 10):
        axes.axvline(threshold, color="gray", linestyle=":", linewidth=1)
    axes.set_xlim(0, errors[-1])
    return figure


def roc_curve(far: NDArray[np.float64], tar: NDArray[np.float64], title: str) -> Figure:
    """ROC of pair verification, with false accept rates on a logarithmic axis."""
    figure, axes = _plot(title, "false accept rate", "true accept rate, %")
    axes.step(far, 100 * tar, where="post", color=TRUE)
    axes.set(xscale="log", xlim=(max(far[far > 0].min(initial=1.0), 1e-6), 1))
    axes.xaxis.set_major_formatter("{x:g}")  # powers in mathtext take as long as the rest of the picture
    axes.xaxis.set_minor_formatter(NullFormatter())
    return figure


def _plot(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    """A plot of percentages over ``x``."""
    figure = Figure(figsize=(4.5, 3.5))
    axes = figure.subplots()
    figure.subplots_adjust(left=0.14, right=0.96, bottom=0.14, top=0.9)
    axes.set(xlabel=x, ylabel=y, ylim=(0, 100))
    axes.set_title(title, fontsize=8)
    axes.grid(alpha=0.3)
    return figure, axes


def _faces(images: NDArray[np.uint8], gap: int | None = None) -> tuple[Figure, Axes, list[tuple[int, int]]]:
    """A grid of faces [N, S, W, 3] on one axes (one axes for each would take seconds), and their corners (x, y).

    ``gap``: between them, pixels; by default half a face, for a text.
    """
    height, width = images.shape[1:3]
    gap = height // 2 if gap is None else gap
    columns = COLUMNS if width == height else COLUMNS // 2
    rows = -(-len(images) // columns)
    head = max(gap, height // 4)
    canvas = np.full((head + rows * (height + gap), columns * (width + gap), 3), 255, np.uint8)
    figure = Figure(figsize=(10.4, 10.4 * canvas.shape[0] / canvas.shape[1]))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    corners = []
    for place, image in enumerate(images):
        left, top = place % columns * (width + gap) + gap // 2, place // columns * (height + gap) + head
        canvas[top : top + height, left : left + width] = image
        corners.append((left, top))
    axes.imshow(canvas, aspect="auto")
    return figure, axes, corners


def _write(axes: Axes, x: float, y: float, text: str, correct: bool) -> None:
    color = CORRECT if correct else WRONG
    axes.text(x, y - 2, text, ha="center", va="bottom", fontsize=6, color=color, parse_math=False)


def _short(name: str) -> str:
    name = shown(name)
    return name if len(name) <= 18 else name[:17] + "…"
