"""Classes split between two ranks: losses, gradients and parity of one process, whatever the shares."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, distributed, multiprocessing

from facedistill.config.compose import compose_config
from facedistill.data.loading.views import FaceBatch
from facedistill.distill import chunked_loss
from facedistill.distill.teacher import NetworkTeacher
from facedistill.models.classes import ALL, Classes, ClassShare
from facedistill.tasks.assemble import build_module, build_targets, training_network
from facedistill.tasks.base import TaskModule

RANKS = 2
IDENTITIES = 5
SIZE = ["image.resize=24", "image.crop=20", "model.width=16", "teacher.model.width=16"]
CASES = {
    "classify": ["task=classify", "target=none"],
    "classify, soft": ["task=classify", "target=soft"],
    "classify, logits": ["task=classify", "target=logits"],
    "classify, sum of logits": ["task=classify", "target=logits", "target.terms.logits.reduction=sum"],
    "classify, hidden and soft": ["task=classify", "target=hidden", "target.alpha=1"],
    "align, soft": ["task=align", "target=soft"],
    "verify, joint and soft": ["task=verify", "target=soft", "task.options.mining=all", "task.softmax=true"],
}
LABELS = {
    "of both ranks": [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4],
    "of the first rank": [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0],
    "of the last rank": [2, 3, 4, 2, 3, 4, 2, 3, 4, 2, 3],
}
LAYER = ("network.classifier.weight", "network.classifier.bias")


def batch_of(labels: str) -> FaceBatch:
    """Eleven samples: two ranks can't share them evenly, nor the five identities."""
    draw = torch.Generator().manual_seed(0)
    count = len(LABELS[labels])
    images = torch.randint(0, 256, (count, 3, 20, 20), generator=draw, dtype=torch.uint8)
    points = torch.rand((count, 5, 2), generator=draw) * 2 - 1
    parts = (torch.ones(count, 3), torch.zeros(count, dtype=torch.bool), torch.empty((count, 3, 0, 0)))
    return FaceBatch(
        images, torch.tensor(LABELS[labels]), torch.arange(count), points, *parts, torch.arange(count) % 2, {}
    )


def module_of(case: str, shares: list[int], classes: ClassShare | None) -> TaskModule:
    torch.manual_seed(0)
    config = compose_config([*SIZE, *CASES[case]])
    network, teachers = training_network(config, IDENTITIES), {}
    if config.target.active():
        of_identities = compose_config(["task=teacher", "rate=1", *SIZE, "init=scratch", "target=none"])
        roles = sorted({config.role_of(term) for term in config.target.active()})
        teachers = {role: NetworkTeacher(training_network(of_identities, IDENTITIES)) for role in roles}
    module = build_module(config, network, teachers, build_targets(config, network, teachers))
    assert isinstance(module, TaskModule)
    with torch.no_grad():  # residual branches start at zero: what is before them would have no gradient
        for parameter in module.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    if classes is not None:
        module.split_classes(classes)
    module.batch_sizes_per_rank = lambda *_: shares  # type: ignore[method-assign]
    return module


def step(case: str, batch: FaceBatch, shares: list[int], classes: ClassShare | None = None) -> dict[str, Any]:
    """The losses of a step, and its gradients by the names of parameters; BatchNorm as in a test."""
    module = module_of(case, shares, classes).eval()
    losses = module.training_step(batch, 0)
    losses["loss"].backward()
    return {
        "losses": {name: value.item() for name, value in losses.items()},
        "gradients": {name: one.grad for name, one in module.named_parameters() if one.grad is not None},
    }


def parity_of(case: str, batch: FaceBatch, shares: list[int], classes: ClassShare | None = None) -> dict[str, Tensor]:
    module = module_of(case, shares, classes)
    module.start_targets([batch, batch])
    return {name: value.detach() for name, value in module.targets.state_dict().items()}


def own_loss(classes: Classes, logits: Tensor, others: Tensor, labels: Tensor) -> Tensor:
    """[n]; of logits that have their mean subtracted, so that values of all classes come back to each."""
    centred = logits - classes.mean(logits)[:, None]
    margin = classes.of_labels(centred, labels) - classes.sum(classes.softmax(others) * centred.square())
    return margin.square() + classes.sum(classes.log_softmax(centred) * others)


def own_loss_of(part: slice, classes: Classes) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    logits, others = (torch.randn(4, 7, dtype=torch.float64, generator=draw) for _ in range(2))
    own = logits[:, part].clone().requires_grad_()
    loss = own_loss(classes, own, others[:, part], torch.tensor([0, 6, 3, 2]))
    (gradient,) = torch.autograd.grad(loss.sum(), own)
    return loss.detach(), gradient


def rank(number: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=number, world_size=RANKS)
    classes, found = ClassShare(number, RANKS, IDENTITIES), {}
    for labels in LABELS:
        *parts, embeddings = batch_of(labels)
        share = FaceBatch(*(part[number::RANKS] for part in parts), embeddings)
        for case in CASES if labels == "of both ranks" else ("classify", "verify, joint and soft"):
            found[case, labels, "at once"] = step(case, share, [6, 5], classes)
            found[case, labels, "parity"] = parity_of(case, share, [6, 5], classes) if "soft" in case else {}
            chunked_loss.MOST, most = 7, chunked_loss.MOST  # two rows of the larger share at a time
            found[case, labels, "by rows"] = step(case, share, [6, 5], classes)
            chunked_loss.MOST = most
    own = ClassShare(number, RANKS, 7)
    found["own"] = own_loss_of(own.rows, own)
    torch.save(found, f"{folder}/{number}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    """What each rank finds."""
    folder = tmp_path_factory.mktemp("split")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.start_processes(rank, (port, str(folder)), nprocs=RANKS, start_method="spawn")
    return [torch.load(folder / f"{number}.pt") for number in range(RANKS)]


@pytest.mark.parametrize("way", ["at once", "by rows"])
@pytest.mark.parametrize(
    ("case", "labels"),
    [
        *((case, "of both ranks") for case in CASES),
        *((case, labels) for case in ("classify", "verify, joint and soft") for labels in list(LABELS)[1:]),
    ],
)
def test_losses_and_gradients_are_those_of_one_process(
    of_two: list[dict[Any, Any]], case: str, labels: str, way: str
) -> None:
    one, two = step(case, batch_of(labels), [11]), [found[case, labels, way] for found in of_two]
    for found in two:
        assert found["losses"] == pytest.approx(one["losses"], rel=2e-6)
        assert found["gradients"].keys() == one["gradients"].keys()
    for name, gradient in one["gradients"].items():
        parts = [found["gradients"][name] for found in two]
        both = torch.cat(parts) if name in LAYER else sum(parts) / RANKS  # the rest as DDP has it
        assert gradient.norm() > 0
        assert (both - gradient).norm() < 5e-6 * gradient.norm(), name
    assert [len(found["gradients"][LAYER[0]]) for found in two] == [2, 3]


@pytest.mark.parametrize("case", [case for case in CASES if "soft" in case])
def test_parity_is_that_of_one_process(of_two: list[dict[Any, Any]], case: str) -> None:
    one = parity_of(case, batch_of("of both ranks"), [11])
    assert one["soft.parity"] != 1
    for found in of_two:
        torch.testing.assert_close(found[case, "of both ranks", "parity"], one, rtol=1e-3, atol=1e-5)


def test_a_loss_of_another_kind_has_its_gradient_where_values_of_all_classes_come_back_to_each(
    of_two: list[dict[Any, Any]],
) -> None:
    """As everywhere that ranks exchange values, the gradients of what each of them finds add up."""
    loss, gradient = own_loss_of(slice(0, 7), ALL)
    for found in of_two:
        torch.testing.assert_close(found["own"][0], loss)
    torch.testing.assert_close(torch.cat([found["own"][1] for found in of_two], dim=1) / RANKS, gradient)


def test_functions_of_all_classes_are_torchs_to_the_bit() -> None:
    """What a run of one process finds does not depend on how its losses are written."""
    draw = torch.Generator().manual_seed(0)
    logits, others = (9 * torch.randn(33, 57, generator=draw) for _ in range(2))
    labels, soft = torch.randint(57, (33,), generator=draw), others.softmax(1)
    for expected, found in (
        (
            lambda own: F.cross_entropy(own, labels, reduction="none"),
            lambda own: -ALL.of_labels(ALL.log_softmax(own), labels),
        ),
        (
            lambda own: F.cross_entropy(own, soft, reduction="none"),
            lambda own: -ALL.sum(ALL.log_softmax(own) * ALL.softmax(others)),
        ),
    ):
        values = []
        for loss in (expected, found):
            own = logits.clone().requires_grad_()
            rows = loss(own)
            values.append([rows.detach(), *torch.autograd.grad(rows.mean(), own)])
        assert all(torch.equal(one, other) for one, other in zip(*values, strict=True))


@pytest.mark.parametrize(("whole", "ranks"), [(5, 2), (7, 3), (4, 4), (100_003, 8)])
def test_shares_are_all_classes_once_and_differ_by_one_at_most(whole: int, ranks: int) -> None:
    shares = [ClassShare(number, ranks, whole) for number in range(ranks)]
    assert [row for share in shares for row in range(whole)[share.rows]] == list(range(whole))
    assert {share.count for share in shares} <= {whole // ranks, -(-whole // ranks)}
    assert {share.most(torch.empty(1, share.count)) for share in shares} == {max(share.count for share in shares)}
