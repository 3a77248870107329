"""What is read of a folder of runs: whole records, those of one setting in their tables, and what is wrong."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from facedistill.report.study import Filled, Study
from facedistill.report.tables import Row
from facedistill.runs.plan import plan
from facedistill.runs.sample_scores import SampleScores
from facedistill.runs.verify import RECORD

SOFT = Row("Scratch, soft", 8, "scratch", "soft")


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """Write the record of a cell; its directory."""

    def write(words: str, top1: float, scores: list[float] | None = None) -> Path:
        run = plan(words.split())
        empty = {key: (kind if isinstance(kind, type) else kind[0])() for key, kind in RECORD.items()}
        told = {
            "identity": run.identity,
            "name": run.name,
            "config": asdict(run.config),
            "recipe": run.recipe,
            "metrics": {"top1": top1, "pairs": None},
        }
        directory = tmp_path / run.name
        directory.mkdir()
        (directory / "record.json").write_text(json.dumps({**empty, **told}))
        if scores is not None:
            SampleScores(np.array(scores, np.float32), np.zeros(0, np.float32), np.zeros(0, bool)).save(directory)
        return directory

    return write


def table(study: Study, number: int) -> Filled:
    return next(filled for filled in study.tables if filled.table.number == number)


def test_the_runs_of_a_cell_are_its_results_by_seed_with_their_sample_scores(made: Callable[..., Path]) -> None:
    directory = made("rate=8 target=soft", 50.0, [100.0, 0.0])
    other = made("rate=8 target=soft seed=1", 25.0)
    study = Study.of(directory.parent, ["synthetic"], "synthetic")
    found = table(study, 1).results(SOFT)
    assert {seed: (result.run, result.value) for seed, result in found.items()} == {
        0: (directory.name, 50.0),
        1: (other.name, 25.0),
    }
    assert found[0].sample_scores is not None
    assert found[0].sample_scores.tolist() == [100.0, 0.0]
    assert found[1].sample_scores is None
    assert table(study, 1).seeds == [0, 1]
    assert table(study, 1).missing == [row.label for row in table(study, 1).table.rows if row.label != SOFT.label]
    assert table(study, 1).command.endswith(" experiments=table1 seed=0,1")
    assert table(study, 4).seeds == [0, 1], "those of the study"
    assert not study.faults


def test_no_folder_and_an_empty_one_are_no_runs(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        study = Study.of(path, ["synthetic"], "synthetic")
        assert (study.records, study.faults, study.unfinished) == ([], {}, [])
        assert all(filled.missing == [row.label for row in filled.table.rows] for filled in study.tables)
        assert all(filled.command == filled.table.command for filled in study.tables)


def test_a_row_that_lacks_a_seed_says_which(made: Callable[..., Path]) -> None:
    for words in ("rate=8 target=soft", "rate=8 target=soft seed=2", "rate=8 target=hidden seed=1"):
        made(words, 50.0)
    study = Study.of(made("rate=8 target=hidden", 50.0).parent, ["synthetic"], "synthetic")
    assert table(study, 1).missing[:4] == [
        "teacher",
        "Scratch, hidden (seed 2)",
        "Scratch, logits",
        f"{SOFT.label} (seed 1)",
    ]
    assert table(study, 1).command.endswith(" seed=0,1,2")


def test_what_is_wrong_with_a_record_is_said_and_the_others_are_read(made: Callable[..., Path]) -> None:
    good = made("rate=8 target=soft", 50.0)
    cut = made("rate=8 target=soft seed=1", 50.0) / "record.json"
    cut.write_bytes(cut.read_bytes()[:200])
    poor = made("rate=8 target=soft seed=2", 50.0) / "record.json"
    poor.write_text(json.dumps({**json.loads(poor.read_text()), "macs": "many"}))
    deep = made("rate=8 target=soft seed=3", 50.0) / "record.json"
    record = json.loads(deep.read_text())
    del record["config"]["task"]["metric"]
    deep.write_text(json.dumps(record))
    text = made("rate=8 target=soft seed=4", 50.0) / "record.json"
    text.write_text(text.read_text().replace('"top1": 50.0', '"top1": "good"'))
    study = Study.of(good.parent, ["synthetic"], "synthetic")
    assert [record["name"] for record in study.records] == [good.name]
    assert study.faults == {
        cut.parent.name: "record.json is no whole JSON object",
        poor.parent.name: "record.json has no proper macs",
        deep.parent.name: "record.json has no proper config.task.metric",
        text.parent.name: "record.json has no proper metrics.top1",
    }


def test_a_run_that_was_cut_is_named(made: Callable[..., Path]) -> None:
    good = made("rate=8 target=soft", 50.0)
    begun = good.parent / "classify-r8-scratch-soft-synthetic-s1-0123456789ab"
    begun.mkdir()
    (begun / "metrics.csv").write_text("epoch\n")
    assert Study.of(good.parent, ["synthetic"], "synthetic").unfinished == [begun.name]
