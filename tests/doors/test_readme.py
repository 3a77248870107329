"""What the README tells people to type is there, and is understood."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from facedistill.data.__main__ import main as look
from facedistill.data.sources.identity_images import IdentityImages
from facedistill.data.sources.packed import write_pack
from writers import encoded_faces, write_folders

PROJECT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```bash\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
LINES = [line.split("#")[0].strip() for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
LOOKING = [line[line.index("python") :] for line in LINES if "-m facedistill.data " in line]
TRAINING = [line[line.index("python") :].rstrip("& ") for line in LINES if "-m facedistill.train " in line]
CLUSTER = "hydra/launcher=slurm"  # takes a package that is not everybody's


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_folders(tmp_path_factory.mktemp("sets") / "folders", encoded_faces())
    (root / "recognizer.safetensors").touch()
    return root


@pytest.fixture(scope="module")
def packed(folders: Path) -> Path:
    faces = IdentityImages("mine", str(folders), 1, "centre", 0, None, None, "raise").faces(112, folders.parent)
    write_pack(faces, {}, folders.parent / "packed")
    return folders.parent / "packed"


POINTS = [10, 12, 20, 12, 15, 18, 11, 23, 19, 23]


@pytest.fixture(scope="module")
def mtfl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mtfl")
    (root / "images").mkdir()
    Image.new("RGB", (32, 32)).save(root / "images" / "1.jpg")
    points = [f"{name}_{axis}" for name in ("leye", "reye", "nose", "lmouth", "rmouth") for axis in "xy"]
    header = ",".join(["split", "file", "width", "height", *points])
    (root / "annotations.csv").write_text(f"{header}\ntrain,1.jpg,32,32,{','.join(map(str, POINTS))}\n")
    return root


@pytest.fixture(scope="module")
def lfw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lfw")
    names = []
    for person in ("Ann", "Bob"):
        (root / "images" / person).mkdir(parents=True)
        for number in range(1, 11):
            names.append(f"{person}/{person}_{number:04d}.jpg")
            Image.new("RGB", (32, 32)).save(root / "images" / names[-1])
    (root / "pairs.txt").write_text("2\t1\n" + "Ann\t1\t2\nAnn\t1\tBob\t1\n" * 2)
    (root / "landmarks.txt").write_text("".join("\t".join([name, *map(str, POINTS)]) + "\n" for name in names))
    return root


def test_there_are_examples() -> None:
    assert len(TRAINING) >= 8
    assert len(LOOKING) >= 3


@pytest.mark.parametrize("line", TRAINING)
def test_an_example_is_a_plan(line: str, folders: Path, packed: Path, mtfl: Path, lfw: Path, tmp_path: Path) -> None:
    if CLUSTER in line:
        pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="facedistill[cluster] is not installed")
    for name, root in (("folders", folders), ("casia", folders), ("packed", packed), ("mtfl", mtfl), ("lfw", lfw)):
        line = line.replace(f"/path/to/{name}", str(root))
    line = line.replace("/path/to/", f"{folders}/")
    words = [word for word in shlex.split(line)[1:] if word != "plan=true"]
    done = subprocess.run(
        [sys.executable, *words, "plan=true"], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "to be made" in done.stdout


@pytest.mark.parametrize("line", LOOKING)
def test_an_example_looks_at_data(line: str, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line.replace("/path/to/folders", str(folders)).replace("/path/to/casia", str(folders)))
    assert look([*words[3:], f"cache_dir={tmp_path}"]) == 0
    assert (tmp_path / "contact_sheet.png").is_file()


def test_its_make_targets_are_in_the_help() -> None:
    told = set(re.findall(r"\bmake ([a-z-]+)", (PROJECT / "README.md").read_text())) - {"it", "them", "the"}
    shown = subprocess.run(["make", "help"], capture_output=True, text=True, check=True, cwd=PROJECT).stdout
    assert told <= set(re.findall(r"^  make ([a-z-]+)", shown, re.MULTILINE))
    assert {"setup", "reproduce", "demo", "test", "test-all", "lint"} <= set(re.findall(r"make ([a-z-]+)", shown))
