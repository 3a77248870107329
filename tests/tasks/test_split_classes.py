"""Classes split between two ranks: losses, gradients and parity of one process, whatever the shares."""

from __future__ import annotations

import copy
import socket
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, distributed, multiprocessing, nn

from every_target import OF_LOGITS, TARGETS
from facedistill.config.compose import compose_config
from facedistill.data.loading.views import FaceBatch
from facedistill.distill import chunked_loss
from facedistill.distill.teacher import NetworkTeacher, TeacherOutput
from facedistill.distill.top import KeptTop, TopTeacher
from facedistill.errors import RunError
from facedistill.models.classes import ALL, Classes, ClassShare
from facedistill.models.network import NetworkOutput
from facedistill.tasks.assemble import build_module, build_targets, training_network
from facedistill.tasks.base import TaskModule
from facedistill.tasks.split_classes import ClassifierShare

RANKS = 2
IDENTITIES = 5
SIZE = ["image.resize=24", "image.crop=20", "model.width=16", "teacher.model.width=16"]
CASES = {
    "classify": ["task=classify", "target=none"],
    **{f"classify, {name}": ["task=classify", *TARGETS[name]] for name in OF_LOGITS},
    "classify, top of soft": ["task=classify", "target=soft", "target.bank=top2"],
    "classify, sum of logits": ["task=classify", "target=logits", "target.terms.logits.reduction=sum"],
    "classify, hidden and soft": ["task=classify", "target=hidden", "target.alpha=1"],
    "align, soft": ["task=align", "target=soft"],
    "verify, joint and soft": ["task=verify", "target=soft", "task.options.mining=all", "task.softmax=true"],
}
CASES["classify, dist"].append("target.tau=30")  # a student here is sure of a class for all: float32 knows no more
LABELS = {
    "of both ranks": [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4],
    "of the first rank": [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0],
    "of the last rank": [2, 3, 4, 2, 3, 4, 2, 3, 4, 2, 3],
}
BY_ROWS = ("classify", "classify, logits", "classify, hidden and soft", "classify, dkd", "classify, grouped")
OF_ONE_RANK = "verify, joint and soft"
STEPS = [
    *((case, "of both ranks", "at once") for case in CASES),
    *((case, "of both ranks", "by rows") for case in BY_ROWS),
    *((OF_ONE_RANK, labels, "at once") for labels in list(LABELS)[1:]),
    *((case, "of both ranks", "in bf16") for case in ("classify, soft", "classify, logits")),
]
OPTIMIZERS = {"sgd": [], "adamw": ["schedule.optimizer=adamw", "task.learning_rates.random=[0.01]"]}
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


def share_of(labels: str, rank: int) -> FaceBatch:
    *parts, embeddings = batch_of(labels)
    return FaceBatch(*(part[rank::RANKS] for part in parts), embeddings)


def module_of(case: str, shares: list[int], classes: ClassShare | None, *words: str) -> TaskModule:
    torch.manual_seed(0)
    config = compose_config([*SIZE, *CASES[case], *words])
    network, teachers = training_network(config, IDENTITIES), {}
    if config.target.active():
        of_identities = compose_config(["task=teacher", "rate=1", *SIZE, "init=scratch", "target=none"])
        roles = sorted({config.role_of(term) for term in config.target.active()})
        teachers = {role: NetworkTeacher(training_network(of_identities, IDENTITIES)) for role in roles}
        if config.target.top is not None:
            teachers = {role: TopTeacher(teacher.input) for role, teacher in teachers.items()}
    module = build_module(config, network, teachers, build_targets(config, network, teachers))
    assert isinstance(module, TaskModule)
    with torch.no_grad():  # residual branches start at zero: what is before them would have no gradient
        for parameter in module.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    if classes is not None:
        module.split_classes(classes)
    module.batch_sizes_per_rank = lambda *_: shares  # type: ignore[method-assign]
    return module


def with_top(batch: FaceBatch) -> FaceBatch:
    """With the two most likely classes of its samples, as a bank brings them."""
    logits = 4 * torch.randn(len(LABELS["of both ranks"]), IDENTITIES, generator=torch.Generator().manual_seed(5))
    kept = KeptTop(2, 3.0, IDENTITIES)(TeacherOutput(logits, nn.Identity()))
    return batch._replace(teacher_embeddings={"teacher": torch.from_numpy(kept)[batch.indices]})


def autocast(way: str) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=way == "in bf16")


def step(case: str, batch: FaceBatch, shares: list[int], classes: ClassShare | None = None) -> dict[str, Any]:
    """The losses of a step, and its gradients by the names of parameters; BatchNorm as in a test."""
    module = module_of(case, shares, classes).eval()
    losses = module.training_step(with_top(batch) if module.config.target.top else batch, 0)
    losses["loss"].backward()
    return {
        "losses": {name: value.item() for name, value in losses.items()},
        "gradients": {name: one.grad for name, one in module.named_parameters() if one.grad is not None},
    }


def parity_of(case: str, batch: FaceBatch, shares: list[int], classes: ClassShare | None = None) -> dict[str, Tensor]:
    module = module_of(case, shares, classes)
    module.start_targets([batch, batch])
    return {name: value.detach() for name, value in module.targets.state_dict().items()}


def optimized(module: TaskModule, optimizer: torch.optim.Optimizer, batch: FaceBatch, ranks: int) -> None:
    """A step of a module; as DDP would, what ranks have in common is averaged."""
    optimizer.zero_grad()
    module.training_step(batch, 0)["loss"].backward()
    for name, parameter in module.named_parameters():
        if ranks > 1 and name not in module._ddp_params_and_buffers_to_ignore:
            distributed.all_reduce(parameter.grad)
            parameter.grad /= ranks
    optimizer.step()


def dumped(module: TaskModule, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """A checkpoint, as Lightning has it made."""
    module._trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")))  # type: ignore
    checkpoint = {"state_dict": module.state_dict(), "optimizer_states": [optimizer.state_dict()]}
    module.on_save_checkpoint(checkpoint)
    return checkpoint


def restored(
    checkpoint: dict[str, Any], shares: list[int], classes: ClassShare | None, *words: str
) -> tuple[TaskModule, torch.optim.Optimizer]:
    module = module_of("classify", shares, classes, *words).eval()
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"])
    optimizer = module.build_optimizer()
    optimizer.load_state_dict(checkpoint["optimizer_states"][0])
    return module, optimizer


def cut_and_resumed(batch: FaceBatch, shares: list[int], classes: ClassShare | None, *words: str) -> dict[str, Any]:
    """Two steps, a checkpoint, and another: by those who wrote it, and by others who have it from the first rank."""
    ranks = len(shares)
    module = module_of("classify", shares, classes, *words).eval()
    optimizer = module.build_optimizer()
    for group in optimizer.param_groups:
        group["lr"] = 1e-5  # statistics of BatchNorm are of no batch, so gradients are long
    for _ in range(2):
        optimized(module, optimizer, batch, ranks)
    written = [copy.deepcopy(dumped(module, optimizer))]
    kept = [value.shape[0] for value in optimizer.state[module.network.classifier.weight].values() if value.ndim]
    if ranks > 1:
        distributed.broadcast_object_list(written)
    other, optimizer_of_other = restored(copy.deepcopy(written[0]), shares, classes, *words)
    for each in ((module, optimizer), (other, optimizer_of_other)):
        optimized(*each, batch, ranks)
    with module.assembled():
        assert type(module.network.classifier) is nn.Linear
        scored = module.network(batch.student_images).logits.detach()
    return {
        "checkpoint": written[0],
        "rows": [len(module.network.classifier.weight), *kept],
        "ends": [one.state_dict() for one in (module, other)],
        "scored": scored,
    }


def own_loss(classes: Classes, logits: Tensor, others: Tensor, labels: Tensor) -> Tensor:
    """[n]; of logits that have their mean subtracted, so that values of all classes come back to each."""
    centred = logits - classes.mean(logits)[:, None]
    outcomes = classes.outcomes(logits, torch.tensor([[0, 2, 1], [5, 0, 2], [6, 4, 3], [1, 3, 6]]))
    margin = classes.of_labels(centred, labels) - classes.sum(classes.softmax(others) * centred.square())
    return margin.square() + classes.sum(classes.log_softmax(centred) * others) + outcomes.square().sum(1)


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
    most = chunked_loss.MOST
    for case, labels, way in STEPS:
        chunked_loss.MOST = 7 if way == "by rows" else most  # two rows of the larger share
        with autocast(way):
            found[case, labels, way] = step(case, share_of(labels, number), [6, 5], classes)
    chunked_loss.MOST = most
    share = share_of("of both ranks", number)
    found["parity"] = parity_of("classify, hidden and soft", share, [6, 5], classes)
    for name, words in OPTIMIZERS.items():
        found[name] = cut_and_resumed(share, [6, 5], classes, *words)
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


@pytest.mark.parametrize(("case", "labels", "way"), STEPS)
def test_losses_and_gradients_are_those_of_one_process(
    of_two: list[dict[Any, Any]], case: str, labels: str, way: str
) -> None:
    two = [found[case, labels, way] for found in of_two]
    with autocast(way):
        one = step(case, batch_of(labels), [11])
    rounding = 5e-6 if way != "in bf16" else 1e-2  # what ranks add up has been rounded
    for found in two:
        assert found["losses"] == pytest.approx(one["losses"], rel=2e-6)
        assert found["gradients"].keys() == one["gradients"].keys()
    for name, gradient in one["gradients"].items():
        parts = [found["gradients"][name] for found in two]
        both = torch.cat(parts) if name in LAYER else sum(parts) / RANKS  # the rest as DDP has it
        assert gradient.norm() > 0
        assert (both - gradient).norm() < rounding * gradient.norm(), name
    assert [len(found["gradients"][LAYER[0]]) for found in two] == [2, 3]


def test_parity_is_that_of_one_process(of_two: list[dict[Any, Any]]) -> None:
    one = parity_of("classify, hidden and soft", batch_of("of both ranks"), [11])
    assert one["soft.parity"] != 1
    for found in of_two:
        torch.testing.assert_close(found["parity"], one, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_rank_keeps_its_rows_alone_and_a_checkpoint_has_all(of_two: list[dict[Any, Any]], optimizer: str) -> None:
    """Of weights, and of what the optimizer remembers of them."""
    one = cut_and_resumed(batch_of("of both ranks"), [11], None, *OPTIMIZERS[optimizer])
    moments = 1 if optimizer == "sgd" else 2
    assert [found[optimizer]["rows"] for found in of_two] == [[2] * (1 + moments), [3] * (1 + moments)]
    for found in of_two:
        torch.testing.assert_close(found[optimizer]["checkpoint"], one["checkpoint"], rtol=1e-4, atol=1e-5)
    scored = torch.cat([found[optimizer]["scored"] for found in of_two])
    order = [*range(0, 11, RANKS), *range(1, 11, RANKS)]
    torch.testing.assert_close(scored, one["scored"][order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_ranks_resume_to_the_bit_and_one_process_resumes_what_they_began(
    of_two: list[dict[Any, Any]], optimizer: str
) -> None:
    for found in of_two:
        for name, value in found[optimizer]["ends"][0].items():
            assert torch.equal(found[optimizer]["ends"][1][name], value), name
    words = OPTIMIZERS[optimizer]
    module, of_one = restored(of_two[0][optimizer]["checkpoint"], [11], None, *words)
    optimized(module, of_one, batch_of("of both ranks"), 1)
    begun = of_two[0][optimizer]["checkpoint"]["state_dict"]
    for name, value in module.state_dict().items():
        ends = [found[optimizer]["ends"][0][name] for found in of_two]
        end = torch.cat(ends) if name in LAYER else ends[0]
        assert (end - value).double().norm() <= 0.02 * (value - begun[name]).double().norm(), name


def test_more_ranks_than_identities_are_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(ranks: int, *words: str) -> TaskModule:
        monkeypatch.setattr("facedistill.tasks.split_classes.rank_and_world_size", lambda: (0, ranks))
        module = module_of("classify", [11], None, *words)
        module.setup("fit")
        return module

    split = "trainer.split_classes=true"
    with pytest.raises(RunError, match=r"5 identities between 6 ranks: trainer\.split_classes=false"):
        started(6, split)
    rows = [started(*case).network.classifier for case in ((5, split), (6,), (1, split))]
    assert [len(layer.weight) for layer in rows if layer is not None] == [1, 5, 5]


def test_hooks_of_a_layer_stay_with_the_rows_that_are_kept() -> None:
    """A classifier on a recognizer from elsewhere learns at a pace of its own by one."""
    layer = nn.Linear(3, 5)
    layer.weight.register_hook(lambda gradient: gradient / 8)  # type: ignore[no-untyped-call]
    expected = layer.weight.detach()[2:].clone()
    share = ClassifierShare(layer, ClassShare(1, 2, 5))
    assert torch.equal(share.weight, expected)
    answer = share.answer(NetworkOutput(torch.ones(1, 3), torch.empty(1, 0), torch.empty(1, 0, 2)))
    answer.logits.sum().backward()
    assert torch.equal(share.weight.grad, torch.full((3, 3), 1 / 8 / 2))
    assert share.classes.rows == slice(2, 5)


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
    assert {share.largest_share(torch.empty(1, share.count)) for share in shares} == {
        max(share.count for share in shares)
    }
