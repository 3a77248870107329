"""An export in Weights & Biases: of the run that was exported, and of no other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
import wandb.errors
from wandb_file import read_file

from facedistill.runs.exported import Exported
from facedistill.runs.record import Record
from facedistill.runs.run import Run
from facedistill.tracking import wandb_export, wandb_run
from facedistill.tracking.wandb_export import EXPORT, log_export, numbers_of
from facedistill.tracking.wandb_run import WandbRun
from made_exports import made_export
from made_records import record_of

Planner = Callable[..., Run]
WORDS = ("logger=wandb", "logger.mode=offline", "rate=8", "init=full", "target=soft")


@pytest.fixture(autouse=True)
def _finished(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A home without a key, and nothing of W&B left over."""
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    wandb.teardown()
    yield
    wandb.finish()
    wandb.teardown()


def exported_of(record: Record, folder: Path) -> Exported:
    made_export(folder, formats=("onnx", "onnx-int8"), identity=record.identity)
    return Exported.read(folder)


def known(run: Run, name: str = "offline-run-20260101_000000-") -> Path:
    """What W&B leaves of a run that was logged."""
    folder = run.directory / "wandb" / f"{name}{run.identity}"
    folder.mkdir(parents=True)
    return folder


def offline(run: Run) -> list[Path]:
    return sorted(run.directory.glob("wandb/offline-run-*/*.wandb"))


def test_the_folder_is_an_artifact_of_its_run(planned: Planner, tmp_path: Path) -> None:
    records = []
    for number, words in enumerate((WORDS, (*WORDS, "seed=3"))):
        run = planned(*words)
        known(run)
        record = record_of(run, metrics={"top1": 60.0}, teacher_score=75.0, params=10)
        exported = exported_of(record, tmp_path / f"export {number}")
        log_export(run.directory, record, exported, tmp_path / f"export {number}")
        assert wandb.run is None
        records.append((run, record, exported))
    wandb.teardown()  # a file is whole once the service has ended
    for run, record, exported in records:
        (file,) = offline(run)
        found = read_file(file)
        assert (found.run.run_id, found.run.display_name, found.exit_code) == (run.identity, run.name, 0)
        assert found.history == []  # `wandb sync` would append it to the training's
        (artifact,) = found.artifacts
        assert artifact.type == EXPORT
        assert artifact.name == f"export-{run.name}"
        assert sorted(entry.path for entry in artifact.manifest.contents) == sorted(
            ["contract.json", *(model.file for model in exported.files)]
        )
        about = json.loads(artifact.metadata)
        assert about["files"]["onnx-int8"]["bytes"] == exported.files[1].bytes
        assert (about["metric"], about["score"], about["processor"]) == ("pairs", 98, "a processor")
        expected = {"final/top1": 60.0, "final/top1_minus_teacher": -15.0, **numbers_of(exported)}
        assert {key: found.summary[key] for key in expected} == expected
        assert {"rate": 8, "params": 10, "seed": record.seed}.items() <= found.config.items()


def test_numbers_are_flat_and_only_those_that_are_known(tmp_path: Path) -> None:
    exported = Exported.read(made_export(tmp_path / "made", formats=("onnx",)))
    size = exported.files[0].bytes / 1e6
    assert numbers_of(exported) == {
        "export/onnx/megabytes": size,
        "export/onnx/score": 97.5,
        "export/onnx/loss": 0.5,
    }


def test_an_export_is_logged_where_the_training_was(planned: Planner, tmp_path: Path) -> None:
    """A training that ends and its export are two folders of one run: one `wandb sync` sends both."""
    run = planned(*WORDS)
    run.directory.mkdir(parents=True)
    record = record_of(run)
    with WandbRun(run) as dashboard:
        dashboard.log({"epoch": 0.0, "test/top1": 12.5})
        dashboard.summarize(record)
    log_export(run.directory, record, exported_of(record, tmp_path / "made"), tmp_path / "made")
    wandb.teardown()
    first, second = map(read_file, offline(run))
    assert first.run.run_id == second.run.run_id
    assert (len(first.history), len(second.history)) == (1, 0)
    assert first.config == {**second.config, "_wandb": first.config["_wandb"]}


class Fake:
    """Stands for W&B; ``fails``: what a name does instead."""

    def __init__(self) -> None:
        self.fails: dict[str, Callable[[], None]] = {}
        self.asked: list[str] = []
        self.id = ""
        self.summary = self.config = SimpleNamespace(update=lambda *_, **__: self._do("summary"))

    def init(self, **settings: Any) -> Fake:
        self._do(f"init {settings['mode']}")
        self.id = self.id or settings["id"]
        return self

    def log_artifact(self, *_: object) -> None:
        self._do("artifact")

    def finish(self, exit_code: int) -> None:
        self._do("finish")

    def _do(self, name: str) -> None:
        if self.asked[-1:] != [name]:
            self.asked.append(name)
        self.fails.get(name, lambda: None)()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setattr(wandb, "init", fake.init)
    return fake


DONE = ["summary", "artifact", "finish"]


@pytest.mark.parametrize(
    ("trained", "asked", "key", "expected"),
    [
        ("offline-run-1-", "auto", True, "offline"),  # its run is not there
        ("run-1-", "auto", True, "online"),
        ("synced", "auto", True, "online"),
        ("run-1-", "auto", False, "offline"),
        ("run-1-", "offline", True, "offline"),
        ("run-1-", "disabled", True, None),
        (None, "auto", True, None),
    ],
)
def test_the_mode_is_that_of_its_run(
    planned: Planner,
    fake: Fake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trained: str | None,
    asked: str,
    key: bool,
    expected: str | None,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40 if key else "")
    run = planned("logger=wandb", "rate=8")
    run.directory.mkdir(parents=True)
    if trained == "synced":
        (known(run) / f"run-{run.identity}.wandb.synced").touch()
    elif trained:
        known(run, trained)
    record = record_of(run)
    log_export(run.directory, record, exported_of(record, tmp_path / "made"), tmp_path / "made", asked)
    assert fake.asked == ([] if expected is None else [f"init {expected}", *DONE])


def refuse() -> None:
    raise wandb.errors.CommError("entity nobody\nnot found")


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("init online", ["init online", "init offline", *DONE]),
        ("summary", ["init online", "summary", "finish"]),
        ("artifact", ["init online", *DONE]),
        ("finish", ["init online", *DONE]),
    ],
)
def test_what_fails_is_said_and_the_run_is_closed(
    planned: Planner,
    fake: Fake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    asked: list[str],
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    fake.fails[name] = refuse
    run = planned("logger=wandb", "rate=8")
    known(run, "run-1-")
    record = record_of(run)
    log_export(run.directory, record, exported_of(record, tmp_path / "made"), tmp_path / "made")
    assert fake.asked == asked
    said = [line for line in capsys.readouterr().err.splitlines() if "Weights & Biases" in line]
    assert len(said) == 1
    assert "CommError: entity nobody not found" in said[0]


def test_nothing_is_written_into_another_run(
    planned: Planner, fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """W&B goes on in the run that is open, whatever id is asked for."""
    fake.id = "another"
    run = planned(*WORDS)
    known(run)
    record = record_of(run)
    log_export(run.directory, record, exported_of(record, tmp_path / "made"), tmp_path / "made")
    assert fake.asked == ["init offline", "finish"]
    assert "without the export in Weights & Biases" in capsys.readouterr().err


def test_a_server_that_does_not_answer_is_waited_for_seconds(
    planned: Planner, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from threading import Event

    monkeypatch.setattr(wandb_export, "ANSWER", 0.05)
    monkeypatch.setattr(wandb_run, "PATIENCE", 5)
    fake.fails["artifact"] = lambda: Event().wait(30) and None
    run = planned(*WORDS)
    known(run)
    record = record_of(run)
    log_export(run.directory, record, exported_of(record, tmp_path / "made"), tmp_path / "made")
    assert fake.asked == ["init offline", *DONE]
    assert "no answer in 0.05 s" in capsys.readouterr().err
