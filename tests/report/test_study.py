"""Reading a folder of runs: whole records, those of one setting in their tables, and what is wrong with the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest

from facedistill.report.__main__ import main
from facedistill.report.study import FilledTable, Study
from facedistill.report.tables import Row
from facedistill.runs.run import Run
from facedistill.runs.sample_scores import SampleScores
from made_records import complete

Finisher = Callable[..., Path]
RUNS = Path("runs")
SOFT = Row("Scratch, soft", 8, "scratch", "soft")


@pytest.fixture
def finish(planned: Callable[..., Run]) -> Finisher:
    """Write the record of a cell; its directory."""

    def write(words: str, top1: float = 50.0, scores: list[float] | None = None) -> Path:
        run = planned(*words.split())
        complete(run, metrics={"top1": top1, "pairs": None})
        if scores is not None:
            SampleScores(
                np.array(scores, np.float32), np.zeros(0, np.float32), np.zeros(0, bool), np.arange(len(scores))
            ).save(run.directory)
        return run.directory

    return write


def read(runs: Path = RUNS) -> Study:
    return Study.read(runs, ["synthetic"], "synthetic")


def table(study: Study, number: int) -> FilledTable:
    return next(filled for filled in study.tables if filled.table.number == number)


def test_the_runs_of_a_cell_are_its_results_by_seed_with_their_sample_scores(finish: Finisher) -> None:
    finish("rate=8 target=soft", 50.0, [100.0, 0.0])
    finish("rate=8 target=soft seed=1", 25.0)
    study = read()
    found = table(study, 1).results(SOFT)
    assert {seed: result.value for seed, result in found.items()} == {0: 50.0, 1: 25.0}
    assert found[0].sample_scores is not None
    assert found[0].sample_scores.tolist() == [100.0, 0.0]
    assert found[1].sample_scores is None
    assert table(study, 1).seeds == [0, 1]
    assert table(study, 1).missing == [row.label for row in table(study, 1).table.rows if row.label != SOFT.label]
    assert table(study, 1).command.endswith(" experiments=table1 seed=0,1")
    assert table(study, 4).seeds == [0, 1], "those of the study"
    assert not study.unreadable


def test_a_folder_that_is_empty_or_not_there_has_no_runs(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        study = read(path)
        assert (study.records, study.unreadable, study.unfinished) == ([], {}, [])
        assert all(filled.missing == [row.label for row in filled.table.rows] for filled in study.tables)
        assert all(filled.command == filled.table.command for filled in study.tables)


def test_a_row_that_lacks_a_seed_says_which(finish: Finisher) -> None:
    for words in ("target=soft", "target=soft seed=2", "target=hidden seed=1", "target=hidden"):
        finish(f"rate=8 {words}")
    found = table(read(), 1)
    assert found.missing[:4] == ["teacher", "Scratch, hidden (seed 2)", "Scratch, logits", f"{SOFT.label} (seed 1)"]
    assert found.command.endswith(" seed=0,1,2")


def test_students_share_a_teacher_so_only_its_first_seed_is_asked_for(finish: Finisher) -> None:
    for words in ("task=teacher", "rate=8 target=soft seed=1", "rate=8 target=soft seed=2"):
        finish(words)
    found = table(read(), 1)
    assert found.seeds == [1, 2]
    assert "teacher" not in found.missing
    lead = found.difference(SOFT, found.table.teacher)
    assert lead is not None
    assert lead.by_seed == {1: 0.0, 2: 0.0}


def test_variants_are_compared_with_the_rows_own_runs_seed_by_seed(finish: Finisher) -> None:
    for seed, (own, other) in enumerate([(50.0, 53.0), (40.0, 44.0), (45.0, 50.0)]):
        finish(f"rate=8 target=soft seed={seed}", own)
        finish(f"rate=8 target=soft target.terms.soft.tau_squared=false seed={seed}", other)
    finish("rate=8 target=soft schedule.epochs=1 model.width=24", 20.0)
    finish("rate=8 target=hidden target.terms.hidden.reduction=sum", 20.0)
    found = table(read(), 1)
    assert found.entry(SOFT, "top1").ours == [50.0, 40.0, 45.0]
    shorter, untempered = [one for one in found.variants if one.row.label == SOFT.label]
    assert untempered.words == ("target.terms.soft.tau_squared=false",)
    assert untempered.entry.ours == [53.0, 44.0, 50.0]
    assert untempered.effect is not None
    assert untempered.effect.by_seed == {0: 3.0, 1: 4.0, 2: 5.0}
    assert set(shorter.words) == {"schedule.epochs=1", "model.width=24"}
    assert shorter.effect is not None
    assert shorter.effect.by_seed == {0: -30.0}
    assert len(found.left_out) == 4


def test_claims_may_be_judged_by_the_pairs_of_strangers(planned: Callable[..., Run]) -> None:
    for seed in range(2):
        run = planned("rate=8", "target=soft", f"seed={seed}")
        complete(run, metrics={"top1": 50.0, "pairs": 90.0 + seed})
        halves, none = np.array([50.0, 50.0], np.float32), np.zeros(0, np.float32)
        SampleScores(halves, none, np.zeros(0, bool), np.arange(2)).save(run.directory)
    found = Study.read(RUNS, ["synthetic"], "synthetic", judged_by="pairs").tables
    assert [filled.table.metric for filled in found] == ["pairs", "pairs", "nrmse", "pairs", "pairs"]
    results = found[0].results(SOFT)
    assert {seed: result.value for seed, result in results.items()} == {0: 90.0, 1: 91.0}
    assert {result.sample_scores for result in results.values()} == {None}, "of faces, not of pairs"
    assert list(found[0].table.printed) == ["top1", "pairs"]


def test_a_judge_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judged_by=roc"]) != 0
    assert "judged_by=roc: choices are top1, pairs" in capsys.readouterr().err


def test_a_reading_without_runs_has_no_table(finish: Finisher) -> None:
    finish("rate=8 target=soft")
    assert [filled.table.reading for filled in read().tables] == ["both_rates"] * 5
    finish("rate=8 target=soft schedule.reading=one_rate", 30.0)
    found = read().tables
    assert [(one.table.number, one.table.reading) for one in found[5:]] == [(1, "one_rate"), (2, "one_rate")]
    assert [one.entry(SOFT, "top1").ours for one in found if one.table.number == 1] == [[50.0], [30.0]]


def without_metric(record: dict[str, Any]) -> None:
    del record["config"]["task"]["metric"]


DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a missing key": (without_metric, "config.task.metric is missing"),
    "text for a number": (lambda record: record.update(macs="many"), "macs: Input should be a valid integer"),
    "text for a metric": (
        lambda record: record["metrics"].update(top1="good"),
        "metrics.top1: Input should be a valid number",
    ),
    "NaN": (lambda record: record["metrics"].update(top1=float("nan")), "NaN is not a finite number"),
    "infinity in the recipe": (lambda record: record["recipe"].update(rate=float("inf")), "Infinity is not a finite"),
    "no parents in the recipe": (
        lambda record: record["recipe"].pop("parents"),
        "recipe has no version, or no parents",
    ),
    "a teacher without a name": (
        lambda record: record["config"]["teacher"].update(model={}),
        "config.teacher.model has no name",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_record_is_left_out_with_the_reason(finish: Finisher, name: str) -> None:
    change, reason = DAMAGES[name]
    good, bad = finish("rate=8 target=soft"), finish("rate=8 target=soft seed=1") / "record.json"
    record = json.loads(bad.read_text())
    change(record)
    bad.write_text(json.dumps(record))
    study = read()
    assert [record.name for record in study.records] == [good.name]
    assert study.unreadable.keys() == {bad.parent.name}
    assert reason in study.unreadable[bad.parent.name]
    assert study.unfinished == []


@pytest.mark.parametrize("content", [b'{"metrics": ', b"[1]", b"\xff", b"", b"[" * 100_000, b'{"recipe": 1e999}'])
def test_a_file_that_is_not_a_record_is_left_out(finish: Finisher, content: bytes) -> None:
    good, bad = finish("rate=8 target=soft"), finish("rate=8 target=soft seed=1")
    (bad / "record.json").write_bytes(content)
    study = read()
    assert [record.name for record in study.records] == [good.name]
    assert "record.json" in study.unreadable[bad.name]


def test_an_unfinished_run_is_named(finish: Finisher) -> None:
    begun = finish("rate=8 target=soft").with_name("classify-r8-scratch-soft-synthetic-s1-0123456789ab")
    begun.mkdir()
    (begun / "metrics.csv").write_text("epoch\n")
    assert read().unfinished == [begun.name]


def test_a_renamed_run_is_found_under_its_new_name(finish: Finisher) -> None:
    run = finish("rate=8 target=soft")
    run.rename(run.with_name("mine-0123456789ab"))
    assert [record.name for record in read().records] == ["mine-0123456789ab"]


def test_a_copy_of_a_run_is_no_other_run(finish: Finisher) -> None:
    run = finish("rate=8 target=soft")
    copytree(run, run.with_name("a copy"))
    study = read()
    assert [record.name for record in study.records] == [run.name]
    assert study.unreadable == {"a copy": f"it is a copy of {run.name}"}
