"""The report as a page that needs no network."""

import base64
import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from PIL import Image

from facedistill.report.claims import Assessment
from facedistill.report.cost import hours_of, runs_behind
from facedistill.report.deviations import deviations
from facedistill.report.facts import REPRODUCE, remarks, seeds_text, summary
from facedistill.report.on_device import usual_machine
from facedistill.report.rule import MARGIN
from facedistill.report.study import Study
from facedistill.report.tables import METRICS
from facedistill.report.wording import (
    SYMBOLS,
    answer_in_words,
    correction,
    detectable,
    effect_in_words,
    key_of,
    p_in_words,
    power,
    reasons,
    signed,
    survival_in_words,
    verdict,
)
from facedistill.runs.record import Record, by_cell
from facedistill.system.files import open_regular
from facedistill.system.text import command_line, shown

PICTURES, PICTURE_WIDTH = 4, 900  # landmark pictures on the page, and their width in pixels
MOST_PIXELS = 2**24  # of a picture


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
    drawn = {name: (caption, Markup(svg)) for name, (caption, svg) in svgs.items()}
    environment = Environment(
        loader=PackageLoader("facedistill.report", "."),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else shown(value),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value, digits=2: "—" if value is None else f"{value:.{digits}f}"
    environment.filters["key"] = lambda value: "" if value is None else value
    environment.filters["large"] = lambda value: f"{value:,}"
    environment.filters["css"] = lambda answer: answer.replace(" ", "-")
    environment.filters |= _FILTERS
    return environment.get_template("page.html").render(
        summary=summary(study),
        remarks=remarks(study, failed),
        study=study,
        assessed=assessed,
        symbols=SYMBOLS,
        margin=MARGIN,
        correction=correction(assessed),
        power=power(assessed),
        deviations=deviations(study),
        sensitive=[filled for filled in study.tables if filled.variants],
        metrics=METRICS,
        runs_behind=partial(runs_behind, study),
        figures={name: figure for name, figure in drawn.items() if not name.startswith(("claim-", "device"))},
        usual_machine=usual_machine,
        in_page=lambda path: os.path.relpath(path, out),
        drawn=drawn,
        landmarks=landmark_pictures(study),
        cells=_cells(study.records),
        pictures_of=lambda name: sorted(path.name for path in (study.runs_dir / name).glob("*.png")),
        runs_dir=os.path.relpath(study.runs_dir, out),
        reproduce=REPRODUCE,
    )


def command_of(record: Record) -> str:
    """Trains this run alone."""
    chosen = [word for word in record.overrides if word.startswith("experiments=")]
    # an experiment of one's own may set more than its grids: then its words are needed
    papers = all(re.fullmatch(r"experiments=\[?((core|sensitivity|table[1-5]),?)+\]?", word) for word in chosen)
    return f"facedistill train {command_line(record.own_words if papers else record.overrides)}"


_FILTERS: dict[str, Callable[..., object]] = {
    "answer": answer_in_words,
    "command": command_of,
    "detectable": detectable,
    "effect": effect_in_words,
    "hours": hours_of,
    "key_of": key_of,
    "p": p_in_words,
    "reasons": reasons,
    "seeds": seeds_text,
    "signed": signed,
    "survival": survival_in_words,
    "verdict": verdict,
}


def _cells(records: Sequence[Record]) -> list[tuple[str, str, list[Record]]]:
    """Title, key and runs of every cell, by title."""
    cells = by_cell(sorted(records, key=lambda record: (record.seed, record.name)))
    titled = [(f"{' '.join(runs[0].config.axes)}, {runs[0].data_name}", key, runs) for key, runs in cells.items()]
    return sorted(titled, key=lambda cell: cell[:2])


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
