"""Landmark errors against a formula in NumPy, in whatever batches the faces come."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from facedistill.errors import DataError
from facedistill.metrics.landmarks import LANDMARKS, LandmarkError, box_diagonal, eye_distance

Floats = NDArray[np.float64]


def drawn(seed: int, faces: int, spread: float) -> tuple[Tensor, Tensor, Tensor]:
    draw = np.random.default_rng(seed)
    true = draw.uniform(0, 200, (faces, 5, 2))
    near = true + spread * draw.exponential(size=(faces, 1, 1)) * draw.normal(size=(faces, 5, 2))
    return torch.tensor(near), torch.tensor(true), torch.tensor(draw.uniform(30, 90, faces))


def counted(faces: tuple[Tensor, Tensor, Tensor], sizes: list[int]) -> LandmarkError:
    metric = LandmarkError()
    for batch in zip(*(part.split(sizes) for part in faces), strict=True):
        metric.update(*batch)
    return metric


def face(error: float) -> tuple[Tensor, Tensor, Tensor]:
    """One face whose landmarks are all wrong by this fraction of its normalizer."""
    true = torch.zeros(1, 5, 2, dtype=torch.float64)
    return true + torch.tensor([error * 64, 0.0], dtype=torch.float64), true, torch.tensor([64.0])


def slow_errors(predicted: Tensor, true: Tensor, normalizer: Tensor) -> tuple[Floats, Floats]:
    """Errors of faces [N] and of landmarks [N, 5], %."""
    points = [
        [100 * np.hypot(*(p - t)) / size for p, t in zip(*pair, strict=True)]
        for *pair, size in zip(predicted.numpy(), true.numpy(), normalizer.numpy(), strict=True)
    ]
    return np.array([np.sqrt(sum(d * d for d in face) / 5) for face in points]), np.array(points)


@pytest.mark.parametrize("spread", [0.3, 2.0, 20.0])
@pytest.mark.parametrize("count", [1, 7, 300])
def test_metrics_are_those_of_the_formulas(count: int, spread: float) -> None:
    for seed in range(3):
        faces = drawn(seed, count, spread)
        errors, points = slow_errors(*faces)
        found = {name: float(value) for name, value in counted(faces, [count]).compute().items()}
        expected = {"nrmse": errors.mean()}
        expected |= {f"nrmse_{name}": points[:, i].mean() for i, name in enumerate(LANDMARKS)}
        for limit in (8, 10):
            # the area between the cumulative curve, a staircase, and the limit
            stairs = np.concatenate([[0.0], np.sort(errors[errors < limit]), [limit]])
            heights = np.arange(len(stairs) - 1) / count
            expected[f"auc_{limit}"] = 100 * (np.diff(stairs) * heights).sum() / limit
            expected[f"failure_{limit}"] = 100 * (errors > limit).mean()
        assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("count", [1, 300])
def test_curve_is_the_share_of_faces_up_to_each_error(count: int) -> None:
    faces = drawn(0, count, 3.0)
    steps, shares = counted(faces, [count]).curve()
    errors = slow_errors(*faces)[0]
    assert steps.tolist() == [k / 10 for k in range(201)]
    assert shares.tolist() == [(errors <= k / 10).mean() for k in range(201)]


@pytest.mark.parametrize("step", [1, 3, 7, 80, 100, 200])
def test_an_error_on_a_step_of_the_curve_is_within_it(step: int) -> None:
    metric = counted(face(step / 1000), [1])
    assert metric.curve()[1].tolist() == [0.0] * step + [1.0] * (201 - step)
    assert metric.compute()["failure_8"] == (100 if step > 80 else 0)
    metric = counted(face(step / 1000 + 1e-8), [1])
    assert metric.curve()[1].tolist() == [0.0] * (step + 1) + [1.0] * (200 - step)
    assert metric.compute()["failure_10"] == (100 if step >= 100 else 0)


def test_batches_and_their_order_change_no_bit() -> None:
    faces = drawn(1, 101, 2.0)
    order = torch.randperm(101, generator=torch.Generator().manual_seed(0))
    shuffled = tuple(part[order] for part in faces)
    whole = counted(faces, [101]).compute()
    assert whole == counted(faces, [1, 60, 3, 37]).compute()
    assert whole == counted(shuffled, [50, 51]).compute()  # type: ignore[arg-type]


def test_perfect_and_hopeless() -> None:
    perfect, hopeless = counted(face(0.0), [1]), counted(face(float("nan")), [1])
    for limit in (8, 10):
        assert perfect.compute()[f"auc_{limit}"] == 100
        assert perfect.compute()[f"failure_{limit}"] == 0
        assert hopeless.compute()[f"auc_{limit}"] == 0
        assert hopeless.compute()[f"failure_{limit}"] == 100
    assert perfect.compute()["nrmse"] == 0
    assert perfect.curve()[1].tolist() == [1.0] * 201
    assert hopeless.compute()["nrmse"] == 100_000
    assert counted(face(1e12), [1]).compute()["nrmse_nose"] == 100_000
    assert hopeless.curve()[1].tolist() == [0.0] * 201


def test_reset_forgets() -> None:
    metric = counted(face(0.5), [1])
    assert metric.compute()["nrmse"] == 50
    metric.reset()
    metric.update(*face(0.25))
    assert metric.compute()["nrmse"] == 25


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), float("inf")])
def test_a_face_without_a_size_is_refused(size: float) -> None:
    predicted, true, normalizer = drawn(0, 4, 1.0)
    normalizer[2] = size
    metric = LandmarkError()
    with pytest.raises(DataError, match=r"1 of 4 faces.*eyes are at one point.*task\.options\.normalizer=box"):
        metric.update(predicted, true, normalizer)
    assert metric.histogram.sum() == 0


def test_normalizers() -> None:
    true = torch.zeros(2, 5, 2)
    true[0, 0], true[0, 1] = torch.tensor([10.0, 20.0]), torch.tensor([13.0, 24.0])
    assert eye_distance(true).tolist() == [5.0, 0.0]
    assert box_diagonal(torch.tensor([3.0, 100.0])).tolist() == pytest.approx([np.hypot(3, 3), np.hypot(100, 100)])
