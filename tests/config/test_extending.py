"""The examples of docs/extending.md, as they stand there: a package of one's own adds a target, and a network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from tiny import RUN

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "extending.md").read_text()
TARGET, NETWORK = (
    dict(re.findall(r"```(toml|python|yaml)\n(.*?)```", part, re.DOTALL))
    for part in PAGE.split("## A network of your own")
)
TINY = [*RUN, "rate=8"]


def installed(site: Path, blocks: dict[str, str], module: str, choice: str) -> dict[str, str]:
    """The package as pip would install it: its files, and what its pyproject.toml declares."""
    (site / "myfaces" / "conf" / choice).parent.mkdir(parents=True)
    (site / "myfaces" / "__init__.py").touch()
    (site / "myfaces" / "conf" / "__init__.py").touch()
    (site / "myfaces" / module).write_text(blocks["python"])
    (site / "myfaces" / "conf" / choice).write_text(blocks["yaml"])
    about = site / "myfaces-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: myfaces\nVersion: 1.0\n")
    points = re.sub(r'\[project\.entry-points\."([\w.]+)"\]', r"[\1]", blocks["toml"]).replace('"', "")
    (about / "entry_points.txt").write_text(points)
    return {**os.environ, "PYTHONPATH": str(site)}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return installed(tmp_path_factory.mktemp("site"), TARGET, "angle.py", "target/angle.yaml")


def facedistill(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "facedistill", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment, check=False)


def test_the_class_has_ten_lines() -> None:
    assert len(TARGET["python"].partition("class ")[2].splitlines()) <= 10


@pytest.mark.slow
def test_it_trains_and_is_swept_beside_ours(environment: dict[str, str], tmp_path: Path) -> None:
    done = facedistill(environment, "train", "-m", *TINY, "target=hidden,angle", f"runs_dir={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = tmp_path.glob("classify-r8-scratch-angle-*")
    header = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/task", "train/angle"} <= set(header)
    assert '"type": "angle"' in (run / "record.json").read_text()


@pytest.mark.slow
def test_a_network_of_ones_own_is_scored_and_teaches(tmp_path: Path) -> None:
    environment = installed(tmp_path / "site", NETWORK, "mine.py", "model/mine.yaml")
    torch.manual_seed(0)
    maps = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.PReLU(16), nn.AdaptiveAvgPool2d(4))
    torch.save(nn.Sequential(maps, nn.Flatten(), nn.Linear(256, 128)).state_dict(), tmp_path / "mine.pt")
    contract = ["contract=arcface", "teacher.contract.size=32", f"cache_dir={tmp_path}/cache"]
    pairs = ["protocol=synthetic", "data.num_identities=4", "data.images_per_identity=12", "data.pairs_per_fold=4"]
    done = facedistill(environment, "evaluate", *pairs, f"weights={tmp_path}/mine.pt", "model=mine", *contract)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "32 px, crop 32, flip=concat\n40 pairs\n  pairs " in done.stdout
    (tmp_path / "faces").mkdir()
    for number in range(12):
        Image.new("RGB", (40, 40), (number, 0, 0)).save(tmp_path / "faces" / f"{number}.png")
    own = [f"teacher={tmp_path}/mine.pt", "model@teacher.model=mine", f"faces={tmp_path}/faces", "size=30kB"]
    done = facedistill(environment, "compress", *own, *contract, "data.alignment=none", "plan=true")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "model.features=128" in done.stdout


def test_without_the_package_there_is_no_such_choice(tmp_path: Path) -> None:
    done = facedistill(dict(os.environ), "train", "target=angle", "plan=true", f"runs_dir={tmp_path}")
    assert done.returncode != 0
    assert "angle" in done.stderr
