"""Runs whose bank keeps the most likely classes of a soft prediction."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from facedistill.models.network import build_network
from facedistill.models.weights import read_weights, save_weights
from facedistill.runs.ensure import ensure
from facedistill.runs.plan import plan
from facedistill.runs.run import Run
from facedistill.training import fit
from tiny import RUN
from trained_runs import curve, cut_after_first_epoch


def planned(folder: Path, *words: str) -> Run:
    paths = [f"runs_dir={folder}/runs", f"cache_dir={folder}/cache"]
    return plan([*RUN, "rate=8", "init=scratch", "target=soft", *paths, *words])


def made(folder: Path, *words: str) -> Run:
    run = planned(folder, *words)
    ensure(run, fit.train_run)
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("top")


@pytest.fixture(scope="module")
def of_two(folder: Path) -> Run:
    return made(folder, "target.bank=top2")


def test_of_all_classes_but_one_it_learns_what_it_learns_of_embeddings(folder: Path, of_two: Run) -> None:
    all_but_one, more, whole = (made(folder, f"target.bank={kind}") for kind in ("top3", "top64", "float32"))
    assert len({run.identity for run in (of_two, all_but_one, more, whole)}) == 4
    for row, same, expected in zip(*(run.record.history for run in (all_but_one, more, whole)), strict=True):
        assert row["train/soft"] == same["train/soft"]
        assert row["train/soft"] == pytest.approx(expected["train/soft"], rel=1e-3)
        assert row["train/task"] == pytest.approx(expected["train/task"], rel=1e-3)
    assert of_two.record.history[0]["train/soft"] < 0.9 * whole.record.history[0]["train/soft"]  # of fewer outcomes


def test_cut_and_resumed_it_ends_in_the_same_bits(
    folder: Path, of_two: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = planned(tmp_path, "target.bank=top2")
    ensure(cut.parents["teacher"], fit.train_run)  # type: ignore[arg-type]
    cut_after_first_epoch(cut, monkeypatch)
    ensure(cut, fit.train_run)
    ends = [read_weights(run.weights).tensors for run in (of_two, cut)]
    assert all(torch.equal(ends[1][name], tensor) for name, tensor in ends[0].items())
    assert curve(cut.record) == curve(of_two.record)


def test_a_frozen_recognizer_under_the_teachers_classifier_keeps_embeddings(folder: Path, of_two: Run) -> None:
    """The teacher is then the one of all other targets."""
    teacher = of_two.parents["teacher"]
    assert isinstance(teacher, Run)
    backbone = build_network(teacher.config.network, 1)
    tensors = read_weights(teacher.weights).tensors
    backbone.load_state_dict({name: value for name, value in tensors.items() if name.startswith("backbone.")})
    save_weights(folder / "recognizer.safetensors", backbone, {})
    words = [f"teacher.backbone={folder}/recognizer.safetensors"]
    run = made(folder, *words, "target.bank=top2")
    assert run.parents["teacher"].identity == planned(folder, *words).parents["teacher"].identity
    assert run.parents["teacher"].identity != teacher.identity
    assert "train/soft" in run.record.history[-1]
