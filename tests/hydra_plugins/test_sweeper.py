"""The union of grids: its cells, whose words win, and that Hydra finds it where it is ours alone."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins

Cell = dict[str, str]


def cells(grids: Mapping[str, Sequence[Mapping[str, str]]], line: str, batch: int | None = None) -> list[list[Cell]]:
    """What a sweep runs, as Hydra reads it: of a key that is given twice the last word counts."""
    overrides = OverridesParser.create().parse_overrides(line.split())
    Plugins.instance()  # loads our module anew, so it is imported after that
    from hydra_plugins.facedistill_hydra.sweeper import GridsSweeper

    chunks = GridsSweeper(None, None, grids).split_arguments(overrides, batch)
    return [[dict(word.split("=", 1) for word in cell) for cell in chunk] for chunk in chunks]


def found(grids: Sequence[Mapping[str, str]], line: str) -> set[tuple[tuple[str, str], ...]]:
    (chunk,) = cells({"a": grids} if grids else {}, line)
    assert {cell.pop("group", None) for cell in chunk} == ({"a"} if grids else {None})
    count = {cell.pop("cells") for cell in chunk}
    assert count == {str(len(chunk))}
    unique = {tuple(sorted(cell.items())) for cell in chunk}
    assert len(unique) == len(chunk), "a cell is there twice"
    return unique


def test_grids_are_united_and_each_is_multiplied_by_the_command_line() -> None:
    grids = [{"rate": "2,4", "init": "scratch"}, {"rate": "8", "init": "full,fitnet"}]
    expected = {
        tuple(sorted({"rate": rate, "init": init, "seed": seed}.items()))
        for rate, init in [("2", "scratch"), ("4", "scratch"), ("8", "full"), ("8", "fitnet")]
        for seed in ("0", "1")
    }
    assert found(grids, "seed=0,1") == expected


def test_without_grids_it_is_the_grid_of_the_command_line() -> None:
    assert found([], "rate=2,4 init=full") == {(("init", "full"), ("rate", rate)) for rate in ("2", "4")}
    assert found([], "rate=2") == {(("rate", "2"),)}


@pytest.mark.parametrize("line", ["rate=4", "rate=4,4"])
def test_the_command_line_wins_over_a_grid_and_makes_no_twins(line: str) -> None:
    grids = [{"rate": "2,4,8", "init": "scratch"}, {"rate": "8", "init": "full"}]
    assert found(grids, line) == {(("init", "scratch"), ("rate", "4")), (("init", "full"), ("rate", "4"))}


def test_a_cell_of_two_grids_is_there_once() -> None:
    grids = [{"rate": "2,4"}, {"rate": "4,8"}]
    assert found(grids, "") == {(("rate", rate),) for rate in ("2", "4", "8")}


def test_a_cell_is_there_once_whatever_the_order_of_its_words() -> None:
    assert len(found([{"rate": "2", "seed": "1"}, {"seed": "1", "rate": "2"}], "")) == 1


def test_cells_are_counted_in_every_chunk() -> None:
    chunks = cells({"a": [{"rate": "2,4,8"}]}, "seed=0", batch=2)
    assert [[cell["rate"] for cell in chunk] for chunk in chunks] == [["2", "4"], ["8"]]
    assert {cell["cells"] for chunk in chunks for cell in chunk} == {"3"}


def test_a_cell_of_two_groups_is_there_once_and_of_the_first() -> None:
    (chunk,) = cells({"b": [{"rate": "2,4"}], "a": [{"rate": "4,8"}]}, "")
    assert [(cell["rate"], cell["group"]) for cell in chunk] == [("2", "b"), ("4", "b"), ("8", "a")]


def test_the_command_line_names_the_group_if_it_wants_to() -> None:
    (chunk,) = cells({"a": [{"rate": "2,4"}], "b": [{"rate": "4,8"}]}, "group=mine")
    assert [(cell["rate"], cell["group"]) for cell in chunk] == [("2", "mine"), ("4", "mine"), ("8", "mine")]


def test_ranges_and_lists_are_read_as_hydra_reads_them() -> None:
    assert found([{"seed": "range(0,3)"}], "") == {(("seed", str(seed)),) for seed in range(3)}
    (cell,) = found([{"task.learning_rates.random": "[0.1,0.01]"}], "")
    assert cell == (("task.learning_rates.random", "[0.1,0.01]"),)


@pytest.mark.slow
def test_it_is_the_sweeper_of_a_multirun_and_no_other_program_is_disturbed(tmp_path: Path) -> None:
    words = ["-m", "experiments=demo", "plan=true", "logger=csv", "seed=0,1", f"runs_dir={tmp_path}/runs"]
    done = subprocess.run(
        [sys.executable, "-m", "facedistill.train", *words], capture_output=True, text=True, cwd=tmp_path, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert "cell 1/8" in done.stdout
    assert "cell 8/8" in done.stdout
    assert done.stdout.count("to be trained") == 8 + 6  # six have a teacher
    words = ["-m", "experiments=[table3,demo]", "plan=true", "logger=csv"]
    both = subprocess.run(
        [sys.executable, "-m", "facedistill.train", *words], capture_output=True, text=True, cwd=tmp_path, timeout=100
    )
    assert "cell 13/13" in both.stdout, both.stdout + both.stderr
    (tmp_path / "other.py").write_text(
        "import hydra, sys\n"
        "@hydra.main(config_path=None, version_base='1.3')\n"
        "def main(config): print(sorted(config), [m for m in sys.modules if m.startswith('facedistill.data')])\n"
        "main()\n"
    )
    other = subprocess.run(
        [sys.executable, "other.py", "+experiments=demo", "hydra.run.dir=."],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=100,
    )
    assert "['experiments'] []" in other.stdout, other.stdout + other.stderr  # a plain key there, no file of ours
