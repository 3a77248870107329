"""The hidden layer's target against explicit loops in float64."""

import pytest
import torch
from torch import Tensor, nn

from facedistill.distill.targets.hidden import HiddenTarget
from facedistill.distill.teacher import TeacherOutput
from facedistill.errors import ConfigError
from facedistill.models.network import NetworkOutput


def features(seed: int, width: int, count: int = 6) -> Tensor:
    return torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def answer(values: Tensor) -> NetworkOutput:
    return NetworkOutput(values, torch.full((len(values), 3), 1e9, dtype=values.dtype), torch.empty(0))


def taught(values: Tensor) -> TeacherOutput:
    return TeacherOutput(values, nn.Identity())


def hidden(student: int, teacher: int, reduction: str) -> HiddenTarget:
    return HiddenTarget(2.0, student, teacher, reduction, "random").double()


def by_hand(target: HiddenTarget, student: Tensor, teacher: Tensor, reduction: str) -> float:
    weight, bias = target.map.weight.tolist(), target.map.bias.tolist()
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        mapped = [sum(w * v for w, v in zip(row, s, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
        squares = [(m - v) ** 2 for m, v in zip(mapped, t, strict=True)]
        total += sum(squares) / (len(squares) if reduction == "mean" else 1)
    return total / len(student)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("student", "teacher"), [(3, 5), (5, 3), (4, 4)])
def test_the_formula(reduction: str, student: int, teacher: int) -> None:
    target = hidden(student, teacher, reduction)
    one, other = features(0, student), features(1, teacher)
    found = target(answer(one), taught(other))
    assert found.shape == ()
    assert found.item() == pytest.approx(by_hand(target, one, other, reduction), rel=1e-6)
    assert found.item() > 0


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_it_is_zero_where_the_map_reaches_the_teacher_and_only_there(reduction: str) -> None:
    target = hidden(3, 5, reduction)
    student = features(0, 3)
    reached = target.map(student).detach()
    loss = target(answer(student), taught(reached))
    assert loss.item() == 0
    for place in range(5):
        near = reached.clone()
        near[0, place] += 1e-3
        assert target(answer(student), taught(near)).item() > 0


def test_student_and_map_are_trained_and_the_answer_of_the_output_layer_does_not_count() -> None:
    target = hidden(3, 5, "mean")
    student = features(0, 3).requires_grad_()
    target(answer(student), taught(features(1, 5))).backward()
    assert {name for name, _ in target.named_parameters()} == {"map.weight", "map.bias"}
    for tensor in (student, *target.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.abs().sum() > 0


def test_sum_is_mean_times_the_width_of_the_teacher() -> None:
    mean, total = hidden(3, 5, "mean"), hidden(3, 5, "sum")
    total.load_state_dict(mean.state_dict())
    pair = answer(features(0, 3)), answer(features(1, 5))
    assert total(*pair).item() == pytest.approx(5 * mean(*pair).item(), rel=1e-12)


def test_an_unknown_reduction_names_the_choices_before_any_batch() -> None:
    with pytest.raises(ConfigError, match="reduction=average: choices are mean, sum"):
        hidden(3, 5, "average")


def test_the_weight_is_kept_for_the_sum() -> None:
    assert hidden(3, 5, "sum").weight == 2.0
