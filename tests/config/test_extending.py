"""The example of docs/extending.md, as it stands there: a package of one's own adds a target."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tiny import RUN

PROJECT = Path(__file__).parents[2]
BLOCKS = dict(
    re.findall(r"```(toml|python|yaml)\n(.*?)```", (PROJECT / "docs" / "extending.md").read_text(), re.DOTALL)
)
TINY = [*RUN, "rate=8"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The package as pip would install it: its files, and what its pyproject.toml declares."""
    site = tmp_path_factory.mktemp("site")
    (site / "myfaces" / "conf" / "target").mkdir(parents=True)
    (site / "myfaces" / "__init__.py").touch()
    (site / "myfaces" / "conf" / "__init__.py").touch()
    (site / "myfaces" / "angle.py").write_text(BLOCKS["python"])
    (site / "myfaces" / "conf" / "target" / "angle.yaml").write_text(BLOCKS["yaml"])
    about = site / "myfaces-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: myfaces\nVersion: 1.0\n")
    points = re.sub(r'\[project\.entry-points\."([\w.]+)"\]', r"[\1]", BLOCKS["toml"]).replace('"', "")
    (about / "entry_points.txt").write_text(points)
    return {**os.environ, "PYTHONPATH": str(site)}


def facedistill(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "facedistill", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment, check=False)


def test_the_class_has_ten_lines() -> None:
    assert len(BLOCKS["python"].partition("class ")[2].splitlines()) <= 10


@pytest.mark.slow
def test_it_trains_and_is_swept_beside_ours(environment: dict[str, str], tmp_path: Path) -> None:
    done = facedistill(environment, "train", "-m", *TINY, "target=hidden,angle", f"runs_dir={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = tmp_path.glob("classify-r8-scratch-angle-*")
    header = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/task", "train/angle"} <= set(header)
    assert '"type": "angle"' in (run / "record.json").read_text()


def test_without_the_package_there_is_no_such_choice(tmp_path: Path) -> None:
    done = facedistill(dict(os.environ), "train", "target=angle", "plan=true", f"runs_dir={tmp_path}")
    assert done.returncode != 0
    assert "angle" in done.stderr
