"""The targets that compare how the samples of a batch lie to each other, against loops in float64."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from facedistill.distill.target import Target
from facedistill.distill.targets.relational import RelationalTarget
from facedistill.distill.targets.similarity import SimilarityTarget
from facedistill.distill.teacher import TeacherOutput
from facedistill.errors import ConfigError
from facedistill.models.network import NetworkOutput
from gradients import by_differences

Rows = list[list[float]]
TARGETS = {
    "distances": RelationalTarget(1.0, 7, 4, distance=1.0, angle=0.0),
    "angles": RelationalTarget(1.0, 7, 4, distance=0.0, angle=1.0),
    "relational": RelationalTarget(1.0, 7, 4, distance=1.0, angle=2.0),
    "similarity": SimilarityTarget(1.0, 7, 4),
}


def drawn(seed: int, width: int, count: int = 6) -> Tensor:
    return 3 * torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def distance(target: Target, student: Tensor, teacher: Tensor) -> Tensor:
    value: Tensor = target(NetworkOutput(student, torch.empty(0), torch.empty(0)), TeacherOutput(teacher, None))
    return value


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def huber(value: float) -> float:
    return value**2 / 2 if abs(value) <= 1 else abs(value) - 0.5


def relative(rows: Rows) -> dict[tuple[int, int], float]:
    n = range(len(rows))
    found = {(i, j): math.dist(rows[i], rows[j]) for i in n for j in n if i != j}
    return {pair: length / (sum(found.values()) / len(found)) for pair, length in found.items()}


def cosines(rows: Rows) -> dict[tuple[int, int, int], float]:
    """Of the angle at the second of three samples; of one and itself it is 1."""

    def cosine(i: int, j: int, k: int) -> float:
        one, other = ([x - y for x, y in zip(rows[end], rows[j], strict=True)] for end in (i, k))
        return dot(one, other) / math.hypot(*one) / math.hypot(*other)

    n = range(len(rows))
    return {(i, j, k): cosine(i, j, k) for i in n for j in n for k in n if j not in (i, k)}


def gram(rows: Rows) -> Rows:
    products = [[dot(a, b) for b in rows] for a in rows]
    return [[value / math.hypot(*row) for value in row] for row in products]


def expected(name: str, student: Rows, teacher: Rows) -> float:
    count = len(student)
    if name == "similarity":
        rows = zip(gram(student), gram(teacher), strict=True)
        return sum((x - y) ** 2 for a, b in rows for x, y in zip(a, b, strict=True)) / count**2
    (ours, theirs), (own, taught) = ([of(rows) for rows in (student, teacher)] for of in (relative, cosines))
    distances = sum(huber(ours[pair] - theirs[pair]) for pair in ours) / count**2
    angles = sum(huber(own[triplet] - taught[triplet]) for triplet in own) / count**3
    return {"distances": distances, "angles": angles, "relational": distances + 2 * angles}[name]


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("count", [2, 3, 6])
def test_the_formula_and_its_gradient_for_any_two_widths(name: str, count: int) -> None:
    student, teacher = drawn(0, 7, count), drawn(1, 4, count)
    student[1] *= 30  # far away, so that some differences are beyond δ
    formula = partial(expected, name, teacher=teacher.tolist())
    own = student.clone().requires_grad_()
    found = distance(TARGETS[name], own, teacher)
    assert found.item() == pytest.approx(formula(student.tolist()), rel=1e-9, abs=1e-12)
    (gradient,) = torch.autograd.grad(found, own)
    differences = by_differences(lambda values: formula(values.tolist()), student)
    torch.testing.assert_close(gradient, differences, rtol=1e-4, atol=1e-8)
    in_float32 = distance(TARGETS[name], student.float(), teacher.float())
    assert in_float32.item() == pytest.approx(found.item(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", TARGETS)
def test_a_rotated_and_scaled_copy_of_the_teacher_has_met_it(name: str) -> None:
    teacher = drawn(1, 4)
    rotation, _ = torch.linalg.qr(drawn(2, 7, 7))
    student = 5 * torch.cat([teacher, torch.zeros(6, 3)], dim=1) @ rotation
    assert float(distance(TARGETS[name], student, teacher)) < 1e-12
    assert float(distance(TARGETS[name], student.roll(1, 0), teacher)) > 1e-3


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("case", ["one sample", "two samples", "two are equal", "all are equal", "one is zero", "far"])
def test_gradients_are_finite_where_lengths_are_zero(name: str, case: str) -> None:
    student, teacher = drawn(0, 7).float(), drawn(1, 4).float()
    if case in ("one sample", "two samples"):
        count = 1 + (case == "two samples")
        student, teacher = student[:count], teacher[:count]
    elif case == "one is zero":
        student[2] = 0
    elif case == "far":
        student *= 1e12
    else:
        student[1:3] = student[0]
        student = student[:3] if case == "all are equal" else student
        teacher = teacher[: len(student)]
    student.requires_grad_()
    found = distance(TARGETS[name], student, teacher)
    (gradient,) = torch.autograd.grad(found, student)
    assert found.isfinite()
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 10, "nothing is divided by almost nothing"


@pytest.mark.parametrize("name", TARGETS)
def test_autocast_rounds_no_product_to_half_precision(name: str) -> None:
    student, teacher = drawn(0, 7).float(), drawn(1, 4).float()
    plain = distance(TARGETS[name], student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(distance(TARGETS[name], student, teacher), plain)


@pytest.mark.parametrize("weights", [{"distance": -1.0, "angle": 2.0}, {"distance": 1.0, "angle": math.nan}])
def test_a_part_that_weighs_less_than_nothing_is_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"(distance|angle)=(-1\.0|nan) must be a number that is not negative"):
        RelationalTarget(1.0, 7, 4, **weights)
