"""The style of all figures of the report: colours, markers and lines of cells, layouts, and export as SVG and PNG."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from facedistill.report.claims import Verdict
from facedistill.report.tables import Row

INK = "#1b1c1d"  # becomes currentColor
MUTED = "#8c8c8c"
# Okabe and Ito 2008: colour-blind people can distinguish them
BLUE, VERMILION, GREEN, PINK, SKY, ORANGE = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"
COLORS = (BLUE, VERMILION, GREEN, PINK, ORANGE, SKY, MUTED, INK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# The colour of a cell is its initialization, its marker and line are its target, in every figure.
INITIALIZATIONS = {"scratch": BLUE, "scratch_whole": SKY, "fitnet": ORANGE, "full": GREEN}
INITIALIZATIONS |= {"pretrain": VERMILION, "distill": PINK}
TARGETS = {"none": ("o", ":"), "soft": ("s", "-"), "hidden": ("^", "--"), "logits": ("D", "-.")}
TEACHER = {"color": INK, "marker": "*", "linestyle": "--"}
VERDICTS = {Verdict.HOLDS: (BLUE, "o"), Verdict.FAILS: (VERMILION, "s"), Verdict.UNDECIDED: (MUTED, "D")}
STYLE = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": MUTED,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "svg.fonttype": "none",
    "text.parse_math": False,  # people choose names, and they may have a $
}


def style_of(row: Row) -> dict[str, Any]:
    """Colour, marker and line of a cell, whatever its rate."""
    if row.is_teacher:
        return TEACHER
    marker, line = TARGETS[row.target]
    return {"color": INITIALIZATIONS[row.init], "marker": marker, "linestyle": line}


def panel_grid(count: int, height: float, columns: int = 2) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels, each ``height`` inches high, in at most ``columns`` columns."""
    columns = min(count, columns)
    rows = -(-count // columns)
    figure = Figure(figsize=(8 if columns > 1 else 5.5, height * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for spare in panels[count:]:
        spare.remove()
    return figure, panels[:count]


def stacked_panels(lines: Sequence[int], height: float) -> tuple[Figure, list[Axes]]:
    """A figure of panels below each other, each as high as its number of lines, ``height`` inches in all."""
    figure = Figure(figsize=(8, height), layout="constrained")
    return figure, figure.subplots(len(lines), 1, squeeze=False, height_ratios=lines)[:, 0].tolist()


def single_panel(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.5, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    return figure, axes


def legend_below(axes: Axes) -> None:
    """A legend below the axes, in two columns."""
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)


def as_svg(figure: Figure, name: str) -> str:
    """An ``<svg>`` element in the colour of the surrounding text, the same bytes for the same figure."""
    file = io.StringIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")


def as_png(figure: Figure) -> bytes:
    """A PNG on white, the same bytes for the same figure."""
    file = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(file, format="png", dpi=130, metadata={"Software": None})
    return file.getvalue()
