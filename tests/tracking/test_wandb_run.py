"""Weights & Biases: offline without a key, one run a cell, always finished."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
import wandb.errors
from PIL import Image
from wandb_file import read_offline

from facedistill.runs.run import Run
from facedistill.tracking import wandb_run
from facedistill.tracking.wandb_run import WandbRun, artifact_name, flat_config, remove_superseded
from facedistill.tracking.wandb_setup import has_key
from made_records import record_of

Planner = Callable[..., Run]
ONLINE = ("logger=wandb", "rate=8", "init=full", "target=soft", "seed=2")
BARE = ("logger=wandb", "rate=8", "seed=2")  # without ancestors


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
        "parity": 1.0,
        "batch_size": 7,
        "softmax": False,
        "epochs": 4,
        "learning_rate": 0.01,
        "crop": 20,
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


class Fake:
    """Stands for W&B: what it is asked is noted, and what is told to fail does.

    ``fails``: what a name does instead, ``init``, ``init offline``, ``log``, ``summary`` or ``finish``.
    """

    def __init__(self, folder: Path) -> None:
        self.dir = str(folder / "offline-run-1-x" / "files")
        self.offline = True
        self.fails: dict[str, Callable[[], None]] = {}
        self.asked: list[str] = []
        self.settings: list[dict[str, Any]] = []
        self.summary = self.config = SimpleNamespace(update=lambda *_, **__: self._do("summary"))

    def init(self, **settings: Any) -> Fake:
        self.settings.append(settings)
        self._do(f"init {settings['mode']}")
        self._do("init")
        return self

    def log(self, *_: object, **__: object) -> None:
        self._do("log")

    def finish(self, exit_code: int) -> None:
        self._do("finish")

    def _do(self, name: str) -> None:
        self.asked.append(name)
        self.fails.get(name, lambda: None)()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, nobody: Path) -> Fake:
    fake = Fake(nobody)
    monkeypatch.setattr(wandb, "init", fake.init)
    return fake


@pytest.mark.parametrize(
    ("mode", "variable", "key", "expected", "says"),
    [
        ("auto", None, False, "offline", True),
        ("auto", None, True, "online", False),
        ("auto", "", True, "online", False),
        ("auto", "offline", True, "offline", False),
        ("auto", "dryrun", True, "offline", False),
        ("auto", "disabled", True, None, False),
        ("auto", "online", True, "online", False),
        ("auto", "run", True, "online", False),
        ("auto", "online", False, "offline", True),
        ("offline", None, True, "offline", False),
        ("offline", "online", True, "offline", False),
        ("online", None, True, "online", False),
        ("online", "offline", True, "online", False),
        ("online", "disabled", True, "online", False),
        ("online", None, False, "offline", True),
    ],
)
def test_the_mode_is_that_of_the_words_then_of_the_environment_then_of_the_key(
    planned: Planner,
    fake: Fake,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mode: str,
    variable: str | None,
    key: bool,
    expected: str | None,
    says: bool,
) -> None:
    if variable is not None:
        monkeypatch.setenv("WANDB_MODE", variable)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40 if key else "")
    with WandbRun(planned(*BARE, f"logger.mode={mode}")) as dashboard:
        dashboard.open()
    assert [settings["mode"] for settings in fake.settings] == ([] if expected is None else [expected])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == says
    assert all("`wandb login`" in line and "logger.mode=offline" in line for line in lines)


def test_a_run_is_opened_once_and_described(planned: Planner, fake: Fake) -> None:
    run = planned(*ONLINE, "logger.mode=offline", "logger.project=p", "logger.entity=e", "group=table9")
    with WandbRun(run) as dashboard:
        assert fake.settings == []
        dashboard.open()
        dashboard.open()
    (settings,) = fake.settings
    assert (settings["id"], settings["name"], settings["resume"]) == (run.identity, run.name, "allow")
    assert (settings["project"], settings["entity"], settings["group"]) == ("p", "e", "table9")
    assert settings["job_type"] == "classify-student"
    assert Path(settings["dir"]) == run.directory
    assert settings["config"] == flat_config(run)
    assert fake.asked == ["init offline", "init", "finish"]


def test_a_training_goes_on_while_it_starts(planned: Planner, fake: Fake) -> None:
    trained = Event()
    fake.fails["init"] = lambda: None if trained.wait(5) else refuse()
    with WandbRun(planned(*BARE, "logger.mode=offline")) as dashboard:
        dashboard.open()
        trained.set()  # a step: had opening waited for W&B, this would come too late
        dashboard.log({"epoch": 0.0})
    assert fake.asked == ["init offline", "init", "log", "finish"]


def test_a_service_that_does_not_end_keeps_nothing_from_going_offline(
    planned: Planner, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_run, "PATIENCE", 0.3)
    monkeypatch.setattr(wandb, "teardown", hang)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    fake.fails["init online"] = refuse
    with WandbRun(planned(*BARE)) as dashboard:
        dashboard.log({"epoch": 0.0})
    assert fake.asked == ["init online", "init offline", "init", "log", "finish"]


def test_what_ends_a_training_does_not_wait_for_its_start(
    planned: Planner, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_run, "ENDING", 0.01)
    ended = Event()

    def start() -> None:
        ended.wait(5)

    fake.fails["init"] = start

    def stopped() -> None:
        with WandbRun(planned(*BARE, "logger.mode=offline")) as dashboard:
            dashboard.open()
            raise SystemExit(143)

    with pytest.raises(SystemExit):
        stopped()
    assert "finish" not in fake.asked, "the end has waited for the start"
    ended.set()


def test_words_win_over_the_environment_which_wins_over_the_defaults(
    planned: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = planned(*BARE)
    assert (without.config.logger.project, without.config.logger.entity) == ("facedistill", None)
    monkeypatch.setenv("WANDB_PROJECT", "from the environment")
    monkeypatch.setenv("WANDB_ENTITY", "team")
    run = planned(*BARE, "group=another")  # other words: plans of the same ones are kept in tests
    assert (run.config.logger.project, run.config.logger.entity) == ("from the environment", "team")
    assert run.identity == without.identity
    typed = planned(*BARE, "logger.project=typed", "logger.entity=me")
    assert (typed.config.logger.project, typed.config.logger.entity) == ("typed", "me")


def test_its_files_are_where_wandb_dir_says_if_that_can_be_written(
    planned: Planner, fake: Fake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = planned(*BARE, "logger.mode=offline")
    (tmp_path / "file").touch()
    for folder, expected in ((tmp_path / "new" / "folder", None), (tmp_path / "file" / "below", run.directory)):
        monkeypatch.setenv("WANDB_DIR", str(folder))
        with WandbRun(run) as dashboard:
            dashboard.open()
        assert Path(fake.settings[-1]["dir"]) == (expected or folder)
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "file" / "below") in line


def test_only_what_a_run_itself_left_is_removed_from_a_shared_folder(tmp_path: Path) -> None:
    for name in ("offline-run-1-mine", "offline-run-2-mine", "offline-run-3-other", "run-4-mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "offline-run-2-mine" / "run-mine.wandb").touch()
    remove_superseded(tmp_path / "offline-run-2-mine", "mine")
    left = sorted(path.name for path in tmp_path.glob("*run-*"))
    assert left == ["offline-run-2-mine", "offline-run-3-other", "run-4-mine"]


def refuse() -> None:
    raise wandb.errors.CommError("entity nobody\nnot found \x1b[31m")


def hang() -> None:
    Event().wait(30)


@pytest.mark.parametrize("failure", [refuse, hang])
@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("init online", ["init online", "init offline", "init", "log", "log", "summary", "summary", "finish"]),
        ("init", ["init online", "init", "init offline", "init"]),
        ("log", ["init online", "init", "log", "finish"]),
        ("summary", ["init online", "init", "log", "log", "summary", "finish"]),
        ("finish", ["init online", "init", "log", "log", "summary", "summary", "finish"]),
    ],
)
def test_nothing_that_it_does_ends_or_delays_a_training(
    planned: Planner,
    fake: Fake,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    asked: list[str],
    failure: Callable[[], None],
) -> None:
    monkeypatch.setattr(wandb_run, "ANSWER", 0.3)
    monkeypatch.setattr(wandb_run, "PATIENCE", 0.3)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    fake.fails[name] = failure
    run = planned(*BARE)
    with WandbRun(run) as dashboard:
        dashboard.log({"epoch": 0.0})
        dashboard.summarize(record_of(run))
    assert fake.asked == asked
    (line,) = capsys.readouterr().err.splitlines()
    assert ("entity nobody not found \\x1b[31m" if failure is refuse else "no answer in 0.3 s") in line
    if name == "init online":
        assert "`wandb login --relogin`" in line
        assert "logger.mode=offline" in line
    if name == "finish":
        assert f"wandb sync {Path(fake.dir).parent}" in line


def test_what_ends_a_training_is_not_held_back(planned: Planner, fake: Fake) -> None:
    def stop() -> None:
        raise SystemExit(143)

    fake.fails["log"] = stop
    with pytest.raises(SystemExit), WandbRun(planned(*BARE, "logger.mode=offline")) as dashboard:
        dashboard.log({"epoch": 0.0})
    assert fake.asked[-1] == "finish"


@pytest.mark.usefixtures("_finished")
def test_a_real_run_without_a_server_is_offline(
    planned: Planner, nobody: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setattr(wandb_run, "ANSWER", 0.5)
    monkeypatch.setattr("sys.argv", ["facedistill", "train", "data.root=Jos\udce9"])
    run = planned(*BARE)
    run.directory.mkdir(parents=True)
    with WandbRun(run) as dashboard:
        dashboard.log({"epoch": 0.0, "test/top1": 12.5})
        dashboard.summarize(record_of(run))
    wandb.teardown()
    assert "127.0.0.1:9" in capsys.readouterr().err
    assert read_offline(run.directory).exit_code == 0


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
