"""The commands of the benchmarks are those of today: they are run by people, and seldom."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "cells"), [("ancestors", 10), pytest.param("ways", 18, marks=pytest.mark.slow)], ids=["ancestors", "ways"]
)
def test_the_sweep_can_be_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, cells: int) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sweep = runpy.run_path(str(BENCHMARKS / "sweep.py"))
    for words in [[sweep["ANCESTORS"]]] if name == "ancestors" else sweep["WAYS"].values():
        line = [sys.executable, "-m", "facedistill.train", "-m", *words, "plan=true", f"runs_dir={tmp_path}"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr
        count = int(done.stdout.partition("cell 1/")[2].split()[0])
        assert count == cells


@pytest.mark.parametrize("name", sorted(file.stem for file in BENCHMARKS.glob("*.py")))
def test_it_finds_all_that_it_imports_and_says_how_it_is_run(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    found = runpy.run_path(str(BENCHMARKS / f"{name}.py"))
    assert name == "measure" or f"python benchmarks/{name}.py" in found["__doc__"]
