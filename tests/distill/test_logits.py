"""The logits' target against explicit loops in float64."""

import pytest
import torch
from torch import Tensor, nn

from facedistill.distill import chunked_loss
from facedistill.distill.targets.logits import LogitsTarget
from facedistill.distill.teacher import TeacherOutput
from facedistill.errors import ConfigError
from facedistill.models.network import NetworkOutput


@pytest.fixture(autouse=True, params=[chunked_loss.MOST, 14], ids=["at once", "two rows at a time"])
def _rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked_loss, "MOST", request.param)


def logits(seed: int, count: int = 5, classes: int = 7) -> Tensor:
    return 3 * torch.randn(count, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def answer(values: Tensor) -> NetworkOutput:
    return NetworkOutput(torch.full((len(values), 2), 1e9, dtype=values.dtype), values, torch.empty(0))


def taught(values: Tensor) -> TeacherOutput:
    return TeacherOutput(values, nn.Identity())


def target(reduction: str, weight: float = 1.0) -> LogitsTarget:
    return LogitsTarget(weight, student_width=2, teacher_width=9, reduction=reduction)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_formula_and_its_gradient(reduction: str) -> None:
    student, teacher = logits(0).requires_grad_(), logits(1)
    total = 0.0
    for a, b in zip(student.tolist(), teacher.tolist(), strict=True):
        squares = [(x - y) ** 2 for x, y in zip(a, b, strict=True)]
        total += sum(squares) / (7 if reduction == "mean" else 1)
    found = target(reduction)(answer(student), taught(teacher))
    found.backward()
    assert found.shape == ()
    assert found.item() == pytest.approx(total / 5, rel=1e-6)
    expected = 2 * (student.detach() - teacher) / (5 * (7 if reduction == "mean" else 1))
    assert student.grad is not None
    torch.testing.assert_close(student.grad, expected)


def test_logits_of_half_precision_are_not_rounded_again() -> None:
    student, teacher = logits(0).bfloat16(), logits(1).bfloat16()
    found = target("mean")(answer(student), taught(teacher))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx((student.double() - teacher.double()).square().mean().item(), rel=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_it_is_zero_for_equal_logits_alone_and_never_negative(reduction: str) -> None:
    teacher = logits(1)
    assert target(reduction)(answer(teacher), taught(teacher)).item() == 0
    # unlike the soft prediction, a shift of all logits is a difference
    assert target(reduction)(answer(teacher + 1e-3), taught(teacher)).item() > 0
    assert all(target(reduction)(answer(logits(seed)), taught(teacher)).item() > 0 for seed in range(2, 20))


def test_nothing_is_trained_and_the_weight_is_kept_for_the_sum() -> None:
    assert list(target("mean").parameters()) == []
    assert target("mean", weight=0.25).weight == 0.25


def test_an_unknown_reduction_names_the_choices_before_any_batch() -> None:
    with pytest.raises(ConfigError, match="reduction=average: choices are mean, sum"):
        target("average")
