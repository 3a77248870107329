"""The figures of the report, each a function of the study."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import mean, median

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from facedistill.metrics.pairs import roc
from facedistill.report.claims import Answer, Finding
from facedistill.report.study import Filled, Study
from facedistill.report.style import ANSWERED, BLUE, COLORS, INK, MARKERS, STYLE, legend_below, panels_of, style_of
from facedistill.report.tables import METRICS, Record, Row

EFFECTS = {"initialization": ("C2", "C5", "K1", "K2"), "target": ("C1", "C4", "C6", "C7")}


def figures(study: Study, answered: Sequence[Answer]) -> dict[str, tuple[str, Figure]]:
    """By name, what each one shows, and the figure; only those for which there are runs."""
    drawn: dict[str, tuple[str, Callable[[], Figure | None]]] = {
        "rates": (
            "Score on the test split against the compression rate: dots are seeds, lines their means, dashed the "
            "teacher.",
            lambda: rates(study),
        ),
        "cells": (
            "Tables with one rate: a dot a seed, a bar at their mean, dashed the teacher.",
            lambda: cells(study),
        ),
        "initialization": (
            "Effect of the initialization: paired differences with 95 % intervals; to the right, as the paper says.",
            lambda: effects(answered, EFFECTS["initialization"]),
        ),
        "target": (
            "Effect of the target: paired differences with 95 % intervals; to the right, as the paper says.",
            lambda: effects(answered, EFFECTS["target"]),
        ),
        "pareto": (
            "What accuracy costs: classification against parameters, multiply-adds, and milliseconds for one face on "
            "the CPU of the machine that trained. The line joins those that nothing smaller beats.",
            lambda: pareto(study),
        ),
        "learning": ("Learning curves of the smallest students: mean over seeds.", lambda: learning(study)),
        "errors": (
            "Alignment: cumulative error curve, faces with at most an error, all seeds together.",
            lambda: error_curves(study),
        ),
        "roc": (
            "Verification of pairs of people who were not trained on: ROC, of the first seed.",
            lambda: rocs(study),
        ),
        "cost": ("Hours of training by what was trained, all seeds together.", lambda: cost(study)),
    }
    found = {}
    with mpl.rc_context(STYLE):
        for name, (caption, draw) in drawn.items():
            figure = draw()
            if figure is not None:
                found[name] = (caption, figure)
    return found


def rates(study: Study) -> Figure | None:
    """A panel for each table with several rates, a line for each initialization and target."""
    filled = [one for one in study.tables if len({row.rate for row in one.table.cells if one.of(row)}) > 1]
    if not filled:
        return None
    figure, panels = panels_of(len(filled), height=4.4)
    for axes, one in zip(panels, filled, strict=True):
        series: dict[str, list[Row]] = defaultdict(list)
        for row in one.table.cells:
            if one.of(row):
                series[row.label.split(" ", 1)[1]].append(row)
        for number, (label, rows) in enumerate(series.items()):
            look = style_of(rows[0])
            scores = [[result.value for result in one.results(row).values()] for row in rows]
            places = [(2, 4, 8).index(row.rate) + 0.05 * (number - len(series) / 2) for row in rows]
            axes.plot(places, [mean(values) for values in scores], ms=5, label=label, **look)
            for place, values in zip(places, scores, strict=True):
                axes.plot([place] * len(values), values, ".", color=look["color"], ms=3, alpha=0.7)
        _teacher(axes, one)
        axes.set_xticks([0, 1, 2], ["/2", "/4", "/8"])
        axes.set_title(_title(one))
        axes.set_ylabel(METRICS[one.table.metric])
        legend_below(axes)
    return figure


def cells(study: Study) -> Figure | None:
    """A panel for each table with one rate, a line a cell."""
    filled = [one for one in study.tables if {row.rate for row in one.table.cells} == {8} and one.records]
    rows = [[row for row in one.table.cells if one.of(row)] for one in filled]
    filled = [one for one, found in zip(filled, rows, strict=True) if found]
    rows = [found for found in rows if found]
    if not filled:
        return None
    heights = [len(found) for found in rows]
    figure = Figure(figsize=(8, 1.0 * len(filled) + 0.28 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(filled), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, one, found in zip(panels, filled, rows, strict=True):
        for place, row in enumerate(found):
            values = [result.value for result in one.results(row).values()]
            axes.plot(values, [place] * len(values), "o", color=BLUE, alpha=0.7, ms=5)
            if len(values) > 1:
                axes.plot(mean(values), place, "|", color=INK, ms=14)
        _teacher(axes, one, vertical=True)
        axes.set_yticks(range(len(found)), [row.label for row in found])
        axes.set_ylim(len(found) - 0.5, -0.5)
        axes.set_title(_title(one))
        axes.set_xlabel(METRICS[one.table.metric] + (", less is better" if one.table.errors else ""))
    return figure


def effects(answered: Sequence[Answer], names: Sequence[str]) -> Figure | None:
    """Dots and intervals of the comparisons of some claims: a panel for those of top-1, one for those of errors."""
    found = [(answer.name, finding) for answer in answered if answer.name in names for finding in answer.findings]
    found = [(name, finding) for name, finding in found if finding.difference is not None]
    groups = [[pair for pair in found if pair[1].comparison.table.errors is errors] for errors in (False, True)]
    groups = [group for group in groups if group]
    if not groups:
        return None
    heights = [len(group) + 1 for group in groups]
    figure = Figure(figsize=(8, 0.6 * len(groups) + 0.2 * sum(heights) + 0.4), layout="constrained")
    panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, group in zip(panels, groups, strict=True):
        for place, (_, finding) in enumerate(group):
            _interval(axes, place, finding)
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_yticks(range(len(group)), [f"{name}  {_told(finding)}" for name, finding in group], fontsize=7)
        axes.set_ylim(len(group) - 0.5, -0.5)
        errors = group[0][1].comparison.table.errors
        axes.set_xlabel(f"points of {'NRMSE' if errors else 'top-1'} in favour of what should be better")
    shapes = [
        mpl.lines.Line2D([], [], color=color, marker=marker, linestyle="", label=str(verdict))
        for verdict, (color, marker) in ANSWERED.items()
    ]
    figure.legend(handles=shapes, loc="outside upper right", ncols=3, fontsize=8)
    return figure


def _interval(axes: Axes, place: int, finding: Finding) -> None:
    found = finding.difference
    assert found is not None
    color, marker = ANSWERED[finding.verdict]
    if found.low is not None and found.high is not None:
        dashes = "-" if len(found.each) > 1 else ":"
        axes.plot([found.low, found.high], [place, place], color=color, linestyle=dashes, linewidth=1.5)
    axes.plot(found.mean, place, marker, color=color, ms=5)
    if len(found.each) > 1:
        axes.plot(list(found.each.values()), [place] * len(found.each), "|", color=color, ms=6, alpha=0.7)


def pareto(study: Study) -> Figure | None:
    """The classification cells of table 2 and their teacher, on the first data set."""
    one = next((one for one in study.tables if one.table.number == 2 and one.records), None)
    if one is None:
        return None
    prices = {"params": "parameters", "macs": "multiply-adds", "latency_ms": "ms a face on the CPU"}
    points: dict[str, list[tuple[Row, float, float]]] = defaultdict(list)
    for row in one.table.rows:
        records = one.of(row)
        for key in prices if records else ():
            price = _price(study, records[0], key)
            if price is not None:
                points[key].append((row, price, mean(float(record["metrics"]["top1"]) for record in records)))
    if not points:
        return None
    figure, panels = panels_of(len(points), height=3.3, columns=3)
    for axes, (key, found) in zip(panels, points.items(), strict=True):
        for row, price, score in found:
            axes.plot(price, score, ms=6, label=_kind(row), **{**style_of(row), "linestyle": ""})
        for rate in {row.rate for row, *_ in found}:
            highest = max(((price, score) for row, price, score in found if row.rate == rate), key=lambda at: at[1])
            said = "teacher" if rate == 1 else f"/{rate}"
            axes.annotate(said, highest, (0, 6), textcoords="offset points", size=7, ha="center")
        front = _front([(price, score) for _, price, score in found])
        axes.plot(*zip(*front, strict=True), color=INK, linewidth=0.8, zorder=0)
        if key == "latency_ms":
            axes.set_xlim(left=0)
        else:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(prices[key])
    panels[0].set_ylabel(METRICS["top1"])
    named = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
    figure.legend(named.values(), named.keys(), loc="outside upper left", ncols=3, fontsize=7)
    return figure


def _price(study: Study, record: Record, key: str) -> float | None:
    """A cost of a network: the median over all runs of its architecture, since a latency is never the same."""
    alike = [other for other in study.records if all(other[name] == record[name] for name in ("params", "macs"))]
    known = [float(other[key]) for other in alike if isinstance(other.get(key), int | float)]
    return median(known) if known else None


def _kind(row: Row) -> str:
    return row.label if row.rate == 1 else row.label.split(" ", 1)[1]


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (price, score) those that no cheaper one reaches, by price."""
    front: list[tuple[float, float]] = []
    for price, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or score > front[-1][1]:
            front.append((price, score))
    return front


def learning(study: Study) -> Figure | None:
    """The test metric by epoch, of the cells at rate 8 and of the teacher; a panel a table."""
    filled = [one for one in study.tables if any(one.of(row) for row in one.table.rows)]
    if not filled:
        return None
    figure, panels = panels_of(len(filled), height=4.2)
    for axes, one in zip(panels, filled, strict=True):
        shown = [row for row in one.table.rows if row.rate in (1, 8) and one.of(row)]
        for row in shown:
            key = f"test/{one.table.metric}"
            curves = [[epoch[key] for epoch in record["history"] if key in epoch] for record in one.of(row)]
            length = min(map(len, curves))
            if length:
                means = np.mean([curve[:length] for curve in curves], axis=0)
                axes.plot(range(1, length + 1), means, ms=3, label=row.label, **style_of(row))
        axes.set_title(_title(one))
        axes.set_xlabel("epoch")
        axes.set_ylabel(METRICS[one.table.metric])
        legend_below(axes)
    return figure


def error_curves(study: Study) -> Figure | None:
    """Faces with at most an error, of alignment's cells."""
    curves: list[tuple[Row, NDArray[np.float32]]] = []
    for one in (one for one in study.tables if one.table.errors):
        for row in one.table.rows:
            kept = [result.sample_scores for result in one.results(row).values() if result.sample_scores is not None]
            if kept:
                curves.append((row, np.sort(np.concatenate(kept))))
    if not curves:
        return None
    figure = Figure(figsize=(6.5, 3.8), layout="constrained")
    axes = figure.subplots()
    end = float(np.quantile(np.concatenate([errors for _, errors in curves]), 0.98))
    errors_at = np.linspace(0, end, 200)
    for number, (row, errors) in enumerate(curves):
        within = 100 * np.searchsorted(errors, errors_at, side="right") / len(errors)
        axes.plot(errors_at, within, ms=4, markevery=(number, 25), label=row.label, **style_of(row))
    axes.set_xlabel("NRMSE of a face, %")
    axes.set_ylabel("faces, %")
    axes.legend(fontsize=7)
    return figure


def rocs(study: Study) -> Figure | None:
    """ROC of the teacher, of W_S0 and of the student with soft and full at every rate, on the first data set."""
    one = next((one for one in study.tables if one.table.number == 2 and one.records), None)
    if one is None:
        return None
    curves = []
    for row in one.table.rows:
        if row.rate == 1 or row.init == "full" or (row.rate == 8 and row.init == "scratch"):
            kept = next((one.sample_scores(record["name"]) for record in one.of(row)), None)
            if kept is not None and kept.same.any() and not kept.same.all():
                curves.append((row.label, roc(kept.similarity.astype(np.float64), kept.same)))
    if not curves:
        return None
    figure = Figure(figsize=(6.5, 3.8), layout="constrained")
    axes = figure.subplots()
    lowest = 1.0
    for number, ((label, (far, tar, _)), color) in enumerate(zip(curves, COLORS, strict=False)):
        lowest = min(lowest, float(far[far > 0].min(initial=1.0)))
        style = "--" if number == 0 else "-"
        axes.step(
            far, 100 * tar, style, where="post", ms=4, markevery=0.2, label=label, color=color, marker=MARKERS[number]
        )
    axes.set_xscale("log")
    axes.set_xlim(lowest, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("false accept rate")
    axes.set_ylabel("true accept rate, %")
    axes.legend(fontsize=7)
    return figure


def cost(study: Study) -> Figure | None:
    """Hours of training, by task and rate."""
    hours = study.hours
    if not hours:
        return None
    figure = Figure(figsize=(6.5, 0.8 + 0.24 * len(hours)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(hours)), list(hours.values()), color=BLUE, height=0.6)
    axes.set_yticks(range(len(hours)), list(hours))
    axes.set_ylim(len(hours) - 0.5, -0.5)
    axes.set_xlabel("hours")
    axes.grid(axis="y", visible=False)
    return figure


def _teacher(axes: Axes, one: Filled, vertical: bool = False) -> None:
    scores = [result.value for result in one.results(one.table.teacher).values()]
    if scores:
        line = axes.axvline if vertical else axes.axhline
        line(mean(scores), color=INK, linestyle="--", linewidth=1, label=f"teacher {mean(scores):.1f}")


def _title(one: Filled) -> str:
    return f"Table {one.table.number}, {one.table.data} for {one.table.stands_for}"


def _told(finding: Finding) -> str:
    """The comparison without its controls' names, and its table where the label does not tell."""
    text = re.sub(r" \(control\)", "", finding.comparison.label)
    return f"{text} (table {finding.comparison.table.number}, {finding.comparison.table.data})"
