"""Classes that ranks split: what a loss exchanges, as docs/scaling.md counts it, and that it stays the same loss."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from facedistill.distill.target import Target
from facedistill.distill.targets.dkd import DkdTarget
from facedistill.distill.targets.grouped import GroupedTarget
from facedistill.distill.targets.soft import SoftTarget
from facedistill.distill.teacher import TeacherInput, TeacherOutput
from facedistill.distill.top import KeptTop, TopTeacher
from facedistill.models import classes
from facedistill.models.classes import ALL, Classes, ClassShare
from facedistill.models.network import NetworkOutput

SAMPLES, CLASSES = 5, 9
DRAW = torch.Generator().manual_seed(0)
STUDENT, TEACHER = (3 * torch.randn(SAMPLES, CLASSES, generator=DRAW) for _ in range(2))
LABELS = torch.tensor([0, 8, 3, 3, 5])
WHOLE = TeacherOutput(TEACHER, nn.Identity())
TOP = TopTeacher(TeacherInput(None, None, None)).recall(torch.from_numpy(KeptTop(4, 3.0, CLASSES)(WHOLE)))


def taught(target: Target, answer: TeacherOutput, *labels: Tensor) -> Callable[[NetworkOutput], Tensor]:
    return lambda student: target(student, answer, *labels)


def identity(student: NetworkOutput) -> Tensor:
    """H(P, y)."""
    return -student.classes.of_labels(student.classes.log_softmax(student.logits), LABELS).mean()


LOSSES = {
    "H(P, y)": (identity, 5),
    "soft": (taught(SoftTarget(1.0, 0, 0, 3.0, True), WHOLE), 7),
    "soft of top4": (taught(SoftTarget(1.0, 0, 0, 3.0, True), TOP), 5),
    "dkd": (taught(DkdTarget(1.0, 0, 0, 3.0, 8.0), WHOLE, LABELS), 17),
    "grouped": (taught(GroupedTarget(1.0, 0, 0, 3.0, 0.9), WHOLE), 51),
}


@pytest.mark.parametrize(("loss", "exchanges"), LOSSES.values(), ids=LOSSES)
def test_exchanges_of_a_step_and_the_same_gradient(
    monkeypatch: pytest.MonkeyPatch, loss: Callable[[NetworkOutput], Tensor], exchanges: int
) -> None:
    """One rank that has all classes as its share: what it exchanges stays as it is."""
    asked = []
    monkeypatch.setattr(classes.distributed, "all_reduce", lambda *words: asked.append(words))

    def step(of: Classes) -> tuple[Tensor, Tensor]:
        logits = STUDENT.clone().requires_grad_()
        value = loss(NetworkOutput(logits[:, :0], logits, logits[:, :0], of))
        (gradient,) = torch.autograd.grad(value, logits)
        return value.detach(), gradient

    expected = step(ALL)
    assert not asked
    for found, value in zip(step(ClassShare(0, 1, CLASSES)), expected, strict=True):
        torch.testing.assert_close(found, value)
    assert len(asked) == exchanges
