"""Nothing in a training step makes the host wait for the device: on a GPU every such call would empty its queue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from every_target import TARGETS
from facedistill.config.schema import Config
from facedistill.data.faces import FaceSet
from facedistill.data.loading.datamodule import FaceData
from facedistill.data.loading.on_device import UncutViews
from facedistill.data.loading.view_schedule import EVAL_VIEW
from facedistill.data.loading.views import Views
from facedistill.distill.targets.soft import SoftTarget
from facedistill.distill.teacher import NetworkTeacher, TeacherInput, TeacherOutput
from facedistill.distill.top import KeptTop, TopTeacher
from facedistill.models.network import NetworkOutput, build_network
from facedistill.tasks import gather
from facedistill.tasks.assemble import build_module, build_targets, training_network
from tiny import MODULE

Compose = Callable[..., Config]
WAITING = {"aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::masked_select", "aten::is_nonzero"}
BROUGHT = {"item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__", "new_tensor", "nonzero"}
MADE = {torch.tensor, torch.as_tensor, torch.from_numpy}  # of what lies on the host


class Waits(Exception):
    """Something waits."""


class NoScalar(TorchDispatchMode):
    """Refuses what torch itself brings to the host, also in the backward pass and in the optimizer."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = function.name()
        masks = name.startswith("aten::index") and any(
            isinstance(one, torch.Tensor) and one.dtype == torch.bool
            for part in args[1:2]
            for one in (part if isinstance(part, list | tuple) else [])
        )
        if name.split(".")[0] in WAITING or masks:
            raise Waits(name)
        return function(*args, **(kwargs or {}))


class NoCopy(TorchFunctionMode):
    """Refuses what is written to bring a tensor to the host, or a list to the device."""

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if function in MADE or getattr(function, "__name__", "") in BROUGHT:
            raise Waits(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.sum()),
        lambda x: x[x > 0],
        lambda x: (x > 0).nonzero(),
        lambda x: x.new_tensor([1, 2]),
        lambda x: x.cpu(),
        lambda x: torch.where(x > 0),
        lambda x: torch.tensor([1.0]),
    ],
)
def test_what_waits_is_found(wait: Callable[[torch.Tensor], object]) -> None:
    with pytest.raises(Waits), NoScalar(), NoCopy():
        wait(torch.ones(3))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize(
    "cell",
    [
        *TARGETS.values(),
        ["task=align", "target=hidden"],
        ["task=embed", "target=cosine", "model.features=128"],
    ],
    ids=[*TARGETS, "align", "embed"],
)
@pytest.mark.parametrize("views", ["live", "all"])
def test_a_training_step_waits_for_nothing(
    compose: Compose, marked: FaceSet, cell: list[str], views: str, precision: str
) -> None:
    """From the batch on the device, cut there, to the step of the optimizer."""
    config = compose(*MODULE, "init=scratch", *cell, f"target.views={views}")
    torch.manual_seed(0)
    network = training_network(config, 4)
    teachers = {
        role: NetworkTeacher(build_network(config.teacher.model, 1, 4), {})
        for role in {config.role_of(term) for term in config.target.active()}
    }
    module = build_module(config, network, teachers, build_targets(config, network, teachers))
    data = FaceData(config, marked)
    module._trainer = SimpleNamespace(datamodule=data)  # type: ignore[assignment]
    keys = next(iter(data.train_batches))
    whole = Views(marked, data._augmentation)
    if views == "all":
        answers = {role: teacher(whole[keys].images).embedding.numpy() for role, teacher in teachers.items()}
        whole = Views(marked, data._augmentation, {role: lambda *_, of=of: of for role, of in answers.items()})
    uncut = UncutViews(whole)[keys]
    assert keys[0][1] != EVAL_VIEW
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, nesterov=True, fused=True)
    before = [one.clone() for one in module.parameters()]
    with NoScalar(), NoCopy():
        batch = uncut.to(torch.device("cpu"))
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            losses = module.training_step(batch, 0)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    assert all(value.dtype == torch.float32 for value in losses.values())
    assert any(not torch.equal(one, other) for one, other in zip(before, module.parameters(), strict=True))


def test_what_a_bank_keeps_of_a_soft_prediction_is_learnt_without_waiting() -> None:
    teacher, logits = torch.randn(6, 9), torch.randn(6, 9, requires_grad=True)
    kept = torch.from_numpy(KeptTop(3, 3.0, 9)(TeacherOutput(teacher, torch.nn.Identity())))
    recalls, soft = TopTeacher(TeacherInput(None, None, None)), SoftTarget(1.0, 9, 0, 3.0, tau_squared=True)
    with NoScalar(), NoCopy():
        soft(NetworkOutput(logits, logits, logits[:, :0]), recalls.recall(kept)).backward()
    assert logits.grad is not None
    assert logits.grad.any()


def test_a_mean_over_ranks_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "gather_shares", lambda mean: torch.stack([mean, mean + 1, mean + 4]))
    with NoScalar(), NoCopy():
        mean = gather.mean_over_ranks(torch.full((), 2.0), [3, 4, 1])
    assert mean.item() == (3 * 2 + 4 * 3 + 1 * 6) / 8
