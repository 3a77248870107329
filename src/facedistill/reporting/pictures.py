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

SHOWN = 24


def save_pictures(run: Run, network: Network, data: FaceData, rows: Sequence[dict[str, float]]) -> None:
    """``curves.png`` and, for a network that classifies, ``samples.png``."""
    save(curves(rows, run.name), run.directory / "curves.png")
    if run.config.task.name != "hint":
        save(samples(network, data), run.directory / "samples.png")


def curves(rows: Sequence[dict[str, float]], title: str) -> Figure:
    """Training losses and test metric by epoch."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
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
    test = data.faces.test
    chosen = test[np.linspace(0, len(test) - 1, min(SHOWN, len(test))).astype(int)]
    figure = Figure(figsize=(9, 5), layout="constrained")
    grid = figure.subplots(3, -(-len(chosen) // 3), squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    names = data.faces.identities
    cells = iter(grid.flat)
    for batch in data.test_loader(chosen):
        said = network(batch.images).logits.argmax(1)
        for image, label, answer in zip(batch.images, batch.labels.tolist(), said.tolist(), strict=True):
            axes = next(cells)
            axes.imshow(image.permute(1, 2, 0).numpy())
            right = label == answer
            text = names[label] if right else f"{names[label]}\nnot {names[answer]}"
            axes.set_title(text, fontsize=6, color="black" if right else "#c0392b", parse_math=False)
    return figure


def save(figure: Figure, path: Path) -> None:
    """PNG, whole or not at all, the same bytes for the same picture."""
    with write_aside(path) as part:
        figure.savefig(part, format="png", dpi=110, metadata={"Software": None})
