"""Every file in experiments/: says what it is, and every cell of it is a plan that can be made."""

import re
from functools import cache
from pathlib import Path

import pytest

from facedistill.config.compose import CONFIG_DIR
from facedistill.runs.plan import plan
from facedistill.runs.run import Run, WeightsFile
from sweeps import cells_of, grids_of

FILES = sorted((CONFIG_DIR / "experiments").glob("*.yaml"))
NAMES = [file.stem for file in FILES]
LARGE = {"table4", "table5"}  # of 27 cells each, and alike but for a word
QUICK = {"demo", "table1"}
SOME_SLOW = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
Cell = tuple[str, int, str, str]


@cache
def runs(name: str) -> list[Run]:
    return [plan(cell) for cell in cells_of(name)]


def cell_of(run: Run) -> Cell:
    config = run.config
    return config.data["name"], config.rate, config.init.name, config.target.name


def ancestors(run: Run | WeightsFile) -> set[str]:
    if isinstance(run, WeightsFile):
        return set()
    return {parent.identity for parent in run.parents.values()}.union(*map(ancestors, run.parents.values()))


def test_there_are_experiments() -> None:
    assert {"table1", "table2", "demo"} <= set(NAMES)


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_it_opens_with_its_command_its_cost_and_the_claim_it_tests(file: Path) -> None:
    head = [line for line in file.read_text().splitlines() if line.startswith("#")]
    assert head[0] == "# @package _global_"
    text = "\n".join(head)
    assert f"facedistill train -m experiments={file.stem}" in text
    assert re.search(r"^# Cost: +\d+ cells?\b", text, re.MULTILINE)
    assert re.search(r"^# Claims?: +[A-Z]+\d?", text, re.MULTILINE)


@pytest.mark.parametrize("name", sorted(LARGE))
def test_the_first_and_the_last_cell_of_a_large_one_are_plans(name: str) -> None:
    cells = cells_of(name)
    assert [plan(cell).config.group for cell in (cells[0], cells[-1])] == [name, name]
    assert len({tuple(sorted(cell)) for cell in cells}) == len(cells) == 27


@pytest.mark.parametrize("name", SOME_SLOW)
def test_its_cells_are_plans_of_its_groups_and_none_is_there_twice(name: str) -> None:
    found = runs(name)
    assert {run.config.group for run in found} == set(grids_of(name))
    assert not name.startswith("table") or set(grids_of(name)) == {name}
    assert {run.config.cells for run in found} == {len(found)}
    assert len({run.identity for run in found}) == len(found)
    assert all(run.parents for run in found if run.config.target.name != "none")


@pytest.mark.parametrize("name", SOME_SLOW)
def test_the_cost_it_names_is_the_number_of_cells(name: str) -> None:
    text = (CONFIG_DIR / "experiments" / f"{name}.yaml").read_text()
    cells = re.search(r"Cost: +(\d+) cells?\b", text)
    assert cells
    assert int(cells[1]) == len(runs(name))
    spoken = re.search(r"cells? and (\d+) ancestors?\b", text)
    if spoken:
        identities = {run.identity for run in runs(name)}
        others = set().union(*(ancestors(run) for run in runs(name))) - identities
        assert int(spoken[1]) == len(others)


READINGS = ("both_rates", "one_rate")


def reading_of(run: Run) -> str:
    return run.config.schedule.reading


def test_table1_is_the_paper_s_under_both_readings_of_its_schedule_with_its_controls() -> None:
    of_paper = {("scratch", "hidden"), ("scratch", "logits"), ("scratch", "soft"), ("fitnet", "soft"), ("full", "soft")}
    controls = {("scratch", "none"), ("scratch_whole", "none"), ("scratch_whole", "soft")}
    assert {(reading_of(run), *cell_of(run)) for run in runs("table1")} == {
        (reading, "synthetic", 8, *choice) for reading in READINGS for choice in of_paper | controls
    }


@pytest.mark.slow
def test_table2_has_every_rate_and_both_readings_on_the_first_data_set() -> None:
    choices = {("scratch", "none"), ("scratch", "soft"), ("full", "soft")}
    whole = {("scratch_whole", "none"), ("scratch_whole", "soft")}
    found = {(reading_of(run), *cell_of(run)) for run in runs("table2")}
    assert found == {
        (reading, "synthetic", rate, *choice)
        for reading in READINGS
        for rate in (2, 4, 8)
        for choice in choices | whole
    } | {("both_rates", "synthetic_large", rate, *choice) for rate in (2, 4, 8) for choice in choices}


@pytest.mark.slow
def test_tables_share_their_cells_and_each_data_set_has_one_teacher_a_reading() -> None:
    one, two = ({run.identity: run for run in runs(name)} for name in ("table1", "table2"))
    shared = {cell_of(one[identity])[2:] for identity in one.keys() & two.keys()}
    assert shared == {(init, target) for init in ("scratch", "scratch_whole") for target in ("none", "soft")} | {
        ("full", "soft")
    }
    both = [*one.values(), *two.values()]
    keys = {(cell_of(run)[0], reading_of(run)) for run in both}
    teachers = {
        key: {
            run.parents["teacher"].identity
            for run in both
            if (cell_of(run)[0], reading_of(run)) == key and "teacher" in run.parents
        }
        for key in keys
    }
    assert len(keys) == 3
    assert [len(identities) for identities in teachers.values()] == [1, 1, 1]
    assert len(set().union(*teachers.values())) == 3


INITS = ("pretrain", "undistilled", "distill")
TRANSFER = {(init, target) for init in INITS for target in ("none", "hidden", "soft")}


@pytest.mark.parametrize(
    ("name", "task", "softmax", "rates"),
    [
        ("table3", "align", None, {8}),
        pytest.param("table4", "verify", False, {2, 4, 8}, marks=pytest.mark.slow),
        pytest.param("table5", "verify", True, {2, 4, 8}, marks=pytest.mark.slow),
    ],
)
def test_a_table_of_the_transfer_has_every_cell_and_the_teacher_of_its_task(
    name: str, task: str, softmax: bool | None, rates: set[int]
) -> None:
    cells = runs(name)
    assert {(run.config.task.name, run.config.task.softmax) for run in cells} == {(task, softmax)}
    assert {cell_of(run)[1:] for run in cells} == {(rate, *choice) for rate in rates for choice in TRANSFER}
    teachers = [run.parents["teacher"] for run in cells if run.config.target.name == "hidden"]
    assert len({teacher.identity for teacher in teachers}) == 1, "an ancestor, so that seeds share it"
    (config,) = {id(teacher.config): teacher.config for teacher in teachers}.values()
    assert config is not None
    assert (config.task.name, config.task.softmax, config.rate, config.init.name) == (task, softmax, 1, "teacher")


def every_run(name: str) -> set[str]:
    return {run.identity for run in runs(name)} | ancestors_of(name)


@pytest.mark.slow
def test_the_study_in_20_minutes_has_cells_of_the_tables_under_the_reading_of_the_paper_s_text() -> None:
    assert {reading_of(run) for run in runs("core")} == {"one_rate"}
    cells = {(run.config.cell, run.config.data["name"]) for run in runs("core")}
    of_tables = {(run.config.cell, run.config.data["name"]) for number in range(1, 6) for run in runs(f"table{number}")}
    assert cells <= of_tables
    shared = {run.identity for run in runs("core")} & {run.identity for run in runs("table1")}
    assert len(shared) == 6


@pytest.mark.slow
def test_every_question_of_sensitivity_differs_from_the_tables_but_stands_on_their_recognizers() -> None:
    of_tables = set().union(*(every_run(f"table{number}") for number in range(1, 6)))
    assert not {run.identity for run in runs("sensitivity")} & of_tables
    teachers = {
        parent.identity
        for run in runs("sensitivity")
        for parent in run.parents.values()
        if parent.config is not None and parent.config.task.is_teacher
    }
    assert teachers
    assert teachers <= of_tables


@pytest.mark.slow
def test_the_transfer_starts_from_the_students_and_the_teacher_of_table_2() -> None:
    students = {run.identity for run in runs("table2")} | ancestors_of("table2")
    for name in ("table3", "table4", "table5"):
        starts = {
            run.parents["init"].identity for run in runs(name) if run.config.init.name in ("distill", "undistilled")
        }
        assert starts <= students


def ancestors_of(name: str) -> set[str]:
    return set().union(*(ancestors(run) for run in runs(name)))


def test_only_verification_minds_how_triplets_are_mined() -> None:
    for run in runs("table4"):
        assert run.config.task.options["mining"] == "semihard"
        assert all(parent.config is not None for parent in run.parents.values())
        mining = {
            parent.config.task.options.get("mining")
            for parent in run.parents.values()
            if parent.config is not None and parent.config.task.name == "verify"
        }
        assert mining <= {"semihard"}
