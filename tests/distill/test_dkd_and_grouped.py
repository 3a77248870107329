"""The targets that take a soft prediction apart into groups of classes, against loops in float64."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from facedistill.distill import chunked_loss
from facedistill.distill.targets.dkd import DkdTarget
from facedistill.distill.targets.grouped import GroupedTarget
from facedistill.distill.targets.soft import SoftTarget
from facedistill.distill.teacher import TeacherOutput
from facedistill.errors import ConfigError
from facedistill.models.network import NetworkOutput
from gradients import by_differences

TAUS = [0.5, 1.0, 3.0]
LABELS = torch.tensor([0, 6, 3, 3, 1])
Group = Callable[[int, list[float]], set[int]]


@pytest.fixture(autouse=True, params=[chunked_loss.MOST, 14], ids=["at once", "two rows at a time"])
def _rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked_loss, "MOST", request.param)


def logits(seed: int, count: int = 5, classes: int = 7) -> Tensor:
    return 4 * torch.randn(count, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def dkd(tau: float, student: Tensor, teacher: Tensor, labels: Tensor = LABELS, beta: float = 8.0) -> Tensor:
    target = DkdTarget(1.0, 2, 2, tau, beta)
    found: Tensor = target(answer(student), TeacherOutput(teacher, nn.Identity()), labels)
    return found


def grouped(tau: float, student: Tensor, teacher: Tensor, threshold: float = 0.9) -> Tensor:
    target = GroupedTarget(1.0, 2, 2, tau, threshold)
    found: Tensor = target(answer(student), TeacherOutput(teacher, nn.Identity()))
    return found


def answer(values: Tensor) -> NetworkOutput:
    return NetworkOutput(values[:, :0], values, values[:, :0])


def softened(row: list[float], tau: float) -> list[float]:
    top = max(row)
    powers = [math.exp((value - top) / tau) for value in row]
    total = sum(powers)
    return [power / total for power in powers]


def kl(teacher: list[float], student: list[float]) -> float:
    return sum(t * math.log(t / s) for t, s in zip(teacher, student, strict=True) if t > 0)


def parts(student: Tensor, teacher: Tensor, tau: float, group: Group) -> tuple[float, float]:
    """KL of whether a class is in a group, and within it, averaged over the batch."""
    binary = within = 0.0
    for number, rows in enumerate(zip(student.tolist(), teacher.tolist(), strict=True)):
        ours, theirs = (softened(row, tau) for row in rows)
        members = group(number, theirs)
        own, taught = (sum(of[c] for c in members) for of in (ours, theirs))
        other = [sum(of[c] for c in range(len(of)) if c not in members) for of in (ours, theirs)]
        binary += kl([taught, other[1]], [own, other[0]])
        within += kl([theirs[c] / taught for c in members], [ours[c] / own for c in members])
    return binary / len(student), within / len(student)


def until(threshold: float) -> Group:
    """The most likely classes until their cumulative mass passes a threshold."""

    def group(number: int, prediction: list[float]) -> set[int]:
        members, mass = set(), 0.0
        for c in sorted(range(len(prediction)), key=lambda c: -prediction[c]):
            if mass >= threshold:
                break
            members.add(c)
            mass += prediction[c]
        return members

    return group


def others(number: int, prediction: list[float]) -> set[int]:
    return set(range(len(prediction))) - {int(LABELS[number])}


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("beta", [0.0, 8.0])
def test_dkd_is_the_label_against_all_others_and_beta_times_these(tau: float, beta: float) -> None:
    student, teacher = logits(0), logits(1)

    def formula(values: Tensor) -> float:
        tckd, nckd = parts(values, teacher, tau, others)
        return tau**2 * (tckd + beta * nckd)

    own = student.clone().requires_grad_()
    found = dkd(tau, own, teacher, beta=beta)
    assert found.item() == pytest.approx(formula(student))
    assert dkd(tau, student.float(), teacher.float(), beta=beta).item() == pytest.approx(found.item(), rel=1e-4)
    (gradient,) = torch.autograd.grad(found, own)
    torch.testing.assert_close(gradient, by_differences(formula, student), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("threshold", [0.3, 0.9, 0.99])
def test_grouped_is_the_likely_classes_and_whether_it_is_one(tau: float, threshold: float) -> None:
    student, teacher = logits(0), logits(1)

    def formula(values: Tensor) -> float:
        return tau**2 * sum(parts(values, teacher, tau, until(threshold)))

    own = student.clone().requires_grad_()
    found = grouped(tau, own, teacher, threshold)
    assert found.item() == pytest.approx(formula(student))
    assert grouped(tau, student.float(), teacher.float(), threshold).item() == pytest.approx(found.item(), rel=1e-4)
    (gradient,) = torch.autograd.grad(found, own)
    torch.testing.assert_close(gradient, by_differences(formula, student), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("tau", TAUS)
def test_where_every_class_is_likely_it_is_the_whole_soft_prediction(tau: float) -> None:
    student, teacher = logits(0).requires_grad_(), logits(1)
    soft = SoftTarget(1.0, 2, 2, tau, tau_squared=True)(answer(student), TeacherOutput(teacher, nn.Identity()))
    gradients = [torch.autograd.grad(loss, student)[0] for loss in (grouped(tau, student, teacher, 1.0), soft)]
    torch.testing.assert_close(*gradients)


SURE = torch.tensor([[1e4, -1e4, 0.0, 5.0]])


@pytest.mark.parametrize(
    ("student", "teacher", "labels"),
    [
        (SURE, -SURE, [0]),
        (-SURE, SURE, [0]),
        (SURE, SURE, [1]),
        (SURE, 0 * SURE, [2]),
        (0 * SURE, SURE, [0]),
        (SURE[:, :1], SURE[:, 1:2], [0]),
        (SURE[:, :2], SURE[:, 1:3], [1]),
        (SURE.repeat(2, 1), -SURE.repeat(2, 1), [0, 3]),
    ],
)
@pytest.mark.parametrize("tau", TAUS)
def test_losses_and_gradients_are_finite_where_predictions_are_0_or_1(
    student: Tensor, teacher: Tensor, labels: list[int], tau: float
) -> None:
    own = student.clone().requires_grad_()
    for loss in (
        dkd(tau, own, teacher, torch.tensor(labels)),
        grouped(tau, own, teacher),
        grouped(tau, own, teacher, 1.0),
    ):
        (gradient,) = torch.autograd.grad(loss, own)
        assert loss.isfinite()
        assert gradient.isfinite().all()


def test_a_student_that_is_sure_of_the_wrong_class_is_told_so_at_any_distance() -> None:
    """In float32 its prediction for the label is 0, and the loss is still that of the logits."""
    student = torch.tensor([[0.0, 2000.0, -50.0]], requires_grad=True)
    teacher, labels = torch.tensor([[50.0, 0.0, 0.0]]), torch.tensor([0])
    for loss in (dkd(1.0, student, teacher, labels, beta=0.0), grouped(1.0, student, teacher)):
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss.item() == pytest.approx(2000)
        assert gradient.tolist()[0] == pytest.approx([-1, 1, 0], abs=1e-6)


def test_many_classes_of_a_sharp_teacher_are_grouped_as_by_sorting() -> None:
    teacher = logits(1, count=3, classes=5000).float()
    student = logits(0, count=3, classes=5000).float()
    for threshold in (0.5, 0.9, 0.999):
        expected = sum(parts(student, teacher, 2.0, until(threshold)))
        assert float(grouped(2.0, student, teacher, threshold)) == pytest.approx(4 * expected, rel=1e-3)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_logits_of_half_precision_are_not_rounded_again(precision: torch.dtype) -> None:
    student, teacher = (logits(seed).to(precision) for seed in (0, 1))
    assert torch.equal(dkd(3.0, student, teacher), dkd(3.0, student.float(), teacher.float()))
    assert torch.equal(grouped(3.0, student, teacher), grouped(3.0, student.float(), teacher.float()))


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"beta=-1\.0 must be a number that is not negative"):
        DkdTarget(1.0, 2, 2, 3.0, -1.0)
    with pytest.raises(ConfigError, match=r"threshold=0\.0 must be above 0, and at most 1"):
        GroupedTarget(1.0, 2, 2, 3.0, 0.0)
    for make in (lambda: DkdTarget(1.0, 2, 2, 0.0, 8.0), lambda: GroupedTarget(1.0, 2, 2, -1.0, 0.9)):
        with pytest.raises(ConfigError, match=r"tau=(0|-1)\.0 must be positive"):
            make()
