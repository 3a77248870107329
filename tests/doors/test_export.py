"""The command that exports: what it leaves of runs of every task and of files, and what it refuses, in a line."""

from __future__ import annotations

import io
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from facedistill.config.compose import compose_config
from facedistill.data.sources.source import build_source
from facedistill.export.__main__ import main
from facedistill.runs.exported import CARD, LABELS, Exported
from facedistill.runs.run import Run
from facedistill.system.text import command_line
from made_records import complete
from made_runs import TINY, imitating, made_runs, trained

QUICK = "format=safetensors"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    return made_runs(tmp_path_factory)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("facedistill.export.make.latency", lambda answer: (1.0, 2.0))


def photos(folder: Path, count: int = 12) -> Path:
    """Faces that are aligned already: patterns, of 40 pixels."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(count):
        image = draw.integers(0, 256, (5, 5, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The last line on stderr, of a status of 2 and no traceback."""
    assert main(words) == 2
    line: str = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("facedistill: ")
    assert len(line) < 600
    return line


def test_its_manual_names_all_formats(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for name in ("onnx, onnx-int8", "openvino", "safetensors", "torch-program"):
        assert name in said
    assert "{" not in said
    assert max(map(len, said.splitlines())) <= 200
    assert main([]) == 2


def test_a_classifier_becomes_files_that_onnxruntime_runs_alone(
    runs: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ort = pytest.importorskip("onnxruntime")
    run = runs["classify"]
    assert main([f"run={run.directory}", "format=onnx,onnx-int8", "pixel=uint8", "name=student", "tolerance=100"]) == 0
    folder = tmp_path / "exports" / "student"
    exported = Exported.read(folder)
    assert [model.file for model in exported.files] == ["model.onnx", "model-int8.onnx"]
    assert exported.names(folder) == [f"person-0000{number}" for number in range(4)]
    assert exported.judged.metric == "top1"
    assert exported.judged.score == pytest.approx(run.record.metrics["top1"], rel=1e-4)
    assert exported.input.pixel == "uint8"
    assert exported.calibration == "37 faces of synthetic that are not scored"
    said = capsys.readouterr().out
    for text in ("model.onnx", "model-int8.onnx", "top1, %", "facedistill predict model=exports/student photo.jpg"):
        assert text in said
    (typed,) = re.findall(r"```bash\nfacedistill (export .*)\n```", (folder / CARD).read_text())
    assert typed.startswith(f"export run={run.directory}")
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 20, 20)).astype(np.uint8)
    answers = []
    for model in exported.files:
        session = ort.InferenceSession(str(folder / model.file), providers=["CPUExecutionProvider"])
        (answer,) = session.run([exported.output], {exported.input.name: images})
        assert answer.shape == (2, exported.width) == (2, 4)
        answers.append(answer)
    assert 1e-7 < np.abs(answers[0] - answers[1]).max() < 0.2


@pytest.mark.parametrize(
    ("name", "kind", "metric"),
    [("align", "landmarks", "nrmse"), ("verify", "embedding", "top1"), ("embed", "embedding", "cosine")],
)
def test_a_run_of_any_task_is_exported(
    runs: dict[str, Run], tmp_path: Path, name: str, kind: str, metric: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs[name]
    assert main([f"run={run.directory}", QUICK, "out=made/here"]) == 0
    folder = tmp_path / "made" / "here" / run.name
    exported = Exported.read(folder)
    exported.checked(folder, "safetensors")
    assert (exported.kind, exported.judged.metric, exported.identity) == (kind, metric, run.identity)
    assert exported.judged.score == pytest.approx(run.record.metrics[metric], rel=1e-3)
    assert exported.name == exported.title == run.name
    assert not exported.normalized
    assert not (folder / LABELS).exists()
    assert (len(exported.teacher) == 1) == (name == "embed")
    assert yaml.safe_load((folder / CARD).read_text().split("---\n")[1])["library_name"] == "safetensors"
    assert f"The export is made/here/{run.name}." in capsys.readouterr().out


def test_a_file_of_weights_is_judged_by_its_likeness_to_itself(
    runs: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos(tmp_path / "faces")
    weights = shutil.copy(runs["classify"].weights, tmp_path / "mine.safetensors")
    words = [f"weights={weights}", QUICK]
    line = refused(words, capsys)
    assert "faces=FOLDER data.alignment=detect" in line
    assert main([*words, "faces=faces", "data.alignment=none", "normalize=true"]) == 0
    exported = Exported.read(tmp_path / "exports" / "mine")
    assert exported.judged.metric == "cosine"
    assert exported.judged.score == pytest.approx(100)
    assert exported.normalized
    assert "mine.safetensors, sha256 " in exported.ancestors["weights"]
    (tmp_path / "one").mkdir()
    shutil.copy(tmp_path / "faces" / "0.png", tmp_path / "one")
    assert "one" in refused([*words, "faces=one", "data.alignment=none"], capsys)
    assert "gone" in refused([*words, "faces=gone", "data.alignment=none"], capsys)


def pairs_file(path: Path) -> Path:
    """The embedded pairs, 40 of them, as InsightFace's tools write them: they name nobody."""
    config = compose_config(TINY)
    pairs = build_source(config.data).protocol(24, Path(config.cache_dir).expanduser(), set())
    images = []
    for number in np.stack([pairs.left, pairs.right], 1).ravel():
        Image.fromarray(pairs.images[number]).save(file := io.BytesIO(), "png")
        images.append(file.getvalue())
    path.write_bytes(pickle.dumps((images, pairs.same.tolist())))
    return path


@pytest.mark.parametrize("name", ["verify", "embed"])
def test_pairs_judge_a_run_and_the_teacher_that_it_imitates(runs: dict[str, Run], tmp_path: Path, name: str) -> None:
    pairs_file(tmp_path / "lfw.bin")
    assert main([f"run={runs[name].directory}", QUICK, "pairs=lfw.bin", "name=student"]) == 0
    exported = Exported.read(tmp_path / "exports" / "student")
    assert (exported.judged.metric, exported.judged.of) == ("pairs", "the 40 pairs of lfw")
    assert [model.score for model in exported.files] == [exported.judged.score]
    assert not exported.judged.thresholds  # 20 pairs of two people are too few for one in 100
    for teacher in exported.teacher:
        assert (teacher.file, 0 <= (teacher.score or -1) <= 100) == ("weights.safetensors", True)
    assert len(exported.teacher) == (name == "embed")


def test_a_file_without_faces_is_judged_by_pairs_and_not_quantized(
    runs: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs_file(tmp_path / "lfw.bin")
    words = [f"weights={runs['classify'].weights}", "pairs=lfw.bin", "name=mine"]
    pytest.importorskip("onnxruntime")
    assert "to calibrate int8 by: faces=FOLDER" in refused([*words, "format=onnx-int8"], capsys)
    assert main([*words, QUICK]) == 0
    exported = Exported.read(tmp_path / "exports" / "mine")
    assert exported.data == exported.calibration == ""
    assert exported.licences == [line for line in exported.licences if not line.startswith("data=")]


@pytest.fixture(scope="module")
def moved(runs: dict[str, Run], tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path, Path]:
    """A run whose faces and whose teacher lie elsewhere now, and where."""
    folder = tmp_path_factory.mktemp("moved")
    photos(folder / "faces")
    teacher = shutil.copy(runs["classify"].weights, folder / "teacher.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("facedistill.training.publish.save_pictures", lambda *words: None)
        own = ["data=photos", f"data.root={folder}/faces", "data.alignment=none", "data.test_share=0.3"]
        run = trained(folder, *imitating(teacher), data=own)
    return run, (folder / "faces").rename(folder / "elsewhere"), teacher.rename(folder / "recognizer.safetensors")


def test_of_what_was_moved_a_line_says_what_to_type_and_that_works(
    moved: tuple[Run, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, faces, teacher = moved
    words = [f"run={run.directory}", QUICK]
    line = refused(words, capsys)
    assert "teacher.safetensors does not exist" in line
    assert "teacher.weights=FILE" in line
    words.append(f"teacher.weights={teacher}")
    line = refused(words, capsys)
    assert "data.root=" in line
    assert main([*words, f"data.root={faces}"]) == 0
    assert Exported.read(tmp_path / "exports" / run.name).judged.samples > 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["format=onnx"], "name one network: run=RUN_DIR"),
        (["run=a", "weights=b"], "name one network"),
        (["run=/nowhere"], "/nowhere holds no finished run"),
        (["run=HINT"], "what others stand on, task=hint"),
        (["run=VERIFY", "format=onx"], "format=onx: choices are coreml, "),
        (["run=VERIFY", "format=../x"], "format=../x: choices are "),
        (["run=VERIFY", "format="], "format= names no format: format=onnx,onnx-int8"),
        (["run=VERIFY", "formt=onnx"], "Did you mean format=onnx?"),
        (["run=VERIFY", "--format=onnx"], "Did you mean format=onnx?"),
        (["run=VERIFY", "colour=bgr"], "colour"),
        (["run=VERIFY", "faces=x"], "data.root=FOLDER says where they are now"),
        (["run=VERIFY", "pairs=/nowhere"], "/nowhere"),
        (["run=ALIGN", "pairs=/nowhere"], "pairs= are for embeddings, this model gives landmarks: leave pairs= out"),
        (["run=CLASSIFY", "pairs=/nowhere"], "this model gives logits: leave pairs= out"),
        (["weights=/nowhere.safetensors"], "/nowhere.safetensors does not exist"),
        (["weights=w.onnx"], "w.onnx"),
        *((["run=VERIFY", f"name={name}"], "must be the name of a folder") for name in ("", ".", "..", "a/b", "../x")),
        (["run=VERIFY", "name=a\nb"], "must be the name of a folder"),
        (["run=VERIFY", "out=file"], "file"),
        (["run=VERIFY", "out=mine", "name=thesis"], "mine/thesis is there and is no export"),
        (["run=VERIFY", "threads=0"], "threads=0 must be a whole number from 1 to"),
        (["run=VERIFY", "threads=1000000"], "threads=1000000 must be a whole number"),
        (["run=VERIFY", "calibrate=0"], "calibrate=0 must be a whole number"),
        (["run=VERIFY", "calibrate=2.5"], "calibrate=2.5 must be a whole number"),
        (["run=VERIFY", "tolerance=-1"], "tolerance=-1 must be a number of points"),
        (["run=VERIFY", "tolerance=nan"], "tolerance=nan must be a number of points"),
        (["run=VERIFY", "pixel=int8"], "pixel=int8: choices are float32, uint8"),
        (["run=VERIFY", "normalize=yes"], "normalize=yes: choices are false, true"),
        (["run=VERIFY", "licence=My own"], "licence=My own must be named as on Hugging Face"),
    ],
    ids=lambda value: " ".join(value).replace("\n", "\\n") if isinstance(value, list) else "",
)
def test_what_it_refuses(
    runs: dict[str, Run], tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("a text")
    (tmp_path / "w.onnx").write_bytes(b"")
    (tmp_path / "mine" / "thesis").mkdir(parents=True)
    (tmp_path / "mine" / "thesis" / "a.txt").write_text("years of work")
    for name, run in runs.items():
        words = [f"run={run.directory}" if word == f"run={name.upper()}" else word for word in words]
    line = refused([QUICK, *words] if not any("format=" in word for word in words) else words, capsys)
    assert said in line
    assert (tmp_path / "mine" / "thesis" / "a.txt").read_text() == "years of work"
    assert not (tmp_path / "exports").exists() or not list((tmp_path / "exports").glob("[!.]*"))


def test_an_onnx_file_is_said_to_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx_files: Any = pytest.importorskip("onnx_files")
    onnx_files.saved(tmp_path / "w.onnx", onnx_files.recognizer())
    words = ["weights=w.onnx", "contract=arcface", "teacher.contract.size=8"]
    assert "w.onnx is an ONNX file already" in refused(words, capsys)


def test_a_run_that_is_not_finished_is_named(
    runs: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unfinished = tmp_path / "unfinished"
    shutil.copytree(runs["verify"].directory, unfinished)
    (unfinished / "record.json").unlink()
    said = refused([f"run={unfinished}"], capsys)
    assert f"unfinished is not finished: facedistill train {command_line(runs['verify'].words)} goes on with it" in said
    (unfinished / "owner.json").unlink()
    assert "unfinished holds no finished run (no record.json)" in refused([f"run={unfinished}"], capsys)
    complete(runs["hint"])
