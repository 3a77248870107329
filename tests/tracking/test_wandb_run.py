"""Weights & Biases: offline without a key, one run a cell, always finished."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
from PIL import Image
from wandb_file import read_offline

from facedistill.runs.run import Run
from facedistill.tracking.wandb_run import WandbRun, artifact_name, flat_config, has_key
from made_records import record_of

Planner = Callable[..., Run]
ONLINE = ("logger=wandb", "rate=8", "init=full", "target=soft", "seed=2")


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home without a key."""
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def _finished(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WANDB_SILENT", "true")
    wandb.teardown()  # its service keeps the settings that it saw first
    yield
    wandb.finish()
    wandb.teardown()


def test_without_anything_there_is_no_key(nobody: Path) -> None:
    assert not has_key()


def test_a_key_in_the_environment(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "")
    assert not has_key()
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert has_key()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("machine api.wandb.ai\n  login user\n  password xyz\n", True),
        ("machine github.com login user password xyz\n", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("place", ["home", "NETRC"])
def test_a_key_of_wandb_login(
    nobody: Path, monkeypatch: pytest.MonkeyPatch, content: str, found: bool, place: str
) -> None:
    file = nobody / (".netrc" if place == "home" else "my netrc")
    if place == "NETRC":
        monkeypatch.setenv("NETRC", str(file))
    file.write_text(content)
    assert has_key() is found


def test_a_key_of_ones_own_server(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nobody / ".netrc").write_text("machine wandb.example.org login user password xyz\n")
    assert not has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org/")
    assert has_key()


def test_keys_that_people_sort_by_are_at_the_top_and_plain(planned: Planner) -> None:
    run = planned(*ONLINE, "target.tau=4", "task.batch_size=7")
    found = flat_config(run)
    assert {key: value for key, value in found.items() if key != "recipe"} == {
        "rate": 8,
        "init": "full",
        "target": "soft",
        "task": "classify",
        "data": "synthetic",
        "model": "resnet_small",
        "seed": 2,
        "alpha": 1.0,
        "beta": 0.0,
        "tau": 4.0,
        "batch_size": 7,
        "softmax": False,
        "epochs": 5,
        "learning_rate": 0.01,
        "crop": 40,
        "role": "student",
        "cell": "/8 full, soft",
        "parent/teacher": run.parents["teacher"].name,
        "parent/init": run.parents["init"].name,
    }
    assert json.loads(json.dumps(found["recipe"])) == run.recipe


def test_without_weights_and_biases_nothing_is_opened(planned: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(wandb, "init", refuse)
    run = planned("logger=csv")
    with WandbRun(run) as opened:
        opened.log({"epoch": 0.0, "test/top1": 1.0})
        opened.summarize(record_of(run))
    assert wandb.run is None


@pytest.mark.parametrize(
    ("mode", "key", "offline"),
    [("auto", "", True), ("auto", "k" * 40, False), ("offline", "k" * 40, True), ("online", "", False)],
)
def test_it_is_offline_if_asked_for_or_without_a_key(
    planned: Planner, nobody: Path, monkeypatch: pytest.MonkeyPatch, mode: str, key: str, offline: bool
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", key)
    given: list[dict[str, Any]] = []

    def init(**settings: Any) -> SimpleNamespace:
        given.append(settings)
        return SimpleNamespace(dir=str(nobody / "files"))

    monkeypatch.setattr(wandb, "init", init)
    run = planned(*ONLINE, f"logger.mode={mode}", "logger.project=p", "logger.entity=e", "group=table9")
    with WandbRun(run) as dashboard:
        assert given == []
        dashboard.open()
        dashboard.open()
    (settings,) = given
    assert settings["mode"] == ("offline" if offline else "online")
    assert (settings["id"], settings["name"], settings["resume"]) == (run.identity, run.name, "allow")
    assert (settings["project"], settings["entity"], settings["group"]) == ("p", "e", "table9")
    assert settings["job_type"] == "classify-student"
    assert Path(settings["dir"]) == run.directory
    assert settings["config"] == flat_config(run)


@pytest.mark.usefixtures("_finished")
def test_a_real_run_is_offline_finished_and_followed_by_a_run_of_its_own(planned: Planner, nobody: Path) -> None:
    def opened(run: Run, fail: bool) -> str:
        run.directory.mkdir(parents=True)
        with WandbRun(run) as logger:
            logger.log({"epoch": 0.0, "test/top1": 12.5})
            assert wandb.run is not None
            assert wandb.run.offline
            recipe = dict(wandb.run.config)["recipe"]
            assert recipe == {key: value for key, value in run.recipe.items() if value != {}}  # W&B drops them
            found = str(wandb.run.id)
            if fail:
                raise RuntimeError("interrupted")
        return found

    one, other = planned(*ONLINE), planned("logger=wandb", "rate=2")
    with pytest.raises(RuntimeError, match="interrupted"):
        opened(one, fail=True)
    assert wandb.run is None
    assert opened(other, fail=False) == other.identity
    assert wandb.run is None
    for run in (one, other):
        (file,) = run.directory.glob("wandb/offline-run-*/*.wandb")
        assert run.identity in file.name
        assert file.stat().st_size > 0


@pytest.mark.usefixtures("_finished")
@pytest.mark.parametrize("group", ["null", '"a <b>\\"|`\\u2028 ü"'])
def test_an_offline_run_is_complete(planned: Planner, nobody: Path, group: str) -> None:
    run = planned(*ONLINE, f"group={group}")
    run.directory.mkdir(parents=True)
    run.weights.write_bytes(b"weights")
    Image.new("RGB", (8, 8)).save(run.directory / "samples.png")
    rows = [{"epoch": float(epoch), "lr": 0.01, "test/top1": 10.0 + epoch, "train/loss": 1.5} for epoch in range(3)]
    costs = {"params": 10, "macs": 20, "weights_bytes": 30, "seconds": 1.5, "images_per_second": 100.0}
    with WandbRun(run) as dashboard:
        for row in rows:
            dashboard.log(row)
        dashboard.summarize(record_of(run, metrics={"top1": 12.5, "pairs": None}, teacher_score=75.0, **costs))
    wandb.teardown()  # the file is whole once the service has ended
    found = read_offline(run.directory)
    assert (found.run.run_id, found.run.display_name, found.exit_code) == (run.identity, run.name, 0)
    assert found.run.job_type == "classify-student"
    assert found.run.run_group.isprintable()
    assert {"classify", "full", "soft", "rate-8", "synthetic", "student"} == set(found.run.tags)
    plain = {key: value for key, value in flat_config(run).items() if key != "recipe"}
    assert {key: found.config[key] for key in plain} == plain
    assert found.config["params"] == 10
    logged = [line for line in found.history if "lr" in line]
    assert [{key: line[key] for key in row} for line, row in zip(logged, rows, strict=True)] == rows
    assert [line["classify/top1"] for line in logged] == [10.0, 11.0, 12.0]
    expected = {"final/top1": 12.5, "classify/top1": 12.5, "final/top1_minus_teacher": -62.5, **costs}
    assert {key: found.summary[key] for key in expected} == expected
    assert "final/pairs" not in found.summary
    assert found.media("classify/samples").read_bytes() == (run.directory / "samples.png").read_bytes()
    (weights,) = found.artifacts
    assert (weights.name, weights.type) == (artifact_name(run.name), "model")
    assert weights.manifest.contents[0].path == "weights.safetensors"


@pytest.mark.usefixtures("_finished")
def test_the_summary_has_the_final_numbers_and_the_distance_to_the_teacher(planned: Planner, nobody: Path) -> None:
    run = planned(*ONLINE)
    run.directory.mkdir(parents=True)
    with WandbRun(run) as logger:
        logger.summarize(record_of(run, metrics={"top1": 60.0, "pairs": 90.0}, teacher_score=75.0, params=10, macs=20))
        assert wandb.run is not None
        found = dict(wandb.run.summary)
    assert {key: found[key] for key in ("final/top1", "final/pairs", "final/top1_minus_teacher", "params", "macs")} == {
        "final/top1": 60.0,
        "final/pairs": 90.0,
        "final/top1_minus_teacher": -15.0,
        "params": 10,
        "macs": 20,
    }
