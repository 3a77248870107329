"""The card as Hugging Face reads it, with whatever names others gave: its front matter, its tables, what it names."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from facedistill.export.card import card
from facedistill.export.licences import licence_notes, notes_on
from facedistill.export.network import Deployed
from facedistill.export.subject import Subject
from facedistill.runs.exported import Exported, Judged, ModelFile
from facedistill.runs.run import Run, WeightsFile
from made_exports import arcface, made_export

RATES = {"1e-2": 0.31, "1e-3": 0.42}
TAR = {"1e-2": 98.0, "1e-3": 91.5}


@pytest.fixture(scope="module")
def subject(runs: dict[str, Run]) -> Subject:
    run = runs["classify"]
    return Subject.of_run(run.directory, [f"cache_dir={run.config.cache_dir}"])


@pytest.fixture
def exported(tmp_path: Path) -> Exported:
    """As of an embedding that was scored on pairs, with a teacher and a file that can't be run here."""
    made = Exported.read(made_export(tmp_path / "face-student", "embedding", arcface(128, 112), 112))
    measured: dict[str, Any] = {"thresholds": RATES, "tar": TAR}
    files = [
        ModelFile("onnx", "model.onnx", 3_800_000, "0", True, 99.4, 1.0, 1e-6, 3.25, 3.5, **measured),
        ModelFile("onnx-int8", "model-int8.onnx", 1_050_000, "0", False, 99.3, 0.998, 0.1, 2.1, 2.5, note="every one"),
        ModelFile("coreml", "model.mlpackage.zip", 3_900_000, "0", True, note="made here, and not run"),
    ]
    teacher = ModelFile("onnx", "w600k_r50.onnx", 174_000_000, "0", True, 99.8, median_ms=60.0, p95_ms=70.0)
    judged = Judged("pairs", "the 6,000 pairs of lfw", 6000, 99.4, 99.2, 99.6, RATES, "the 6,000 pairs of lfw", TAR)
    return replace(made, files=files, teacher=[teacher], judged=judged, licences=["data=lfw: for research", "no more"])


def recognizer(name: str) -> WeightsFile:
    """One of this name, of which there is no file."""
    return SimpleNamespace(weights=Path("/x") / name)  # type: ignore[return-value]


def front_matter(text: str) -> dict[str, Any]:
    assert text.startswith("---\n")
    found = yaml.safe_load(text.split("---\n")[1])
    assert isinstance(found, dict)
    return found


def check_tables(text: str) -> int:
    """How many tables it has, each with as many cells in every row as in its head."""
    body = text.split("---\n", 2)[2]
    tables = re.findall(r"(?:^\|.*\n?)+", body, re.MULTILINE)
    for table in tables:
        rows = [len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()]
        assert len(rows) >= 3
        assert len(set(rows)) == 1, table
        assert re.fullmatch(r"\|(-+:?\|)+", table.splitlines()[1])
    return len(tables)


def test_its_front_matter_is_what_hugging_face_asks_for(
    exported: Exported, subject: Subject, deployed: Deployed
) -> None:
    said = front_matter(card(exported, subject, deployed, "other"))
    assert said["license"] == "other"
    assert said["license_link"] == "LICENCES.md"
    assert re.fullmatch(r"[a-z0-9.-]+", said["license_name"])
    assert said["pipeline_tag"] == "image-feature-extraction"
    assert {"face-recognition", "knowledge-distillation"} <= set(said["tags"])
    (model,) = said["model-index"]
    assert model["name"] == "face-student"
    (result,) = model["results"]
    assert result["task"]["type"] == said["pipeline_tag"]
    assert set(result["dataset"]) == {"name", "type"}
    (metric,) = result["metrics"]
    assert metric["value"] == 99.4
    own = front_matter(card(exported, subject, deployed, "mit"))
    assert own["license"] == "mit"
    assert "license_name" not in own


def test_it_says_what_a_person_asks_of_it(exported: Exported, subject: Subject, deployed: Deployed) -> None:
    text = card(exported, subject, deployed, "other")
    assert check_tables(text) == 3, "files, template, thresholds"
    rows = {
        row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[2:-1]]
        for row in text.splitlines()
        if row.startswith("|")
    }
    assert rows["model.onnx"] == ["onnx", "3.80", "99.40", "1.0000", "3.25", "3.50"]
    assert rows["model.mlpackage.zip"] == ["coreml", "3.90", "", "", "", ""]
    assert rows["w600k_r50.onnx (the teacher)"][:3] == ["onnx", "174.00", "99.80"]
    assert rows["1e-3"] == ["0.4200", "91.5"] * 2
    assert "They are too few for 1e-4." in text
    assert rows["left eye"] == [
        f"{(38.2946 + 0.5) * 128 / 112 - 0.5 - 8:.4f}",
        f"{(51.6963 + 0.5) * 128 / 112 - 0.5 - 8:.4f}",
    ]
    for said in (
        exported.command,
        "data=lfw: for research",
        "no more",
        "onnx-int8: every one",
        "coreml: made here, and not run",
        "95 % interval 99.20 … 99.60 (6,000 samples)",
        exported.identity,
        exported.processor,
        "contract.json",
        "- input `image`: [N, 3, 112, 112], RGB, float32, (x − 120) / 60",
    ):
        assert said in text, said
    assert (
        check_tables(card(replace(exported, judged=replace(exported.judged, thresholds={})), subject, deployed, "mit"))
        == 2
    )


@pytest.mark.parametrize(("kind", "tag"), [("logits", "image-classification"), ("landmarks", "keypoint-detection")])
def test_every_kind_says_what_it_gives(
    tmp_path: Path, subject: Subject, deployed: Deployed, kind: str, tag: str
) -> None:
    exported = Exported.read(made_export(tmp_path / "e", kind))
    metric = "nrmse" if kind == "landmarks" else "top1"
    exported = replace(exported, judged=replace(exported.judged, metric=metric, thresholds={}, tar={}))
    text = card(exported, subject, deployed, "other")
    assert front_matter(text)["pipeline_tag"] == tag
    assert ("labels.txt" in text) == (kind == "logits")
    assert ("[N, 5, 2]" in text) == (kind == "landmarks")
    assert "cosine of two" not in text
    check_tables(text)


HOSTILE = [
    "a|b|c.onnx",
    "x\n---\nlicense: mit\n# Mine",
    "`$(rm)`",
    "<script>alert(1)</script>",
    "\x1b[31m\x7f\x85",
    "é‮.onnx",
    "a: b # c",
    "\udce9",
]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_names_of_others_break_neither_its_tables_nor_its_front_matter(
    exported: Exported, subject: Subject, deployed: Deployed, name: str
) -> None:
    teacher = replace(exported.teacher[0], file=name)
    hostile = replace(exported, teacher=[teacher], licences=notes_on({"name": "photos", "root": "x"}, [Path(name)]))
    student = replace(subject, teacher=recognizer(name))
    for text in (card(hostile, student, deployed, "other"), licence_notes(hostile)):
        text.encode()
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
        assert not re.search(r"^(license: mit|# Mine)", text, re.MULTILINE)
    assert front_matter(card(hostile, student, deployed, "other")) == front_matter(
        card(exported, subject, deployed, "other")
    )
    assert check_tables(card(hostile, student, deployed, "other")) == 3


@pytest.mark.parametrize("licence", ["MIT\nfoo: bar", "a: b", "\x7f", "[1, 2]", ""])
def test_any_licence_is_one_value(exported: Exported, subject: Subject, deployed: Deployed, licence: str) -> None:
    found = front_matter(card(exported, subject, deployed, licence))
    assert isinstance(found["license"], str)
    assert "foo" not in found


def test_data_are_named_by_their_licences(tmp_path: Path) -> None:
    (own,) = notes_on({"name": "casia_webface", "root": "/x"}, [])
    assert "non-commercial research only" in own
    folder, called = notes_on({"name": "identity_folders", "root": ["/x/MS1M-faces", "/y"]}, [])
    assert "does not know their licences" in folder
    assert "MS-Celeb-1M was withdrawn" in called
    assert notes_on({"name": "photos", "root": ""}, []) == []
    for name in ("synthetic_spoof", "latent"):
        (rendered,) = notes_on({"name": name}, [])
        assert "it shows no person" in rendered
    _, note = notes_on({"name": "synthetic"}, [Path("/x/r50.onnx"), Path("/x/r50.onnx")])
    assert note.startswith("r50.onnx: a recognizer from elsewhere")
