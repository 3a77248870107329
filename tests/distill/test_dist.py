"""The correlation of soft predictions, against NumPy's in float64."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facedistill.distill.targets.dist import DistTarget
from facedistill.distill.teacher import TeacherOutput
from facedistill.errors import ConfigError
from facedistill.models.network import NetworkOutput
from gradients import by_differences

TAUS = [0.5, 1.0, 3.0]


def logits(seed: int, count: int = 5, classes: int = 7) -> Tensor:
    return 4 * torch.randn(count, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def dist(tau: float, student: Tensor, teacher: Tensor) -> Tensor:
    answer = NetworkOutput(student[:, :0], student, student[:, :0])
    found: Tensor = DistTarget(1.0, 2, 2, tau)(answer, TeacherOutput(teacher, nn.Identity()))
    return found


def expected(tau: float, student: Tensor, teacher: Tensor) -> float:
    ours, theirs = (np.exp(of.numpy() / tau) for of in (student, teacher))
    ours, theirs = (of / of.sum(1, keepdims=True) for of in (ours, theirs))
    of_rows = [1 - pearson(a, b) for a, b in zip(ours, theirs, strict=True)]
    of_columns = [1 - pearson(a, b) for a, b in zip(ours.T, theirs.T, strict=True)]
    return float(tau**2 * (np.mean(of_rows) + np.mean(of_columns)))


def pearson(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """NumPy's where both vary; what varies by less than 10⁻⁸ counts as that."""
    a, b = a - a.mean(), b - b.mean()
    found = float(a @ b / max(np.linalg.norm(a), 1e-8) / max(np.linalg.norm(b), 1e-8))
    assert min(np.linalg.norm(a), np.linalg.norm(b)) < 1e-8 or found == pytest.approx(np.corrcoef(a, b)[0, 1])
    return found


@pytest.mark.parametrize("tau", TAUS)
def test_the_formula_and_its_gradient(tau: float) -> None:
    student, teacher = logits(0), logits(1)
    own = student.clone().requires_grad_()
    found = dist(tau, own, teacher)
    assert found.item() == pytest.approx(expected(tau, student, teacher))
    assert dist(tau, student.float(), teacher.float()).item() == pytest.approx(found.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(found, own)
    differences = by_differences(lambda values: expected(tau, values, teacher), student)
    torch.testing.assert_close(gradient, differences, rtol=1e-4, atol=1e-7)


def test_an_answer_that_agrees_has_no_loss_and_one_of_the_other_order_the_most() -> None:
    teacher = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    assert float(dist(1.0, teacher + 7, teacher)) == pytest.approx(0)
    assert float(dist(1.0, -teacher, teacher)) == pytest.approx(4)


SURE = torch.tensor([[1e4, -1e4, 0.0], [1e4, 0.0, -1e4]])


@pytest.mark.parametrize(
    ("student", "teacher", "loss"),
    [
        (SURE, -SURE, None),
        (SURE, SURE, None),
        (SURE, 0 * SURE, 2.0),
        (0 * SURE, SURE, 2.0),
        (0 * SURE, 0 * SURE, 2.0),
        (SURE[:1], SURE[:1], 1.0),  # of one sample no class varies
        (SURE[:, :1], SURE[:, :1], 2.0),
        (SURE / 1e3, SURE / 1e3 + torch.eye(2, 3), None),
    ],
)
def test_losses_and_gradients_are_finite_where_predictions_are_constant(
    student: Tensor, teacher: Tensor, loss: float | None
) -> None:
    own = student.clone().requires_grad_()
    found = dist(1.0, own, teacher)
    (gradient,) = torch.autograd.grad(found, own)
    assert found.isfinite()
    assert gradient.isfinite().all()
    assert loss is None or found.item() == pytest.approx(loss)


def test_logits_of_half_precision_are_not_rounded_again() -> None:
    student, teacher = (logits(seed).bfloat16() for seed in (0, 1))
    assert torch.equal(dist(3.0, student, teacher), dist(3.0, student.float(), teacher.float()))


@pytest.mark.parametrize("tau", [0.0, -math.inf])
def test_a_temperature_that_is_none_is_refused(tau: float) -> None:
    with pytest.raises(ConfigError, match=r"target\.tau"):
        DistTarget(1.0, 2, 2, tau)
