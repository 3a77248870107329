"""The report as files: a page that is one file, a README for GitHub, tables as CSV, figures as SVG and PNG."""

from __future__ import annotations

import base64
import csv
import io
import os
import re
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from PIL import Image

from facedistill.report.claims import LEAST_POINTS, LEAST_SHARE, Answer, Verdict
from facedistill.report.figures import figures
from facedistill.report.statistics import shown
from facedistill.report.study import Filled, Study
from facedistill.report.style import as_png, as_svg
from facedistill.report.tables import METRICS, Record, Row, markdown
from facedistill.system.files import hash_of, write_aside

SYMBOLS = {Verdict.HOLDS: "✓", Verdict.FAILS: "✗", Verdict.UNDECIDED: "?", Verdict.MISSING: "–"}
CLASSES = {Verdict.HOLDS: "holds", Verdict.FAILS: "fails", Verdict.UNDECIDED: "open", Verdict.MISSING: "missing"}
PICTURES, PICTURE_WIDTH = 4, 900  # landmark pictures on the page, and their width in pixels
REPRODUCE = "make reproduce"


def write_report(study: Study, answered: Sequence[Answer], out: Path) -> Path:
    """Write everything into ``out``; the path of the page."""
    drawn = {name: (caption, figure) for name, (caption, figure) in figures(study, answered).items()}
    vectors = {name: (caption, as_svg(figure, name)) for name, (caption, figure) in drawn.items()}
    for old in [*out.glob("figures/*.svg"), *out.glob("figures/*.png"), *out.glob("tables/*.csv")]:
        old.unlink()  # of runs that are gone
    for name, (_, figure) in drawn.items():
        _write(out / "figures" / f"{name}.png", as_png(figure))
        drawing = vectors[name][1].replace("currentColor", "#1b1c1d")
        _write(out / "figures" / f"{name}.svg", f'<?xml version="1.0" encoding="utf-8"?>\n{drawing}'.encode())
    for one in study.tables:
        _write(out / "tables" / f"{_file_name(one)}.csv", as_csv(one).encode())
    _write(out / "README.md", readme(study, answered, {name: caption for name, (caption, _) in drawn.items()}).encode())
    _write(out / "index.html", page(study, answered, vectors, out).encode())
    return out / "index.html"


def _write(path: Path, content: bytes) -> None:
    with write_aside(path) as part:
        part.write_bytes(content)


def page(study: Study, answered: Sequence[Answer], vectors: Mapping[str, tuple[str, str]], out: Path) -> str:
    """The page, with everything in it.

    Args:
        vectors: of every figure its caption and its ``<svg>``.
        out: where the page will lie, for links to the runs.
    """
    environment = Environment(
        loader=PackageLoader("facedistill.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = lambda value, digits=2: "—" if value is None else f"{value:.{digits}f}"
    environment.filters["signed"] = lambda value: "—" if value is None else f"{value:+.2f}".replace("-", "−")
    environment.filters["seeds"] = seeds_of
    environment.filters["large"] = lambda value: f"{value:,}"
    return environment.get_template("page.html").render(
        summary=summary(study),
        remarks=remarks(study),
        study=study,
        answered=answered,
        symbols=SYMBOLS,
        classes=CLASSES,
        least_points=LEAST_POINTS,
        least_share=100 * LEAST_SHARE,
        tables=[Shown(one) for one in study.tables],
        figures={name: (caption, Markup(svg)) for name, (caption, svg) in vectors.items()},
        pictures=list(landmark_pictures(study)),
        hours=study.hours,
        cells=_cells(study, os.path.relpath(study.runs_dir, out)),
        reproduce=REPRODUCE,
    )


def summary(study: Study) -> dict[str, str]:
    """What was run, in words."""
    records = study.records
    configs = [record["config"] for record in records]
    parts = {
        "Runs": f"{len(records)} finished in {study.runs_dir}" + (f", {seeds_of(records)}" if records else ""),
        "Faces": _each(f"{c['data']['name']}, {c['image']['crop']} px" for c in configs),
        "Networks": _each(
            f"students {c['model']['name']}, teacher {c['teacher']['model'].get('name', '?')}" for c in configs
        ),
        "Schedule": _each(f"{c['schedule'].get('epochs', '?')} epochs at each learning rate" for c in configs),
        "Versions": _each(
            f"facedistill {r['versions'].get('facedistill')}, torch {r['versions'].get('torch')}, results version "
            f"{r['recipe']['version']}"
            for r in records
        ),
        "Machine": _each(
            f"{r['device'].get('name')}, {r['device'].get('threads')} thread{'s' * (r['device'].get('threads') != 1)}"
            for r in records
        ),
        "Training": f"{sum(record['seconds'] for record in records) / 3600:.2f} hours in all" if records else "",
    }
    return {name: text for name, text in parts.items() if text}


def _each(texts: Any) -> str:
    """Every different text, the most frequent first."""
    counts: dict[str, int] = defaultdict(int)
    for text in texts:
        counts[text] += 1
    return "; ".join(sorted(counts, key=lambda text: (-counts[text], text)))


def seeds_of(records: Sequence[Record]) -> str:
    """In words."""
    seeds = sorted({record["config"]["seed"] for record in records})
    return f"seed{'s' * (len(seeds) != 1)} {', '.join(map(str, seeds))}"


@dataclass(frozen=True)
class Value:
    """A cell of a table: of a metric what the paper has, what ours say, and the difference."""

    paper: float | None
    numbers: Sequence[float]

    @property
    def text(self) -> str:
        return shown(self.numbers)

    @property
    def mean(self) -> float | None:
        return mean(self.numbers) if self.numbers else None

    @property
    def difference(self) -> float | None:
        return None if self.paper is None or self.mean is None else self.mean - self.paper


@dataclass(frozen=True)
class Shown:
    """A table as the page shows it."""

    filled: Filled

    @property
    def title(self) -> str:
        table = self.filled.table
        return f"Table {table.number}: {table.title}"

    @cached_property
    def metrics(self) -> dict[str, str]:
        """The metrics that the paper has, by key."""
        rows = self.filled.table.rows
        return {key: said for key, said in METRICS.items() if any(key in row.paper for row in rows)}

    @cached_property
    def lines(self) -> list[tuple[Row, str, list[Value], list[int]]]:
        """Of every row: itself, the anchor of its runs (empty where there are none), its values, its seeds."""
        found = []
        for row in self.filled.table.rows:
            records = self.filled.of(row)
            values = [Value(row.paper.get(key), _numbers(records, key)) for key in self.metrics]
            seeds = [record["config"]["seed"] for record in records]
            found.append((row, anchor(records[0]) if records else "", values, seeds))
        return found


def _numbers(records: Sequence[Record], key: str) -> list[float]:
    return [float(record["metrics"][key]) for record in records if record["metrics"].get(key) is not None]


def anchor(record: Record) -> str:
    """Of a cell, whatever its seed: where its runs are listed on the page."""
    recipe = {key: value for key, value in record["recipe"].items() if key not in ("seed", "parents")}
    return f"cell-{hash_of(recipe)}"


def _cells(study: Study, runs_dir: str) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Anchor and title of every cell, and its runs by seed."""
    cells: dict[str, list[Record]] = defaultdict(list)
    for record in study.records:
        cells[anchor(record)].append(record)
    found = []
    for name, records in cells.items():
        runs = []
        for record in sorted(records, key=lambda record: (record["config"]["seed"], record["name"])):
            directory = study.runs_dir / record["name"]
            pictures = sorted(path.name for path in directory.glob("*.png"))
            runs.append(
                {
                    "record": record,
                    "command": f"python -m facedistill.train {shlex.join(_words(record))}",
                    "metrics": {key: value for key, value in sorted(record["metrics"].items()) if value is not None},
                    "folder": f"{runs_dir}/{record['name']}",
                    "pictures": pictures,
                }
            )
        found.append((name, _cell_title(records[0]), runs))
    return sorted(found, key=lambda cell: (cell[1], cell[0]))


def _words(record: Record) -> list[str]:
    """The words of a run, without what is of its sweep."""
    others = ("cells=", "experiments=", "group=")
    words = [str(word) for word in record["overrides"]]
    # an experiment may set more than its grids: then its words are needed
    return [word for word in words if not word.startswith(others)] if _plain(words) else words


def _plain(words: Sequence[str]) -> bool:
    chosen = [word for word in words if word.startswith("experiments=")]
    return all(re.fullmatch(r"experiments=\[?(table[1-5],?)+\]?", word) for word in chosen)


def _cell_title(record: Record) -> str:
    config = record["config"]
    task = config["task"]["name"] + ("-softmax" if config["task"].get("softmax") else "")
    axes = [task, f"/{config['rate']}"]
    if config["task"]["name"] not in ("teacher", "hint"):
        axes += [config["init"]["name"], config["target"]["name"]]
    return f"{' '.join(axes)}, {config['data']['name']}"


def landmark_pictures(study: Study) -> list[tuple[str, str]]:
    """Of the teacher of alignment and of some students: what it is, and a picture as a data URL."""
    found: list[tuple[str, str]] = []
    for one in (one for one in study.tables if one.table.errors):
        for row in one.table.rows:
            wanted = row.rate == 1 or row.target == "none"
            path = next((study.runs_dir / record["name"] / "samples.png" for record in one.of(row)), None)
            if wanted and path is not None and len(found) < PICTURES and (picture := _small(path)):
                found.append((row.label, picture))
    return found


def _small(path: Path) -> str | None:
    """A picture as a data URL of a JPEG; None if there is none that can be read."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            height = max(1, round(image.height * PICTURE_WIDTH / image.width))
            small = image.convert("RGB").resize((PICTURE_WIDTH, height), Image.Resampling.LANCZOS)
    except (OSError, ValueError, Image.DecompressionBombError, SyntaxError):
        return None
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _file_name(one: Filled) -> str:
    place = re.sub(r"[^A-Za-z0-9]+", "-", one.table.stands_for).strip("-").lower()
    return f"table{one.table.number}-{place}"


def as_csv(one: Filled) -> str:
    """A line for each row and metric: paper, mean, standard deviation (empty with fewer than two runs), difference."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    head = ("table", "stands_for", "data", "row", "task", "rate", "init", "target", "metric")
    writer.writerow([*head, "paper", "mean", "sd", "difference", "seeds", "runs"])
    table = one.table
    for row in table.rows:
        records = one.of(row)
        for metric in dict.fromkeys([table.metric, *row.paper]):
            value = Value(row.paper.get(metric), _numbers(records, metric))
            deviation = stdev(value.numbers) if len(value.numbers) > 1 else None
            numbers = [value.paper, value.mean, deviation, value.difference]
            said = ["" if number is None else f"{number:.6g}" for number in numbers]
            seeds = " ".join(str(record["config"]["seed"]) for record in records)
            names = " ".join(record["name"] for record in records)
            cell = [table.number, table.stands_for, table.data, row.label, row.task, row.rate, row.init, row.target]
            writer.writerow([*cell, metric, *said, seeds, names])
    return file.getvalue()


def readme(study: Study, answered: Sequence[Answer], captions: Mapping[str, str]) -> str:
    """The report for GitHub: verdicts, tables, figures."""
    parts = ["# What the sweep said", "The same with every run behind it, sortable: `index.html`."]
    parts.append("\n".join(f"- **{name}**: {_plain_text(text)}" for name, text in summary(study).items()))
    parts += [f"**{_plain_text(text)}**" for text in remarks(study)]
    if not study.records:
        return "\n\n".join([*parts, f"No finished run was found: `{REPRODUCE}` makes them."]) + "\n"
    lines = ["| claim | | answer | comparisons |", "|---|---|---|---|"]
    lines += [f"| {a.name} | {a.claim} | {SYMBOLS[a.verdict]} {a.verdict} | {a.told} |" for a in answered]
    parts += ["## Claims", "\n".join(lines)]
    for one in study.tables:
        table = one.table
        parts.append(f"## Table {table.number}: {table.title}, {table.stands_for}")
        parts.append(f"Ours: {_plain_text(table.data)}.")
        if one.records:
            parts.append(markdown(table, one.records))
        if one.missing:
            parts.append(f"Missing: {'; '.join(one.missing)}. To make them: {_code(one.command)}")
    parts.append("## Figures")
    parts += [f"![{caption}](figures/{name}.svg)\n\n{caption}" for name, caption in captions.items()]
    return "\n\n".join(parts) + "\n"


def remarks(study: Study) -> list[str]:
    """What a reader must know of the runs: what could not be read, is not finished, or is of another kind."""
    found = [f"{name} is left out: {why}" for name, why in sorted(study.faults.items())]
    if study.unfinished:
        many = f"{len(study.unfinished)} run{'s are' if len(study.unfinished) > 1 else ' is'}"
        found.append(f"{many} not finished: python -m facedistill.runs stale tells which, and what finishes them")
    versions = sorted({record["recipe"]["version"] for record in study.records})
    if len(versions) > 1:
        found.append(f"runs of results versions {', '.join(map(str, versions))} lie here: a table has those of one")
    for one in study.tables:
        if one.left_out:
            found.append(
                f"Table {one.table.number} ({one.table.stands_for}) leaves out {one.left_out} runs of other images, "
                "models, schedules, versions or ways of asking the teacher"
            )
    if study.records and len({record["config"]["seed"] for record in study.records}) < 2:
        found.append(f"One seed decides nothing: SEEDS=3 {REPRODUCE} gives spreads and verdicts")
    return found


def _code(text: str) -> str:
    """Text as code in Markdown, between more backticks than it has."""
    text = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"


def _plain_text(text: str) -> str:
    """Text in which Markdown finds nothing."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~$&])", r"\\\1", " ".join(text.split()))
