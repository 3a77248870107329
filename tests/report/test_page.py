"""The report as files: every number is in the records, every link has a target, no text of other people is markup."""

from __future__ import annotations

import base64
import csv
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from statistics import mean, stdev
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image
from records import config_of, damage, full_report, record_in, write_run, write_tables

from facedistill.config.groups import READINGS
from facedistill.report import figures, files
from facedistill.report.__main__ import main, verdicts
from facedistill.report.claims import assess
from facedistill.report.page import page, small_picture
from facedistill.report.plotting import as_svg
from facedistill.report.readme import readme
from facedistill.report.study import Study
from facedistill.report.tables import tables
from facedistill.runs.run import Run
from made_records import all_records, record_of

CLAIMS = ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "K1", "K2", "K3", "K4", "K5")
HOSTILE = 'x<script>alert(1)</script>&"|`$a_b$'


class Reader(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.unclosed: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        if tag not in ("meta", "link", "img", "br", "use", "path", "!doctype"):
            self.unclosed.append(tag)
        if "svg" not in self.unclosed:
            self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found[key] or "" for key in ("href", "src") if key in found]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for key, value in attrs if key in ("href", "src")]

    def handle_endtag(self, tag: str) -> None:
        if tag in self.unclosed:
            assert self.unclosed.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.unclosed):
            self.text += data


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return full_report(tmp_path_factory.getbasetemp())


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take seconds."""
    monkeypatch.setattr(files, "figures", lambda *_: {})


def report(folder: Path, *words: str) -> tuple[Reader, str]:
    """The page on ``folder/runs``, and the README."""
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    assert main([f"runs_dir={folder}/runs", f"out={folder}/reports", *words]) == 0
    return read(folder)


def read(folder: Path) -> tuple[Reader, str]:
    out = folder / "reports"
    return Reader((out / "index.html").read_text()), (out / "README.md").read_text()


def test_every_link_has_its_target_and_nothing_is_asked_of_a_network(three: Path) -> None:
    found, _ = read(three)
    assert len(found.ids) == len(set(found.ids))
    inside = {link[1:] for link in found.links if link.startswith("#")}
    assert len([link for link in inside if link.startswith("cell-")]) > 50
    assert {f"comparisons-{name}" for name in CLAIMS} <= inside
    assert {link for link in inside if not link.startswith(("m", "p"))} <= set(found.ids)
    others = [link for link in found.links if not link.startswith(("#", "data:"))]
    assert {link for link in others if link.startswith("http")} == {"https://arxiv.org/abs/1709.02929"}
    files = [link for link in others if not link.startswith("http")]
    assert len(files) > 150
    assert all((three / "reports" / link).is_file() for link in files)
    assert found.unclosed == []


def test_the_numbers_of_the_csv_are_those_of_the_records(three: Path) -> None:
    by_name = {record.name: record for record in all_records(three / "runs")}
    for table in tables(["synthetic", "synthetic_large"]):
        (path,) = (three / "reports" / "tables").glob(f"table{table.number}-{table.stands_for.split('-')[0].lower()}*")
        lines = list(csv.DictReader(path.open()))
        assert [line["row"] for line in lines if line["metric"] == table.metric] == [row.label for row in table.rows]
        for line in lines:
            records = [by_name[name] for name in line["runs"].split()]
            numbers = [record.scores[line["metric"]] for record in records if line["metric"] in record.scores]
            assert line["seeds"] == "0 1 2"
            assert {record.cell.rate for record in records} == {int(line["rate"])}
            if numbers:
                assert float(line["mean"]) == pytest.approx(mean(numbers), rel=1e-5)
                assert float(line["sd"]) == pytest.approx(stdev(numbers), rel=1e-4, abs=1e-9)
            assert "difference" not in line, "the data sets are not the same"


def test_figures_are_svg_and_png_and_take_the_colour_of_the_page(three: Path) -> None:
    names = {"rates", "cells", "pareto", "learning", "errors", "roc", "cost", *(f"claim-{name}" for name in CLAIMS)}
    figures = three / "reports" / "figures"
    assert {path.name for path in figures.iterdir()} == {f"{n}.{s}" for n in names for s in ("svg", "png")}
    for name in names:
        ElementTree.parse(figures / f"{name}.svg")
        assert (figures / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    text = (three / "reports" / "index.html").read_text()
    assert text.count("<svg") == len(names)
    assert "currentColor" in text
    assert "currentColor" not in (figures / "rates.svg").read_text()


@pytest.mark.slow
def test_the_same_runs_give_the_same_bytes_in_another_process(three: Path) -> None:
    subprocess.run([sys.executable, "-m", "facedistill.report", "out=again"], cwd=three, check=True, timeout=120)
    again = three / "again"
    files = sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert len(files) == 2 + 2 * 19 + 6
    for path in files:
        assert (three / "reports" / path).read_bytes() == (again / path).read_bytes(), path


def test_the_verdicts_and_the_path_of_the_page_are_printed(three: Path) -> None:
    lines = (three / "printed").read_text().splitlines()
    assert [line.split()[0] for line in lines[:12]] == [*CLAIMS]
    assert lines[-1].endswith("open reports/index.html")


@pytest.mark.usefixtures("no_figures")
def test_both_readings_variants_and_void_comparisons_are_on_the_page(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    records = write_tables(runs, [0, 1], numbers=(1, 3), readings=READINGS)
    (table,) = (one for one in tables(["synthetic"]) if one.number == 1 and one.reading == "both_rates")
    scratch = table.row(8, "scratch", "hidden")
    usual = [record for record in records if record.config.schedule.reading == "both_rates"]
    own = {record.seed: record.scores["top1"] for record in usual if record.cell == scratch.cell}
    for seed in (0, 1):
        config = config_of(table, scratch, seed)
        config = replace(config, target=replace(config.target, parity=3.0))
        run = Run(config, ("rate=8", "target=hidden", f"seed={seed}", "target.parity=3.0"), {"name": "synthetic"}, {})
        write_run(
            runs, record_of(run, metrics={"top1": own[seed] + 1 + seed}, identity=f"v{seed}", name=f"variant-{seed}")
        )
    for record in records:
        if record.config.is_teacher and record.cell.task == "align":
            damage(runs / record.name, metrics={"nrmse": 99.0})
    found, summary = report(tmp_path)
    text = " ".join(found.text.split())
    for heading in ("both learning rates from random weights", "one learning rate a run"):
        assert text.count(f"Table 1: Targets and initializations at rate 8, CASIA-WebFace, {heading}") > 1
        assert f"CASIA-WebFace, {heading}" in summary
    sensitivity = text[text.index("Cells of the tables that were also trained") :][:1000]
    assert "Scratch, hidden target.parity=3.0" in sensitivity
    assert "+1.50 (" in sensitivity, "the mean of the paired differences 1 and 2"
    assert "| Scratch, hidden | `target.parity=3.0` |" in summary
    assert "C4. Void: the teacher of table 3 has 99.00" in summary.replace("\\", "")
    assert text.count("Void: the teacher of table 3 has 99.00 (NRMSE %), the student alone") == 2, "C4 of each reading"
    void_in_part = text.count("Void in part: the teacher of table 3 has 99.00")
    assert void_in_part == 2, "C5 of each reading; K4 is void by its recognizer"
    assert "C2 (one_rate)" in text


def test_one_seed_shows_no_spread_and_decides_nothing(tmp_path: Path) -> None:
    write_tables(tmp_path / "runs", [0])
    study = Study.read(tmp_path / "runs", ["synthetic", "synthetic_large"], "synthetic")
    assessed = assess(study)
    found = Reader(page(study, assessed, {}, tmp_path))
    shown = found.text[found.text.index("The paper's tables and ours") : found.text.index("Deviations from the paper")]
    assert "±" not in shown.replace("mean ± standard deviation", "")
    assert "±" not in readme(study, assessed, {})
    assert "One seed decides nothing" in found.text
    assert verdicts(assessed).count("  undecided  ") == 12


def test_without_runs_the_page_says_what_trains_them(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "other"):
        (folder / "runs").mkdir(parents=True, exist_ok=True) if folder == tmp_path else None
        found, summary = report(folder)
        assert "No finished run was found" in found.text
        assert "make reproduce" in found.text
        assert "svg" not in found.tags
        assert "No finished run was found" in summary


def test_one_run_makes_a_page(tmp_path: Path) -> None:
    table = tables(["synthetic"])[0]
    write_run(tmp_path / "runs", record_in(table, table.rows[3], 0, 61.0))
    found, summary = report(tmp_path)
    assert "61.00" in found.text
    assert "Missing: teacher; Scratch, hidden" in " ".join(found.text.split())
    assert "61.00" in summary


@pytest.mark.usefixtures("no_figures")
def test_faulty_runs_are_named_and_the_rest_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    records = write_tables(runs, [0, 1], numbers=(1, 3))
    cut, gone, poor = (runs / record.name for record in records[:3])
    damaged = runs / next(record.name for record in records if record.cell.task == "align")
    (cut / "record.json").write_bytes((cut / "record.json").read_bytes()[:100])
    shutil.rmtree(gone)
    (damaged / "sample_scores.npz").write_bytes(b"PK")
    (damaged / "samples.png").write_bytes(b"no picture")
    damage(poor, metrics={"top1": "high"})
    (runs / "classify-r2-scratch-none-synthetic-s0-0123456789ab").mkdir()
    old = record_in(tables(["synthetic"])[0], tables(["synthetic"])[0].rows[1], 5, 10.0)
    write_run(runs, replace(old, name="old-0123456789ab", recipe={**old.recipe, "version": 1}))
    found, summary = report(tmp_path)
    text = " ".join(found.text.split())
    reason = "record.json is not a record as this version writes it"
    assert f"{cut.name} is left out: {cut}/{reason}" in text
    assert f"{poor.name} is left out: {poor}/{reason}: metrics.top1: Input should be a valid number" in text
    assert "facedistill runs stale lists them" in text
    assert f"There are runs of results versions 1, {old.version}:" in text
    assert "leaves out 1 runs with other images" in text
    assert gone.name not in found.text
    assert found.tags.count("img") == 4  # of the five rows of alignment that have one, whose first has lost it
    assert "is not a record as this version writes it" in summary
    said = capsys.readouterr()
    assert f"{len(records) - 2} runs, 2 left out; open {tmp_path}/reports/index.html" in said.out
    assert [line.partition(" is left out: ")[0] for line in said.err.splitlines()] == sorted([cut.name, poor.name])


def png(path: Path, *size: int) -> None:
    Image.new("1", size).save(path, "PNG")


@pytest.mark.parametrize(
    ("write", "shown"),
    [
        (lambda path: png(path, 1144, 400), True),
        (lambda path: png(path, 1, 10_000), True),
        (lambda path: png(path, 5_000, 5_000), False),
        (lambda path: Image.new("1", (9, 9)).save(path, "GIF"), False),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\xff" * 99), False),
        (lambda path: path.write_bytes(b""), False),
        (os.mkfifo, False),
        (Path.mkdir, False),
        (lambda path: path.symlink_to(path.name), False),
        (lambda path: None, False),
    ],
)
def test_a_picture_of_a_run_is_small_or_not_shown(tmp_path: Path, write: Callable[[Path], Any], shown: bool) -> None:
    write(tmp_path / "samples.png")
    picture = small_picture(tmp_path / "samples.png")
    assert (picture is not None) == shown
    if picture is not None:
        image = Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2])))
        assert image.width <= 900
        assert image.height <= 3600


def test_names_that_people_choose_are_text(tmp_path: Path) -> None:
    name = HOSTILE.replace("/", "∕")
    records = write_tables(tmp_path / "runs", [0], name, numbers=(1, 3))
    words = [f"data.root={HOSTILE}", "a\nb", "data.root=\udcff"]  # the last is a file name that is not UTF-8
    write_run(tmp_path / "runs", replace(records[0], name="mine-0123456789ab", overrides=words))
    found, summary = report(tmp_path, f"data={name},{name}_large", f"alignment={name}")
    assert found.tags.count("script") == 1
    assert HOSTILE in found.text
    assert name in found.text
    outside = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", re.sub(r"\\.", "", summary))  # of code
    assert "<" not in outside
    assert found.unclosed == []
    (row,) = {len(re.findall(r"(?<!\\)\|", line)) for line in summary.splitlines() if line.startswith("| C5")}
    assert row == 9


def test_names_that_a_terminal_or_a_spreadsheet_would_obey_are_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "=cmd|' /C calc'!A0\x1b[31m\u202e\nhttp://a.b"
    records = write_tables(tmp_path / "runs", [0], name, numbers=(1, 3))
    write_run(tmp_path / "runs", replace(records[0], name="mine-0123456789ab", overrides=["data.root=Jos\udce9"]))
    escaped = "=cmd|' /C calc'!A0\\x1b[31m\\u202e\\nhttp://a.b"
    found, summary = report(tmp_path, f"data={name},{name}_large", f"alignment={name}")
    assert escaped in found.text
    assert "Jos\\xe9" in found.text
    assert "http\\://a.b" in summary  # no link
    files = [(tmp_path / "reports" / "README.md").read_text(), (tmp_path / "reports" / "index.html").read_text()]
    files += [path.read_text() for path in (tmp_path / "reports").glob("*/*.[cs][sv][vg]")]
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", "".join(files) + capsys.readouterr().out)
    for path in (tmp_path / "reports" / "tables").iterdir():
        lines = list(csv.DictReader(path.open()))
        assert {line["data"].removesuffix("_large") for line in lines} == {f"'{escaped}"}
        assert not [cell for line in lines for cell in line.values() if cell.startswith(("=", "+", "@"))]
    for path in (tmp_path / "reports" / "figures").glob("*.svg"):
        ElementTree.parse(path)


@pytest.mark.slow
def test_a_figure_that_can_not_be_drawn_is_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no <font>")

    write_tables(tmp_path / "runs", [0], numbers=(1, 3))
    monkeypatch.setattr(figures, "cells", broken)
    monkeypatch.setattr(figures, "forest", lambda _: None)  # it takes seconds
    drawn = figures.as_png
    monkeypatch.setattr(figures, "as_png", lambda figure: broken() if "hours" in as_svg(figure, "") else drawn(figure))
    found, summary = report(tmp_path)
    assert "This page is without the figure cells: RuntimeError: no <font>" in found.text
    assert "without the figure cost\\: RuntimeError\\: no \\<font\\>" in summary
    left = {path.stem for path in (tmp_path / "reports" / "figures").iterdir()}
    assert "errors" in left
    assert not {"cells", "cost"} & left
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.slow
def test_many_runs_make_a_small_page(tmp_path: Path) -> None:
    records = write_tables(tmp_path / "runs", range(7))
    assert len(records) > 500
    study = Study.read(tmp_path / "runs", ["synthetic", "synthetic_large"], "synthetic")
    text = page(study, assess(study), {}, tmp_path)
    assert text.count("facedistill train ") >= len(records)
    assert len(text) < 1_000_000


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("runsdir=x", "Did you mean runs_dir=x?"),
        *((word, f"{word.strip('=')}: words are runs_dir=…") for word in ("data", "--fast", "out=")),
    ],
)
def test_an_unknown_word_is_refused(word: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 2
    assert said in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "wandb=ENTITY/PROJECT" in capsys.readouterr().out


def test_it_imports_no_torch() -> None:
    code = "import sys, facedistill.report.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
