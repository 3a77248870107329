"""Records of strangers: one that is not as this version writes it is left out, with the reason; the others are read."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facedistill.report.claims import assess
from facedistill.report.files import as_csv
from facedistill.report.page import page
from facedistill.report.readme import readme
from facedistill.report.study import Study
from facedistill.runs.__main__ import main
from facedistill.runs.ensure import ensure
from facedistill.runs.run import Run
from hostile_json import HOSTILE
from kinds import Planner
from made_records import complete

VALUES = {
    **HOSTILE,
    "-1e39": "-1e39",
    "20 levels": "[" * 20 + "]" * 20,
    "an interpolation": '"${oc.env:HOME}"',
    "no value": '"???"',
}
# a key of every kind: a count, a time, a text, a part that may hold anything, and what tables and figures ask for
KEYS = [
    *("identity", "name", "role", "overrides", "recipe", "config", "parents", "metrics", "history", "data", "params"),
    *("macs", "weights_bytes", "weights_sha256", "latency_ms", "seconds", "versions", "device", "group"),
    *("teacher_score", "recipe.version", "recipe.parents", "recipe.data", "config.task", "config.task.name"),
    *("config.task.metric", "config.task.learning_rates.random", "config.data", "config.data.name", "config.model"),
    *("config.model.name", "config.teacher.model", "config.teachers", "config.rate", "config.seed", "config.init.name"),
    *("config.target.terms", "config.target.views", "config.schedule.epochs", "config.image.crop", "metrics.top1"),
    *("history.0", "history.0.test/top1", "device.threads", "versions.torch", "data.train"),
]
FOREVER_WRONG = ("NaN", "Infinity", "-Infinity", "1e400", "1e308", "-1e39", "10**400", "2**63", "5000 digits")


@pytest.fixture
def others(planned: Planner) -> tuple[Run, Path]:
    """A good run, and the record of another one to be changed."""
    good, bad = planned("rate=8", "target=soft"), planned("rate=8", "target=soft", "seed=1")
    for run in (good, bad):
        history = [{"epoch": 0, "lr": 0.1, "test/top1": 40.0}]
        complete(run, history=history, device={"name": "CPU", "threads": 1}, versions={"torch": "2"})
    return good, bad.directory / "record.json"


def changed(record: dict[str, Any], key: str, value: str | None) -> str:
    """The text of a record with another value of a key; None: without it."""
    record = copy.deepcopy(record)
    *parts, last = [int(part) if part.isdecimal() else part for part in key.split(".")]
    node: Any = record
    for part in parts:
        node = node[part]
    if value is None:
        del node[last]
        return json.dumps(record)
    node[last] = "changed here"
    return json.dumps(record).replace('"changed here"', value)


def read_all(good: Run, bad: Path) -> Study:
    """Read both by all that reads many, but for figures; the good one is always there."""
    study = Study.read(bad.parents[1], ["synthetic"], "synthetic")
    assert good.name in [record.name for record in study.records]
    assessed = assess(study)
    assert [as_csv(filled) for filled in study.tables]
    assert "finished in" in readme(study, assessed, {})
    return study


@pytest.mark.parametrize("key", KEYS)
def test_no_value_of_a_record_stops_those_who_read_many(others: tuple[Run, Path], key: str) -> None:
    good, bad = others
    record = json.loads(bad.read_text())
    for name, value in {"missing": None, **VALUES}.items():
        bad.write_text(changed(record, key, value))
        study = read_all(good, bad)
        left_out = bad.parent.name in study.unreadable
        assert left_out == (len(study.records) == 1)
        if left_out:
            assert len(study.unreadable[bad.parent.name].splitlines()) == 1
        assert left_out or name not in FOREVER_WRONG, f"{key}: {name}"


def test_the_page_and_the_list_of_runs_name_the_one_that_is_left_out(
    others: tuple[Run, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = others
    record = json.loads(bad.read_text())
    for key, value in {
        "metrics.top1": "NaN",
        "config.seed": r'"\u001b[2J"',
        "recipe.parents": '{"init": ["x"]}',
    }.items():
        bad.write_text(changed(record, key, value))
        study = read_all(good, bad)
        assert f"{bad.parent.name} is left out: " in page(study, assess(study), {}, Path())
        for words in ([], ["stale"]):
            assert main(words) == 0
        said = capsys.readouterr().out
        assert f"{bad.parent.name} is left out: runs/" in said.replace("\n", " ")
        assert good.name in said
        assert "\x1b" not in said


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


KINDS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a pipe": (fifo, "not a regular file"),
    "a folder": (folder, "not a regular file"),
    "a device": (lambda path: link(path, "/dev/zero"), "not a regular file"),
    "a link to itself": (lambda path: link(path, path.name), "symbolic links"),
    "3 GB": (lambda path: os.truncate(path, 3 * 10**9), "larger than 32 MiB"),
    "UTF-16": (lambda path: path.write_bytes(path.read_text().encode("utf-16")[:-1]), "not a record"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_of_a_record_is_left_out(others: tuple[Run, Path], kind: str) -> None:
    good, bad = others
    change, reason = KINDS[kind]
    change(bad)
    study = read_all(good, bad)
    assert reason in study.unreadable[bad.parent.name]


@pytest.mark.parametrize("kind", ["a pipe", "a folder", "a device", "a link to itself", "3 GB"])
@pytest.mark.parametrize("name", ["metrics.csv", "owner.json", "lock", "sample_scores.npz"])
def test_no_other_file_of_a_run_stops_those_who_read_many(others: tuple[Run, Path], name: str, kind: str) -> None:
    good, bad = others
    (bad.parent / name).touch()
    KINDS[kind][0](bad.parent / name)
    assert read_all(good, bad).unreadable == {}
    assert main([]) == main(["stale"]) == 0


def test_a_run_that_is_removed_while_others_are_read_is_not_there(
    others: tuple[Run, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = others

    def remove_first(lock: Path) -> bool:
        if lock.parent.name == bad.parent.name and bad.exists():
            bad.unlink()
            bad.parent.rmdir()
        return False

    monkeypatch.setattr("facedistill.runs.folders.is_held", remove_first)
    study = read_all(good, bad)
    assert (len(study.records), study.unreadable, study.unfinished) == (1, {}, [])


def test_a_run_that_completes_while_it_is_read_is_complete_or_running(
    others: tuple[Run, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = others
    record = bad.read_bytes()
    bad.unlink()

    def complete_after(lock: Path) -> bool:
        if lock.parent.name == bad.parent.name:
            bad.write_bytes(record)
        return False

    monkeypatch.setattr("facedistill.runs.folders.is_held", complete_after)
    study = read_all(good, bad)
    assert (len(study.records), study.unreadable, study.unfinished) == (2, {}, [])


def test_a_sweep_trains_what_has_no_readable_record_of_its_own(planned: Planner) -> None:
    trained: list[str] = []
    for seed, changes in enumerate([{"seconds": -1.0}, {"identity": "0123456789ab"}]):  # that of another run
        run = planned("rate=8", f"seed={seed}")
        complete(run, **changes)
        assert not run.is_complete
        ensure(run, lambda run, _: trained.append(run.name))
        assert trained[-1] == run.name
