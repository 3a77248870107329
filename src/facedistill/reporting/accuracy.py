"""The picture of the report: every cell's score beside its teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from matplotlib.figure import Figure

from facedistill.reporting.tables import METRICS, Record, Row, Table, values


def accuracy_figure(tables: Sequence[tuple[Table, Sequence[Record]]]) -> Figure:
    """A panel a table, a line a cell: one dot a seed, a bar at their mean, the teacher as a dashed line."""
    filled = [(table, records, _filled(table, records)) for table, records in tables]
    filled = [panel for panel in filled if panel[2]]
    heights = [len(rows) for _, _, rows in filled]
    figure = Figure(figsize=(8, 1.2 + 0.34 * sum(heights) + 0.9 * len(heights)), layout="constrained")
    panels = figure.subplots(len(filled), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (table, records, rows) in zip(panels, filled, strict=True):
        for place, row in enumerate(rows):
            found = values(records, row, table.metric)
            axes.plot(found, [place] * len(found), "o", color="#0072b2", alpha=0.6)
            axes.plot(mean(found), place, "|", color="black", markersize=14)
        title = f"Table {table.number}, {table.data} in the place of {table.stands_for}"
        teachers = table.of_teacher(records)
        if teachers:
            axes.axvline(mean(teachers), color="#d55e00", linestyle="--")
            title += f" (dashed: teacher, {mean(teachers):.1f})"
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.invert_yaxis()
        axes.grid(axis="x", alpha=0.3)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(f"{METRICS[table.metric]} on the test split", fontsize=8)
    return figure


def _filled(table: Table, records: Sequence[Record]) -> list[Row]:
    return [row for row in table.cells if values(records, row, table.metric)]
