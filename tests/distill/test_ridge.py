"""The ridge regression of one embedding on another, against normal equations with a column of ones."""

import numpy as np
import pytest
import torch

from facedistill.distill.ridge import STRENGTH, ridge


@pytest.mark.parametrize(("samples", "width"), [(50, 6), (8, 20)], ids=["enough samples", "fewer than values"])
def test_it_is_the_least_of_its_sum(samples: int, width: int) -> None:
    draw = np.random.default_rng(0)
    x = (draw.normal(size=(samples, width)) * draw.gamma(1, 3, width) + 7).astype(np.float32)
    y = (draw.normal(size=(samples, 4)) - 3).astype(np.float32)
    weight, bias = ridge(torch.from_numpy(x), torch.from_numpy(y))
    ones = np.column_stack([x.astype(float), np.ones(samples)])
    penalty = np.diag([STRENGTH * x.astype(float).var(0).mean()] * width + [0.0])  # none of the intercept
    expected = np.linalg.lstsq(ones.T @ ones / samples + penalty, ones.T @ y.astype(float) / samples)[0]
    np.testing.assert_allclose(weight, expected[:-1].T, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(bias, expected[-1], rtol=1e-6)


def test_the_scale_of_the_inputs_does_not_count() -> None:
    x, y = torch.randn(30, 5, dtype=torch.float64), torch.randn(30, 2, dtype=torch.float64)
    (weight, bias), (of_larger, same) = ridge(x, y), ridge(1000 * x, y)
    torch.testing.assert_close(weight, 1000 * of_larger)
    torch.testing.assert_close(bias, same)


def test_inputs_that_are_all_the_same_predict_the_mean() -> None:
    y = torch.randn(9, 2, dtype=torch.float64)
    weight, bias = ridge(torch.ones(9, 3), y)
    assert torch.equal(weight, torch.zeros(2, 3, dtype=torch.float64))
    torch.testing.assert_close(bias, y.mean(0))
