"""What `make reproduce` would type, by its dry run."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from facedistill.config.compose import compose_config

PROJECT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")


def typed(*words: str) -> tuple[list[list[str]], list[list[str]]]:
    """The words of every sweep, and those of every report."""
    shown = subprocess.run(
        ["make", "--dry-run", "reproduce", *words], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    commands = [shlex.split(command) for command in re.findall(r"python -m ([^|;]*)", shown)]
    sweeps = [words[2:] for words in commands if words[:2] == ["facedistill.train", "-m"]]
    return sweeps, [words[1:] for words in commands if words[0] == "facedistill.report"]


def tables_of(sweep: list[str]) -> str:
    return sweep[0].removeprefix("experiments=")


FIVE = "seed=0,1,2,3,4"


def test_the_study_is_one_sweep_of_five_seeds() -> None:
    (sweep,), reports = typed()
    assert sweep == ["experiments=[core]", FIVE, "hydra.launcher.n_jobs=null"]
    assert reports == [[]]


def test_all_of_it_is_one_sweep_of_every_table_and_the_sensitivity_runs() -> None:
    (sweep,), reports = typed("FULL=1")
    assert tables_of(sweep) == "[core,table1,table2,table3,table4,table5,sensitivity]"
    assert sweep[1:] == [FIVE, "hydra.launcher.n_jobs=null"]
    assert reports == [[]]


def test_what_people_may_ask_for() -> None:
    (sweep,), _ = typed("TABLES=3 1", "SEEDS=3", "JOBS=1", "ARGS=schedule.epochs=1 logger=csv")
    assert tables_of(sweep) == "[table3,table1]"
    assert sweep[1:] == ["seed=0,1,2", "hydra.launcher.n_jobs=1", "schedule.epochs=1", "logger=csv"]


def folder_of(top: Path, *names: str) -> Path:
    for name in names:
        (top / name).mkdir()
    return top


def test_real_faces_are_lfw_and_mtfl_in_one_folder_of_runs(tmp_path: Path) -> None:
    root = folder_of(tmp_path, "lfw", "mtfl")
    (people, landmarks), reports = typed("DATA=real", f"ROOT={root}")
    assert [tables_of(people), tables_of(landmarks)] == ["[real_lfw]", "[real_mtfl]"]
    lfw, mtfl = (
        compose_config([word for word in [*sweep[1:], task] if not word.startswith(("hydra.", "seed="))])
        for sweep, task in ((people, "task=verify"), (landmarks, "task=align"))
    )
    assert (lfw.data["name"], lfw.data["root"]) == ("lfw", f"{root}/lfw")
    assert (mtfl.data["name"], mtfl.data["root"]) == ("mtfl", f"{root}/mtfl")
    assert (mtfl.recognition["name"], mtfl.recognition["root"]) == ("lfw", f"{root}/lfw")
    assert lfw.runs_dir == mtfl.runs_dir == "runs/real"
    shared = ["runs_dir=runs/real", "data=lfw", "alignment=mtfl"]
    assert reports == [
        [shared[0], "out=reports/real", *shared[1:]],
        [shared[0], "out=reports/real-pairs", *shared[1:], "judged_by=pairs"],
    ]


def test_the_tables_of_the_paper_s_faces_see_the_data_sets_of_the_paper(tmp_path: Path) -> None:
    top = folder_of(tmp_path, "casia_webface", "ms_celeb_1m", "celeba")
    sweeps, reports = typed("DATA=paper", f"ROOT={top}")
    assert reports == [["data=casia_webface,ms_celeb_1m", "alignment=celeba"]]
    seen = {}
    for sweep in sweeps:
        words = [word for word in sweep[1:] if not word.startswith("hydra.")]
        config = compose_config(words)
        assert config.model == compose_config(["scale=paper"]).model
        root = config.data["root"]
        assert root == f"{top}/{config.data['name']}"
        seen[config.data["name"]] = tables_of(sweep), config.identities_data["name"]
    assert seen == {
        "casia_webface": ("[table1,table2,table4,table5]", "casia_webface"),
        "ms_celeb_1m": ("[table2_second]", "ms_celeb_1m"),
        "celeba": ("[table3]", "celeba"),
    }
    (three,) = [sweep for sweep in sweeps if tables_of(sweep) == "[table3]"]
    aligned = compose_config([*(word for word in three[1:] if not word.startswith("hydra.")), "task=align"])
    assert aligned.recognition["name"] == "casia_webface"
    assert aligned.recognition["root"] == f"{top}/casia_webface"
    assert len(typed("DATA=paper", f"ROOT={top}", "TABLES=3")[0]) == 1
    assert not any(word.startswith(("data@protocol", "protocol")) for sweep in sweeps for word in sweep)
    folder_of(top, "lfw")
    for sweep in typed("DATA=paper", f"ROOT={top}")[0]:
        config = compose_config([word for word in sweep[1:] if not word.startswith("hydra.")])
        assert (config.protocol["name"], config.protocol["root"]) == ("lfw", f"{top}/lfw")
        assert config.protocol["alignment"] == "centre"
    (top / "casia_webface" / "train.rec").touch()
    assert not any("protocol" in word for sweep in typed("DATA=paper", f"ROOT={top}")[0] for word in sweep)
    (top / "lfw" / "landmarks.txt").touch()
    assert all("protocol.alignment=similarity" in sweep for sweep in typed("DATA=paper", f"ROOT={top}")[0])


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("DATA=paper", "ROOT=… names the folder that has casia_webface, ms_celeb_1m and celeba"),
        ("DATA=real", "ROOT=… names the folder that has lfw and mtfl"),
        ("DATA=mine", "choices are embedded, real, paper"),
        ("TABLES=7", "choices are 1 2 3 4 5"),
        ("SEEDS=0", "SEEDS=0 must be how many seeds, at least 1"),
        ("SEEDS=some", "SEEDS=some must be how many seeds, at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(word: str, told: str) -> None:
    refused = subprocess.run(
        ["make", "--dry-run", "reproduce", word], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert told in refused.stderr


def test_one_command_measures_all_that_a_gpu_does() -> None:
    shown = subprocess.run(
        ["make", "--dry-run", "bench-gpu", "ARGS=logger=csv"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout.replace("\\\n", " ")
    lines = [shlex.split(line) for line in shown.splitlines() if ".venv/bin/python" in line]
    steps, tables, paper, runs = lines[-4:]
    assert steps[1:] == ["benchmarks/gpu.py"]
    assert tables[:5] == ["time", ".venv/bin/python", "-m", "facedistill.train", "-m"]
    assert tables[5:7] == ["experiments=[table1,table2,table3,table4,table5]", "seed=0"]
    words = [word for word in paper[5:] if not word.startswith(("task=", "hydra."))]
    assert "task=classify,align,verify" in paper
    for task in ("classify", "align", "verify"):
        config = compose_config([*words, f"task={task}"])
        assert (config.image.crop, config.trainer.precision, config.seed) == (224, "bf16-mixed", 0)
        assert runs[-1] == f"runs_dir={config.runs_dir}"
