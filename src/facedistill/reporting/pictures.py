"""Pictures of one run, in its directory: learning curves, and test faces with what the network says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from facedistill.data.module import FaceData
from facedistill.files import write_aside
from facedistill.models.network import Network
from facedistill.runs import Run

SHOWN, COLUMNS = 24, 8


def save_pictures(run: Run, network: Network, data: FaceData, rows: Sequence[dict[str, float]]) -> None:
    """``curves.png`` and, for a network that classifies, ``samples.png``."""
    save(curves(rows, run.name), run.directory / "curves.png")
    if run.config.task.name != "hint":
        save(samples(network, data), run.directory / "samples.png")


def curves(rows: Sequence[dict[str, float]], title: str) -> Figure:
    """Training losses and test metric by epoch."""
    figure = Figure(figsize=(8, 3))
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.06, right=0.98, bottom=0.16, top=0.88)
    epochs = [row["epoch"] + 1 for row in rows]
    for axes, prefix in ((left, "train/"), (right, "test/")):
        for name in (key for key in rows[0] if key.startswith(prefix)):
            axes.plot(epochs, [row[name] for row in rows], marker=".", label=name)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.suptitle(title, fontsize=9)
    return figure


@torch.no_grad()
def samples(network: Network, data: FaceData) -> Figure:
    """Test faces spread over the identities: who it is, and who the network says it is."""
    test, names = data.faces.test, data.faces.identities
    chosen = test[np.linspace(0, len(test) - 1, min(SHOWN, len(test))).astype(int)]
    batch = next(iter(data.test_loader(chosen)))
    said = network(batch.images).logits.argmax(1).tolist()
    size = batch.images.shape[2]
    cell = size + size // 2  # one axes for all of them: one an image takes seconds to lay out
    rows = -(-len(chosen) // COLUMNS)
    canvas = np.full((rows * cell, COLUMNS * cell, 3), 255, np.uint8)
    figure = Figure(figsize=(COLUMNS * 1.3, rows * 1.35))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    for place, (image, label, answer) in enumerate(zip(batch.images, batch.labels.tolist(), said, strict=True)):
        top, left = place // COLUMNS * cell + size // 2, place % COLUMNS * cell + size // 4
        canvas[top : top + size, left : left + size] = image.permute(1, 2, 0).numpy()
        right = label == answer
        text = _short(names[label]) + ("" if right else f"\nnot {_short(names[answer])}")
        color = "black" if right else "#c0392b"
        axes.text(left + size / 2, top - 2, text, ha="center", va="bottom", fontsize=6, color=color, parse_math=False)
    axes.imshow(canvas, aspect="auto")
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "…"


def save(figure: Figure, path: Path) -> None:
    """PNG, whole or not at all, the same bytes for the same picture."""
    with write_aside(path) as part:
        figure.savefig(part, format="png", dpi=110, metadata={"Software": None})
