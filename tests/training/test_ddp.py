"""Two processes that train one run: the same gradient, the same bits after a cut, and no hang where one fails."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from timm.layers import BatchNormAct2d
from torch import distributed, multiprocessing, nn

from every_target import TARGETS
from facedistill.config.compose import compose_config
from facedistill.config.schema import Config
from facedistill.data.loading.samplers import IdentityBatches, TrainBatches
from facedistill.data.loading.views import FaceBatch
from facedistill.distill.teacher import NetworkTeacher
from facedistill.errors import ConfigError, DataError, RunError
from facedistill.evaluate import evaluate_run
from facedistill.evaluation.scoring import device_for
from facedistill.models.weights import read_weights
from facedistill.runs.plan import plan
from facedistill.runs.run import Run
from facedistill.sweep.jobs import BUSY, GRACE
from facedistill.system.files import is_held
from facedistill.tasks.assemble import build_module, build_targets, training_network
from facedistill.tasks.base import TaskModule
from facedistill.tasks.batch_norm import WholeBatchNorm
from facedistill.tasks.gather import gather_tensor
from facedistill.training.trainer import build_trainer
from facedistill.worker import is_first
from facedistill.worker import main as worker
from made_records import all_records
from tiny import RUN
from trained_runs import curve

IDENTITIES = 5
TINY = [
    *(
        *RUN,
        "task.batch_size=9",
        "trainer.accelerator=cpu",
        "rate=8",
        "init=scratch",
        "target=none",
        "schedule.epochs=3",
    ),
    "trainer.progress=true",
]
TWO = "trainer=ddp"
LIMIT = 150
CASES = {
    **{f"classify, {name}": ["task=classify", *words] for name, words in TARGETS.items()},
    "classify, hidden and soft": ["task=classify", "target=hidden", "target.alpha=1"],
    "align": ["task=align", "init=scratch", "target=none"],
    "verify, hard": ["task=verify", "init=scratch", "target=none", "task.options.mining=hard"],
    "hint": ["task=hint"],
    "periocular, shared": ["task=periocular", "init=scratch", "target=none"],
    "periocular, separate": ["task=periocular", "init=scratch", "target=none", "task.options.batchnorm=separate"],
    "reconstruct": ["task=reconstruct"],
    "spoof, aligned": [
        *("task=spoof", "data=synthetic_spoof", "target=two_teachers", "target.views=live"),
        "task.options.alignment=4",
    ],
    "verify, joint": ["task=verify", "init=scratch", "target=none", "task.options.mining=all", "task.softmax=true"],
}


def config_of(case: str) -> Config:
    return compose_config(
        ["image.resize=24", "image.crop=20", "model.width=16", "teacher.model.width=16", *CASES[case]]
    )


def whole_batch() -> FaceBatch:
    """Eleven samples, which two ranks can't share evenly; with at least two of every identity."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4])
    images = torch.randint(0, 256, (11, 3, 20, 20), generator=draw, dtype=torch.uint8)
    points = torch.rand((11, 5, 2), generator=draw) * 2 - 1
    return FaceBatch(
        images,
        labels,
        torch.arange(11),
        points,
        torch.ones(11, 3),
        torch.arange(11) % 3 == 0,
        torch.empty((11, 3, 0, 0)),
        torch.arange(11) % 2,
        {},
    )


def samplers() -> dict[str, TrainBatches]:
    """Of the third epoch, of 45 samples of five identities."""
    indices, labels = np.arange(45), np.arange(45) % IDENTITIES
    found = {
        "each once": TrainBatches(indices, 8, seed=1),
        "P identities × K": IdentityBatches(indices, labels, 9, 3, seed=1),
    }
    for sampler in found.values():
        sampler.set_epoch(2)
    return found


def loss_and_gradients(
    case: str, batch: FaceBatch, shares: list[int], training: bool = False
) -> tuple[float, dict[str, torch.Tensor]]:
    """Of one step; unless ``training``, with BatchNorm as in a test: its statistics are then of no batch."""
    if case.startswith("periocular"):
        batch = batch._replace(bands=batch.images[:, :, 5:13])
    torch.manual_seed(0)
    config = config_of(case)
    network = training_network(config, IDENTITIES)
    teachers = {}
    if config.target.active() or config.task.needs_teacher:
        taught = training_network(compose_config(["task=teacher", "rate=1", *TEACHER]), IDENTITIES)
        roles = {config.role_of(term) for term in config.target.active()} or {"teacher"}
        teachers = {role: NetworkTeacher(taught, {}) for role in roles}
    module = build_module(config, network, teachers, build_targets(config, network, teachers))
    module.train(training)
    with torch.no_grad():  # residual branches start at zero: what is before them would have no gradient
        for parameter in module.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    module.batch_sizes_per_rank = lambda *_: shares  # type: ignore[method-assign]
    loss = module.training_step(batch, 0)["loss"]
    loss.backward()
    return loss.item(), {name: one.grad for name, one in module.named_parameters() if one.grad is not None}


TEACHER = ["image.resize=24", "image.crop=20", "teacher.model.width=16", "init=scratch", "target=none"]


def start_of_terms(batch: FaceBatch, shares: list[int]) -> dict[str, torch.Tensor]:
    """What the terms of a distilled student have before the first step: their parity, and the map of the hidden one."""
    torch.manual_seed(0)
    config = config_of("classify, hidden and soft")
    taught = training_network(compose_config(["task=teacher", "rate=1", *TEACHER]), IDENTITIES)
    network, teachers = training_network(config, IDENTITIES), {"teacher": NetworkTeacher(taught, {})}
    module = build_module(config, network, teachers, build_targets(config, network, teachers))
    assert isinstance(module, TaskModule)
    module.batch_sizes_per_rank = lambda *_: shares  # type: ignore[method-assign]
    module.start_targets([batch, batch])
    return module.targets.state_dict()


def normalizing_network() -> nn.Sequential:
    """Of maps and of vectors, and one of a subclass that does more than to normalize."""
    torch.manual_seed(0)
    layers = [nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3, bias=False), BatchNormAct2d(8), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8 * 18 * 18, 4, bias=False), nn.BatchNorm1d(4))


def step_of(network: nn.Sequential, images: torch.Tensor, shares: list[int], together: bool) -> torch.Tensor:
    """A loss of the whole batch, of which these images are a share, after its backward pass."""
    with WholeBatchNorm(shares) if together else nullcontext():
        output = network(images.float())
    loss = gather_tensor(output, shares).sigmoid().var(0).sum()
    loss.backward()
    return loss.detach()


def rank(number: int, port: int, out: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=number, world_size=2)
    *parts, embeddings = whole_batch()
    share = FaceBatch(*(part[number::2] for part in parts), embeddings)
    found: dict[str, Any] = {}
    losses, in_training = {}, {}
    for case in CASES:
        in_training[case], _ = loss_and_gradients(case, share, [6, 5], training=True)
        losses[case], found[case] = loss_and_gradients(case, share, [6, 5])
        for gradient in found[case].values():
            distributed.all_reduce(gradient)
            gradient /= 2  # as DDP does
    found["start"] = [None, None]
    distributed.all_gather_object(found["start"], start_of_terms(share, [6, 5]))
    for together in (True, False):
        network = normalizing_network()
        loss = step_of(network, share.images, [6, 5], together)
        for parameter in network.parameters():
            distributed.all_reduce(parameter.grad)
        found[f"normalized {together}"] = [loss, [one.grad / 2 for one in network.parameters()], network.state_dict()]
    keys = {name: list(sampler) for name, sampler in samplers().items()}
    for name, own in (("losses", losses), ("losses in training", in_training), ("keys", keys)):
        found[name] = [None, None]
        distributed.all_gather_object(found[name], own)
    if number == 0:
        torch.save(found, out)
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The gradients of every case, each rank's losses and its shares of batches; one has six samples, one five."""
    out = f"{tmp_path_factory.mktemp('gradients')}/two.pt"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.start_processes(rank, (port, out), nprocs=2, start_method="spawn")
    found: dict[str, Any] = torch.load(out)
    return found


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_is_that_of_one_process(of_two: dict[str, Any], case: str) -> None:
    two, (_, one) = of_two[case], loss_and_gradients(case, whole_batch(), [11])
    assert two.keys() == one.keys()
    for name, gradient in one.items():
        assert gradient.norm() > 0
        # the order of samples alone, in one process, moves a gradient by up to 2.5e-6 of its length
        most = 1e-5 if case == "reconstruct" else 5e-6  # sums over every pixel are rounded
        assert (two[name] - gradient).norm() < most * gradient.norm(), name


def test_each_rank_has_a_loss_that_is_that_of_the_whole_batch(of_two: dict[str, Any]) -> None:
    whole = {case: loss_and_gradients(case, whole_batch(), [11])[0] for case in CASES}
    assert of_two["losses"] == [pytest.approx(whole, rel=1e-6)] * 2


def test_batchnorm_of_shares_is_that_of_the_whole_batch(of_two: dict[str, Any]) -> None:
    """Loss, gradients, and the mean and variance that are remembered."""
    network = normalizing_network()
    loss = step_of(network, whole_batch().images, [11], together=False)
    gradients, state = [one.grad for one in network.parameters()], network.state_dict()
    shared = of_two["normalized True"]
    torch.testing.assert_close([shared[0], shared[1]], [loss, gradients], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(shared[2], state, rtol=1e-4, atol=1e-6)
    by_share = of_two["normalized False"]
    assert abs(by_share[0] - loss) > 1e-3
    assert not torch.allclose(by_share[2]["0.running_mean"], state["0.running_mean"], rtol=1e-3)


def test_a_step_in_training_has_the_loss_of_one_process(of_two: dict[str, Any]) -> None:
    whole = {case: loss_and_gradients(case, whole_batch(), [11], training=True)[0] for case in CASES}
    assert of_two["losses in training"] == [pytest.approx(whole, rel=1e-4)] * 2


def test_terms_start_on_each_rank_as_in_one_process(of_two: dict[str, Any]) -> None:
    whole = start_of_terms(whole_batch(), [11])
    assert whole.keys() == {"hidden.parity", "hidden.map.weight", "hidden.map.bias", "soft.parity"}
    for of_rank in of_two["start"]:
        torch.testing.assert_close(of_rank, whole, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(*of_two["start"], rtol=0, atol=0)


@pytest.mark.parametrize("sampler", ["each once", "P identities × K"])
def test_two_ranks_share_each_batch(of_two: dict[str, Any], sampler: str) -> None:
    shares = [keys[sampler] for keys in of_two["keys"]]
    for batch, parts in zip(samplers()[sampler].batches(2), zip(*shares, strict=True), strict=True):
        assert sorted([*parts[0], *parts[1]]) == sorted((index, 2) for index in batch.tolist())
    if sampler == "each once":
        assert len({key for share in shares for batch in share for key in batch}) == 45


def start(runs: Path, *words: str) -> subprocess.Popen[str]:
    paths = [f"runs_dir={runs}", f"cache_dir={runs.parent}/cache"]
    line = [sys.executable, "-m", "facedistill.train", *TINY, TWO, *paths, *words]
    return subprocess.Popen(line, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=LIMIT)
    return process.returncode, said


def found(runs: Path) -> tuple[Any, ...]:
    [record] = all_records(runs)
    return record.metrics, curve(record), read_weights(runs / record.name / "weights.safetensors").tensors


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes."""
    runs = tmp_path_factory.mktemp("made") / "runs"
    status, said = finish(start(runs))
    assert status == 0, said
    return runs


@pytest.mark.slow
def test_two_processes_make_one_run_with_the_identity_of_one(made: Path) -> None:
    [directory] = [path for path in made.iterdir() if path.is_dir()]
    run = plan([*TINY, f"runs_dir={made}"])
    assert isinstance(run, Run)
    assert directory == run.directory
    assert run.is_complete
    assert run.record.config.trainer.devices == 2
    assert len(run.record.history) == len(run.config.epoch_rates)
    assert {"metrics.csv", "curves.png", "samples.png", "roc.png", "weights.safetensors"} <= {
        p.name for p in directory.iterdir()
    }
    assert not (directory / "last.ckpt").exists()


@pytest.mark.slow
def test_two_processes_find_what_one_finds(made: Path, tmp_path: Path) -> None:
    """The losses of the first epoch, before the rounding of sums has grown."""
    status, said = finish(start(tmp_path / "runs", "trainer.devices=1"))
    assert status == 0, said
    [two], [one] = all_records(made), all_records(tmp_path / "runs")
    assert two.identity == one.identity
    assert two.history[0]["train/task"] == pytest.approx(one.history[0]["train/task"], rel=1e-4)


@pytest.mark.slow
def test_equal_weights_have_equal_metrics(made: Path) -> None:
    """Two processes scored the last epoch, one the published weights, another scores them now."""
    [record] = all_records(made)
    metrics = record.metrics
    assert record.history[-1]["test/top1"] == np.float32(metrics["top1"])  # Lightning's log is of float32
    assert evaluate_run(made / record.name, [f"cache_dir={made.parent}/cache"]) == metrics


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "number"),
    [(os.killpg, signal.SIGKILL), (os.kill, signal.SIGTERM)],
    ids=["killed", "stopped"],
)
def test_a_run_of_two_processes_that_was_cut_ends_in_the_same_bits(
    made: Path, tmp_path: Path, end: Callable[[int, int], None], number: int
) -> None:
    runs = tmp_path / "runs"
    (tmp_path / "cache").symlink_to(made.parent / "cache")
    process = start(runs)
    deadline = time.monotonic() + LIMIT
    while not list(runs.glob("*/last.ckpt")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    end(process.pid, number)
    process.wait(timeout=GRACE - 5)  # then a sweep kills its jobs, which should have ended by themselves
    assert not all_records(runs)
    status, said = finish(start(runs))
    assert status == 0, said
    one, other = found(made), found(runs)
    assert one[:2] == other[:2]
    assert all(torch.equal(other[2][name], tensor) for name, tensor in one[2].items())


@pytest.mark.slow
def test_two_ranks_make_a_bank_together_and_learn_from_it(tmp_path: Path) -> None:
    """The first epoch starts from equal weights: its soft loss is that of a live teacher, but for rounding."""
    runs = {}
    (tmp_path / "cache").mkdir()
    for views in ("all", "live"):
        folder = tmp_path / views
        folder.mkdir()
        (folder / "cache").symlink_to(tmp_path / "cache")
        status, said = finish(start(folder / "runs", "target=soft", f"target.views={views}"))
        assert status == 0, said
        [runs[views]] = [record for record in all_records(folder / "runs") if record.name.startswith("classify")]
    banked, live = (runs[views].history[0]["train/soft"] for views in ("all", "live"))
    assert banked == pytest.approx(live, rel=1e-3)
    epochs = len(runs["all"].history)
    assert len(list((tmp_path / "cache").glob("bank-*/view-*.npz"))) == epochs


@pytest.mark.slow
def test_a_rank_that_fails_ends_the_run_and_nothing_hangs(tmp_path: Path) -> None:
    fail = tmp_path / "sitecustomize.py"
    fail.write_text(
        "import os, sys\n"
        "if os.environ.get('LOCAL_RANK') == '1':\n"
        "    import facedistill.training.callbacks.history as history\n"
        "    def fails(self, *_): os._exit(9)\n"
        "    history.History.on_train_batch_end = fails\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    line = [
        sys.executable,
        "-m",
        "facedistill.train",
        *TINY,
        TWO,
        f"runs_dir={tmp_path}/runs",
        f"cache_dir={tmp_path}/cache",
    ]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode != 0
    assert "failed" in done.stdout
    assert not all_records(tmp_path / "runs")


@pytest.mark.slow
def test_two_machines_make_the_run_that_two_processes_of_one_make(made: Path, tmp_path: Path) -> None:
    """Both on this one: each is given the worker's command with its NODE_RANK, as its help says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    paths = [f"runs_dir={tmp_path}/runs", f"cache_dir={made.parent}/cache"]
    line = [sys.executable, "-m", "facedistill.worker", *TINY, "trainer.devices=1", "trainer.num_nodes=2", *paths]
    machines = [
        subprocess.Popen(
            line,
            env=os.environ | address | {"NODE_RANK": f"{number}"},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for number in range(2)
    ]
    ended = [finish(machine) for machine in machines]
    assert [status for status, _ in ended] == [0, 0], ended
    one, other = found(made), found(tmp_path / "runs")
    assert one[:2] == other[:2]
    assert all(torch.equal(other[2][name], tensor) for name, tensor in one[2].items())


@pytest.mark.slow
def test_a_sweep_of_two_jobs_of_two_ranks(tmp_path: Path) -> None:
    """The first fails on its second rank; the other is made."""
    paths = [f"runs_dir={tmp_path}/runs", f"cache_dir={tmp_path}/cache"]
    rates = "task.learning_rates.random=[1e20],[0.1]"
    line = [sys.executable, "-m", "facedistill.train", "-m", *TINY, TWO, rates, "hydra.launcher.n_jobs=1", *paths]
    done = subprocess.run(line, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 2, done.stdout
    assert "the loss is not finite" in done.stdout
    [record] = all_records(tmp_path / "runs")
    assert record.recipe["learning_rates"][0] == 0.1
    assert len([path for path in (tmp_path / "runs").iterdir() if path.is_dir()]) == 2


@pytest.mark.slow
def test_ranks_end_with_a_sweep_that_is_killed(tmp_path: Path) -> None:
    """Nothing trains on unseen, and the lock is free again."""
    process = start(tmp_path / "runs", "schedule.epochs=500")
    end = time.monotonic() + LIMIT
    while not list((tmp_path / "runs").glob("*/last.ckpt")):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    process.kill()
    process.wait()
    [lock] = (tmp_path / "runs").glob("*/lock")
    while is_held(lock):
        assert time.monotonic() < end, "the worker trains on"
        time.sleep(0.2)
    mark = f"runs_dir={tmp_path}/runs".encode()
    while [one for one in Path("/proc").glob("[0-9]*/cmdline") if mark in content(one)]:
        assert time.monotonic() < end, "a rank is left"
        time.sleep(0.2)


def content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_rank_ends_with_the_process_that_started_it() -> None:
    rank = (
        "import os, time; from facedistill.system.signals import end_with_parent;"
        "end_with_parent(os.getppid()); print(flush=True); time.sleep(600)"
    )
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {rank!r}]); input()"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        process.communicate(b"\n", timeout=30)  # to the end of what both may print


def test_what_can_not_be_shared_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="too few for each"):
        compose_config(["trainer=ddp", "trainer.devices=8", "task.batch_size=8"])
    run = plan([*TINY, TWO, f"runs_dir={tmp_path}/my runs"])
    with pytest.raises(RunError, match=rf"takes 2 processes.*facedistill worker .*'runs_dir={tmp_path}/my"):
        build_trainer(run, [], "")
    monkeypatch.setattr("facedistill.data.loading.samplers.rank_and_world_size", lambda: (0, 5))
    with pytest.raises(DataError, match=r"a batch of 8 samples is too small for 5 processes.*trainer\.devices"):
        list(samplers()["each once"])


def test_each_rank_of_a_machine_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr("torch.accelerator.device_count", lambda: 2)
    assert device_for("auto") == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_for("gpu") == torch.device("cuda", 1)
    monkeypatch.setattr("torch.accelerator.device_count", lambda: 1)  # a launcher that shows each rank its own
    assert device_for("auto") == torch.device("cuda", 0)
    assert device_for("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["LOCAL_RANK", "NODE_RANK", "RANK", "SLURM_PROCID"])
def test_one_rank_is_the_first(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in ("LOCAL_RANK", "NODE_RANK", "RANK", "SLURM_PROCID"):
        monkeypatch.delenv(other, raising=False)
    assert is_first()
    monkeypatch.setenv(name, "0")
    assert is_first()
    monkeypatch.setenv(name, "1")
    assert not is_first()


def test_a_run_that_another_process_makes_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*TINY, f"runs_dir={tmp_path}"]
    run = plan(words)
    run.directory.mkdir()
    monkeypatch.setattr("facedistill.worker.stop_on_signals", lambda: None)
    with FileLock(run.lock):
        assert worker(words) == BUSY == 75
    assert f"is training {run.name}" in capsys.readouterr().err


@pytest.mark.parametrize("accelerator", ["cpu", "gpu"])
def test_batchnorm_by_share_is_another_run_of_every_number_of_ranks(accelerator: str) -> None:
    def identity(*words: str) -> str:
        run = plan(["runs_dir=x", f"trainer.accelerator={accelerator}", *words])
        assert isinstance(run, Run)
        return run.identity

    by_share = "trainer.sync_batchnorm=false"
    assert identity() == identity(by_share) == identity("trainer=ddp") == identity("trainer=ddp", "trainer.devices=4")
    assert len({identity(), *(identity(by_share, "trainer=ddp", f"trainer.devices={n}") for n in (2, 3))}) == 3
    assert identity(by_share, "trainer.devices=4") == identity(by_share, "trainer.devices=2", "trainer.num_nodes=2")


def test_the_worker_makes_no_ancestors(tmp_path: Path) -> None:
    words = [*TINY, f"runs_dir={tmp_path}/runs", f"cache_dir={tmp_path}/cache", "init=full", "target=soft"]
    line = [sys.executable, "-m", "facedistill.worker", *words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 2
    assert "its teacher is not complete: teacher-r1-" in done.stderr
    assert not (tmp_path / "runs").exists()
