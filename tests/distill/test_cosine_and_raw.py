"""The targets that compare embeddings value by value, against loops in float64."""

import math

import pytest
import torch
from torch import Tensor

from facedistill.distill.target import Target
from facedistill.distill.targets.cosine import CosineTarget
from facedistill.distill.targets.raw import RawTarget
from facedistill.distill.teacher import TeacherOutput
from facedistill.errors import ConfigError
from facedistill.models.network import NetworkOutput


def drawn(seed: int, count: int = 5, width: int = 7) -> Tensor:
    return 3 * torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def distance(target: Target, student: Tensor, teacher: Tensor) -> Tensor:
    value: Tensor = target(NetworkOutput(student, torch.empty(0), torch.empty(0)), TeacherOutput(teacher, None))
    return value


def test_cosine() -> None:
    student, teacher = drawn(0).requires_grad_(), drawn(1)
    total = 0.0
    for a, b in zip(student.tolist(), teacher.tolist(), strict=True):
        total += 1 - sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)
    found = distance(CosineTarget(1.0, 7, 7), student, teacher)
    assert float(found) == pytest.approx(total / 5)
    (gradient,) = torch.autograd.grad(found, student)
    assert (gradient * student).sum(1).abs().max() < 1e-12, "no step along the embedding changes its direction"
    longer = distance(CosineTarget(1.0, 7, 7), 9 * student, 0.1 * teacher)
    assert float(longer) == pytest.approx(float(found))


@pytest.mark.parametrize(("reduction", "per"), [("sum", 1), ("mean", 7)])
def test_raw(reduction: str, per: int) -> None:
    student, teacher = drawn(0).requires_grad_(), drawn(1)
    total = sum(
        (x - y) ** 2 for a, b in zip(student.tolist(), teacher.tolist(), strict=True) for x, y in zip(a, b, strict=True)
    )
    found = distance(RawTarget(1.0, 7, 7, reduction), student, teacher)
    assert float(found) == pytest.approx(total / 5 / per)
    (gradient,) = torch.autograd.grad(found, student)
    assert torch.allclose(gradient, 2 * (student - teacher) / 5 / per)


@pytest.mark.parametrize("make", [CosineTarget, lambda *of: RawTarget(*of, reduction="sum")])
def test_other_widths_are_refused_with_the_word_that_mends_it(make: type[CosineTarget]) -> None:
    with pytest.raises(ConfigError, match=r"has 7 values, the teacher's 512: model\.features=512"):
        make(1.0, 7, 512)


def test_another_reduction_is_refused() -> None:
    with pytest.raises(ConfigError, match="reduction=max: choices are mean, sum"):
        RawTarget(1.0, 7, 7, "max")
