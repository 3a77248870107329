"""Every student of a sweep: which runs these are, and that one of them stops no other."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins

from facedistill.config.choices import nodes
from facedistill.errors import RunError, WeightsError
from facedistill.export import __main__ as door
from facedistill.export.many import _grids_of, belongs, export_each, students
from facedistill.runs.record import RECORD, Record
from facedistill.runs.run import Run
from made_exports import made_export
from made_records import complete, record_of

Planner = Callable[..., Run]
SOFT = ("schedule.reading=both_rates", "rate=8", "init=scratch", "target=soft")  # a cell of tables 1 and 2
HIDDEN = ("schedule.reading=both_rates", "rate=8", "init=scratch", "target=hidden")  # of table 1
LARGE = ("data=synthetic_large", "rate=8", "init=scratch", "target=soft")  # of table 2


def in_sweep(planned: Planner, group: str, *words: str) -> Record:
    """A run as a sweep makes it: its overrides begin with its group and its cell."""
    run = planned(*words)
    own = [f"group={group}", *words, "cells=7"]
    return record_of(run, group=group, overrides=own, config=replace(run.config, group=group))


def write(record: Record, runs: Path, name: str = "") -> Path:
    directory = runs / (name or record.name)
    directory.mkdir(parents=True)
    record.write(directory)
    return directory


def test_a_cell_that_tables_share_is_of_each_of_them(planned: Planner) -> None:
    soft, hidden = in_sweep(planned, "table1", *SOFT), in_sweep(planned, "table1", *HIDDEN)
    large = in_sweep(planned, "table2", *LARGE)
    found = {
        experiment: [belongs(record, experiment) for record in (soft, hidden, large)]
        for experiment in ("table1", "table2", "table4", "nothing")
    }
    assert found == {
        "table1": [True, True, False],
        "table2": [True, False, True],
        "table4": [False] * 3,
        "nothing": [False] * 3,
    }


def test_words_of_the_command_line_make_no_cell_of_another_table(planned: Planner) -> None:
    """They stand behind the cell: with ``schedule.reading`` typed, it looks like one of table 1."""
    assert not belongs(in_sweep(planned, "table2", *LARGE, "schedule.reading=both_rates"), "table1")
    other = (
        "task=verify",
        "rate=8",
        "init=distill",
        "target=hidden",
        "target.parity=3",
        "task.options.mining=semihard",
    )
    assert not belongs(in_sweep(planned, "weights", *other), "table4")
    assert belongs(in_sweep(planned, "weights", *other), "sensitivity")


def test_a_group_of_ones_own_is_known_by_its_name(planned: Planner) -> None:
    assert belongs(in_sweep(planned, "mine", "rate=4"), "mine")
    assert not belongs(record_of(planned("rate=4")), "mine")


@pytest.mark.parametrize("experiment", sorted(nodes("experiments")))
def test_cells_are_those_of_the_sweeper(experiment: str) -> None:
    grids = nodes("experiments")[experiment]["hydra"]["sweeper"]["grids"]
    Plugins.instance()  # loads our module anew, so it is imported after that
    from hydra_plugins.facedistill_hydra.sweeper import GridsSweeper

    (cells,) = GridsSweeper(None, None, grids).split_arguments(
        OverridesParser.create().parse_overrides(["seed=5"]), None
    )
    swept = {frozenset(cell[1:-2]) for cell in cells}  # between the group, and the seed and how many there are
    assert {frozenset(cell) for _, found in _grids_of(experiment) for cell in found} == swept


def test_students_are_neither_teachers_nor_first_stages_and_each_is_there_once(
    planned: Planner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fitnet, alone = planned("rate=8", "init=fitnet", "target=soft"), planned("rate=4")
    hint = next(run for run in fitnet.parents.values() if isinstance(run, Run) and run.config.task.intermediate)
    for run in (fitnet, alone, hint, planned("task=teacher", "rate=1")):
        complete(run)
    write(record_of(alone), tmp_path / "runs", "a-copy-of-it")
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / RECORD).write_text("{")
    found = students(Path("runs"))
    assert {directory.name: record.identity for directory, record in found.items()} == {
        run.name: run.identity for run in (fitnet, alone)
    }
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("broken is left out: ")


def test_a_run_that_was_renamed_is_found(planned: Planner) -> None:
    directory = write(record_of(planned("rate=4")), Path("runs"), "mine")
    assert list(students(Path("runs"))) == [directory]


def test_where_there_is_none_the_groups_are_named(planned: Planner) -> None:
    write(in_sweep(planned, "table1", *SOFT), Path("runs"))
    with pytest.raises(
        RunError, match=r"no finished student of experiments=table4,x. Its groups: table1. `facedistill"
    ):
        students(Path("runs"), ["table4", "x"])
    with pytest.raises(RunError, match="does not exist: name the folder of the runs"):
        students(Path("gone"))


class Maker:
    """Stands for the export of one run: notes its words, and fails where it is told to."""

    def __init__(self, fails: dict[str, Exception]) -> None:
        self.asked: list[list[str]] = []
        self._fails = fails

    def __call__(self, words: list[str]) -> None:
        self.asked.append(words)
        if error := self._fails.get(words[0].partition("/")[2]):
            raise error


def chosen_of(planned: Planner) -> dict[Path, Record]:
    runs = [planned(f"rate={rate}") for rate in (2, 4, 8)]
    return {Path("runs") / str(run.config.rate): record_of(run) for run in runs}


def test_one_that_is_refused_stops_no_other(
    planned: Planner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = chosen_of(planned)
    two, four, eight = (record.name for record in chosen.values())
    make = Maker({"2": WeightsError("it scores otherwise"), "4": RuntimeError("Unsupported\noperator")})
    assert export_each(chosen, ["onnx"], tmp_path, make) == 2
    assert make.asked == [["run=runs/2"], ["run=runs/4"], ["run=runs/8"]]
    said = capsys.readouterr()
    assert said.out.splitlines() == [f"1 of 3: {two}", f"2 of 3: {four}", f"3 of 3: {eight}"]
    assert said.err.splitlines() == [
        f"facedistill: {two} is not exported: it scores otherwise",
        f"facedistill: {four} is not exported: RuntimeError: Unsupported operator",
        f"2 of 3 are not exported: {two}, {four}",
    ]
    assert export_each(chosen, ["onnx"], tmp_path, Maker({})) == 0


@pytest.mark.parametrize("error", [BrokenPipeError(), KeyboardInterrupt(), SystemExit(143)])
def test_what_ends_a_command_ends_all(planned: Planner, tmp_path: Path, error: BaseException) -> None:
    make = Maker({"2": error})  # type: ignore[dict-item]
    with pytest.raises(type(error)):
        export_each(chosen_of(planned), ["onnx"], tmp_path, make)
    assert len(make.asked) == 1


@pytest.mark.parametrize(
    ("there", "formats", "is_left"),
    [
        ("whole", ["onnx"], True),
        ("whole", ["onnx-int8", "onnx"], True),
        ("whole", ["onnx", "ncnn"], False),
        ("another", ["onnx"], False),
        ("changed", ["onnx"], False),
        ("broken", ["onnx"], False),
    ],
)
def test_an_export_that_is_there_is_left(
    planned: Planner,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    there: str,
    formats: Sequence[str],
    is_left: bool,
) -> None:
    run = planned("rate=8")
    identity = "0123456789ab" if there == "another" else run.identity
    folder = made_export(tmp_path / run.name, formats=("onnx", "onnx-int8"), identity=identity)
    if there == "changed":
        with (folder / "model.onnx").open("ab") as file:
            file.write(b"x")
    if there == "broken":
        (folder / "contract.json").write_text(json.dumps({"version": 1}))
    make = Maker({})
    assert export_each({run.directory: record_of(run)}, formats, tmp_path, make) == 0
    assert bool(make.asked) != is_left
    said = f" is there already, in {tmp_path}" if is_left else ""
    assert capsys.readouterr().out == f"1 of 1: {run.name}{said}\n"


def test_further_words_are_for_every_one(planned: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    write(in_sweep(planned, "table1", *SOFT), Path("runs"))
    asked: list[list[str]] = []
    whole = door._export

    def export(words: list[str]) -> int:
        asked.append(words)
        return whole(words) if "experiments=[table1]" in words else 0

    monkeypatch.setattr(door, "stop_on_signals", lambda: None)
    monkeypatch.setattr(door, "_export", export)
    assert door.main(["experiments=[table1]", "format=onnx", "out=there", "data.seed=1", "runs_dir=runs"]) == 0
    (directory,) = Path("runs").iterdir()
    assert asked[1:] == [[f"run={directory}", "format=onnx", "out=there", "data.seed=1"]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("experiments=table1 run=runs/x", "name one network: run=RUN_DIR"),
        ("runs_dir=runs weights=x", "name one network: run=RUN_DIR"),
        ("format=onnx", "or every student of a table: experiments=table1"),
        ("experiments=table1 name=x", "name= is for one export"),
        ("experiments=table1 runs_dir=gone", "runs_dir=gone does not exist"),
        ("experiments=table1 format=onx", "format=onx: choices are "),
        ("experiment=table1", "experiment=table1: there is no such word. Did you mean experiments=table1?"),
    ],
)
def test_what_can_not_be_is_one_line(
    planned: Planner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, said: str
) -> None:
    write(in_sweep(planned, "table1", *SOFT), Path("runs"))
    monkeypatch.setattr(door, "stop_on_signals", lambda: None)
    assert door.main(words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_which_students_there_are_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom facedistill.export.__main__ import main\n"
        f"main(['runs_dir={tmp_path}'])\nprint([name for name in ('torch', 'wandb') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert f"runs_dir={tmp_path} has no finished student" in done.stderr
