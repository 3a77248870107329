"""``facedistill runs``: what it says of runs in every state, what it removes, which faults it finds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors.torch import save_file

from facedistill.data.faces import FaceSet
from facedistill.data.files.formats.base64_tsv import Base64Tsv
from facedistill.data.files.store import Item, image_of, open_or_make
from facedistill.data.sources.packed import write_pack
from facedistill.errors import RunError
from facedistill.models.weights import read_weights
from facedistill.runs.__main__ import main
from facedistill.runs.ensure import ensure
from facedistill.runs.folders import EMPTY, dependents, find_runs, remove
from facedistill.runs.plan import plan
from facedistill.runs.run import Run
from facedistill.runs.sample_scores import SAMPLE_SCORES, SampleScores
from facedistill.system.files import write_aside
from facedistill.training import fit
from kinds import Planner
from made_records import complete
from tiny import RUN


def printed(capsys: pytest.CaptureFixture[str], runs: Path, *words: str) -> tuple[int, str]:
    status = main([*words, f"runs_dir={runs}"])
    streams = capsys.readouterr()
    return status, streams.out + streams.err


def finish(run: Run) -> None:
    """A record without a training, of the run and of what it stands on."""
    for parent in run.parents.values():
        if isinstance(parent, Run):
            finish(parent)
    complete(run, metrics={run.config.task.metric: 12.5})


@pytest.fixture
def cells(planned: Planner) -> list[Run]:
    """One on a teacher and on W_S0, one on the teacher, one on nothing; all complete."""
    runs = [planned("rate=8", "init=full", "target=soft"), planned("rate=4", "target=soft"), planned("rate=2")]
    for run in runs:
        finish(run)
    return runs


def test_the_table_has_every_run_and_its_state(
    cells: list[Run], planned: Planner, capsys: pytest.CaptureFixture[str]
) -> None:
    cut, made = planned("rate=8", "seed=1"), planned("rate=8", "seed=2")
    for run in (cut, made):
        run.directory.mkdir(parents=True)
        run.claim()
        (run.directory / "metrics.csv").write_text("epoch,test/top1,seconds\n0,40.0,1\n1,41.5,1\n")
    os.utime(cut.directory / "metrics.csv", (0, time.time() - 7200))
    os.utime(cut.directory / "owner.json", (0, time.time() - 7200))
    (cells[0].directory.parent / "multirun.yaml").touch()
    (cells[0].directory.parent / "other").mkdir()
    with FileLock(made.lock):
        status, said = printed(capsys, cells[0].directory.parent)
    lines = {line.split()[0]: line for line in said.splitlines()}
    assert status == 0
    assert len([name for name in lines if "-s" in name]) == 7
    assert "complete" in lines[cells[2].name]
    assert "top1 12.50" in lines[cells[2].name]
    assert f":{os.getpid()}" in lines[made.name]
    assert "running" in lines[made.name]
    assert "top1 41.50" in lines[cut.name]
    assert lines[cut.name].split()[1:3] == ["interrupted", "2"]
    assert lines[cut.name].rstrip().endswith("2 h")
    assert said.splitlines()[-1] == "5 complete, 1 running, 1 interrupted"


def test_stale_runs_come_with_the_command_that_finishes_them(
    cells: list[Run], planned: Planner, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = cells[0].directory.parent
    assert printed(capsys, runs, "stale") == (0, "no run was left unfinished\n")
    cut = planned("rate=8", "seed=1", "runs_dir=runs", "data.seed=3")
    cut.directory.mkdir(parents=True)
    cut.claim()
    (cut.directory / "last.ckpt").write_bytes(b"0" * 2**20)
    status, said = printed(capsys, runs, "stale")
    assert status == 0
    assert f"{cut.name}: 0 epochs, 1.0 MB, 0 s old\n" in said
    command = next(line for line in said.splitlines() if "facedistill train" in line)
    assert plan(command.split()[2:]).name == cut.name


def test_removing_what_others_stand_on_is_refused(cells: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    runs_dir = cells[0].directory.parent
    teacher = cells[0].parents["teacher"].name
    runs = find_runs(runs_dir)
    assert dependents(runs, [teacher]) == {cells[0].name, cells[1].name}
    status, said = printed(capsys, runs_dir, "remove", teacher)
    assert status == 2
    assert cells[1].name in said
    assert "dependents=true" in said
    assert len(find_runs(runs_dir)) == 5
    status, said = printed(capsys, runs_dir, "remove", teacher, "dependents=true")
    assert status == 0
    assert {run.name for run in find_runs(runs_dir)} == {cells[2].name, cells[0].parents["init"].name}
    assert printed(capsys, runs_dir, "remove", "classify-r*")[0] == 0
    assert find_runs(runs_dir) == []


def test_what_is_being_made_is_not_removed(cells: list[Run]) -> None:
    cells[2].directory.joinpath("record.json").unlink()
    hold = f"lock = FileLock({str(cells[2].lock)!r}); lock.acquire()"
    code = f"from filelock import FileLock; import time; {hold}; print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(RunError, match="is running"):
            remove(find_runs(cells[2].directory.parent), [cells[2].name], with_dependents=False)
        process.kill()
    assert remove(find_runs(cells[2].directory.parent), [cells[2].name], with_dependents=False) == [cells[2].name]


def test_what_a_run_that_is_being_made_stands_on_is_not_removed(cells: list[Run], planned: Planner) -> None:
    run = planned("rate=8", "target=soft", "seed=1", "teacher.seed=0")
    run.directory.mkdir()
    run.claim()
    teacher = run.parents["teacher"].name
    runs_dir = run.directory.parent
    with FileLock(run.lock), pytest.raises(RunError, match=f"{run.name} is running"):
        remove(find_runs(runs_dir), [teacher], with_dependents=True)
    assert len(find_runs(runs_dir)) == 6
    assert run.name not in dependents(find_runs(runs_dir), [teacher])  # cut: it makes its teacher again


def test_a_cut_removal_leaves_nothing_that_looks_complete(cells: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    runs_dir, teacher = cells[0].directory.parent, cells[0].parents["teacher"]

    def cut(directory: Path) -> None:
        (directory / "lock").unlink()
        (directory / "curves.png").touch()
        raise PermissionError(directory)

    whole = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", cut)
    with pytest.raises(PermissionError):
        remove(find_runs(runs_dir), [teacher.name], with_dependents=True)
    states = {run.name: run.state for run in find_runs(runs_dir)}
    (gone,) = {name for name, state in states.items() if state == EMPTY}
    assert gone in (cells[0].name, cells[1].name)
    assert list(states.values()).count("complete") == 4
    monkeypatch.setattr(shutil, "rmtree", whole)
    assert set(remove(find_runs(runs_dir), [teacher.name], with_dependents=True)) == (
        {cells[0].name, cells[1].name, teacher.name} - {gone}
    )


def test_a_linked_run_is_read_and_not_removed(
    cells: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = cells[2]
    run.directory.rename(tmp_path / "other disk")
    run.directory.symlink_to(tmp_path / "other disk")
    assert printed(capsys, run.directory.parent)[1].splitlines()[-1] == "5 complete"
    status, said = printed(capsys, run.directory.parent, "remove", run.name)
    assert status == 2
    assert f"is a link to {tmp_path}/other disk" in said
    assert run.is_complete


BROKEN = {
    "metrics.csv": [
        b"epoch,test/top1\n\xff,3\n",
        b"epoch,test/top1\n0,1,2\n",
        b"epoch,test/top1\n0,x\n",
        b"a,test/[/x]\n0,1\n",
    ],
    "owner.json": [b'{"words": 3}', b'{"words": [3]}', b"\xff", b"[" * 100_000, b'{"host": [], "process": {}}'],
    "record.json": [
        *(b'{"parents": [1]}', b'{"parents": {"a": [1]}}', b'{"a": ', b"[" * 100_000, b"{}"),
        *(b'{"name": 1, "identity": [], "recipe": NaN, "metrics": 1}', b'{"config": {"task": {"metric": []}}}'),
    ],
}


@pytest.mark.parametrize(("name", "content"), [(name, content) for name in BROKEN for content in BROKEN[name]])
def test_a_broken_file_stops_no_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes
) -> None:
    run = tmp_path / "runs" / "classify-r8-0123456789ab"
    run.mkdir(parents=True)
    (run / name).write_bytes(content)
    for holds in (False, True):
        lock = FileLock(run / "lock")
        if holds:
            lock.acquire()
        assert printed(capsys, run.parent)[0] == printed(capsys, run.parent, "stale")[0] == 0
        lock.release(force=True)
    assert printed(capsys, run.parent, "verify")[0] == (1 if name == "record.json" else 0)
    assert printed(capsys, run.parent, "remove", "*") == (0, f"removed {run.name}\n")


def test_looking_at_a_run_that_writes(planned: Planner) -> None:
    run = planned()
    run.directory.mkdir(parents=True)
    ends = threading.Event()

    def write() -> None:
        while not ends.is_set():
            with write_aside(run.directory / "metrics.csv") as part:
                part.write_text("epoch,test/top1\n0,40.0\n")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(300):
            assert find_runs(run.directory.parent)[0].name == run.name
    finally:
        ends.set()
        writer.join()


def test_looking_changes_nothing(cells: list[Run], planned: Planner, capsys: pytest.CaptureFixture[str]) -> None:
    runs_dir = cells[0].directory.parent
    planned("seed=1").directory.mkdir()
    before = {path: path.stat().st_mtime_ns for path in runs_dir.rglob("*")}
    for words in ([], ["stale"], ["verify"]):
        printed(capsys, runs_dir, *words)
    assert {path: path.stat().st_mtime_ns for path in runs_dir.rglob("*")} == before
    assert printed(capsys, runs_dir)[1].splitlines()[-1] == "5 complete, 1 empty"


def test_a_name_is_sound_however_narrow_the_terminal(
    cells: list[Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = cells[2].directory.rename(cells[2].directory.with_name("x" * 240))
    for terminal in ("", "1"):
        monkeypatch.setenv("FORCE_COLOR", terminal)
        monkeypatch.setenv("COLUMNS", "40")
        said = printed(capsys, run.parent)[1]
        assert run.name in said
        assert cells[0].name in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["list"], "choices are stale, remove NAME"),
        (["remove"], "name the runs to remove"),
        (["remove", "classify-r2-scratch-none-synthetic-s1"], "classify-r2-scratch-none-synthetic-s0-"),
        (["verify", "nobody"], "there is no run nobody. Near: none; `facedistill runs` lists all"),
        (["stale", "sort=age"], "sort=age: words are"),
        (["remove", "*", "dependents=yes"], "the choice is dependents=true"),
        (["stale", "all"], "stale all: choices are"),
    ],
)
def test_what_is_not_understood_says_what_is(
    cells: list[Run], capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    status, said = printed(capsys, cells[0].directory.parent, *words)
    assert status == 2
    assert expected in said
    assert printed(capsys, cells[0].directory / "nowhere")[0] == 2


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A student and its teacher, trained."""
    run = plan([*RUN, f"runs_dir={tmp_path_factory.mktemp('made')}", "rate=8", "target=soft"])
    ensure(run, fit.train_run)
    return run


def test_trained_runs_are_sound(made: Run, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = printed(capsys, made.directory.parent, "verify")
    assert (status, said.splitlines()[0]) == (0, "2 of 2 complete runs are sound")


def in_record(**changed: Any) -> Callable[[Run], None]:
    def change(run: Run) -> None:
        path = run.directory / "record.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))

    return change


def other_weights(run: Run) -> None:
    tensors, about, *_ = read_weights(run.weights)
    network = next(iter(tensors))
    tensors[network] = tensors[network] + 1
    save_file(tensors, run.weights, metadata={key: json.dumps(value) for key, value in about.items()})


def relabelled(run: Run, identity: str) -> None:
    tensors, about, *_ = read_weights(run.weights)
    save_file(tensors, run.weights, metadata={"facedistill": json.dumps({**about, "run": identity})})


FAULTS: dict[str, tuple[Callable[[Run], Any], str]] = {
    "another recipe": (
        lambda run: in_record(recipe={**run.record.recipe, "seed": 1})(run),
        "not the hash of its recipe",
    ),
    "another configuration": (
        lambda run: in_record(config={**asdict(run.record.config), "rate": 4})(run),
        "its configuration is not that of its recipe",
    ),
    "a configuration without sense": (
        lambda run: in_record(
            config={**asdict(run.record.config), "target": {**asdict(run.config.target), "terms": {"soft": {}}}}
        )(run),
        "its configuration is not that of its recipe",
    ),
    "weights of 8 bits": (
        lambda run: save_file({"a": torch.zeros(4).to(torch.float8_e4m3fn)}, run.weights),
        "holds a number that is not finite",
    ),
    "metadata without end": (
        lambda run: save_file({"a": torch.zeros(1)}, run.weights, metadata={"facedistill": "[" * 100_000}),
        "is not a whole safetensors file",
    ),
    "half a record": (
        lambda run: (run.directory / "record.json").write_text('{"metrics": {}}'),
        "is not a record as this version writes it",
    ),
    "cut weights": (lambda run: os.truncate(run.weights, 1000), "weights.safetensors"),
    "no weights": (lambda run: run.weights.unlink(), "weights.safetensors"),
    "other weights": (other_weights, "its SHA-256 differs"),
    "weights of another run": (lambda run: relabelled(run, "0" * 12), "does not say that it is of this run"),
    "parameters": (in_record(params_with_classifier=7), "parameters, not 7"),
    "bytes": (in_record(weights_bytes=7), "bytes, not 7"),
    "a number as text": (in_record(macs="7"), "macs: Input should be a valid integer"),
    "not a number": (
        lambda run: in_record(recipe={**run.record.recipe, "seed": float("nan")})(run),
        "NaN is not a",
    ),
    "cut record": (
        lambda run: os.truncate(run.directory / "record.json", 100),
        "is not a record as this version writes it",
    ),
    "other roles": (in_record(parents={}), "not those of its recipe"),
    "another ancestor": (
        lambda run: in_record(recipe={**run.record.recipe, "parents": {"teacher": "0" * 12}})(run),
        "is not the one that it was trained with",
    ),
    "a changed file in an ancestor's place": (
        lambda run: in_record(parents={"teacher": str(run.weights)})(run),
        "is not the one that it was trained with",
    ),
    "no sample scores": (lambda run: (run.directory / SAMPLE_SCORES).unlink(), "sample_scores.npz is missing"),
    "sample scores of another run": (
        lambda run: SampleScores(
            np.full(9, 3, np.float32), np.zeros(0, np.float32), np.zeros(0, bool), np.arange(9)
        ).save(run.directory),
        "sample_scores.npz has a mean of 3, not ",
    ),
    "renamed": (lambda run: run.directory.rename(run.directory.with_name("mine-0")), "the folder was renamed"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_found(made: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str) -> None:
    shutil.copytree(made.directory.parent, tmp_path / "runs")
    run = plan([*made.words, f"runs_dir={tmp_path}/runs"])
    change, expected = FAULTS[fault]
    change(run)
    status, said = printed(capsys, tmp_path / "runs", "verify")
    assert status == 1
    assert expected in said
    assert "1 of 2 complete runs are sound" in said


def test_a_named_run_that_is_not_complete_is_not_sound(planned: Planner, capsys: pytest.CaptureFixture[str]) -> None:
    run = planned()
    run.directory.mkdir(parents=True)
    assert printed(capsys, run.directory.parent, "verify")[0] == 0
    status, said = printed(capsys, run.directory.parent, "verify", run.name)
    assert status == 1
    assert f"{run.name}: not complete: empty" in said


def test_an_ancestor_that_is_gone_is_a_remark(made: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(made.directory, tmp_path / "runs" / made.name)
    status, said = printed(capsys, tmp_path / "runs", "verify")
    assert status == 0
    assert "which it stands on, is not here" in said
    in_record(parents={"teacher": "x" * 5000})(plan([*made.words, f"runs_dir={tmp_path}/runs"]))
    assert printed(capsys, tmp_path / "runs", "verify")[0] == 0


def test_a_cache_is_compared_with_its_checksums(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A store, a view of a bank, a pack, an index of lines: each is counted, and each is named that is damaged."""
    cache, images = tmp_path / "cache", np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3), np.uint8)
    words = ("verify", f"cache_dir={cache}")
    (tmp_path / "runs").mkdir()
    sound = "0 of 0 complete runs are sound\n"
    assert printed(capsys, tmp_path / "runs", *words) == (0, sound)
    store = open_or_make(cache / "faces-1", 4, image_of(6), lambda start: [(4, images, {})], "filling").items
    views = Item((5,), "<f2", "embedding", "embeddings")
    open_or_make(cache / "bank-1" / "view-0000", 4, views, lambda start: [(4, np.ones((4, 5), "<f2"), {})], "filling")
    labels = np.array([0, 0, 1, 1])
    write_pack(FaceSet(store, labels, labels == 1, ["a", "b"]), {"source": "drawn"}, cache / "faces-pack")
    (tmp_path / "faces.tsv").write_text("m.0a\t1\t\t\tFaceId-0\t\tAAAA\n")
    Base64Tsv(tmp_path / "faces.tsv", cache)
    said = f"4 of 4 stores, packs and indexes in {cache} are what was written"
    assert printed(capsys, tmp_path / "runs", *words) == (0, f"{sound}{said}\n")
    [index] = set(cache.glob("faces-*.npy")) - {cache / "faces-1.npy"}
    for path in (index, cache / "bank-1" / "view-0000.npy", cache / "faces-1.npy"):  # the pixels of the pack, too
        content = path.read_bytes()
        with path.open("r+b") as file:
            file.seek(-3, 2)
            file.write(bytes([content[-3] ^ 1]))
    status, said = printed(capsys, tmp_path / "runs", *words)
    assert status == 1
    for line in (f"{index} is", "view-0000.npy: item 3 ", "faces-1.npy: item 3 ", "images.npy: image 3 ", "0 of 4"):
        assert line in said


def test_the_command(cells: list[Run]) -> None:
    runs = cells[0].directory.parent
    done = subprocess.run(
        [sys.executable, "-m", "facedistill.runs", f"runs_dir={runs}"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert cells[0].name in done.stdout


def test_what_a_stranger_wrote_does_not_reach_the_terminal_raw(
    planned: Planner, capsys: pytest.CaptureFixture[str]
) -> None:
    run = planned("rate=8")
    run.claim()
    owner = json.loads((run.directory / "owner.json").read_text())
    words = ["data.root=\x1b]0;title\x07[red]", "seed=1\nrm -rf", "\udce9"]
    (run.directory / "owner.json").write_text(json.dumps({**owner, "words": words}))
    stranger = run.directory.with_name("a\x1b[31m\u202e\nb-0123456789ab")
    stranger.mkdir()
    (stranger / "record.json").write_text("{}")
    for command in ([], ["stale"], ["verify"]):
        _, shown = printed(capsys, run.directory.parent, *command)
        assert not {"\x1b", "\u202e"} & set(shown)
        assert "a\\x1b[31m\\u202e\\nb-0123456789ab" in shown
    _, shown = printed(capsys, run.directory.parent, "stale")
    assert "facedistill train $'data.root=\\x1b]0;title\\x07[red]' $'seed=1\\nrm -rf' $'\\xe9'" in shown
