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


@pytest.mark.slow
def test_what_a_gpu_measures_can_be_tried_without_one() -> None:
    line = [sys.executable, str(BENCHMARKS / "gpu.py"), "--small"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    tables = [table.splitlines()[2:] for table in done.stdout.split("\n\n") if table.startswith("|")]
    assert [len(rows) for rows in tables] == [1, 4, 1, 2]
    numbers = [float(cell) for rows in tables for row in rows for cell in row.replace(",", "").split("|")[2:-1]]
    assert len(numbers) == 5 + 4 * 2 + 3 + 2
    assert min(numbers) > 0


def test_without_a_gpu_nothing_is_said_to_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    gpu = runpy.run_path(str(BENCHMARKS / "gpu.py"))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(SystemExit, match="no GPU here, so nothing is measured"):
        gpu["main"](small=False)
