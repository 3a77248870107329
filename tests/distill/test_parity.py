"""Gradient parity: the arithmetic of weights, what has none, and that measuring changes nothing."""

import math

import pytest
import torch
from torch import nn

from facedistill.distill.parity import parity, unchanged
from facedistill.errors import RunError


def test_a_term_is_multiplied_until_its_mean_gradient_is_c_times_that_of_the_task() -> None:
    found = parity(0.5, [1.0, 2.0, 0.0], {"soft": [4.0, 4.0, 4.0], "hidden": [0.0, 0.0, 0.3]})
    assert found == pytest.approx({"soft": 0.5 * 1 / 4, "hidden": 0.5 * 1 / 0.1})


@pytest.mark.parametrize("length", [0.0, math.nan, math.inf])
def test_a_loss_without_a_gradient_is_named(length: float) -> None:
    with pytest.raises(RunError, match=r"target\.terms\.soft has a gradient of length .* first 2 batches.*parity=null"):
        parity(1, [1.0, 1.0], {"hidden": [1.0, 1.0], "soft": [length, 0.0]})
    with pytest.raises(RunError, match="the task's own loss has a gradient of length"):
        parity(1, [0.0, length], {"hidden": [1.0, 1.0]})


def test_statistics_and_random_state_are_as_they_were() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout())
    network(torch.randn(4, 3))
    before, state = {name: value.clone() for name, value in network.state_dict().items()}, torch.get_rng_state()
    with unchanged(network):
        network(torch.randn(4, 3) + 5)
        assert not torch.equal(network.state_dict()["0.running_mean"], before["0.running_mean"])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
