"""Every target that learns from one teacher: banked as live, and resumed to the bit. Between ranks: ``test_ddp``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from every_target import TARGETS
from facedistill.data.faces import FaceSet
from facedistill.data.loading.datamodule import FaceData
from facedistill.data.loading.views import Views
from facedistill.distill.teacher import NetworkTeacher
from facedistill.models.network import build_network
from facedistill.models.weights import read_weights
from facedistill.runs.ensure import ensure
from facedistill.runs.plan import plan
from facedistill.runs.run import Run
from facedistill.tasks.assemble import build_module, build_targets, training_network
from facedistill.tasks.base import TaskModule
from facedistill.training import fit
from kinds import Composer
from tiny import MODULE, RUN
from trained_runs import cut_after_first_epoch


@pytest.mark.parametrize("target", TARGETS)
def test_a_bank_teaches_what_the_teacher_says_live(compose: Composer, marked: FaceSet, target: str) -> None:
    """In float32 to the bit, in float16 but for its rounding."""
    config = compose(*MODULE, "init=scratch", *TARGETS[target])
    torch.manual_seed(0)
    network = training_network(config, 4)
    teacher = NetworkTeacher(build_network(config.teacher.model, 1, 4), {})
    module = build_module(config, network, {"teacher": teacher}, build_targets(config, network, {"teacher": teacher}))
    assert isinstance(module, TaskModule)
    data = FaceData(config, marked)
    keys = next(iter(data.train_batches))
    live = Views(marked, data._augmentation)
    said = teacher(live[keys].images).embedding.numpy()

    def step(views: Views) -> tuple[Tensor, Tensor]:
        module.zero_grad()
        losses = module.eval().training_step(views[keys], 0)
        losses["loss"].backward()
        gradients = [one.grad.flatten() for one in module.parameters() if one.grad is not None]
        return losses[target], torch.cat(gradients)

    def banked(kept: NDArray[Any]) -> Views:
        return Views(marked, data._augmentation, {"teacher": lambda *_: kept})

    loss, gradient = step(live)
    assert loss.isfinite()
    assert loss > 0
    of_float32, of_float16 = step(banked(said)), step(banked(said.astype(np.float16)))
    assert torch.equal(of_float32[0], loss)
    assert torch.equal(of_float32[1], gradient)
    torch.testing.assert_close(of_float16[0], loss, rtol=1e-2, atol=1e-5)
    assert (of_float16[1] - gradient).norm() < 1e-2 * gradient.norm()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the teacher that all have in common, its bank, and the runs that nobody cuts."""
    return tmp_path_factory.mktemp("whole")


def planned(runs: Path, cache: Path, target: str) -> Run:
    return plan([*RUN, "rate=8", "init=scratch", *TARGETS[target], f"runs_dir={runs}", f"cache_dir={cache}"])


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_cut_and_resumed_it_is_the_same_bits(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """After the first of two epochs; parity is that of the start."""

    whole = planned(folder / "runs", folder / "cache", target)
    ensure(whole, fit.train_run)
    shutil.copytree(whole.parents["teacher"].directory, tmp_path / whole.parents["teacher"].name)
    run = planned(tmp_path, folder / "cache", target)
    cut_after_first_epoch(run, monkeypatch)
    ensure(run, fit.train_run)
    mine, theirs = (read_weights(one.weights).tensors for one in (run, whole))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert run.record.metrics == whole.record.metrics
    assert run.record.target_weights == whole.record.target_weights
    assert run.record.history[-1][f"train/{target}"] == whole.record.history[-1][f"train/{target}"]
