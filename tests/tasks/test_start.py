"""How the terms of a target start: by gradient parity, the hidden layer's map at a ridge regression."""

import copy
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
import torch

from facedistill.config.build import build
from facedistill.config.schema import Config
from facedistill.data.faces import FaceSet
from facedistill.data.loading.datamodule import FaceData
from facedistill.distill.parity import BATCHES
from facedistill.distill.ridge import ridge
from facedistill.distill.targets.soft import SoftTarget
from facedistill.distill.teacher import NetworkTeacher
from facedistill.errors import RunError
from facedistill.models.network import build_network
from facedistill.tasks.classify import Classify
from tiny import MODULE as TINY

Compose = Callable[..., Config]
HIDDEN = ("target=hidden", "target.terms.hidden.map=random")


def task(config: Config) -> Classify:
    torch.manual_seed(0)
    network = build_network(config.model, config.rate, 4)
    teacher = NetworkTeacher(build_network(config.teacher.model, 1, 4), {})
    widths = {"student_width": network.backbone.width, "teacher_width": teacher.width}
    targets = {name: build("target", term, **widths) for name, term in config.target.active().items()}
    return Classify(config, network, {"teacher": teacher}, targets)


def started(compose: Compose, faces: FaceSet, *words: str) -> tuple[Classify, list[Any]]:
    """A module whose terms have started, and the batches on which parity was measured."""
    config = compose(*TINY, *words)
    module, batches = task(config), FaceData(config, faces).first_batches(2 * BATCHES)
    assert len(batches) > 1
    module.start_targets(batches)
    return module, batches[-(-len(batches) // 2) :]


def lengths(module: Classify, batches: list[Any], weigh: Callable[[dict[str, Any]], Any]) -> float:
    """The mean length of the gradient on the backbone of a sum of losses that ``weigh`` makes."""
    found = []
    for batch in batches:
        own = copy.deepcopy(module)
        student, teacher = own.network(batch.images), own.teachers["teacher"](batch.images)
        losses = {name: term(student, teacher) for name, term in own.targets.items()}
        weigh({"task": own.task_loss(student, batch), **losses}).backward()
        squares = [
            one.grad.double().square().sum() for one in own.network.backbone.parameters() if one.grad is not None
        ]
        found.append(float(torch.stack(squares).sum().sqrt()))
    return sum(found) / len(found)


def test_the_first_batches_are_those_that_training_sees_first(compose: Compose, faces: FaceSet) -> None:
    data = FaceData(compose(*TINY, "target=soft"), faces)
    batches = data.first_batches(3)
    assert len(batches) == 3
    for mine, other in zip(batches, islice(data.train_dataloader(), 3), strict=True):
        assert torch.equal(mine.images, other.images)
        assert torch.equal(mine.indices, other.indices)


@pytest.mark.parametrize("c", [1.0, 3.0])
def test_a_weighted_term_has_c_times_the_gradient_of_the_task(compose: Compose, faces: FaceSet, c: float) -> None:
    words = ("target=hidden", "target.beta=2", "target.alpha=0.5", f"target.parity={c}")
    module, batches = started(compose, faces, *words)
    of_task = lengths(module, batches, lambda losses: losses["task"])
    for name, weight in (("hidden", 2), ("soft", 0.5)):
        final = module.terms[name].final_weight
        assert lengths(module, batches, lambda losses: final * losses[name]) == pytest.approx(  # noqa: B023
            weight * c * of_task, rel=1e-4
        )


def test_parity_is_of_the_student_and_a_term_s_own_parameters_keep_their_step(compose: Compose, faces: FaceSet) -> None:
    module, (batch, *_) = started(compose, faces, "target=hidden", "target.beta=2", "target.alpha=0.5")
    fresh = copy.deepcopy(module)
    found = module.training_step(batch, 0)
    found["loss"].backward()
    assert found["loss"].item() == pytest.approx(
        (found["task"] + 2 * found["hidden"] + 0.5 * found["soft"]).item(), rel=1e-5
    )
    student, teacher = fresh.network(batch.images), fresh.teachers["teacher"](batch.images)
    hidden, soft = (fresh.targets[name](student, teacher) for name in ("hidden", "soft"))
    factor = {name: fresh.terms[name].final_weight for name in ("hidden", "soft")}
    loss = fresh.task_loss(student, batch) + factor["hidden"] * hidden + factor["soft"] * soft
    network = list(fresh.network.parameters())
    for mine, other in zip(
        module.network.parameters(), torch.autograd.grad(loss, network, retain_graph=True), strict=True
    ):
        torch.testing.assert_close(mine.grad, other, rtol=1e-4, atol=1e-6)
    of_map = fresh.targets["hidden"].map.weight
    (expected,) = torch.autograd.grad(2 * hidden, of_map)
    torch.testing.assert_close(module.targets["hidden"].map.weight.grad, expected)
    assert factor["hidden"] != pytest.approx(2, rel=0.1)


def test_the_scale_of_a_term_does_not_count(compose: Compose, faces: FaceSet) -> None:
    def parity(*words: str) -> float:
        module, _ = started(compose, faces, *HIDDEN, *words)
        return float(module.terms["hidden"].parity)

    width = build_network(compose(*TINY).teacher.model, 1, 4).backbone.width
    assert parity("target.terms.hidden.reduction=sum") == pytest.approx(parity() / width, rel=1e-5)
    assert parity("target.beta=7") == parity()


def test_measuring_leaves_the_network_and_its_gradients_alone(compose: Compose, faces: FaceSet) -> None:
    module, _ = started(compose, faces, "target=hidden", "target.alpha=1")
    fresh = task(module.config)
    assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in parameters_of_network(module).items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert module.network.training


def parameters_of_network(module: Classify) -> dict[str, torch.Tensor]:
    return {name: value for name, value in module.named_parameters() if name.startswith("network.")}


def test_without_parity_and_ridge_nothing_starts_otherwise(compose: Compose, faces: FaceSet) -> None:
    module, _ = started(compose, faces, *HIDDEN, "target.parity=null", "target.beta=0.3")
    fresh = task(module.config).targets.state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in module.targets.state_dict().items())
    assert module.terms["hidden"].final_weight == 0.3


def test_the_map_starts_at_the_ridge_regression_over_the_first_batches(compose: Compose, faces: FaceSet) -> None:
    module, _ = started(compose, faces, "target=hidden")
    fresh, teacher = task(module.config), module.teachers["teacher"]
    batches = FaceData(module.config, faces).first_batches(2 * BATCHES)
    batches = batches[: -(-len(batches) // 2)]
    with torch.no_grad():
        student = torch.cat([fresh.network(batch.images).embedding for batch in batches])
        taught = torch.cat([teacher(batch.images).embedding for batch in batches])
        weight, bias = ridge(student, taught)
        before, after = (one.targets["hidden"].map(student) - taught for one in (fresh, module))
    linear = module.targets["hidden"].map
    torch.testing.assert_close(linear.weight.data, weight.float())
    torch.testing.assert_close(linear.bias.data, bias.float())
    assert after.square().mean() < (taught - taught.mean(0)).square().mean() < before.square().mean()


def test_a_term_and_a_task_without_a_gradient_are_named(
    compose: Compose, faces: FaceSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(SoftTarget, "forward", lambda self, student, teacher: 0 * student.logits.sum())
        with pytest.raises(RunError, match=r"target\.terms\.soft has a gradient of length 0"):
            started(compose, faces, "target=soft")
        started(compose, faces, "target=soft", "target.parity=null")
    monkeypatch.setattr(Classify, "task_loss", lambda self, student, batch: 0 * student.logits.sum())
    with pytest.raises(RunError, match="the task's own loss"):
        started(compose, faces, "target=soft")
