"""Losses a few rows at a time: the same loss and gradient as at once, and no more memory than that gradient."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from facedistill.distill import chunked_loss
from facedistill.distill.chunked_loss import chunked_mean
from facedistill.models.network import NetworkOutput


def answer(logits: torch.Tensor) -> NetworkOutput:
    return NetworkOutput(logits[:, :0], logits, logits[:, :0])


@pytest.mark.parametrize(("count", "most"), [(7, 3), (7, 10), (8, 20), (1, 1)])
def test_loss_and_gradient_are_those_of_all_rows_at_once(
    monkeypatch: pytest.MonkeyPatch, count: int, most: int
) -> None:
    monkeypatch.setattr(chunked_loss, "MOST", most)
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(count, 5, dtype=torch.float64, generator=draw, requires_grad=True)
    labels = torch.randint(0, 5, (count,), generator=draw)
    loss = chunked_mean(partial(F.cross_entropy, reduction="none"), answer(logits), labels)
    (gradient,) = torch.autograd.grad(3 * loss, logits)
    prediction = logits.detach().softmax(1)
    expected = -prediction[torch.arange(count), labels].log().mean()
    torch.testing.assert_close(loss.detach(), expected)
    torch.testing.assert_close(gradient, 3 * (prediction - F.one_hot(labels, 5)) / count)


def test_a_loss_that_is_no_number_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked_loss, "MOST", 4)
    logits = torch.tensor([[1.0, 2.0], [float("nan"), 0.0], [3.0, 4.0]], requires_grad=True)
    labels = torch.tensor([0, 1, 0])
    assert chunked_mean(partial(F.cross_entropy, reduction="none"), answer(logits), labels).isnan()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's account of memory")
def test_many_identities_take_three_matrices_of_logits_at_most() -> None:
    """Classifier and soft target forward and backward: the student's logits, their gradient, and little else.

    glibc is told to give back blocks that are free, or it would count what it keeps for later.
    """
    classes, batch, width = 100_000, 256, 16
    program = f"""
import re, torch
from pathlib import Path
from facedistill.distill.targets.soft import SoftTarget
from facedistill.distill.teacher import TeacherOutput
from facedistill.models.network import NetworkOutput

def memory(name):
    return int(re.search(rf"{{name}}:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

torch.set_num_threads(1)
student, teacher = torch.nn.Linear({width}, {classes}), torch.nn.Linear({width}, {classes}).requires_grad_(False)
features, hidden = torch.randn({batch}, {width}), torch.randn({batch}, {width})
soft = SoftTarget(1.0, {width}, {width}, tau=3.0, tau_squared=True)
def step(count):
    logits = student(features[:count])
    soft(NetworkOutput(features[:count], logits, features), TeacherOutput(hidden[:count], teacher)).backward()
step(4)
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
step({batch})
print((memory("VmHWM") - before) / ({batch} * {classes} * 4))
"""
    frees = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"}
    done = subprocess.run([sys.executable, "-c", program], env=frees, capture_output=True, text=True, check=True)
    assert 1 < float(done.stdout) <= 3, done.stdout
