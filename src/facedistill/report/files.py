"""The report as files: a page that is one file, a README for GitHub, tables as CSV, figures as SVG and PNG."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import stdev

from facedistill.report.claims import Assessment
from facedistill.report.figures import figures
from facedistill.report.page import page
from facedistill.report.readme import readme
from facedistill.report.study import FilledTable, Study
from facedistill.report.style import as_png, as_svg
from facedistill.system.files import write_aside


def write_report(study: Study, assessed: Sequence[Assessment], out: Path) -> Path:
    """Write everything into ``out``; the path of the page."""
    drawn = figures(study, assessed)
    svgs = {name: as_svg(figure, name) for name, (_, figure) in drawn.items()}
    captions = {name: caption for name, (caption, _) in drawn.items()}
    for old in [*out.glob("figures/*.svg"), *out.glob("figures/*.png"), *out.glob("tables/*.csv")]:
        old.unlink()  # of runs that were removed
    for name, (_, figure) in drawn.items():
        _write(out / "figures" / f"{name}.png", as_png(figure))
        svg = svgs[name].replace("currentColor", "#1b1c1d")
        _write(out / "figures" / f"{name}.svg", f'<?xml version="1.0" encoding="utf-8"?>\n{svg}')
    for filled in study.tables:
        place = re.sub(r"[^A-Za-z0-9]+", "-", filled.table.stands_for).strip("-").lower()
        _write(out / "tables" / f"table{filled.table.number}-{place}.csv", as_csv(filled))
    _write(out / "README.md", readme(study, assessed, captions))
    _write(out / "index.html", page(study, assessed, captions, svgs, out))
    return out / "index.html"


def _write(path: Path, content: str | bytes) -> None:
    with write_aside(path) as part:
        # a path in a run's words need not be text
        part.write_bytes(content if isinstance(content, bytes) else content.encode(errors="replace"))


def as_csv(filled: FilledTable) -> str:
    """A line for each row and metric: paper, mean, standard deviation (empty with fewer than two runs), difference."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    head = ("table", "stands_for", "data", "row", "task", "rate", "init", "target", "metric")
    writer.writerow([*head, "paper", "mean", "sd", "difference", "seeds", "runs"])
    table = filled.table
    for row in table.rows:
        records = filled.records_of(row)
        cell = [table.number, table.stands_for, table.data, row.label, row.task, row.rate, row.init, row.target]
        seeds, names = " ".join(str(record.seed) for record in records), " ".join(record.name for record in records)
        for metric in dict.fromkeys([table.metric, *row.paper]):
            entry = filled.entry(row, metric)
            deviation = stdev(entry.ours) if len(entry.ours) > 1 else None
            numbers = (entry.paper, entry.mean, deviation, entry.difference)
            texts = ["" if number is None else f"{number:.6g}" for number in numbers]
            writer.writerow([*cell, metric, *texts, seeds, names])
    return file.getvalue()
