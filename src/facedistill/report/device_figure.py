"""What a model file scores against its size and against the time that it takes."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from facedistill.report.on_device import DeviceFile, OnDevice, usual_machine
from facedistill.report.plotting import BLUE, GREEN, INK, MUTED, ORANGE, PINK, SKY, VERMILION, panel_grid
from facedistill.system.text import shown

# The colour and the marker of a format, whatever else is in the figure.
STYLES = {
    "onnx": (BLUE, "o"),
    "onnx-int8": (VERMILION, "s"),
    "openvino": (GREEN, "^"),
    "litert": (PINK, "D"),
    "ncnn": (SKY, "P"),
    "executorch": (ORANGE, "v"),
    "torch-program": (MUTED, "X"),
}
_OTHER = (INK, "*")
_WIDE = 4  # from which ratio of the largest to the smallest an axis is logarithmic
_ROOM = (0.3, 0.07)  # that a label takes, in shares of the axes


def device_figure(device: OnDevice) -> Figure | None:
    """A row of two panels for each kind of score; None: no file was scored."""
    scored = {
        scale: found
        for scale, files in device.by_scale.items()
        if (found := [file for file in files if file.model.score is not None])
    }
    if not scored:
        return None
    figure, panels = panel_grid(2 * len(scored), height=3.3)
    for number, (scale, files) in enumerate(scored.items()):
        sizes, times = panels[2 * number : 2 * number + 2]
        machine = usual_machine(files)
        timed = [file for file in files if file.model.median_ms and file.machine == machine]
        _draw(sizes, files, [file.megabytes for file in files], scale.lower_is_better)
        _draw(times, timed, [file.model.median_ms or 0 for file in timed], scale.lower_is_better)
        sizes.set(xlabel="MB", ylabel=shown(scale.title))
        times.set(xlabel=shown(f"ms a face, {machine}")[:90])
        sizes.set_title(shown(scale.heading)[:120], loc="left")
    handles: dict[str, Any] = {}
    for panel in panels:
        drawn, labels = panel.get_legend_handles_labels()
        handles |= dict(zip(reversed(labels), reversed(drawn), strict=True))
    names = sorted(handles, key=lambda name: ([*STYLES, name].index(name), name))
    figure.legend([handles[name] for name in names], names, loc="outside upper left", ncols=4, fontsize=8)
    return figure


def _draw(axes: Axes, files: Sequence[DeviceFile], prices: Sequence[float], lower_is_better: bool) -> None:
    """The files as points, and the line of those that nothing as cheap matches."""
    points = [(price, file.model.score or 0.0) for file, price in zip(files, prices, strict=True)]
    for file, (price, score) in zip(files, points, strict=True):
        color, marker = STYLES.get(file.model.format, _OTHER)
        axes.plot(price, score, marker, color=color, ms=5, alpha=0.8, label=shown(file.model.format))
    best = front(points, lower_is_better)
    axes.plot(*zip(*best, strict=True), color=INK, linewidth=0.8, zorder=0) if best else None
    axes.margins(x=0.12, y=0.12)
    if prices and 0 < _WIDE * min(prices) < max(prices):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.set_xlim(left=0)
    _label(axes, [(point, files[points.index(point)]) for point in best], -10 if lower_is_better else 5)


def _label(axes: Axes, best: Sequence[tuple[tuple[float, float], DeviceFile]], above: int) -> None:
    """The cells of a front, from the best, where there is room; ``above``: their points, in points of text."""
    place = axes.transData - axes.transAxes
    taken: list[tuple[float, float]] = []
    for point, file in reversed(best):
        x, y = place.transform(point)
        if all(abs(x - other) > _ROOM[0] or abs(y - another) > _ROOM[1] for other, another in taken):
            taken.append((x, y))
            side = ("left", 5) if x < 0.5 else ("right", -5)
            cell = file.record.cell
            text = shown(f"/{cell.rate} {cell.init}, {cell.target}")
            axes.annotate(text, point, (side[1], above), textcoords="offset points", size=6.5, ha=side[0])


def front(points: Sequence[tuple[float, float]], lower_is_better: bool = False) -> list[tuple[float, float]]:
    """The pairs of price and score that nothing as cheap reaches, by price."""
    sign = -1 if lower_is_better else 1
    found: list[tuple[float, float]] = []
    best = -math.inf
    for price, score in sorted(points, key=lambda point: (point[0], -sign * point[1])):
        if sign * score > best:
            best = sign * score
            found.append((price, score))
    return found
