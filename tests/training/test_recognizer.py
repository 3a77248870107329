"""A classifier on a recognizer from elsewhere: frozen unless its fine-tuning is asked for, which may not ruin it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from facedistill.data.loading.datamodule import FaceData
from facedistill.errors import RunError
from facedistill.models.backbone import Backbone
from facedistill.models.network import build_network
from facedistill.models.weights import read_weights, save_weights
from facedistill.runs.ensure import ensure
from facedistill.runs.plan import plan
from facedistill.runs.run import Run, read_history
from facedistill.tasks.assemble import training_network
from facedistill.tasks.optimizer import build_optimizer
from facedistill.training import fit
from facedistill.training.callbacks import recognition
from facedistill.training.callbacks.recognition import Recognition
from facedistill.training.recognizer import prepare
from tiny import RUN

FINETUNED = "teacher.finetune=0.01"


def planned(folder: Path, *words: str) -> Run:
    return plan([*RUN, "task=teacher", f"runs_dir={folder}/runs", f"cache_dir={folder}/cache", *words])


def trained(folder: Path, *words: str) -> Run:
    run = planned(folder, *words)
    ensure(run, fit.train_run)
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recognizer")


@pytest.fixture(scope="module")
def recognizer(folder: Path) -> Path:
    """Without its classifier."""
    run = trained(folder, "schedule.epochs=6")
    network = build_network(run.config.network, 1)
    tensors = {name: value for name, value in read_weights(run.weights).tensors.items() if name.startswith("backbone.")}
    network.load_state_dict(tensors)
    path = folder / "recognizer.safetensors"
    save_weights(path, network, {})
    return path


@pytest.mark.parametrize("views", ["all", "live"])
def test_it_stays_as_it_is_and_its_classifier_is_trained(recognizer: Path, tmp_path: Path, views: str) -> None:
    run = trained(tmp_path, f"teacher.backbone={recognizer}", f"target.views={views}", "schedule.epochs=6")
    before, after = read_weights(recognizer).tensors, read_weights(run.weights).tensors
    assert all(torch.equal(after[name], value) for name, value in before.items()), "BatchNorm's statistics, too"
    assert run.record.metrics["top1"] > 60
    assert run.record.history[-1]["train/task"] < run.record.history[0]["train/task"]
    assert len(list((tmp_path / "cache").glob("bank-*/view-*.npz"))) == (2 if views == "all" else 0)


@pytest.mark.slow
def test_a_frozen_backbone_answers_once_however_many_epochs(
    recognizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def counted(self: Backbone, images: torch.Tensor, forward: Any = Backbone.forward) -> torch.Tensor:
        asked.append(len(images))
        return forward(self, images)  # type: ignore[no-any-return]

    monkeypatch.setattr(Backbone, "forward", counted)
    counts = []
    for epochs in (2, 5):
        asked.clear()
        words = [f"teacher.backbone={recognizer}", f"schedule.epochs={epochs}", "trainer.score_every=0"]
        trained(tmp_path / str(epochs), *words)
        counts.append(sum(asked))
    assert counts[0] == counts[1]


def test_a_bank_trains_the_classifier_that_live_answers_do(recognizer: Path, tmp_path: Path) -> None:
    words = [f"teacher.backbone={recognizer}", "image.crop=24", "schedule.epochs=1", "target.bank=float32"]
    banked, live = (trained(tmp_path, *words, f"target.views={views}") for views in ("all", "live"))
    weights = [read_weights(run.weights).tensors["classifier.weight"] for run in (banked, live)]
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)  # the first view of both is the same
    assert banked.identity != live.identity


def test_to_freeze_and_to_fine_tune_are_other_runs(recognizer: Path, tmp_path: Path) -> None:
    runs = [planned(tmp_path, f"teacher.backbone={recognizer}", *words) for words in ([], [FINETUNED])]
    assert len({run.identity for run in runs}) == 2
    assert planned(tmp_path, "target.views=live").identity == planned(tmp_path).identity


def test_the_classifier_takes_the_steps_that_it_would_on_an_embedding_of_mean_square_1(
    recognizer: Path, tmp_path: Path
) -> None:
    run = planned(tmp_path, f"teacher.backbone={recognizer}", "target.views=live")
    data = FaceData.of(run.config)
    network = training_network(run.config, 4)
    fit.initialize(network, run, {})
    prepare(network, run, data)
    batches = data.first_batches(4)
    rms = float(network.backbone(batches[0].images).double().square().mean().sqrt())
    assert network.classifier is not None
    scaled = copy.deepcopy(network.classifier).double()
    scaled.weight._backward_hooks = None
    with torch.no_grad():
        scaled.weight.mul_(rms)
    optimizers = [build_optimizer(run.config.schedule, network.parameters())]
    optimizers += [build_optimizer(run.config.schedule, scaled.parameters())]
    for optimizer in optimizers:
        optimizer.param_groups[0]["lr"] = 0.1
    for batch in batches:
        known = network.backbone(batch.images)
        losses = [F.cross_entropy(network.classifier(known), batch.labels)]
        losses += [F.cross_entropy(scaled(known.double() / rms), batch.labels)]
        for loss, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.testing.assert_close(network.classifier.weight.double(), scaled.weight / rms, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network.classifier.bias.double(), scaled.bias, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_fine_tuning_moves_the_backbone_by_its_share(recognizer: Path, tmp_path: Path) -> None:
    start = read_weights(recognizer).tensors
    moved = []
    for share in (1e-3, 1e-4):
        run = trained(tmp_path, f"teacher.backbone={recognizer}", f"teacher.finetune={share}", "trainer.score_every=0")
        found = read_weights(run.weights).tensors
        kernels = [name for name, value in start.items() if value.ndim == 4]
        moved.append(sum(float((found[name] - start[name]).norm()) for name in kernels))
        assert run.record.history[0]["lr"] == 0.01, "the classifier's"
    assert moved[0] / moved[1] == pytest.approx(10, rel=0.2)


def test_fine_tuning_that_ruins_a_recognizer_stops_and_says_so(
    recognizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"teacher.backbone={recognizer}", "teacher.finetune=1", "schedule.epochs=2"]
    scores = iter([(98.9, 0.2), (98.0, 0.2), (64.1, 0.9)])
    monkeypatch.setattr(Recognition, "_on_pairs", lambda *_: next(scores))
    run = planned(tmp_path, *words)
    with pytest.raises(RunError, match=r"from 98\.90 to 64\.10 % on pairs.*teacher\.finetune=0 leaves"):
        ensure(run, fit.train_run)
    assert not run.is_complete
    assert [row["epoch"] for row in read_history(run.directory)] == [0, 1]
    monkeypatch.setattr(Recognition, "_on_pairs", lambda *_: (90.0, 0.9))
    with pytest.raises(RunError, match=r"from 98\.90 to 90\.00 %"):  # what it was is in the checkpoint
        ensure(run, fit.train_run)


@pytest.mark.parametrize(("before", "after"), [((98.9, 0.2), 98.0), ((98.9, 0.8), 97.4), ((70.0, 10.0), 65.0)])
def test_a_point_or_what_few_pairs_can_not_tell_may_be_lost(
    monkeypatch: pytest.MonkeyPatch, before: tuple[float, float], after: float
) -> None:
    class Trainer:
        global_step, current_epoch, max_epochs = 0, 0, 1

    scores = iter([before, (after, 0.2)])
    monkeypatch.setattr(Recognition, "_on_pairs", lambda *_: next(scores))
    watcher = Recognition()
    watcher.on_train_start(Trainer(), None)  # type: ignore[arg-type]
    watcher.on_train_epoch_end(Trainer(), None)  # type: ignore[arg-type]


def test_where_there_are_no_pairs_it_has_to_beat_the_largest_identity(
    recognizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recognition, "_on_pairs", lambda *_: None)
    words = [f"teacher.backbone={recognizer}", FINETUNED, "task.learning_rates.initialized=[1e-9]"]
    with pytest.raises(RunError, match=r"to \d+\.\d % right, and always the largest identity is \d+\.\d % right"):
        trained(tmp_path, *words)  # its random classifier stays as it is


def test_what_it_scores_on_pairs_is_what_its_record_says(recognizer: Path, tmp_path: Path) -> None:
    seen: list[tuple[float, float] | None] = []
    own = Recognition._on_pairs

    def noted(*args: object) -> tuple[float, float] | None:
        seen.append(own(*args))  # type: ignore[arg-type]
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recognition, "_on_pairs", noted)
        patch.setattr(recognition, "TOLERANCE", 100)
        run = trained(tmp_path, f"teacher.backbone={recognizer}", FINETUNED)
    assert len(seen) == 2
    assert seen[-1] == pytest.approx((run.record.metrics["pairs"], run.record.metrics["pairs_se"]))
