"""Model files in the report: matched by identity, compared with their like, and every front is one."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from records import write_tables

from facedistill.report import figures
from facedistill.report.__main__ import main
from facedistill.report.device_figure import device_figure, front
from facedistill.report.on_device import DeviceFile, OnDevice, Scale, as_csv, usual_machine
from facedistill.runs.exported import Exported, Framing, ImageInput, Judged, ModelFile
from facedistill.runs.record import Record

INPUT = ImageInput(32, 32, "float32", [1.0] * 3, [1.0] * 3)


def export_of(record: Record, folder: Path, files: Sequence[ModelFile] = (), **changes: Any) -> Exported:
    """An export as ``facedistill export`` would leave it, without its files."""
    metric = record.metric
    score = record.scores[metric]
    judged = Judged(metric, f"the test split of {record.data_name}", 120, score, score - 1, score + 1)
    worse = score + 0.25 if metric == "nrmse" else score - 0.25
    usual = [
        ModelFile("onnx", "model.onnx", 2_000_000, "x", True, score, 1.0, 0.0, 2.0, 2.5),
        ModelFile("onnx-int8", "model-int8.onnx", 600_000, "x", False, worse, 0.99, 0.1, 1.0, 1.25),
        ModelFile("coreml", "model.mlpackage.zip", 1_000_000, "x", False, note="not run"),
    ]
    exported = Exported(
        name=record.name,
        kind="embedding",
        input=INPUT,
        framing=Framing("whole", 32),
        width=10,
        normalized=False,
        files=list(files) or usual,
        judged=judged,
        identity=record.identity,
        title=record.name,
        command="facedistill export run=x",
        processor="a processor",
        threads=1,
        params=10,
        macs=10,
        data=record.data_name,
        licences=[],
    )
    exported = replace(exported, **changes)
    folder.mkdir(parents=True)
    exported.write(folder)
    return exported


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Record]:
    """Students of classification, of alignment and a teacher."""
    monkeypatch.chdir(tmp_path)
    return write_tables(tmp_path / "runs", [0], numbers=(1, 3))


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """But that of the model files: the others take seconds."""
    monkeypatch.setattr(figures, "CAPTIONS", {"device": figures.CAPTIONS["device"]})
    monkeypatch.setattr(figures, "forest", lambda _: None)


def students(records: Sequence[Record], task: str) -> list[Record]:
    return [record for record in records if record.cell.task == task and not record.config.is_teacher]


@pytest.mark.usefixtures("no_figures")
def test_the_page_shows_what_the_files_of_its_runs_score_and_take(
    records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = students(records, "classify")[0], students(records, "align")[0]
    for record in (one, other):
        export_of(record, Path("exports") / record.name)
    Path("exports", one.name, "card.md").touch()
    export_of(one, Path("exports/elsewhere"), identity="of no run")
    export_of(one, Path("exports/.being-made.part"))
    Path("exports/notes").mkdir()
    Path("exports/file").touch()
    export_of(one, Path("exports/broken"))
    Path("exports/broken/contract.json").write_text('{"version": 1}')
    assert main([]) == 0
    page, summary = Path("reports/index.html").read_text(), Path("reports/README.md").read_text()
    section = page[page.index('<h2 id="device">') : page.index('<h2 id="deviations">')]
    assert '<a href="#device">On the device</a>' in page
    rows = [re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", row)).split() for row in section.split("<tr>")[2:]]
    told = {" ".join(row) for row in rows}
    score = one.scores["top1"]
    cell = f"/8 {one.cell.init}, {one.cell.target}, seed 0"
    assert f"{cell} onnx 2.00 {score:.2f} +0.00 2.00 2.50" in told
    assert f"{cell} onnx-int8 0.60 {score - 0.25:.2f} +0.25 1.00 1.25" in told
    assert f"{cell} coreml 1.00 — — — —" in told
    error = other.scores["nrmse"]
    cell = f"/8 {other.cell.init}, {other.cell.target}, seed 0"
    assert f"{cell} onnx-int8 0.60 {error + 0.25:.2f} +0.25 1.00 1.25" in told
    assert section.count("<tr>") == 2 + 6
    assert section.count("<svg") == page.count("<svg") == 1
    assert f'<a href="#cell-{one.cell_key}">' in section
    assert section.count(f'href="../exports/{one.name}/card.md"') == 3
    assert f'href="../exports/{other.name}/card.md"' not in section  # there is none
    assert "more export is of networks that are not among these runs" in " ".join(section.split())
    assert "The export broken is left out: exports/broken/contract.json is not what an export says" in page
    assert "broken is left out" in capsys.readouterr().err
    assert "## On the device" in summary
    assert f"| onnx-int8 | 0.60 | {score - 0.25:.2f} | +0.25 |" in summary
    ElementTree.parse("reports/figures/device.svg")


@pytest.mark.usefixtures("no_figures")
def test_the_csv_has_every_file(records: list[Record]) -> None:
    chosen = [*students(records, "classify")[:2], *students(records, "align")[:1]]
    exports = [export_of(record, Path("mine") / str(number)) for number, record in enumerate(chosen)]
    assert main(["exports=mine"]) == 0
    lines = list(csv.DictReader(Path("reports/tables/exports.csv").read_text().splitlines()))
    assert len(lines) == 9
    by_run = {(line["run"], line["format"]): line for line in lines}
    for number, (record, exported) in enumerate(zip(chosen, exports, strict=True)):
        for model in exported.files:
            line = by_run[record.name, model.format]
            assert (line["init"], line["target"], line["seed"]) == (record.cell.init, record.cell.target, "0")
            assert (line["export"], line["file"], line["bytes"]) == (str(number), model.file, str(model.bytes))
            assert float(line["network"]) == pytest.approx(exported.judged.score, rel=1e-5)
            for key, value in (("score", model.score), ("median_ms", model.median_ms), ("p95_ms", model.p95_ms)):
                assert line[key] == ("" if value is None else f"{value:.6g}")
            assert line["loss"] == {"onnx": "0", "onnx-int8": "0.25", "coreml": ""}[model.format]


@pytest.mark.usefixtures("no_figures")
def test_without_exports_there_is_no_such_section(records: list[Record], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    Path("exports").mkdir()
    assert main([]) == 0
    export_of(records[0], Path("exports/another"), identity="of no run")
    assert main([]) == 0
    page = Path("reports/index.html").read_text()
    assert "On the device" not in page + Path("reports/README.md").read_text()
    assert not list(Path("reports").glob("*/device.*")) + list(Path("reports").glob("*/exports.csv"))
    assert main(["exports=gone"]) == 2
    assert "exports=gone does not exist: name the folder of the exports, exports=FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize("lower_is_better", [False, True])
def test_a_front_has_what_nothing_as_cheap_reaches(lower_is_better: bool) -> None:
    draw = np.random.default_rng(0)
    for count in (1, 2, 30):
        points = [(float(price), float(score)) for price, score in draw.integers(0, 8, (count, 2))]

        def better(one: float, other: float) -> bool:
            return one < other if lower_is_better else one > other

        def beaten(point: tuple[float, float]) -> bool:
            return any(
                (price <= point[0] and better(score, point[1])) or (price < point[0] and score == point[1])
                for price, score in points  # noqa: B023 – it is called here
            )

        assert front(points, lower_is_better) == sorted({point for point in points if not beaten(point)})
    assert front([], lower_is_better) == []


def files_of(records: Sequence[Record], folder: Path) -> OnDevice:
    return OnDevice.read(folder, records)


def test_only_what_can_be_compared_is_drawn_together(records: list[Record], tmp_path: Path) -> None:
    recognizers, aligners = students(records, "classify"), students(records, "align")
    folder = tmp_path / "exports"
    for number, record in enumerate([*recognizers[:3], *aligners[:2]]):
        export_of(record, folder / str(number))
    pairs = Judged("pairs", "the 6,000 pairs of lfw", 6000, 90, 89, 91)
    export_of(recognizers[3], folder / "5", judged=pairs)
    export_of(recognizers[4], folder / "6", processor="another")
    device = OnDevice.read(folder, records)
    split = "the test split of synthetic"
    assert {scale: len(files) for scale, files in device.by_scale.items()} == {
        Scale("align", "nrmse", split): 6,
        Scale("classify", "pairs", "the 6,000 pairs of lfw"): 3,
        Scale("classify", "top1", split): 12,
    }
    figure = device_figure(device)
    assert figure is not None
    assert len(figure.axes) == 6
    assert [axes.get_title("left").partition(":")[0] for axes in figure.axes[::2]] == ["align", "classify", "classify"]
    fronts = [[line for line in axes.lines if line.get_linestyle() == "-"] for axes in figure.axes]
    assert [len(lines) for lines in fronts] == [1] * 6
    points = [len(axes.lines) - 1 for axes in figure.axes]
    assert points == [4, 4, 2, 2, 8, 6]  # what was timed on another machine has no place among latencies
    top1, errors = (list(map(float, fronts[number][0].get_ydata())) for number in (4, 0))
    assert top1 == sorted(top1)
    assert errors == sorted(errors, reverse=True)
    assert usual_machine(device.by_scale[Scale("classify", "top1", split)]) == "a processor, 1 thread"


def test_a_format_has_its_colour_whatever_else_is_there(records: list[Record], tmp_path: Path) -> None:
    chosen = students(records, "classify")[:2]
    export_of(chosen[0], tmp_path / "exports" / "both")
    one = ModelFile("onnx-int8", "model-int8.onnx", 600_000, "x", False, 50.0, 0.99, 0.1, 1.0, 1.25)
    export_of(chosen[1], tmp_path / "alone" / "one", [one])
    colours = []
    for folder in ("exports", "alone"):
        figure = device_figure(OnDevice.read(tmp_path / folder, records))
        assert figure is not None
        (line,) = (line for line in figure.axes[0].lines if line.get_label() == "onnx-int8")
        colours.append((line.get_color(), line.get_marker()))
    assert colours[0] == colours[1]


def test_files_that_were_not_run_are_in_the_table_alone(records: list[Record], tmp_path: Path) -> None:
    unrun = ModelFile("coreml", "model.mlpackage.zip", 1_000_000, "x", False)
    record = students(records, "classify")[0]
    export_of(record, tmp_path / "exports" / "one", [unrun])
    device = OnDevice.read(tmp_path / "exports", records)
    assert device_figure(device) is None
    (file,) = device.files
    assert (file.loss, file.megabytes, usual_machine(device.files)) == (None, 1.0, "")
    empty = replace(unrun, bytes=0, score=50.0, median_ms=0.0)  # no place on an axis of logarithms
    many = [replace(file, model=replace(unrun, bytes=size, score=50.0, median_ms=1.0)) for size in (1, 10_000)]
    assert device_figure(OnDevice([DeviceFile(record, file.exported, empty, file.folder), *many])) is not None


@pytest.mark.usefixtures("no_figures")
def test_text_of_others_is_text(records: list[Record]) -> None:
    hostile = "=x<script>alert(1)</script>$a_b$|`\u202e"
    record = students(records, "classify")[0]
    model = ModelFile(hostile, hostile.replace("/", "∕"), 1000, "x", True, 50.0, 1.0, 0.0, 1.0, 1.0)
    judged = Judged("<b>", hostile, 1, 50, 50, 50)
    export_of(record, Path("exports/one"), [model], judged=judged, processor=hostile)
    assert main([]) == 0
    page = Path("reports/index.html").read_text()
    assert page.count("<script>") == 1
    assert "<b>" not in page
    text = page + Path("reports/README.md").read_text() + Path("reports/tables/exports.csv").read_text()
    assert "\u202e" not in text
    (line,) = csv.DictReader(Path("reports/tables/exports.csv").read_text().splitlines())
    assert line["format"].startswith("'=x<script>")
    ElementTree.parse("reports/figures/device.svg")


def test_an_export_that_can_not_be_read_is_named(records: list[Record], tmp_path: Path) -> None:
    export_of(records[0], tmp_path / "exports" / "good")
    for name, text in (("cut", "{"), ("strange", json.dumps([1])), ("bytes", "\udcff")):
        (tmp_path / "exports" / name).mkdir()
        (tmp_path / "exports" / name / "contract.json").write_bytes(text.encode(errors="surrogateescape"))
    (tmp_path / "exports" / "link").mkdir()
    (tmp_path / "exports" / "link" / "contract.json").symlink_to("nowhere")
    device = OnDevice.read(tmp_path / "exports", records)
    assert sorted(device.unreadable) == ["bytes", "cut", "link", "strange"]
    assert len(device.files) == 3
    assert as_csv(device).count("\n") == 4
