"""What README.md and docs/ tell people to type exists and is understood; what they link to is there."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest
import timm
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from PIL import Image
from safetensors.torch import save_file

from facedistill.__main__ import COMMANDS
from facedistill.config.choices import CONFIG_DIR
from facedistill.config.compose import compose_config, quoted
from facedistill.data.sources.identity_images import IdentityImages
from facedistill.data.sources.packed import write_pack
from facedistill.runs.plan import _Loaded, check_tree, plan
from writers import encoded_faces, write_folders

PROJECT = Path(__file__).parents[2]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
EXTENDING = "extending.md"  # its commands name targets, tasks and models of a package that is not installed here
CLUSTER = "hydra/launcher=slurm"  # takes a package that is not everybody's
# words that belong to `facedistill evaluate` alone
SCORING = ("run", "protocol", "root", "weights", "flip", "threshold", "doctor", "faces")
POINTS = [10, 12, 20, 12, 15, 18, 11, 23, 19, 23]


class Command(NamedTuple):
    """What a page has people type: ``make`` or ``facedistill``, and its words; ``variables`` stand before it."""

    page: str
    variables: list[str]
    name: str
    words: list[str]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join([*self.variables, self.name, *self.words])}"


def lines_of(text: str) -> Iterator[str]:
    """Lines in ```bash, lines in ```text that are typed, and code in running text that leaves nothing out."""
    for kind, block in re.findall(r"^```(bash|text)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        lines = block.replace("\\\n", " ").splitlines()
        yield from lines if kind == "bash" else [line[2:] for line in lines if line.startswith("$ ")]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from (code for code in re.findall(r"`([^`\n]+)`", prose) if "…" not in code)


def commands_of(page: Path) -> Iterator[Command]:
    for line in lines_of(page.read_text()):
        for part in re.split(r"(?:^|\s)#", line)[0].split(" && "):
            if re.match(r"(?:[A-Z]+=(?:'[^']*'|\S*) +)*(?:facedistill|make) ", part):
                words = shlex.split(part)
                variables = [word for word in words if re.match(r"[A-Z]+=", word)]
                yield Command(page.name, variables, words[len(variables)], words[len(variables) + 1 :])


ALL = [command for page in PAGES for command in commands_of(page)]


def typed(name: str) -> list[Command]:
    """Every ``facedistill NAME …`` once, without those that only ask for help."""
    found = [one for one in ALL if one.name == "facedistill" and one.words[0] == name and one.page != EXTENDING]
    return list({tuple(one.words): one for one in found if "--help" not in one.words}.values())


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A small set of every kind, by the name of its source."""
    top = tmp_path_factory.mktemp("sets")

    @cache
    def folders() -> Path:
        return write_folders(top / "folders", encoded_faces())

    @cache
    def packed() -> Path:
        source = IdentityImages("mine", str(folders()), 1, "centre", 0, None, None, "raise")
        write_pack(source.faces(112, top), {}, top / "packed")
        return top / "packed"

    @cache
    def mtfl() -> Path:
        root = top / "mtfl"
        (root / "images").mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(root / "images" / "1.jpg")
        points = [f"{name}_{axis}" for name in ("leye", "reye", "nose", "lmouth", "rmouth") for axis in "xy"]
        header = ",".join(["split", "file", "width", "height", *points])
        (root / "annotations.csv").write_text(f"{header}\ntrain,1.jpg,32,32,{','.join(map(str, POINTS))}\n")
        return root

    @cache
    def lfw() -> Path:
        root, names = top / "lfw", []
        for person in ("Ann", "Bob"):
            (root / "images" / person).mkdir(parents=True)
            for number in range(1, 11):
                names.append(f"{person}/{person}_{number:04d}.jpg")
                Image.new("RGB", (32, 32), (number * 20,) * 3).save(root / "images" / names[-1])
        (root / "pairs.txt").write_text("2\t1\n" + "Ann\t1\t2\nAnn\t1\tBob\t1\n" * 2)
        (root / "landmarks.txt").write_text("".join("\t".join([name, *map(str, POINTS)]) + "\n" for name in names))
        return root

    @cache
    def photos() -> Path:
        """So many that some are in the twentieth that is held out."""
        root = shutil.copytree(lfw(), top / "photos")
        names = [f"{number}.jpg" for number in range(80)]
        for number, path in enumerate([*(root / "images").rglob("*.jpg"), *(root / "images" / name for name in names)]):
            Image.new("RGB", (32, 32), (number, 2 * number, 0)).save(path, quality=100)  # of equal ones only one counts
        with (root / "landmarks.txt").open("a") as lines:
            lines.writelines("\t".join([name, *map(str, POINTS)]) + "\n" for name in names)
        return root

    @cache
    def pairs() -> Path:
        file = io.BytesIO()
        Image.new("RGB", (112, 112)).save(file, "png")
        (top / "cfp_fp.bin").write_bytes(pickle.dumps(([file.getvalue()] * 40, [True, False] * 10), protocol=2))
        return top / "cfp_fp.bin"

    makers = {"packed": packed, "mtfl": mtfl, "lfw": lfw, "photos": photos, "cfp_fp": pairs}
    return lambda name: makers.get(name, folders)()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A file of weights by its name: only that of a run tells identities apart."""
    top = tmp_path_factory.mktemp("weights")
    save_file({"backbone.net.x": torch.zeros(1), "classifier.weight": torch.zeros(4, 2)}, top / "weights.safetensors")
    save_file({"x": torch.zeros(1)}, top / "recognizer.safetensors")
    edgeface = timm.create_model("edgenext_x_small", num_classes=512)  # a student may start from its layers
    save_file(edgeface.state_dict(), top / "edgeface_xs.safetensors")

    @cache
    def graph(name: str) -> Path:
        files = pytest.importorskip("onnx_files", reason="facedistill[onnx] is not installed")
        found: Path = files.saved(top / name, files.recognizer(side=112))
        return found

    return lambda name: graph(name) if name.endswith(".onnx") else top / name


@pytest.fixture
def here(
    sets: Callable[[str], Path], weights: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Sequence[str]], list[str]]:
    """Words with the small sets in place of those that they name, in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def changed(words: Sequence[str]) -> list[str]:
        given = dict(word.split("=", 1) for word in words if "=" in word)
        of = {"data.root": given.get("data"), "recognition.root": given.get("data@recognition")}
        of["protocol.root"] = given.get("data@protocol")
        of |= {"pairs": "lfw"}
        found = []
        for word in words:
            key = word.split("=", 1)[0]
            if source := of.get(key):
                word = f"{key}={sets(source)}"
            found.append(re.sub(r"[\w/.]*?(\w+\.(?:safetensors|onnx))", lambda file: str(weights(file[1])), word))
        return found

    return changed


def cells_of(words: Sequence[str]) -> list[list[str]]:
    """The first and the last cell of a sweep."""
    grids = {}
    for word in words:
        if word.startswith("experiments="):
            content = yaml.safe_load((CONFIG_DIR / "experiments" / f"{word.partition('=')[2]}.yaml").read_text())
            grids |= content["hydra"]["sweeper"]["grids"]
    Plugins.instance()  # loads our module anew, so it is imported after that
    from hydra_plugins.facedistill_hydra.sweeper import GridsSweeper

    (cells,) = GridsSweeper(None, None, grids).split_arguments(OverridesParser.create().parse_overrides(words), None)
    return [[word for word in cell if not word.startswith("cells=")] for cell in (cells[0], cells[-1])]


def test_there_are_commands() -> None:
    assert len(typed("train")) >= 20
    assert len(typed("data")) >= 5
    assert all(typed(name) for name in ("compress", "evaluate", "report", "runs", "worker"))
    assert {command.words[-1] for command in ALL if command.name == "make"} >= {"reproduce", "test", "demo", "help"}


def test_every_command_exists() -> None:
    ours = {command.words[0] for command in ALL if command.name == "facedistill"}
    assert ours - {"--help", "--version"} == COMMANDS.keys()
    modules = {name for page in PAGES for name in re.findall(r"-m facedistill\.(\w+)", page.read_text())}
    assert modules <= COMMANDS.keys()


@pytest.mark.parametrize("command", typed("train"), ids=str)
def test_what_is_to_be_trained_can_be_planned(
    command: Command, here: Callable[[Sequence[str]], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    classifiers = {"weights.safetensors": 4}  # the files are of no real network
    monkeypatch.setattr(
        "facedistill.runs.plan._loaded", lambda path, *about: _Loaded(classifiers.get(path.name, 0), 512)
    )
    if CLUSTER in command.words:
        pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="facedistill[cluster] is not installed")
    words = here([word for word in command.words[1:] if word not in ("-m", "plan=true")])
    hydras = [word for word in words if word.startswith(("hydra.", "hydra/"))]
    words = [word for word in words if word not in hydras]
    cells = cells_of(list(map(quoted, words))) if "-m" in command.words else [words]
    for cell in cells:
        run = plan(cell)
        if any(
            suffix in word for word in cell for suffix in (".safetensors", ".onnx")
        ):  # whether that file can teach this
            check_tree(run)
    if hydras:
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            compose("config", overrides=[*map(quoted, cells[0]), *hydras], return_hydra_config=True)


def test_a_plan_of_the_readme_is_printed_by_the_console_script(tmp_path: Path) -> None:
    [command] = [one for one in typed("train") if one.page == "README.md" and one.words[1:3] == ["rate=8", "init=full"]
                 and "plan=true" in one.words]  # fmt: skip
    script = Path(sys.executable).with_name("facedistill")
    done = subprocess.run([script, *command.words], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("to be trained") == 3


@pytest.mark.parametrize("command", typed("worker"), ids=str)
def test_what_a_worker_is_to_train_can_be_planned(command: Command, here: Callable[[Sequence[str]], list[str]]) -> None:
    assert plan(here(command.words[1:])).parents


def is_rendered(command: Command) -> bool:
    return any(word in ("data=latent", "data=synthetic_spoof") for word in command.words)


@pytest.mark.parametrize(
    "command",
    [pytest.param(one, marks=pytest.mark.slow) if is_rendered(one) else one for one in typed("data")],
    ids=str,
)
def test_data_can_be_examined(command: Command, here: Callable[[Sequence[str]], list[str]], tmp_path: Path) -> None:
    words = [re.sub(r"^sheet=.*/", "sheet=", word) for word in command.words[1:]]
    if not any(word.startswith("data=") for word in words):  # rendering faces takes seconds
        words += ["data=identity_folders", "data.root=folders"]
    words = here(words)
    status = import_module(COMMANDS["data"]).main([*words, f"cache_dir={tmp_path}/cache"])
    # pairs alone are nothing to train on, and these photographs have no faces
    if "data.alignment=detect" in words:
        assert status == 2
        return
    assert status == (1 if {"data=cfp_fp", "data=photos"} & {*words} else 0)
    assert [*tmp_path.glob("*.png"), *tmp_path.glob("*.jpg")]


@pytest.mark.parametrize("command", [one for one in typed("compress") if one.words[1:]], ids=str)
def test_what_is_to_be_compressed_can_be_planned(
    command: Command,
    here: Callable[[Sequence[str]], list[str]],
    sets: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("facedistill.runs.plan._loaded", lambda *about: _Loaded(0, 512))
    if "teacher=runs/NAME" in command.words:
        about = {"model": compose_config([]).teacher.model, "rate": 1, "image": {"resize": 32, "crop": 28}}
        (tmp_path / "runs" / "NAME").mkdir(parents=True)
        file = tmp_path / "runs" / "NAME" / "weights.safetensors"
        save_file({"x": torch.zeros(1)}, file, {"facedistill": json.dumps(about)})
    words = [re.sub(r"^faces=.*", f"faces={sets('photos')}", word) for word in here(command.words[1:])]
    assert import_module(COMMANDS["compress"]).main([*words, "plan=true", f"cache_dir={tmp_path}/cache"]) == 0
    assert "to be trained" in capsys.readouterr().out


@pytest.mark.parametrize("command", [one for one in typed("evaluate") if one.words[1:]], ids=str)
def test_what_is_to_be_scored_lacks_only_the_run_or_the_weights(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    given = dict(word.split("=", 1) for word in command.words[1:])
    assert import_module(COMMANDS["evaluate"]).main(command.words[1:]) == 2
    lacking = f"{given['run']} holds no finished run" if "run" in given else f"{given['weights']} does not exist"
    assert lacking in capsys.readouterr().err
    of_a_run = [word for word in command.words[1:] if word.partition("=")[0] not in SCORING]
    pairs = [f"data={given['protocol']}", f"data.root={given['root']}"] if "protocol" in given else []
    faces = ["data=photos", f"data.root={given['faces']}"] if "faces" in given else []
    weights = [f"teacher.weights={given['weights']}"] if "weights" in given else []
    model = ["model=timm", "rate=1"] if "model.name" in given else []
    compose_config([*pairs, *faces, *weights, *model, *of_a_run], trains=False)


@pytest.mark.parametrize("command", [one for one in typed("export") if one.words[1:]], ids=str)
def test_what_is_to_be_exported_lacks_only_the_run_or_the_weights(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    given = dict(word.split("=", 1) for word in command.words[1:])
    assert import_module(COMMANDS["export"]).main(command.words[1:]) == 2
    lacking = [f"{given['run']} holds no finished run"] if "run" in given else ["does not exist", "no finished student"]
    said = capsys.readouterr().err
    assert any(text in said for text in lacking)


@pytest.mark.parametrize("command", [one for one in typed("predict") if one.words[1:]], ids=str)
def test_what_is_to_be_predicted_lacks_only_the_export(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word.rstrip("/") for word in command.words[1:]]
    for word in words:
        if "=" not in word:
            file = tmp_path / word.removeprefix("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32)).save(file if file.suffix else tmp_path / "photo.jpg")
            file.suffix or file.mkdir(exist_ok=True)
    words = [word if "=" in word else word.removeprefix("/") for word in words]
    assert import_module(COMMANDS["predict"]).main(words) == 2
    assert "does not exist: model= names the folder of an export" in capsys.readouterr().err


@pytest.mark.parametrize("command", typed("report"), ids=str)
def test_a_report_can_be_written(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word for word in command.words[1:] if not word.startswith("wandb=")]
    assert import_module(COMMANDS["report"]).main(words) == 0
    assert (tmp_path / "reports" / "index.html").is_file()


@pytest.mark.parametrize("command", typed("runs"), ids=str)
def test_runs_can_be_asked_for(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "classify-r8-full-soft-synthetic-s0-0123456789ab").mkdir(parents=True)
    assert import_module(COMMANDS["runs"]).main(command.words[1:]) == 0


@pytest.mark.parametrize("command", dict.fromkeys(one for one in map(str, ALL) if " make " in f" {one}"))
def test_make_knows_its_targets_and_variables(command: str) -> None:
    words = shlex.split(command.split(": ", 1)[1])
    makefile = (PROJECT / "Makefile").read_text()
    for variable in (word.partition("=")[0] for word in words if "=" in word):
        assert re.search(rf"^{variable} \?=", makefile, re.MULTILINE), variable
    done = subprocess.run(
        ["env", *words, "--dry-run"], cwd=PROJECT, capture_output=True, text=True, env={**os.environ, "MAKEFLAGS": ""}
    )
    assert done.returncode == 0, done.stderr


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_what_it_links_to_exists(page: Path) -> None:
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith(("http:", "https:"))]
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link
    named = re.findall(r"(?<![\w/])(?:src|tests|conf|experiments|benchmarks)/[\w./-]*\w", text)
    assert [path for path in named if "NAME" not in path and not (PROJECT / path).exists()] == []


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    text = (PROJECT / "README.md").read_text()
    assert len(text.splitlines()) <= 200
    assert all(f"(docs/{page.name})" in text for page in PAGES[1:])
