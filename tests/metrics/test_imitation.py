"""Imitation against formulas on whole arrays, and its sums against other orders."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from facedistill.metrics.imitation import Imitation


def made(count: int = 200, width: int = 16, noise: float = 0.5) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    draw = np.random.default_rng(0)
    teacher = draw.normal(0.3, 1, (count, width))
    return teacher * draw.uniform(1, 9, (count, 1)) + draw.normal(0, noise, (count, width)), teacher


def scored(student: NDArray[np.float64], teacher: NDArray[np.float64], batch: int = 32) -> dict[str, float]:
    metric = Imitation(teacher.shape[1])
    for start in range(0, len(teacher), batch):
        part = slice(start, start + batch)
        metric.update(torch.from_numpy(student[part]), torch.from_numpy(teacher[part]))
    return {name: float(value) for name, value in metric.compute().items()}


def unit(embedding: NDArray[np.float64]) -> NDArray[np.float64]:
    return embedding / np.linalg.norm(embedding, axis=1, keepdims=True)


def test_cosine_and_explained_variance_are_those_of_numpy() -> None:
    student, teacher = made()
    u_s, u_t = unit(student), unit(teacher)
    found = scored(student, teacher)
    assert found["cosine"] == pytest.approx(100 * (u_s * u_t).sum(1).mean(), abs=1e-6)
    residual, total = ((u_s - u_t) ** 2).sum(), ((u_t - u_t.mean(0)) ** 2).sum()
    assert found["explained"] == pytest.approx(100 * (1 - residual / total), abs=1e-5)


def test_a_perfect_student_explains_all_and_the_mean_direction_little() -> None:
    _, teacher = made()
    assert scored(7 * teacher, teacher) == pytest.approx({"cosine": 100, "explained": 100}, abs=1e-6)
    mean = np.broadcast_to(unit(teacher).mean(0), teacher.shape)
    assert scored(mean, teacher)["cosine"] > 20
    assert scored(mean, teacher)["explained"] < 0, "of length 1, it is farther from the faces than their mean is"


def test_a_student_without_a_direction_is_as_wrong_as_can_be() -> None:
    _, teacher = made(4)
    assert scored(np.full_like(teacher, np.nan), teacher)["cosine"] == pytest.approx(-100)


def test_no_order_or_batch_changes_a_bit() -> None:
    student, teacher = made()
    order = np.random.default_rng(1).permutation(len(teacher))
    assert scored(student, teacher, 7) == scored(student[order], teacher[order], 64)
