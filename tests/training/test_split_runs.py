"""Runs of two processes that split classes: the run of one process, resumed by either."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from facedistill.models.network import build_network
from facedistill.models.weights import read_weights, save_weights
from facedistill.runs.record import Record
from facedistill.training.callbacks.checkpoint import BoundCheckpointIO
from made_records import all_records
from tiny import RUN

pytestmark = pytest.mark.slow

TINY = [
    *(*RUN, "data.num_identities=5", "task.batch_size=9", "trainer.accelerator=cpu", "rate=8", "init=scratch"),
    *("schedule.epochs=3", "schedule.reading=one_rate", "task.learning_rates.random=[0.02]"),
]
SPLIT = ["trainer=ddp", "trainer.split_classes=true"]
LIMIT = 150


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    paths = [f"runs_dir={folder}/runs", f"cache_dir={folder}/cache"]
    line = [sys.executable, "-m", "facedistill.train", *TINY, *paths, *words]
    return subprocess.Popen(line, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


def found(folder: Path, *words: str) -> tuple[Record, dict[str, torch.Tensor]]:
    """The record and the weights of a run, which this finishes."""
    process = start(folder, *words)
    said, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, said
    record = max(all_records(folder / "runs"), key=lambda record: record.name.startswith("classify"))
    return record, read_weights(folder / "runs" / record.name / "weights.safetensors").tensors


def checkpoint_of(folder: Path) -> dict[str, Any]:
    [directory] = [path for path in (folder / "runs").iterdir() if path.is_dir()]
    return BoundCheckpointIO(directory.name.rsplit("-", 1)[1]).load_checkpoint(directory / "last.ckpt")


def cut(folder: Path, *words: str) -> Path:
    """A run that was killed after one of its epochs."""
    process = start(folder, *words)
    deadline = time.monotonic() + LIMIT
    while not list((folder / "runs").glob("*/last.ckpt")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not all_records(folder / "runs")
    return folder


def check_near(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        off = (other[name].double() - value.double()).norm()
        assert off <= 1e-3 * max(1.0, float(value.double().norm())), name


Found = tuple[Record, dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return found(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return found(tmp_path_factory.mktemp("two"), *SPLIT)


@pytest.fixture(scope="module")
def cut_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cut(tmp_path_factory.mktemp("cut"), *SPLIT)


def test_it_is_the_run_of_one_process(one: Found, two: Found) -> None:
    assert two[0].identity == one[0].identity
    losses = [[row["train/task"] for row in record.history] for record, _ in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    check_near(one[1], two[1])


def test_resumed_on_two_it_ends_in_the_same_bits(two: Found, cut_of_two: Path, tmp_path: Path) -> None:
    shutil.copytree(cut_of_two / "runs", tmp_path / "runs")
    record, weights = found(tmp_path, *SPLIT)
    assert record.metrics == two[0].metrics
    assert all(torch.equal(weights[name], value) for name, value in two[1].items())


def test_what_two_began_one_ends(one: Found, cut_of_two: Path, tmp_path: Path) -> None:
    shutil.copytree(cut_of_two / "runs", tmp_path / "runs")
    check_near(one[1], found(tmp_path)[1])


def test_what_one_began_two_end(one: Found, cut_of_two: Path, tmp_path: Path) -> None:
    of_one = cut(tmp_path)
    assert shapes(checkpoint_of(of_one)) == shapes(checkpoint_of(cut_of_two))
    check_near(one[1], found(of_one, *SPLIT)[1])


def shapes(checkpoint: dict[str, Any]) -> list[Any]:
    """Of weights, and of what the optimizer remembers of each."""
    weights = [(name, value.shape) for name, value in checkpoint["state_dict"].items()]
    states = checkpoint["optimizer_states"][0]["state"]
    return [
        *weights,
        *((number, name, value.shape) for number, state in states.items() for name, value in state.items()),
    ]


def test_soft_and_hidden_targets_with_a_teacher_whose_layer_is_split(tmp_path: Path) -> None:
    words = ["target=hidden", "target.alpha=1", "target.views=live", "schedule.epochs=1"]
    record, weights = found(tmp_path / "one", *words)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    shutil.rmtree(tmp_path / "two" / "runs" / record.name)  # its teacher stays
    split, of_two = found(tmp_path / "two", *words, *SPLIT)
    for name in ("train/task", "train/soft", "train/hidden"):
        assert split.history[0][name] == pytest.approx(record.history[0][name], rel=1e-3)
    assert split.target_weights == pytest.approx(record.target_weights, rel=1e-3)
    check_near(weights, of_two)


def test_a_classifier_on_a_frozen_recognizer_leaves_nothing_to_average(tmp_path: Path) -> None:
    words = ["task=teacher", "rate=1", "target=none", "schedule.epochs=2"]
    first, tensors = found(tmp_path / "recognizer", *words)
    network = build_network(first.config.network, 1)
    network.load_state_dict({name: value for name, value in tensors.items() if name.startswith("backbone.")})
    save_weights(tmp_path / "recognizer.safetensors", network, {})
    words.append(f"teacher.backbone={tmp_path}/recognizer.safetensors")
    record, weights = found(tmp_path / "one", *words)
    split, of_two = found(tmp_path / "two", *words, *SPLIT)
    assert split.identity == record.identity
    check_near(weights, of_two)
