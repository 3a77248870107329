"""The report as files: a page that needs no network, a README for GitHub, tables as CSV, figures as SVG and PNG."""

import base64
import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from PIL import Image

from facedistill.report.claims import Assessment
from facedistill.report.figures import figures
from facedistill.report.plotting import INK
from facedistill.report.rule import MARGIN, Answer
from facedistill.report.study import FilledTable, Study, seeds_of
from facedistill.runs.record import Record, by_cell
from facedistill.system.files import disk_of, open_regular, write_aside
from facedistill.system.text import command_line, shown, table_cell

REPRODUCE = "make reproduce"
SYMBOLS = dict(zip(Answer, "✓✗?○–", strict=True))
CLASSES = dict(zip(Answer, ("holds", "fails", "open", "open", "missing"), strict=True))
PICTURES, PICTURE_WIDTH = 4, 900  # landmark pictures on the page, and their width in pixels
MOST_PIXELS = 2**24  # of a picture


def write_report(study: Study, assessed: Sequence[Assessment], out: Path) -> Path:
    """Write everything into ``out``; the path of the page."""
    failed: list[str] = []
    drawn = figures(study, assessed, failed)
    svgs = {name: (caption, svg) for name, (caption, svg, _) in drawn.items()}
    pngs = {f"figures/{name}.png": png for name, (_, _, png) in drawn.items()}
    texts = {f"tables/{one.table.file_name}.csv": as_csv(one) for one in study.tables}
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
    """A line for each row and metric: paper, mean, standard deviation (empty with fewer than two runs), difference."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    head = "table stands_for data row task rate init target metric paper mean sd difference seeds runs"
    writer.writerow(head.split())
    table = filled.table
    for row in table.rows:
        records = filled.records_of(row)
        cell = [table.number, table.stands_for, table.data, row.label, row.task, row.rate, row.init, row.target]
        seeds, names = " ".join(str(record.seed) for record in records), " ".join(record.name for record in records)
        for metric in dict.fromkeys([table.metric, *row.paper]):
            entry = filled.entry(row, metric)
            numbers = (entry.paper, entry.mean, entry.deviation, entry.difference)
            texts = ["" if number is None else f"{number:.6g}" for number in numbers]
            writer.writerow([*map(table_cell, cell), metric, *texts, seeds, table_cell(names)])
    return file.getvalue()


def summary(study: Study) -> dict[str, str]:
    """What was run."""
    records = study.records
    configs, devices = [record.config for record in records], [record.device for record in records]
    if not records:
        return {"Runs": f"0 finished in {study.runs_dir}"}
    return {
        "Runs": f"{len(records)} finished in {study.runs_dir}, {seeds_text(records)}",
        "Faces": _distinct(f"{record.data_name}, {record.config.image.crop} px" for record in records),
        "Networks": _distinct(f"students {one.model['name']}, teacher {one.teacher.model['name']}" for one in configs),
        "Schedule": _distinct(f"{one.schedule.epochs} epochs at each learning rate" for one in configs),
        "Versions": _distinct(
            f"facedistill {record.versions.get('facedistill')}, torch {record.versions.get('torch')}, results version "
            f"{record.version}"
            for record in records
        ),
        "Machine": _distinct(
            f"{one.get('name')}, {one.get('threads')} thread{'s' * (one.get('threads') != 1)}" for one in devices
        ),
        "Training": f"{sum(record.seconds for record in records) / 3600:.2f} hours in all",
    }


def _distinct(texts: Iterable[str]) -> str:
    """Every different text, the most frequent first."""
    return "; ".join(text for text, _ in Counter(sorted(texts)).most_common())


def seeds_text(records: Sequence[Record]) -> str:
    """As in "seeds 0, 1"."""
    seeds = seeds_of(records)
    return f"seed{'s' * (len(seeds) != 1)} {', '.join(map(str, seeds))}"


def remarks(study: Study, failed: Sequence[str]) -> list[str]:
    """Which runs and figures (``failed``) are left out, and why, and what that means for the tables."""
    found = [f"This page is without {figure}" for figure in failed]
    found += [f"{name} is left out: {reason}" for name, reason in sorted(study.unreadable.items())]
    if study.unfinished:
        count = f"{len(study.unfinished)} run{'s are' if len(study.unfinished) > 1 else ' is'}"
        found.append(f"{count} not finished: facedistill runs stale lists them and the commands that finish them")
    versions = sorted({record.version for record in study.records})
    if len(versions) > 1:
        found.append(f"There are runs of results versions {', '.join(map(str, versions))}: a table has those of one")
    for filled in study.tables:
        if filled.left_out:
            found.append(
                f"Table {filled.table.number} ({filled.table.stands_for}) leaves out {len(filled.left_out)} runs with "
                "other images, models, schedules, versions or views of the teacher"
            )
    if len(seeds_of(study.records)) == 1:
        found.append(f"One seed decides nothing: SEEDS=3 {REPRODUCE} gives spreads and verdicts")
    return found


def page(
    study: Study,
    assessed: Sequence[Assessment],
    svgs: Mapping[str, tuple[str, str]],
    out: Path,
    failed: Sequence[str] = (),
) -> str:
    """The page, with everything in it.

    ``svgs``: of the figures by name, each behind its caption; ``out``: the folder of the page, for links to the runs;
    ``failed``: figures that could not be drawn, and why.
    """
    environment = Environment(
        loader=PackageLoader("facedistill.report", "."),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else shown(value),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value, digits=2: "—" if value is None else f"{value:.{digits}f}"
    environment.filters["signed"] = lambda value: "—" if value is None else f"{value:+.2f}".replace("-", "−")
    environment.filters["key"] = lambda value: "" if value is None else value
    environment.filters["large"] = lambda value: f"{value:,}"
    environment.filters |= {"seeds": seeds_text, "command": command_of}
    return environment.get_template("page.html").render(
        summary=summary(study),
        remarks=remarks(study, failed),
        study=study,
        assessed=assessed,
        symbols=SYMBOLS,
        classes=CLASSES,
        margin=MARGIN,
        figures={name: (caption, Markup(svg)) for name, (caption, svg) in svgs.items()},
        landmarks=landmark_pictures(study),
        cells=_cells(study.records),
        pictures_of=lambda name: sorted(path.name for path in (study.runs_dir / name).glob("*.png")),
        runs_dir=os.path.relpath(study.runs_dir, out),
        reproduce=REPRODUCE,
    )


def _cells(records: Sequence[Record]) -> list[tuple[str, str, list[Record]]]:
    """Title, key and runs of every cell, by title."""
    cells = by_cell(sorted(records, key=lambda record: (record.seed, record.name)))
    titled = [(f"{' '.join(runs[0].config.axes)}, {runs[0].data_name}", key, runs) for key, runs in cells.items()]
    return sorted(titled, key=lambda cell: cell[:2])


def command_of(record: Record) -> str:
    """Trains this run alone."""
    chosen = [word for word in record.overrides if word.startswith("experiments=")]
    # an experiment of one's own may set more than its grids: then its words are needed
    papers = all(re.fullmatch(r"experiments=\[?(table[1-5],?)+\]?", word) for word in chosen)
    return f"facedistill train {command_line(record.own_words if papers else record.overrides)}"


def landmark_pictures(study: Study) -> list[tuple[str, str]]:
    """Of the teacher of alignment and of some students: a label, and a picture as a data URL."""
    found: list[tuple[str, str]] = []
    for filled in study.tables:
        for row in filled.rows if filled.table.lower_is_better else ():
            if (row.is_teacher or row.target == "none") and len(found) < PICTURES:
                picture = small_picture(study.runs_dir / filled.records_of(row)[0].name / "samples.png")
                found += [(row.label, picture)] if picture else []
    return found


def small_picture(path: Path) -> str | None:
    """A picture as the data URL of a JPEG; None if there is none that can be read."""
    try:
        with open_regular(path) as file, Image.open(file, formats=["PNG"]) as image:
            if image.width * image.height > MOST_PIXELS:
                return None
            small = image.convert("RGB")
            small.thumbnail((PICTURE_WIDTH, 4 * PICTURE_WIDTH), Image.Resampling.LANCZOS)
    except Exception:  # Pillow has many for what it can't read
        return None
    data = io.BytesIO()
    small.save(data, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def readme(
    study: Study, assessed: Sequence[Assessment], captions: Mapping[str, str], failed: Sequence[str] = ()
) -> str:
    """The text of the file; ``captions``: of the figures, by name; ``failed``: as for the page."""
    parts = ["# Results of the sweep", "`index.html` has the same, sortable, and the runs behind every number."]
    parts.append("\n".join(f"- **{name}**: {_escaped(text)}" for name, text in summary(study).items()))
    parts += [f"**{_escaped(text)}**" for text in remarks(study, failed)]
    if not study.records:
        return "\n\n".join([*parts, f"No finished run was found: `{REPRODUCE}` trains them."]) + "\n"
    lines = ["| claim | | answer | comparisons |", "|---|---|---|---|"]
    lines += [f"| {one.name} | {one.claim} | {SYMBOLS[one.answer]} {one.answer} | {one.tally} |" for one in assessed]
    parts += ["## Claims", "\n".join(lines)]
    for filled in study.tables:
        parts += [f"## {filled.table.heading}", f"Ours: {_escaped(filled.table.data)}."]
        if filled.records:
            parts.append(markdown(filled))
        if filled.missing:
            parts.append(f"Missing: {'; '.join(filled.missing)}. To train them: {_code(filled.command)}")
    parts.append("## Figures")
    parts += [f"![{caption}](figures/{name}.svg)\n\n{caption}" for name, caption in captions.items()]
    return "\n\n".join(parts) + "\n"


def markdown(filled: FilledTable) -> str:
    """One table: the paper's number, ours and the difference, for every metric that the paper prints."""
    table = filled.table
    heads = [f"{title}: {column}" for title in table.printed.values() for column in ("paper", "ours", "difference")]
    lines = [f"| {table.stands_for} | " + " | ".join(heads) + " | runs |", "|---" * (len(heads) + 2) + "|"]
    for row in table.rows:
        cells = []
        for entry in (filled.entry(row, metric) for metric in table.printed):
            paper = "—" if entry.paper is None else f"{entry.paper:.2f}"
            cells += [paper, entry.text, "—" if entry.difference is None else f"{entry.difference:+.2f}"]
        lines.append(f"| {row.label} | " + " | ".join(cells) + f" | {len(filled.records_of(row))} |")
    return "\n".join(lines)


def _code(text: str) -> str:
    """Text as code in Markdown, between more backticks than it has."""
    text = shown(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"


def _escaped(text: str) -> str:
    """Text without anything that Markdown would interpret, links that it would find by itself (``:``) included."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~$&:])", r"\\\1", shown(text))
