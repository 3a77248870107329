"""The figures of the report, each a function of the study or of the assessed claims."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from statistics import mean, median
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from facedistill.metrics.pairs import roc
from facedistill.report.claims import Assessment
from facedistill.report.device_figure import device_figure, front
from facedistill.report.forest import forest
from facedistill.report.plotting import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PINK,
    SKY,
    STYLE,
    VERMILION,
    as_png,
    as_svg,
    panel_grid,
    single_panel,
    stacked_panels,
)
from facedistill.report.study import FilledTable, Study
from facedistill.report.tables import METRICS, RATES, READING_TITLES, Row
from facedistill.report.wording import key_of, verdict
from facedistill.system.decoration import decoration
from facedistill.system.text import shown

COLORS = (BLUE, VERMILION, GREEN, PINK, ORANGE, SKY, MUTED, INK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# The colour of a cell is its initialization, its marker and line are its target, in every figure.
INITIALIZATIONS = {"scratch": BLUE, "scratch_whole": SKY, "fitnet": ORANGE, "full": GREEN}
INITIALIZATIONS |= {"pretrain": VERMILION, "distill": PINK, "undistilled": ORANGE}
TARGETS = {"none": ("o", ":"), "soft": ("s", "-"), "hidden": ("^", "--"), "logits": ("D", "-.")}
TEACHER = {"color": INK, "marker": "*", "linestyle": "--"}
_PRICES = {"params": "parameters", "macs": "multiply-adds", "latency_ms": "ms a face on the CPU"}
CAPTIONS = {
    "rates": "Score on the test split against the compression rate: dots are seeds, lines their means, the dashed line "
    "is the teacher.",
    "cells": "Tables with one rate: dots are seeds, bars their means, the dashed line is the teacher.",
    "pareto": "Accuracy against cost: classification against parameters, multiply-adds, and milliseconds for one face "
    "on the CPU of the machine that trained. The line joins the networks that nothing as cheap matches.",
    "learning": "Learning curves of the smallest students: means over seeds.",
    "errors": "Alignment: cumulative error curves, the share of faces with at most an error, over all seeds.",
    "roc": "Verification of pairs of people who were not trained on: ROC of the first seed.",
    "cost": "Hours of training by task and rate, over all seeds.",
    "device": "Model files: the score in their own runtime against their size, and against the time that a face alone "
    "takes. The line joins the files that nothing as small or as fast matches.",
}


class Drawn(NamedTuple):
    """A figure as an ``<svg>`` element and as a PNG."""

    caption: str
    svg: str
    png: bytes


def figures(study: Study, assessed: Sequence[Assessment], failed: list[str]) -> dict[str, Drawn]:
    """By name, only those that there are runs for; why others could not be drawn is added to ``failed``."""
    draw: dict[str, Callable[[], Figure | None]] = {
        "rates": lambda: rates(study),
        "cells": lambda: cells(study),
        "pareto": lambda: pareto(study),
        "learning": lambda: learning(study),
        "errors": lambda: error_curves(study),
        "roc": lambda: rocs(study),
        "cost": lambda: cost(study),
        "device": lambda: device_figure(study.device),
    }
    plans = {name: (caption, draw[name]) for name, caption in CAPTIONS.items()}
    plans |= {
        f"claim-{key_of(one)}": (f"{one.title}: {one.claim}. {verdict(one)}", partial(forest, one)) for one in assessed
    }
    found = {}
    with mpl.rc_context(STYLE):
        for name, (caption, plot) in plans.items():
            with decoration(f"the figure {name}", failed):
                figure = plot()
                if figure is not None:
                    found[name] = Drawn(caption, as_svg(figure, name), as_png(figure))
    return found


def rates(study: Study) -> Figure | None:
    """A panel for each table with several rates, a line for each initialization and target."""
    tables = [filled for filled in study.tables if len({row.rate for row in filled.students}) > 1]
    if not tables:
        return None
    figure, panels = panel_grid(len(tables), height=4.4)
    for axes, filled in zip(panels, tables, strict=True):
        series: dict[str, list[Row]] = defaultdict(list)
        for row in filled.students:
            series[_without_rate(row)].append(row)
        for number, (label, rows) in enumerate(series.items()):
            style = style_of(rows[0])
            scores = [_scores(filled, row) for row in rows]
            places = [RATES.index(row.rate) + 0.05 * (number - len(series) / 2) for row in rows]
            axes.plot(places, [mean(values) for values in scores], ms=5, label=label, **style)
            for place, values in zip(places, scores, strict=True):
                axes.plot([place] * len(values), values, ".", color=style["color"], ms=3, alpha=0.7)
        _draw_teacher(axes.axhline, filled)
        axes.set_xticks(range(len(RATES)), [f"/{rate}" for rate in RATES])
        _describe(axes, filled)
    return figure


def cells(study: Study) -> Figure | None:
    """A panel for each table with one rate, a line for each cell."""
    tables = [filled for filled in study.tables if {row.rate for row in filled.table.students} == {8}]
    tables = [filled for filled in tables if filled.students]
    if not tables:
        return None
    lines = [len(filled.students) for filled in tables]
    figure, panels = stacked_panels(lines, 1.0 * len(lines) + 0.28 * sum(lines))
    for axes, filled in zip(panels, tables, strict=True):
        for place, row in enumerate(filled.students):
            values = _scores(filled, row)
            axes.plot(values, [place] * len(values), "o", color=BLUE, alpha=0.7, ms=5)
            if len(values) > 1:
                axes.plot(mean(values), place, "|", color=INK, ms=14)
        _draw_teacher(axes.axvline, filled)
        _label_lines(axes, [row.label for row in filled.students])
        axes.set_title(_title(filled))
        axes.set_xlabel(METRICS[filled.table.metric] + (", less is better" if filled.table.lower_is_better else ""))
    return figure


def pareto(study: Study) -> Figure | None:
    """The classification cells of table 2 and their teacher, on the first data set."""
    filled = _table2(study)
    if filled is None or not filled.rows:
        return None
    figure, panels = panel_grid(len(_PRICES), height=3.3, columns=3)
    for axes, (key, title) in zip(panels, _PRICES.items(), strict=True):
        points = [(row, _price(study, filled, row, key), mean(_scores(filled, row))) for row in filled.rows]
        for row, price, score in points:
            label = row.label if row.is_teacher else _without_rate(row)
            axes.plot(price, score, ms=6, label=label, **{**style_of(row), "linestyle": ""})
        for rate in {row.rate for row, *_ in points}:
            highest = max(((price, score) for row, price, score in points if row.rate == rate), key=lambda at: at[1])
            label = "teacher" if rate == 1 else f"/{rate}"
            axes.annotate(label, highest, (0, 6), textcoords="offset points", size=7, ha="center")
        best = front([(price, score) for _, price, score in points])
        axes.plot(*zip(*best, strict=True), color=INK, linewidth=0.8, zorder=0)
        if key == "latency_ms":
            axes.set_xlim(left=0)
        else:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(title)
    panels[0].set_ylabel(METRICS["top1"])
    handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=3, fontsize=7)
    return figure


def _price(study: Study, filled: FilledTable, row: Row, key: str) -> float:
    """A cost of a network: the median over all runs of its architecture, since a latency is never the same."""
    first = filled.records_of(row)[0]
    size = (first.params, first.macs)
    return median(float(getattr(other, key)) for other in study.records if (other.params, other.macs) == size)


def learning(study: Study) -> Figure | None:
    """The test metric by scored epoch, of the cells at rate 8 and of the teacher; a panel for each table with any."""

    def curves_of(filled: FilledTable, row: Row) -> list[list[tuple[float, float]]]:
        key = f"test/{filled.table.metric}"
        return [
            [(epoch["epoch"] + 1, epoch[key]) for epoch in record.history if key in epoch]
            for record in filled.records_of(row)
        ]

    tables = [filled for filled in study.tables if any(all(curves_of(filled, row)) for row in filled.rows)]
    if not tables:
        return None
    figure, panels = panel_grid(len(tables), height=4.2)
    for axes, filled in zip(panels, tables, strict=True):
        for row in filled.rows:
            curves = curves_of(filled, row)
            length = min(map(len, curves))
            if length and row.rate in (1, 8):
                epochs, means = np.mean([curve[:length] for curve in curves], axis=0).T
                axes.plot(epochs, means, ms=3, label=row.label, **style_of(row))
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _describe(axes, filled)
    return figure


def error_curves(study: Study) -> Figure | None:
    """The share of faces with at most an error, for each cell of alignment."""
    curves: list[tuple[Row, NDArray[np.float32]]] = []
    for filled in study.tables:
        for row in filled.rows if filled.table.lower_is_better else ():
            kept = [result.sample_scores for result in filled.results(row).values()]
            if errors := [scores for scores in kept if scores is not None]:
                curves.append((row, np.sort(np.concatenate(errors))))
    if not curves:
        return None
    figure, axes = single_panel("NRMSE of a face, %", "faces, %")
    end = float(np.quantile(np.concatenate([errors for _, errors in curves]), 0.98))
    limits = np.linspace(0, end, 200)
    for number, (row, sorted_errors) in enumerate(curves):
        within = 100 * np.searchsorted(sorted_errors, limits, side="right") / len(sorted_errors)
        axes.plot(limits, within, ms=4, markevery=(number, 25), label=row.label, **style_of(row))
    axes.legend(fontsize=7)
    return figure


def rocs(study: Study) -> Figure | None:
    """ROC of the teacher, of W_S0 and of the student with soft and full at every rate, on the first data set."""
    filled = _table2(study)
    if filled is None:
        return None
    curves = []  # label, false and true accept rates
    for row in filled.rows:
        if row.is_teacher or row.init == "full" or (row.rate == 8 and row.init == "scratch"):
            kept = filled.sample_scores(filled.records_of(row)[0].name)
            if kept is not None and kept.same.any() and not kept.same.all():
                curves.append((row.label, *roc(kept.similarity.astype(np.float64), kept.same)[:2]))
    if not curves:
        return None
    figure, axes = single_panel("false accept rate", "true accept rate, %")
    for number, (label, far, tar) in enumerate(curves):
        style = {"ms": 4, "markevery": 0.2, "marker": MARKERS[number], "color": COLORS[number], "label": label}
        axes.step(far, 100 * tar, "--" if number == 0 else "-", where="post", **style)
    axes.set_xscale("log")
    axes.set_xlim(min(float(far[far > 0].min(initial=1.0)) for _, far, _ in curves), 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(fontsize=7)
    return figure


def cost(study: Study) -> Figure | None:
    """Hours of training, by task and rate."""
    hours = study.hours
    if not hours:
        return None
    figure, axes = single_panel("hours", height=0.8 + 0.24 * len(hours))
    axes.barh(range(len(hours)), list(hours.values()), color=BLUE, height=0.6)
    _label_lines(axes, [shown(title) for title in hours])
    axes.grid(axis="y", visible=False)
    return figure


def _table2(study: Study) -> FilledTable | None:
    """Table 2 on the first data set that has runs."""
    return next((filled for filled in study.tables if filled.table.number == 2 and filled.records), None)


def _scores(filled: FilledTable, row: Row) -> Sequence[float]:
    return filled.entry(row, filled.table.metric).ours


def _draw_teacher(draw_line: Callable[..., object], filled: FilledTable) -> None:
    scores = _scores(filled, filled.table.teacher)
    if scores:
        draw_line(mean(scores), color=INK, linestyle="--", linewidth=1, label=f"teacher {mean(scores):.1f}")


def _label_lines(axes: Axes, labels: Sequence[str], **text: Any) -> None:
    """The labels of lines from the top, one below the other."""
    axes.set_yticks(range(len(labels)), labels, **text)
    axes.set_ylim(len(labels) - 0.5, -0.5)


def _title(filled: FilledTable) -> str:
    table = filled.table
    reading = f"\n{READING_TITLES[table.reading]}"
    return shown(f"Table {table.number}, {table.data} for {table.stands_for}") + reading


def _describe(axes: Axes, filled: FilledTable) -> None:
    """The title, the metric upwards, and a legend below, in two columns."""
    axes.set(title=_title(filled), ylabel=METRICS[filled.table.metric])
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)


def _without_rate(student: Row) -> str:
    return student.label.split(" ", 1)[1]


def style_of(row: Row) -> dict[str, Any]:
    """Colour, marker and line of a cell, whatever its rate."""
    if row.is_teacher:
        return TEACHER
    marker, line = TARGETS[row.target]
    return {"color": INITIALIZATIONS[row.init], "marker": marker, "linestyle": line}
