"""The soft target against the formula, written out with loops in float64."""

import math

import pytest
import torch
from torch import Tensor, nn

from facedistill.distill import chunked_loss
from facedistill.distill.targets.soft import SoftTarget
from facedistill.distill.teacher import TeacherOutput
from facedistill.errors import ConfigError
from facedistill.models.network import NetworkOutput

TAUS = [0.5, 1.0, 3.0, 20.0]


@pytest.fixture(autouse=True, params=[chunked_loss.MOST, 14], ids=["at once", "two rows at a time"])
def _rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked_loss, "MOST", request.param)


def logits(seed: int, count: int = 5, classes: int = 7, spread: float = 4.0) -> Tensor:
    return spread * torch.randn(count, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def answer(values: Tensor) -> NetworkOutput:
    return NetworkOutput(torch.zeros(len(values), 2, dtype=values.dtype), values, torch.empty(0))


def taught(values: Tensor) -> TeacherOutput:
    return TeacherOutput(values, nn.Identity())


def soft(tau: float, tau_squared: bool, weight: float = 1.0) -> SoftTarget:
    return SoftTarget(weight, student_width=2, teacher_width=2, tau=tau, tau_squared=tau_squared)


def softened(row: list[float], tau: float) -> list[float]:
    top = max(row)
    powers = [math.exp((value - top) / tau) for value in row]
    return [power / sum(powers) for power in powers]


def cross_entropy(student: Tensor, teacher: Tensor, tau: float) -> float:
    rows = zip(student.tolist(), teacher.tolist(), strict=True)
    losses = [-sum(t * math.log(s) for t, s in zip(softened(b, tau), softened(a, tau), strict=True)) for a, b in rows]
    return sum(losses) / len(losses)


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("tau_squared", [True, False])
def test_the_formula(tau: float, tau_squared: bool) -> None:
    student, teacher = logits(0), logits(1)
    expected = cross_entropy(student, teacher, tau) * (tau * tau if tau_squared else 1)
    found = soft(tau, tau_squared)(answer(student), taught(teacher))
    assert found.shape == ()
    assert found.item() == pytest.approx(expected, rel=1e-6)
    in_float32 = soft(tau, tau_squared)(answer(student.float()), taught(teacher.float()))
    assert in_float32.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("tau_squared", [True, False])
def test_the_gradient_is_the_difference_of_the_predictions(tau: float, tau_squared: bool) -> None:
    student, teacher = logits(0).requires_grad_(), logits(1)
    soft(tau, tau_squared)(answer(student), taught(teacher)).backward()
    assert student.grad is not None
    scale = (tau if tau_squared else 1 / tau) / len(student)
    for i, (a, b) in enumerate(zip(student.tolist(), teacher.tolist(), strict=True)):
        expected = [scale * (s - t) for s, t in zip(softened(a, tau), softened(b, tau), strict=True)]
        assert student.grad[i].tolist() == pytest.approx(expected, abs=1e-9)


def test_logits_of_half_precision_are_not_rounded_again() -> None:
    student, teacher = logits(0).bfloat16(), logits(1).bfloat16()
    found = soft(3.0, False)(answer(student), taught(teacher))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(cross_entropy(student.double(), teacher.double(), 3.0), rel=1e-5)


@pytest.mark.parametrize("tau", TAUS)
def test_a_student_that_agrees_gets_no_gradient_and_pays_the_teachers_entropy(tau: float) -> None:
    teacher = logits(1)
    student = (teacher + 5).requires_grad_()  # a prediction does not change with a shift of its logits
    loss = soft(tau, tau_squared=False)(answer(student), taught(teacher))
    loss.backward()
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-12
    entropies = [-sum(p * math.log(p) for p in softened(row, tau)) for row in teacher.tolist()]
    assert loss.item() == pytest.approx(sum(entropies) / len(entropies), rel=1e-9)


@pytest.mark.parametrize("tau", TAUS)
def test_it_is_never_below_the_entropy_of_the_teacher(tau: float) -> None:
    teacher = logits(99)
    least = soft(tau, True)(answer(teacher), taught(teacher)).item()
    assert least >= 0
    for seed in range(30):
        assert soft(tau, True)(answer(logits(seed)), taught(teacher)).item() > least


def test_extreme_logits_stay_finite() -> None:
    student = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = soft(1.0, True)(answer(student), taught(torch.tensor([[-1e4, 1e4, 0.0]])))
    loss.backward()
    assert student.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()
    assert loss.item() == pytest.approx(2e4)


@pytest.mark.parametrize("tau", [0.0, -3.0])
def test_a_temperature_that_is_none_is_refused(tau: float) -> None:
    with pytest.raises(ConfigError, match=r"target\.tau"):
        soft(tau, True)


def test_the_weight_is_kept_for_the_sum_and_nothing_is_trained() -> None:
    student, teacher = answer(logits(0)), taught(logits(1))
    light, heavy = soft(3.0, True, weight=0.25), soft(3.0, True, weight=7.0)
    assert (light.weight, heavy.weight) == (0.25, 7.0)
    assert light(student, teacher).item() == heavy(student, teacher).item()
    assert list(light.parameters()) == []
