"""One style for the figures of the report: colours, panels, SVG and PNG."""

import io
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#1b1c1d"  # becomes currentColor
MUTED = "#8c8c8c"
# Okabe and Ito 2008: colour-blind people can distinguish them
BLUE, VERMILION, GREEN, PINK, SKY, ORANGE = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"
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


def single_panel(xlabel: str, ylabel: str = "", height: float = 3.8) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.5, height), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=xlabel, ylabel=ylabel)
    return figure, axes


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
