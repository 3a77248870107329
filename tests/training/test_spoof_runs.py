"""Whole runs of anti-spoofing: the same bits again, cut and resumed, with banks and live."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from facedistill.errors import RunError
from facedistill.evaluate import evaluate_run
from facedistill.models.weights import read_weights
from facedistill.runs.ensure import ensure
from facedistill.runs.plan import plan
from facedistill.runs.run import Run
from facedistill.runs.sample_scores import SampleScores
from facedistill.training import fit
from trained_runs import cut_after_first_epoch

RUN = [
    *("task=spoof", "rate=8", "data=synthetic_spoof", "data.num_people=5", "data.images=2", "data.held_out=window"),
    *("data@recognition=synthetic", "recognition.num_identities=3", "recognition.images_per_identity=10"),
    *("recognition.pairs_per_fold=2", "image.resize=24", "image.crop=20", "model.width=16", "teacher.model.width=16"),
    *("task.batch_size=8", "batch_sizes.classification=8", "schedule.epochs=1"),
    *("logger=csv", "trainer.progress=false", "trainer.accelerator=cpu"),
]
BOTH = ["target=two_teachers"]
ALIGNED = [*BOTH, "target.views=live", "task.options.alignment=4"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def planned(folder: Path, cache: Path, *words: str) -> Run:
    return plan([*RUN, f"runs_dir={folder}", f"cache_dir={cache}", *words])


def made(folder: Path, cache: Path, *words: str) -> Run:
    run = planned(folder, cache, *words)
    ensure(run, fit.train_run)
    return run


@pytest.fixture(scope="module")
def aligned(folder: Path, cache: Path) -> Run:
    return made(folder, cache, *ALIGNED)


def same(one: Run, other: Run) -> bool:
    mine, theirs = (read_weights(run.weights).tensors for run in (one, other))
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def losses(run: Run) -> list[dict[str, float]]:
    return [{name: row[name] for name in row if name.startswith("train/")} for row in run.record.history]


def with_teachers_of(run: Run, folder: Path) -> Path:
    """A folder with the ancestors of a run, but without itself."""
    shutil.copytree(run.directory.parent, folder, ignore=shutil.ignore_patterns(run.name))
    return folder


def test_what_it_publishes(aligned: Run) -> None:
    record, kept = aligned.record, SampleScores.read(aligned.directory)
    assert {"hter", "auc", "eer"} <= record.metrics.keys()
    assert {"train/task", "train/perceptual", "train/generative", "train/domains"} <= record.history[0].keys()
    parts = {name.split(".")[0] for name in read_weights(aligned.weights).tensors}
    assert parts == {"backbone", "classifier"}, "neither the discriminator nor the maps"
    assert kept is not None
    assert len(kept.score) == 2 * 2 * 2, "two people of the domain held out"
    assert set(kept.identity.tolist()) == {3, 4}
    assert record.data["train"] == 3 * 2 * 3 * 2
    assert (aligned.directory / "samples.png").exists()
    generative = aligned.parents["generative"]
    assert isinstance(generative, Run)
    assert {name.split(".")[0] for name in read_weights(generative.weights).tensors} == {"backbone"}
    assert generative.record.data["train"] == 3 * 2 * 3
    assert evaluate_run(aligned.directory, []) == record.metrics
    with pytest.raises(RunError, match="no output layer to score"):
        evaluate_run(generative.directory, [])


def test_again_it_is_the_same_bits(aligned: Run, cache: Path, tmp_path: Path) -> None:
    again = made(with_teachers_of(aligned, tmp_path / "again"), cache, *ALIGNED)
    assert same(again, aligned)
    assert losses(again) == losses(aligned)
    assert again.record.metrics == aligned.record.metrics


def test_cut_and_resumed_it_is_the_same_bits(
    aligned: Run, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first of two epochs; the discriminator goes on where it was."""
    folder = with_teachers_of(aligned, tmp_path / "cut")
    run = planned(folder, cache, *ALIGNED)
    cut_after_first_epoch(run, monkeypatch)
    ensure(planned(folder, cache, *ALIGNED), fit.train_run)
    assert same(run, aligned)
    assert losses(run) == losses(aligned)


def test_banks_say_what_teachers_say_live(aligned: Run, folder: Path, cache: Path) -> None:
    banked, live = (made(folder, cache, *BOTH, *words) for words in (["target.bank=float32"], ["target.views=live"]))
    for one, other in zip(losses(banked), losses(live), strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    first, moved = losses(live)[0], losses(aligned)[0]
    assert first.keys() == moved.keys() - {"train/domains"}
    assert first["train/perceptual"] != moved["train/perceptual"]
