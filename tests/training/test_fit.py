"""Whole runs: made, cut, resumed, repeated, refused. As small as a run can be, but through the real doors."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import wandb
from PIL import Image

from facedistill.data.loading.datamodule import read_faces
from facedistill.data.sources.source import build_source
from facedistill.errors import DiskError, RunError, WeightsError
from facedistill.evaluate import evaluate_run
from facedistill.models.families.resnet import ResNetBackbone
from facedistill.models.network import Network, build_network
from facedistill.models.weights import read_weights, save_weights
from facedistill.runs.ensure import ensure
from facedistill.runs.plan import plan
from facedistill.runs.run import Run, read_history
from facedistill.runs.sample_scores import SampleScores
from facedistill.tasks.classify import ClassifyEvaluation
from facedistill.training import fit, publish, trainer
from facedistill.training.callbacks import progress
from facedistill.training.callbacks.checkpoint import BoundCheckpointIO
from made_records import all_records
from tiny import RUN
from trained_runs import curve


def words(runs_dir: Path, *more: str) -> list[str]:
    return [*RUN, f"runs_dir={runs_dir}", *more]


def make(runs_dir: Path, *more: str) -> Run:
    run = plan(words(runs_dir, *more))
    ensure(run, fit.train_run)
    return run


def tensors(run: Run) -> dict[str, torch.Tensor]:
    return read_weights(run.weights).tensors


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def command(*line: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", *line], capture_output=True, text=True, timeout=300, **more
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A distilled student with all of its ancestors."""
    return make(tmp_path_factory.mktemp("made"), "rate=8", "init=full", "target=soft")


def test_a_cell_brings_what_it_stands_on(made: Run) -> None:
    found = {record.name: record for record in all_records(made.directory.parent)}
    assert sorted(record.role for record in found.values()) == ["alone", "student", "teacher"]
    assert set(found[made.name].parents.values()) == found.keys() - {made.name}


def test_the_record_holds_what_a_table_asks(made: Run) -> None:
    record = made.record
    assert record.identity == made.identity
    assert record.data["train"] + record.data["test"] == record.data["images"] == 48
    assert record.data["skipped"] == 0
    assert len(record.history) == 1
    assert {"train/loss", "train/task", "train/soft", "test/top1", "lr"} <= record.history[0].keys()
    network = build_network(made.config.network, 8, 4)
    assert record.params == sum(p.numel() for p in network.backbone.parameters())
    assert record.weights_bytes == made.weights.stat().st_size
    assert record.versions["torch"] == torch.__version__.split("+")[0]
    assert 0 <= record.metrics["top1"] <= 100
    assert record.teacher_score == made.parents["teacher"].record.metrics["top1"]  # type: ignore[union-attr]
    assert not made.checkpoint.exists()
    assert {"curves.png", "samples.png", "metrics.csv"} <= {path.name for path in made.directory.iterdir()}


def test_the_record_names_the_processor(made: Run, tmp_path: Path) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text(
        "processor\t: 0\nmodel name\t: Some CPU 3000\nflags\t: a b\nprocessor\t: 1\nmodel name\t: another\n"
    )
    assert publish.processor(told) == f"Some CPU 3000, {os.cpu_count()} cores"
    told.write_text("nothing\n")
    for file in (told, tmp_path / "none"):
        assert publish.processor(file).partition(",")[0] in (platform.processor(), platform.machine())
    assert made.record.device["name"] == publish.processor() or torch.cuda.is_available()


def test_multiply_adds_are_those_of_the_convolutions(made: Run) -> None:
    backbone = ResNetBackbone("basic", [1, 1, 1, 1], 16, rate=8)
    macs = 0

    def count(layer: torch.nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal macs
        macs += layer.weight.numel() * out.shape[2] * out.shape[3]  # type: ignore[operator, union-attr]

    for layer in backbone.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(count)
    backbone.eval()(torch.zeros(1, 3, 20, 20))
    assert made.record.macs == macs


def test_asking_again_trains_nothing_and_changes_nothing(made: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.directory.rglob("*") if path.name != "lock"}

    def refuse(run: Run, title: str) -> None:
        raise AssertionError(f"{run.name} was made again")

    ensure(plan(made.words), refuse)
    assert before == {path: path.stat().st_mtime_ns for path in made.directory.rglob("*") if path.name != "lock"}


def test_the_same_cell_elsewhere_is_bit_equal_and_other_cells_differ(made: Run, tmp_path: Path) -> None:
    again = make(tmp_path, "rate=8", "init=full", "target=soft")
    assert again.identity == made.identity
    assert again.directory != made.directory
    assert same(tensors(again), tensors(made))
    assert curve(again.record) == curve(made.record)
    assert again.record.metrics == made.record.metrics
    others = [make(tmp_path, "rate=8", "init=full", f"target={target}") for target in ("none", "hidden", "logits")]
    others += [
        make(tmp_path, "rate=8", f"init={init}", "target=soft") for init in ("scratch", "scratch_whole", "fitnet")
    ]
    others += [make(tmp_path, "rate=8", "init=full", "target=soft", "target.tau=1")]
    losses = {tuple(tensors(run)["classifier.weight"].flatten().tolist()) for run in [*others, made]}
    assert len(losses) == len(others) + 1


@pytest.mark.slow
def test_the_numbers_do_not_depend_on_workers(made: Run, tmp_path: Path) -> None:
    again = make(tmp_path, "rate=8", "init=full", "target=soft", "trainer.num_workers=2")
    assert again.identity == made.identity
    assert same(tensors(again), tensors(made))


def test_the_numbers_do_not_depend_on_when_it_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network with dropout, which draws from torch's generator."""
    forward = ResNetBackbone.forward
    monkeypatch.setattr(
        ResNetBackbone, "forward", lambda self, images: F.dropout(forward(self, images), 0.3, self.training)
    )
    cell = ["rate=8", "schedule.epochs=2", "schedule.reading=one_rate"]
    runs = {every: make(tmp_path / str(every), *cell, f"trainer.score_every={every}") for every in (1, 2, 0)}
    histories = {every: run.record.history for every, run in runs.items()}
    scored = {every: [row["epoch"] for row in rows if "test/top1" in row] for every, rows in histories.items()}
    assert scored == {1: [0, 1], 2: [1], 0: []}
    assert {run.identity for run in runs.values()} == {runs[1].identity}
    for every, run in runs.items():
        assert same(tensors(run), tensors(runs[1]))
        assert run.record.metrics == runs[1].record.metrics
        assert [row["train/loss"] for row in histories[every]] == [row["train/loss"] for row in histories[1]]
        assert read_history(run.directory) == histories[every]


def test_a_banked_teacher_teaches_what_a_live_one_does(made: Run, tmp_path: Path) -> None:
    """The same pixels in the same order; its hidden layer is rounded to float16, or not at all."""
    banked = curve(made.record)
    exact, live = (
        make(tmp_path, "rate=8", "init=full", "target=soft", word)
        for word in ("target.bank=float32", "target.views=live")
    )
    assert len({made.identity, exact.identity, live.identity}) == 3
    for row, more_exact, expected in zip(banked, curve(exact.record), curve(live.record), strict=True):
        assert more_exact["train/soft"] == pytest.approx(expected["train/soft"], rel=1e-5)
        assert row["train/soft"] == pytest.approx(expected["train/soft"], rel=1e-3)
        assert row["train/task"] == pytest.approx(expected["train/task"], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("cell", [["target=none"], ["target=soft"], ["task=hint", "target=none"]], ids=str)
def test_a_compiled_run_learns_what_an_eager_one_does(tmp_path: Path, cell: list[str]) -> None:
    """In other sums: its identity is another one. Its weights are as plain."""
    eager, compiled = (make(tmp_path, "rate=8", *cell, f"trainer.compile={word}") for word in ("false", "true"))
    assert compiled.identity != eager.identity
    assert tensors(compiled).keys() == tensors(eager).keys()
    first, expected = curve(compiled.record)[0], curve(eager.record)[0]
    assert first["train/task"] == pytest.approx(expected["train/task"], rel=1e-3)
    again = make(tmp_path / "again", "rate=8", *cell, "trainer.compile=true")
    assert curve(again.record) == curve(compiled.record)


def test_without_a_compiler_nothing_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "nothing"))
    with pytest.raises(RunError, match=r"trainer\.compile=true needs a C\+\+ compiler.*install it, or set CXX"):
        make(tmp_path, "rate=8", "target=none", "trainer.compile=true")


def test_hints_for_people_who_write_training_loops_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """Where there is a Slurm, Lightning would say to prepend srun; here cells are submitted by the launcher."""
    (tmp_path / "srun").touch(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    trainer.build_trainer(plan(words(tmp_path / "runs", "target=none")), [], "")
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.slow
def test_whether_a_bank_was_there_changes_nothing(tmp_path: Path) -> None:
    """The map of the hidden target draws its weights after the teacher was asked."""
    cell = ["rate=8", "target=hidden", "seed=4", f"cache_dir={tmp_path}/cache"]
    first = make(tmp_path / "first", *cell)
    assert list((tmp_path / "cache").glob("bank-*"))
    second = make(tmp_path / "second", *cell)
    assert curve(first.record) == curve(second.record)
    assert same(tensors(first), tensors(second))


def test_a_run_keeps_what_its_score_is_the_mean_of(tmp_path: Path) -> None:
    for task, metric in (("classify", "top1"), ("align", "nrmse"), ("verify", "top1")):
        run = make(tmp_path, f"task={task}", "rate=8", "init=scratch", "target=none")
        kept = SampleScores.read(run.directory)
        assert kept is not None
        assert len(kept.score) == run.record.data["test"]
        faces = read_faces(run.config, run.config.data)
        assert kept.identity.tolist() == faces.labels[faces.is_test].tolist()
        assert kept.score.mean(dtype=float) == pytest.approx(run.record.metrics[metric], rel=1e-6)
        assert len(kept.same) == (0 if task == "align" else 20)
        assert run.record.latency_ms > 0


def test_what_served_the_target_alone_is_not_published(tmp_path: Path) -> None:
    run = make(tmp_path, "task=align", "rate=8", "init=scratch", "target=soft")
    parts = {name.split(".")[0] for name in tensors(run)}
    assert parts == {"backbone", "regressor"}
    assert "train/soft" in run.record.history[0]


def test_evaluate_gives_the_recorded_numbers(made: Run) -> None:
    assert evaluate_run(made.directory, []) == pytest.approx(made.record.metrics)
    done = command("facedistill.evaluate", f"run={made.directory}")
    assert done.returncode == 0, done.stderr
    shown = f"{made.record.metrics['top1']:.3f}"
    assert done.stdout.count(shown) >= 2


ADAMW = ["schedule.optimizer=adamw", "schedule.shape=cosine", "schedule.warmup=0.1", "schedule.epochs=16"]
ADAMW += ["learning_rates.classification.random=[0.001]"]


@pytest.mark.parametrize(
    "schedule", [["schedule.epochs=8"], pytest.param(ADAMW, marks=pytest.mark.slow)], ids=["steps", "cosine"]
)
def test_killed_at_any_epoch_and_asked_again_gives_the_same_bits(tmp_path: Path, schedule: list[str]) -> None:
    cell = ["rate=8", "target=soft", "seed=3", *schedule]
    whole = make(tmp_path / "whole", *cell)
    cut = plan(words(tmp_path / "cut", *cell))
    shutil.copytree(tmp_path / "whole", tmp_path / "cut", ignore=shutil.ignore_patterns(whole.name))
    with subprocess.Popen([sys.executable, "-m", "facedistill.train", *cut.words]) as process:
        deadline = time.monotonic() + 120
        while not cut.checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
    assert cut.checkpoint.exists()
    assert not cut.is_complete
    epoch = BoundCheckpointIO(cut.identity).load_checkpoint(cut.checkpoint)["epoch"]
    assert epoch + 1 < len(cut.config.epoch_rates)
    ensure(cut, fit.train_run)
    assert same(tensors(cut), tensors(whole))
    assert curve(cut.record) == curve(whole.record)
    assert cut.record.metrics == whole.record.metrics
    assert cut.record.target_weights == whole.record.target_weights != {"soft": 1.0}
    assert (cut.directory / "metrics.csv").read_text().count("\n") == 17
    if schedule is ADAMW:  # of 80 steps 8 rise
        first = 5.0 * np.arange(16)
        expected = np.where(first < 8, (first + 1) / 8, (1 + np.cos(np.pi * (first - 8) / 72)) / 2) / 1000
        np.testing.assert_allclose([row["lr"] for row in curve(whole.record)], expected, rtol=1e-9)


def test_a_checkpoint_has_no_teacher_and_a_failure_while_publishing_loses_nothing(
    tmp_path: Path, made: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(publish, "save_weights", _no_room_for_a_student)
        with pytest.raises(DiskError, match="No space left"):
            make(tmp_path, "rate=8", "init=scratch", "target=hidden")
    run = plan(words(tmp_path, "rate=8", "init=scratch", "target=hidden"))
    assert not run.is_complete
    state = BoundCheckpointIO(run.identity).load_checkpoint(run.checkpoint)["state_dict"]
    student = build_network(run.config.network, 8, 4).state_dict().keys()
    assert {name.removeprefix("network.") for name in state if name.startswith("network.")} == student
    others = {name for name in state if not name.startswith("network.")}
    assert others == {"targets.hidden.map.weight", "targets.hidden.map.bias", "targets.hidden.parity"}
    ensure(run, fit.train_run)
    assert tensors(run).keys() == student
    assert same(tensors(run), tensors(make(tmp_path / "other", "rate=8", "init=scratch", "target=hidden")))


def _no_room_for_a_student(path: Path, network: Network, about: dict[str, object], *more: Any) -> None:
    if about["rate"] != 1:
        raise OSError(28, "No space left on device")
    save_weights(path, network, about, *more)


@pytest.mark.slow  # tests/system/test_files.py has a quick one
def test_a_file_that_can_not_grow_leaves_no_half_record(tmp_path: Path) -> None:
    limited = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000));"
        "sys.argv = ['facedistill.train', *sys.argv[1:]]; runpy.run_module('facedistill.train', run_name='__main__')"
    )
    list(
        build_source(plan(words(tmp_path)).config.data)
        .faces(24, Path(os.environ["XDG_CACHE_HOME"]) / "facedistill")
        .identities
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, *words(tmp_path, "task=teacher")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert all_records(tmp_path) == []
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".part"]
    assert make(tmp_path, "task=teacher").is_complete


def test_a_runs_dir_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match=r"file/runs.*Not a directory"):
        make(tmp_path / "file" / "runs", "task=teacher")


def test_a_run_is_the_same_without_anything_that_decorates_it(
    made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("broken\nterminal \x1b[31m")

    decorations = [
        (publish, "curves"),
        (ClassifyEvaluation, "pictures"),
        (publish, "roc_curve"),
        (progress, "Bar"),
    ]
    for place, name in [*decorations, (wandb, "init")]:
        monkeypatch.setattr(place, name, broken)
    whole = made.parents["teacher"]
    assert isinstance(whole, Run)
    run = plan([*whole.words, f"runs_dir={tmp_path}", "logger.wandb=true", "trainer.progress=true"])
    ensure(run, fit.train_run)
    assert run.identity == whole.identity
    assert same(tensors(run), tensors(whole))
    assert curve(run.record) == curve(whole.record)
    assert run.record.metrics == whole.record.metrics
    assert whole.record.without == []
    assert [note.split(":")[0] for note in run.record.without] == [
        "the picture of its curves",
        "pictures of test faces",
        "the picture of its ROC",
    ]
    assert not list(run.directory.glob("*.png"))
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("facedistill: without")]
    assert len(said) == len(decorations) + 1
    assert all(line.endswith("ValueError: broken terminal \\x1b[31m") for line in said)


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_batch(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"not finite at epoch 0, batch \d+ \(samples \d+"):
        make(tmp_path, "task=teacher", "task.learning_rates.random=[1e20]")
    run = plan(words(tmp_path, "task=teacher", "task.learning_rates.random=[1e20]"))
    assert not run.is_complete
    assert not run.weights.exists()
    assert not run.checkpoint.exists()


def test_fitnet_starts_from_shallow_layers_only(tmp_path: Path) -> None:
    run = make(tmp_path, "rate=8", "init=fitnet", "target=soft")
    hint = tensors(run.parents["init"])  # type: ignore[arg-type]
    torch.manual_seed(0)
    random = build_network(run.config.network, 8, 4).state_dict()
    moved = {name for name in hint if not torch.equal(hint[name], random[name])}
    stages = {name.split(".")[2] for name in moved if name.startswith("backbone.net.")}
    assert stages == {"conv1", "bn1", "layer1", "layer2"}
    assert not [name for name in moved if name.startswith("classifier.")]
    errors = [row["test/hint_error"] for row in run.parents["init"].record.history]  # type: ignore[union-attr]
    assert run.parents["init"].record.metrics["hint_error"] == errors[-1]  # type: ignore[union-attr]


def test_a_published_teacher_teaches_elsewhere_just_the_same(made: Run, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.safetensors"
    shutil.copy(made.parents["teacher"].weights, teacher)
    here = make(tmp_path / "here", "rate=8", "target=soft", f"teacher.weights={teacher}")
    there = make(tmp_path / "there", "rate=8", "target=soft")
    assert same(tensors(here), tensors(there))
    assert len(all_records(tmp_path / "here")) == 1


def test_a_teacher_that_is_worse_than_its_file_says_is_refused(made: Run, tmp_path: Path) -> None:
    weights, about, *_ = read_weights(made.parents["teacher"].weights)
    network = build_network(made.config.teacher.model, 1, 4)
    network.load_state_dict(weights)
    with torch.no_grad():
        network.classifier.weight.neg_()  # type: ignore[union-attr]
    save_weights(tmp_path / "worse.safetensors", network, {**about, "probe": {**about["probe"], "value": 100.0}})
    with pytest.raises(WeightsError, match=r"worse\.safetensors has top1 .* it was published with 100\.00"):
        make(tmp_path, "rate=8", "target=soft", f"teacher.weights={tmp_path / 'worse.safetensors'}")


@pytest.mark.parametrize("beside", [{}, {"head.weight": torch.ones(99, 64)}])
def test_pretraining_starts_from_a_recognizer_of_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], beside: dict[str, torch.Tensor]
) -> None:
    theirs = timm.create_model("test_resnet", num_classes=64).state_dict()
    state = {f"module.{name}": tensor for name, tensor in (theirs | beside).items()}
    torch.save({"epoch": 3, "state_dict_backbone": state}, tmp_path / "theirs.pt")
    model = ["model@teacher.model=timm", "teacher.model.name=test_resnet", "teacher.model.features=64"]
    given = [word for word in words(tmp_path, "task=teacher") if not word.startswith("teacher.model")]
    run = plan([*given, *model, f"teacher.backbone={tmp_path / 'theirs.pt'}"])
    network = build_network(run.config.network, 1, 4)
    before = network.classifier.weight.clone()
    fit.initialize(network, run, {})
    own = network.backbone.net.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in theirs.items())
    assert torch.equal(network.classifier.weight, before)
    said = capsys.readouterr().err
    assert "the prefix module. was taken off" in said
    assert ("left out module.head.weight [99, 64]" in said) == bool(beside)


def test_pretraining_starts_from_a_recognizer_without_its_classifier(
    made: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = Network(ResNetBackbone("basic", [1, 1, 1, 1], 16), num_identities=99)
    save_weights(tmp_path / "recognizer.safetensors", network, {})
    run = plan(words(tmp_path, "task=teacher", f"teacher.backbone={tmp_path / 'recognizer.safetensors'}"))
    started = build_network(run.config.network, 1, 4)
    fit.initialize(started, run, {})
    assert same(dict(started.backbone.state_dict()), dict(network.backbone.state_dict()))
    assert capsys.readouterr().err == f"{tmp_path / 'recognizer.safetensors'}: its classifier was left out\n"
    ensure(run, fit.train_run)
    assert run.record.history[0]["lr"] == run.config.task.learning_rates.initialized[0]


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """The embedded faces as JPEG files in folders, with two that can't be read."""
    faces = build_source(plan(words(tmp_path)).config.data).faces(48, tmp_path / "cache")
    for index, (image, label) in enumerate(zip(faces.images, faces.labels, strict=True)):
        folder = tmp_path / "my faces" / faces.identities[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(image)).save(folder / f"{index:03d}.jpg", quality=95)
    (folder / "empty.jpg").touch()
    (folder / "text.png").write_text("no image")
    return tmp_path / "my faces"


def test_peoples_own_folders_train_and_count_what_was_skipped(folders: Path, tmp_path: Path) -> None:
    own = ["data=identity_folders", f"data.root='{folders}'", "data.on_error=skip"]
    mine = [word for word in words(tmp_path / "runs") if not word.startswith("data.")]
    run = plan([*mine, *own, "rate=4", "init=full", "target=soft"])
    ensure(run, fit.train_run)
    assert run.record.data["skipped"] == 2
    assert run.record.data["identities"] == 4
    assert "pairs" not in run.record.metrics


def test_the_command_line_says_what_is_wrong_in_a_line(tmp_path: Path) -> None:
    done = command("facedistill.train", *words(tmp_path, "init=distill"))
    assert done.returncode == 2
    assert "init=full" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    done = command("facedistill.train", "target=sof")
    assert done.returncode != 0
    assert "logits" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_lists_the_choices() -> None:
    done = command("facedistill.train", "--help")
    assert done.returncode == 0
    shown = (
        "task: align, classify",
        "init: distill",
        "target: cosine, dist, dkd, grouped, hidden",
        "scale: embedded, imitation, paper, photos",
        "experiments: core, demo",
    )
    for choice in shown:
        assert choice in done.stdout, choice


@pytest.mark.slow  # tests/sweep/test_faults.py has a quick one
def test_a_sweep_goes_on_after_a_failed_cell_and_says_so(tmp_path: Path) -> None:
    line = words(tmp_path, "rate=8", "target=none", "task.learning_rates.random=[1e20],[0.1]")
    done = command("facedistill.train", "-m", *line)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "not finite" in done.stdout
    assert "cell 2/2 classify-r8-scratch-none" in done.stdout
    assert len(all_records(tmp_path)) == 1


@pytest.mark.slow  # tests/config/test_words.py has quick ones
def test_a_sweep_with_a_word_that_does_not_exist_makes_nothing(tmp_path: Path) -> None:
    line = words(tmp_path / "runs", "rate=8", "target=none", "init=scratch,bogus")
    done = command("facedistill.train", "-m", *line)
    assert done.returncode != 0
    assert "scratch_whole" in done.stderr, "the choices"
    assert not list((tmp_path / "runs").glob("*/*"))


def test_a_plan_is_printed_and_makes_nothing(tmp_path: Path) -> None:
    done = command("facedistill.train", *words(tmp_path / "runs", "rate=2", "init=fitnet", "target=soft", "plan=true"))
    assert done.returncode == 0
    assert [line.split("-")[0].split()[-1] for line in done.stdout.splitlines()] == [
        "classify",
        "teacher",
        "hint",
        "teacher",
    ]
    assert done.stdout.count("to be trained") == 4
    assert not list((tmp_path / "runs").glob("*"))


@pytest.mark.slow
def test_the_wheel_runs_from_any_folder(tmp_path: Path) -> None:
    project = Path(__file__).parents[2]
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(project)]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next(tmp_path.glob("*.whl"))
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)],
        check=True,
        capture_output=True,
    )
    (tmp_path / "elsewhere").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = command(
        "facedistill.train",
        *["-m", "experiments=table1", "plan=true"],
        cwd=tmp_path / "elsewhere",
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "cell 5/5" in done.stdout
    where = subprocess.run(
        [sys.executable, "-c", "import facedistill.config.compose as c; print(c.CONFIG_DIR)"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path / "elsewhere",
        check=True,
    )
    assert str(tmp_path / "site") in where.stdout


@pytest.mark.slow  # tests/runs/test_ensure.py has a quick one
def test_two_processes_make_a_shared_ancestor_once(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "facedistill.train", *words(tmp_path, "rate=8", "schedule.epochs=3")]
    both = [
        subprocess.Popen([*line, f"target={target}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for target in ("soft", "hidden")
    ]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    records = all_records(tmp_path)
    assert sorted(record.role for record in records) == ["student", "student", "teacher"]
    assert json.dumps(records[0].parents) == json.dumps(records[1].parents)
