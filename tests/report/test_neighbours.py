"""Experiments of other papers: which runs stand in their tables, what they claim, and where it is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from facedistill.report.__main__ import main
from facedistill.report.claims import assess
from facedistill.report.neighbours import EXPERIMENTS, SYNTHDISTILL, Experiment
from facedistill.report.rule import Answer
from facedistill.report.study import Study
from facedistill.runs.plan import plan
from facedistill.runs.run import Run
from made_records import complete, record_of
from sweeps import cells_of

SEEDS = 3
WORDS = ["experiments=synthdistill", "group=synthdistill", "task=embed", "target=raw", "rate=2", "data=latent"]
WORDS += ["data@recognition=synthetic"]


@pytest.fixture
def finish(planned: Callable[..., Run]) -> Callable[..., None]:
    def write(sampling: str, score: float, *words: str) -> None:
        for seed in range(SEEDS):
            run = planned(*WORDS, f"data.sampling={sampling}", f"seed={seed}", *words)
            complete(run, metrics={"cosine": 90.0, "pairs": score + 0.1 * seed}, group="synthdistill")

    return write


def study() -> Study:
    return Study.read(Path("runs"), ["synthetic"], "synthetic")


def test_every_claim_compares_arms_that_are_there() -> None:
    names: list[str] = []
    for experiment in EXPERIMENTS:
        assert len({row.label for row in experiment.rows}) == len(experiment.rows)
        for claim in experiment.claims:
            names.append(claim.name)
            for statement in claim.statements:
                compared = statement.comparisons(experiment)
                assert compared
                assert all(one.better != one.than for one in compared)
    assert len(set(names)) == len(names)


def test_its_claims_are_answered_by_the_rule_of_the_paper(finish: Callable[..., None]) -> None:
    for sampling, score in {"dynamic": 70.0, "static": 68.0, "fixed": 70.5}.items():
        finish(sampling, score + (0 if sampling == "static" else 0.01))
    found = {one.name: one for one in assess(study())}
    assert "C1" not in found, "of the paper itself there are no runs"
    assert found["S1"].answer is Answer.REPRODUCED
    assert found["S1"].effect is not None
    assert found["S1"].effect.mean == pytest.approx(2.01)
    assert found["S2"].answer is Answer.CONTRADICTED
    assert found["KS"].answer is Answer.NOT_RUN


@pytest.mark.parametrize(
    "word", ["image.crop=48", "data.faces_per_round=99", "task.batch_size=8", "task.learning_rates.random=[0.01]"]
)
def test_runs_in_another_setting_or_sweep_are_left_out(
    finish: Callable[..., None], planned: Callable[..., Run], word: str
) -> None:
    finish("dynamic", 70.0)
    finish("static", 68.0)
    finish("fixed", 60.0, word)
    other = planned(*WORDS, "data.sampling=fixed")
    complete(other, metrics={"cosine": 90.0, "pairs": 99.0}, group="another")
    (filled,) = study().neighbours
    assert [len(filled.records_of(row)) for row in SYNTHDISTILL.rows] == [SEEDS, SEEDS, 0, 0]
    assert len(filled.left_out) == SEEDS
    assert filled.missing == ["fixed set", "real photographs (experiments=synthdistill_real)"]


def test_a_report_shows_them(finish: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    finish("dynamic", 70.0)
    finish("static", 68.0)
    assert main([]) == 0
    assert (
        "S1  reproduced" in " ".join(capsys.readouterr().out.split(" ", 3))
        or "S1" in Path("reports/README.md").read_text()
    )
    page = Path("reports/index.html").read_text()
    assert 'href="#neighbours"' in page
    assert "SynthDistill" in page
    assert "70.10 ± 0.10" in page
    assert "facedistill train -m experiments=synthdistill seed=0,1,2" in page
    rows = Path("reports/tables/synthdistill.csv").read_text().splitlines()
    assert rows[1].startswith(
        "SynthDistill,arXiv 2308.14852,rendered faces by latents,dynamic,embed,,scratch,raw,pairs,,70.1,0.1"
    )
    text = Path("reports/README.md").read_text()
    assert "## SynthDistill" in text
    assert "| dynamic | — | 70.10 ± 0.10 |" in text


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda one: str(one.number))
def test_every_cell_of_its_sweeps_is_one_of_its_arms(experiment: Experiment) -> None:
    found: list[int] = []
    for group in experiment.groups:
        records = [record_of(plan(cell), group=group) for cell in cells_of(group)]
        for cell, record in zip(cells_of(group), records, strict=True):
            if record.data_name == "synthetic" and group.endswith("_real"):  # the command names the photographs
                record = replace(record, config=replace(record.config, data={**record.config.data, "name": "photos"}))
            held = [number for number, row in enumerate(experiment.rows) if row.holds(record)]
            assert len(held) == 1, cell
            found += held
        if not group.endswith("_real"):
            assert experiment.one_setting(records)[1] == [], "all of them are compared"
    assert sorted(found) == list(range(len(experiment.rows)))
