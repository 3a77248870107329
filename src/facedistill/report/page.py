"""The report as a page: one HTML file that needs no network."""

import base64
import io
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from PIL import Image

from facedistill.report.claims import LEAST_POINTS, LEAST_SHARE, Assessment, Verdict
from facedistill.report.overview import REPRODUCE, remarks, seeds_text, summary
from facedistill.report.readme import SYMBOLS
from facedistill.report.study import Study
from facedistill.runs.record import Record, by_cell

CLASSES = {Verdict.HOLDS: "holds", Verdict.FAILS: "fails", Verdict.UNDECIDED: "open", Verdict.MISSING: "missing"}
PICTURES, PICTURE_WIDTH = 4, 900  # landmark pictures on the page, and their width in pixels


def page(
    study: Study, assessed: Sequence[Assessment], captions: Mapping[str, str], svgs: Mapping[str, str], out: Path
) -> str:
    """The page, with everything in it.

    Args:
        captions, svgs: of the figures, by name.
        out: the folder of the page, for links to the runs.
    """
    environment = Environment(
        loader=PackageLoader("facedistill.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = lambda value, digits=2: "—" if value is None else f"{value:.{digits}f}"
    environment.filters["signed"] = lambda value: "—" if value is None else f"{value:+.2f}".replace("-", "−")
    environment.filters["key"] = lambda value: "" if value is None else value
    environment.filters["seeds"] = seeds_text
    environment.filters["large"] = lambda value: f"{value:,}"
    environment.filters["command"] = command_of
    return environment.get_template("page.html").render(
        summary=summary(study),
        remarks=remarks(study),
        study=study,
        assessed=assessed,
        symbols=SYMBOLS,
        classes=CLASSES,
        least_points=LEAST_POINTS,
        least_share=100 * LEAST_SHARE,
        figures={name: (captions[name], Markup(svg)) for name, svg in svgs.items()},
        landmarks=landmark_pictures(study),
        cells=_cells(study.records),
        pictures_of=lambda name: sorted(path.name for path in (study.runs_dir / name).glob("*.png")),
        runs_dir=os.path.relpath(study.runs_dir, out),
        reproduce=REPRODUCE,
    )


def _cells(records: Sequence[Record]) -> list[tuple[str, str, list[Record]]]:
    """Title, key and runs of every cell, by title."""
    found = []
    for key, runs in by_cell(records).items():
        title = f"{' '.join(runs[0].config.axes)}, {runs[0].data_name}"
        found.append((title, key, sorted(runs, key=lambda record: (record.seed, record.name))))
    return sorted(found, key=lambda cell: cell[:2])


def command_of(record: Record) -> str:
    """Trains this run alone."""
    chosen = [word for word in record.overrides if word.startswith("experiments=")]
    # an experiment of one's own may set more than its grids: then its words are needed
    papers = all(re.fullmatch(r"experiments=\[?(table[1-5],?)+\]?", word) for word in chosen)
    return f"facedistill train {shlex.join(record.own_words if papers else record.overrides)}"


def landmark_pictures(study: Study) -> list[tuple[str, str]]:
    """Of the teacher of alignment and of some students: a label, and a picture as a data URL."""
    found: list[tuple[str, str]] = []
    for filled in study.tables:
        for row in filled.rows if filled.table.lower_is_better else ():
            if (row.is_teacher or row.target == "none") and len(found) < PICTURES:
                picture = _small(study.runs_dir / filled.records_of(row)[0].name / "samples.png")
                found += [(row.label, picture)] if picture else []
    return found


def _small(path: Path) -> str | None:
    """A picture as the data URL of a JPEG; None if there is none that can be read."""
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
