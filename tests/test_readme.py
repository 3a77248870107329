"""What the README tells people to type is there, and is understood."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

PROJECT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```bash\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
LINES = [line.split("#")[0].strip() for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
TRAINING = [line[line.index("python") :].rstrip("& ") for line in LINES if "-m facedistill.train " in line]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folders")
    for person in ("ann", "bob"):
        (root / person).mkdir()
        Image.new("RGB", (32, 32)).save(root / person / "1.png")
    (root / "recognizer.safetensors").touch()
    return root


def test_there_are_examples() -> None:
    assert len(TRAINING) >= 6


@pytest.mark.parametrize("line", TRAINING)
def test_an_example_is_a_plan(line: str, folders: Path, tmp_path: Path) -> None:
    line = line.replace("/path/to/folders", str(folders)).replace("/path/to/", f"{folders}/")
    words = [word for word in shlex.split(line)[1:] if word != "plan=true"]
    done = subprocess.run(
        [sys.executable, *words, "plan=true"], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "to be made" in done.stdout


def test_its_make_targets_are_in_the_help() -> None:
    told = set(re.findall(r"\bmake ([a-z-]+)", (PROJECT / "README.md").read_text())) - {"it", "them", "the"}
    shown = subprocess.run(["make", "help"], capture_output=True, text=True, check=True, cwd=PROJECT).stdout
    assert told <= set(re.findall(r"^  make ([a-z-]+)", shown, re.MULTILINE))
    assert {"setup", "reproduce", "demo", "test", "test-all", "lint"} <= set(re.findall(r"make ([a-z-]+)", shown))
