"""The optimizers against their formulas, and the learning rate of every step against torch's schedulers."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from facedistill.config.groups import ScheduleConfig
from facedistill.tasks.optimizer import build_optimizer, cosine


@pytest.mark.parametrize(("steps", "warmup"), [(40, 0.0), (40, 0.25), (7, 0.5), (1, 0.0), (1, 0.9), (1000, 0.001)])
def test_a_cosine_is_that_of_torch_after_a_rise_in_equal_parts(steps: int, warmup: float) -> None:
    rising = round(steps * warmup)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps - rising))
    for step in range(steps):
        if step < rising:
            assert cosine(step, steps, warmup) == pytest.approx((step + 1) / rising, rel=1e-12)
            continue
        assert cosine(step, steps, warmup) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        scheduler.step()


def test_a_cosine_ends_at_zero_and_is_nowhere_above_one() -> None:
    for steps in (1, 2, 3, 10, 97):
        for warmup in (0.0, 0.05, 0.5):
            rates = [cosine(step, steps, warmup) for step in range(steps + 1)]
            assert rates[-1] == pytest.approx(0, abs=1e-12)
            assert max(rates) == 1
            assert min(rates[:-1]) > 0
            top = rates.index(1)
            assert rates[:top] == sorted(rates[:top])
            assert rates[top:] == sorted(rates[top:], reverse=True)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 5))


def steps_of(optimizer: torch.optim.Optimizer, net: nn.Sequential, count: int) -> list[dict[str, np.ndarray]]:
    """Some steps at a learning rate of 0.01; the gradients of each, in float64."""
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    images, found = torch.randn(count, 6, 3, 8, 8, generator=torch.Generator().manual_seed(1)), []
    for batch in images:
        optimizer.zero_grad()
        net(batch).square().mean().backward()
        found.append({name: one.grad.double().numpy().copy() for name, one in net.named_parameters()})  # type: ignore[union-attr]
        optimizer.step()
    return found


def test_adamw_is_its_formula_and_decays_neither_biases_nor_scales() -> None:
    net, schedule = network(), ScheduleConfig(epochs=1, optimizer="adamw", momentum=0.8, weight_decay=0.5)
    values = {name: one.detach().double().numpy().copy() for name, one in net.named_parameters()}
    gradients = steps_of(build_optimizer(schedule, net.parameters()), net, 5)
    for name, value in values.items():
        decay = 0.5 if name in ("0.weight", "3.weight") else 0.0
        first = second = np.zeros_like(value)
        for number, step in enumerate(gradients, 1):
            gradient = step[name]
            first, second = 0.8 * first + 0.2 * gradient, 0.999 * second + 0.001 * gradient**2
            value = value * (1 - 0.01 * decay)
            value = value - 0.01 * (first / (1 - 0.8**number)) / (np.sqrt(second / (1 - 0.999**number)) + 1e-8)
        now = dict(net.named_parameters())[name].detach().numpy()
        np.testing.assert_allclose(now, value, atol=2e-6, err_msg=name)


def test_sgd_is_nesterov_and_decays_everything() -> None:
    net, schedule = network(), ScheduleConfig(epochs=1, momentum=0.9, weight_decay=0.5)
    values = {name: one.detach().double().numpy().copy() for name, one in net.named_parameters()}
    gradients = steps_of(build_optimizer(schedule, net.parameters()), net, 4)
    for name, value in values.items():
        speed = np.zeros_like(value)
        for step in gradients:
            gradient = step[name] + 0.5 * value
            speed = 0.9 * speed + gradient
            value = value - 0.01 * (gradient + 0.9 * speed)
        now = dict(net.named_parameters())[name].detach().numpy()
        np.testing.assert_allclose(now, value, atol=2e-6, err_msg=name)


def test_steps_of_adamw_are_the_same_bits_again() -> None:
    schedule = ScheduleConfig(epochs=1, optimizer="adamw", momentum=0.9, weight_decay=0.05)
    one, other = network(), network()
    for net in (one, other):
        steps_of(build_optimizer(schedule, net.parameters()), net, 3)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert all(map(math.isfinite, a.flatten().tolist()))
