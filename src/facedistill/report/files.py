"""The report as files: a page that needs no network, a README for GitHub, tables as CSV, figures as SVG and PNG."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from facedistill.report.claims import Assessment
from facedistill.report.figures import figures
from facedistill.report.on_device import as_csv as exports_csv
from facedistill.report.page import page
from facedistill.report.plotting import INK
from facedistill.report.readme import readme
from facedistill.report.study import FilledTable, Study
from facedistill.system.files import disk_of, write_aside
from facedistill.system.text import table_cell


def write_report(study: Study, assessed: Sequence[Assessment], out: Path) -> Path:
    """Write everything into ``out``; the path of the page."""
    failed: list[str] = []
    drawn = figures(study, assessed, failed)
    svgs = {name: (caption, svg) for name, (caption, svg, _) in drawn.items()}
    pngs = {f"figures/{name}.png": png for name, (_, _, png) in drawn.items()}
    texts = {f"tables/{one.table.file_name}.csv": as_csv(one) for one in (*study.tables, *study.neighbours)}
    if study.device.files:
        texts["tables/exports.csv"] = exports_csv(study.device)
    for name, (_, svg) in svgs.items():
        texts[f"figures/{name}.svg"] = f'<?xml version="1.0" encoding="utf-8"?>\n{svg.replace("currentColor", INK)}'
    texts["README.md"] = readme(study, assessed, {name: caption for name, (caption, _) in svgs.items()}, failed)
    texts["index.html"] = page(study, assessed, svgs, out, failed)
    files = pngs | {name: text.encode() for name, text in texts.items()}
    with disk_of("the report", "out=FOLDER", out):
        for old in [*out.glob("figures/*.svg"), *out.glob("figures/*.png"), *out.glob("tables/*.csv")]:
            old.unlink()  # of runs that were removed
        for name, content in files.items():
            with write_aside(out / name) as part:
                part.write_bytes(content)
    return out / "index.html"


def as_csv(filled: FilledTable) -> str:
    """A line for each row and metric: the paper's number, our mean and, of two runs or more, the deviation."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    head = "table stands_for data row task rate init target metric paper mean sd seeds runs"
    writer.writerow(head.split())
    table = filled.table
    for row in table.rows:
        records = filled.records_of(row)
        cell = [table.number, table.stands_for, table.data, row.label, row.task, row.rate or "", row.init, row.target]
        seeds, names = " ".join(str(record.seed) for record in records), " ".join(record.name for record in records)
        for metric in dict.fromkeys([table.metric, *row.paper]):
            entry = filled.entry(row, metric)
            numbers = (entry.paper, entry.mean, entry.deviation)
            texts = ["" if number is None else f"{number:.6g}" for number in numbers]
            writer.writerow([*map(table_cell, cell), metric, *texts, seeds, table_cell(names)])
    return file.getvalue()
