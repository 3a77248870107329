"""The record: what it writes it reads, and nothing that it reads is believed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facedistill.errors import RunError
from facedistill.runs.record import Record
from facedistill.runs.run import Run
from made_records import complete, record_of

Planner = Callable[..., Run]


def test_what_is_written_is_read(planned: Planner) -> None:
    run = planned("task=verify", "task.softmax=true", "rate=8", "init=distill", "target=soft", "seed=3")
    complete(run, metrics={"top1": 71.5, "pairs": None}, history=[{"epoch": 0, "lr": 0.1}], teacher_score=80.0)
    record = Record.read(run.directory)
    assert record == record_of(
        run, metrics={"top1": 71.5, "pairs": None}, history=[{"epoch": 0, "lr": 0.1}], teacher_score=80.0
    )
    assert record is not None
    assert record.config == run.config
    assert record.cell == ("verify", True, 8, "distill", "soft")
    assert record.config.axes == ["verify-softmax", "r8", "distill", "soft"]
    assert (record.metric, record.score, record.seed, record.data_name) == ("top1", 71.5, 3, "synthetic")
    assert sorted(record.run_parents) == sorted(parent.name for parent in run.parents.values())


def test_a_path_that_is_not_utf_8_damages_nothing(planned: Planner) -> None:
    run = planned("rate=8")
    complete(run, overrides=["rate=8", "data.root=/faces/Jos\udce9"])
    record = Record.read(run.directory)
    assert record is not None
    assert record.overrides == ["rate=8", "data.root=/faces/Jos\\xe9"]


def test_runs_that_differ_in_their_seed_alone_are_of_one_cell(planned: Planner) -> None:
    one, seed, other = (record_of(planned("rate=8", word)) for word in ("seed=0", "seed=1", "model.width=24"))
    assert one.cell_key == seed.cell_key != other.cell_key


def test_words_of_a_sweep_are_not_its_own(planned: Planner) -> None:
    assert record_of(planned("rate=8", "group=table1", "cells=5")).own_words == ["logger=csv", "rate=8"]


@pytest.mark.parametrize("content", [b"", b'{"metrics": ', b"[1]", b"null", b"\xff\xfe{}", b"{}", b"[" * 100_000])
def test_what_is_not_a_record_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(RunError, match=r"record\.json (is not a record|can't be read)"):
        Record.read(tmp_path)


WRONG: list[tuple[str, Any]] = [
    ("metrics.top1", float("nan")),
    ("metrics.top1", "high"),
    ("metrics", []),
    ("params", 1.5),
    ("params", True),
    ("seconds", None),
    ("history", {}),
    ("history", [{"lr": "small"}]),
    ("config.rate", "8"),
    ("config.seed", None),
    ("config.task.name", 3),
    ("config.task.learning_rates.random", 0.1),
    ("config.data.name", 3),
    ("config.model.name", None),
    ("recipe.version", "3"),
    ("recipe.parents", []),
    ("config.teacher.model.name", 3),
    ("parents.teacher", 7),
]


@pytest.mark.parametrize(("path", "value"), WRONG, ids=[f"{path}={value}" for path, value in WRONG])
def test_a_value_of_another_type_is_named(planned: Planner, path: str, value: Any) -> None:
    run = planned("rate=8", "target=soft")
    complete(run)
    file = run.directory / "record.json"
    document = json.loads(file.read_text())
    *keys, last = path.split(".")
    node = document
    for key in keys:
        node = node[key]
    node[last] = value
    file.write_text(json.dumps(document))
    with pytest.raises(RunError, match=r"is not a record as this version writes it"):
        Record.read(run.directory)
    assert not run.is_complete
    del node[last]
    file.write_text(json.dumps(document))
    if path not in ("metrics.top1", "parents.teacher"):
        with pytest.raises(RunError, match=rf"{last}|name|version"):
            Record.read(run.directory)


@pytest.mark.parametrize("contract", [3, [1], {"size": "x"}, {"sizes": 3}, {"name": "${oc.env:NOPE}"}], ids=str)
def test_a_contract_of_one_more_teacher_that_is_none_is_named(planned: Planner, contract: Any) -> None:
    run = planned("rate=8", "target=soft")
    complete(run)
    file = run.directory / "record.json"
    document = json.loads(file.read_text())
    assert "contract" in document["config"]["teacher"]
    del document["config"]["teacher"]["contract"]  # as in records before there were contracts
    file.write_text(json.dumps(document))
    assert run.is_complete
    document["config"]["teachers"] = {"second": {"weights": "a.pt", "contract": contract}}
    file.write_text(json.dumps(document))
    with pytest.raises(RunError, match=r"teachers\.second\.contract"):
        Record.read(run.directory)
