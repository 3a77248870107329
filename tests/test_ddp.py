"""Two processes that train one run: the same gradient, the same bits after a cut, and no hang where one fails."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, multiprocessing

from facedistill.compose import compose_config
from facedistill.config import Config
from facedistill.data.views import FaceBatch
from facedistill.distill.teacher import FrozenTeacher
from facedistill.errors import ConfigError, RunError
from facedistill.fit import build_trainer
from facedistill.models.weights import read_weights
from facedistill.pipeline import plan
from facedistill.runs import Run, all_records
from facedistill.tasks.assemble import build_module, build_targets, published_network, training_network

IDENTITIES = 5
TINY = [
    *("data.num_identities=4", "data.images_per_identity=12", "data.pairs_per_fold=2", "image.resize=24"),
    *("image.crop=20", "model.width=16", "teacher.model.width=16", "task.batch_size=9", "logger=csv"),
    *("trainer.accelerator=cpu", "rate=8", "init=scratch", "target=none", "schedule.epochs=3"),
]
TWO = "trainer=ddp"
TIMED = ("seconds", "images_per_second")
LIMIT = 150
CASES = {
    "classify": ["task=classify", "target=soft"],
    "classify, hidden": ["task=classify", "target=hidden"],
    "align": ["task=align", "init=scratch", "target=none"],
    "verify, hard": ["task=verify", "init=scratch", "target=none", "task.options.mining=hard"],
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
    return FaceBatch(images, labels, torch.arange(11), points, torch.ones(11, 3))


def gradients(case: str, batch: FaceBatch) -> dict[str, torch.Tensor]:
    """Of one step, with BatchNorm as in a test: its statistics are then of no batch."""
    torch.manual_seed(0)
    config = config_of(case)
    network = training_network(config, IDENTITIES)
    teachers = {}
    if config.target.active():
        taught = published_network(compose_config(["task=teacher", "rate=1", *TEACHER]), IDENTITIES)
        teachers = {"teacher": FrozenTeacher(taught, {})}
    module = build_module(config, network, teachers, build_targets(config, network, teachers)).eval()
    with torch.no_grad():  # residual branches start at zero: what is before them would have no gradient
        for parameter in module.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    module.training_step(batch, 0)["loss"].backward()
    return {name: one.grad for name, one in module.named_parameters() if one.grad is not None}


TEACHER = ["image.resize=24", "image.crop=20", "teacher.model.width=16", "init=scratch", "target=none"]


def rank(number: int, port: int, out: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=number, world_size=2)
    share = FaceBatch(*(part[number::2] for part in whole_batch()))
    found = {case: gradients(case, share) for case in CASES}
    for gradient in (gradient for of_case in found.values() for gradient in of_case.values()):
        distributed.all_reduce(gradient)
        gradient /= 2  # as DDP does
    if number == 0:
        torch.save(found, out)
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, torch.Tensor]]:
    """The gradients of every case, by two processes with six samples and five."""
    out = f"{tmp_path_factory.mktemp('gradients')}/two.pt"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.start_processes(rank, (port, out), nprocs=2, start_method="spawn")
    found: dict[str, dict[str, torch.Tensor]] = torch.load(out)
    return found


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_is_that_of_one_process(of_two: dict[str, dict[str, torch.Tensor]], case: str) -> None:
    two, one = of_two[case], gradients(case, whole_batch())
    assert two.keys() == one.keys()
    for name, gradient in one.items():
        assert gradient.norm() > 0
        assert (two[name] - gradient).norm() < 1e-5 * gradient.norm() + 1e-7, name


def start(runs: Path, *words: str) -> subprocess.Popen[str]:
    paths = [f"runs_dir={runs}", f"cache_dir={runs.parent}/cache"]
    line = [sys.executable, "-m", "facedistill.train", *TINY, TWO, *paths, *words]
    return subprocess.Popen(line, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=LIMIT)
    return process.returncode, said


def found(runs: Path) -> tuple[Any, ...]:
    [record] = all_records(runs)
    history = [{name: value for name, value in row.items() if name not in TIMED} for row in record["history"]]
    return record["metrics"], history, read_weights(runs / record["name"] / "weights.safetensors").tensors


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes."""
    runs = tmp_path_factory.mktemp("made") / "runs"
    status, said = finish(start(runs))
    assert status == 0, said
    return runs


def test_two_processes_make_one_run_with_the_identity_of_one(made: Path) -> None:
    [directory] = [path for path in made.iterdir() if path.is_dir()]
    run = plan([*TINY, f"runs_dir={made}"])
    assert isinstance(run, Run)
    assert directory == run.directory
    assert run.is_complete
    assert run.record["config"]["trainer"]["devices"] == 2
    assert len(run.record["history"]) == len(run.config.epoch_rates)
    assert {"metrics.csv", "curves.png", "samples.png", "roc.png", "weights.safetensors"} <= {
        p.name for p in directory.iterdir()
    }
    assert not (directory / "last.ckpt").exists()


def test_a_run_of_two_processes_that_was_cut_ends_in_the_same_bits(made: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    (tmp_path / "cache").symlink_to(made.parent / "cache")
    process = start(runs)
    end = time.monotonic() + LIMIT
    while not list(runs.glob("*/last.ckpt")):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not all_records(runs)
    status, said = finish(start(runs))
    assert status == 0, said
    one, other = found(made), found(runs)
    assert one[:2] == other[:2]
    assert all(torch.equal(other[2][name], tensor) for name, tensor in one[2].items())


def test_a_rank_that_fails_ends_the_run_and_nothing_hangs(tmp_path: Path) -> None:
    fail = tmp_path / "sitecustomize.py"
    fail.write_text(
        "import os, sys\n"
        "if os.environ.get('LOCAL_RANK') == '1':\n"
        "    import facedistill.callbacks.history as history\n"
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
def test_a_sweep_of_two_jobs_of_two_ranks(tmp_path: Path) -> None:
    """The first fails on its second rank; the other is made."""
    paths = [f"runs_dir={tmp_path}/runs", f"cache_dir={tmp_path}/cache"]
    rates = "task.learning_rates.random=[1e20],[0.1]"
    line = [sys.executable, "-m", "facedistill.train", "-m", *TINY, TWO, rates, "hydra.launcher.n_jobs=1", *paths]
    done = subprocess.run(line, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 2, done.stdout
    assert "the loss is not finite" in done.stdout
    [record] = all_records(tmp_path / "runs")
    assert record["recipe"]["learning_rates"][0] == 0.1
    assert len([path for path in (tmp_path / "runs").iterdir() if path.is_dir()]) == 2


def test_what_can_not_be_shared_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="too few for each"):
        compose_config(["trainer=ddp", "trainer.devices=8", "task.batch_size=8"])
    with pytest.raises(ConfigError, match=r"sync_batchnorm=true works on GPUs only"):
        compose_config(["trainer=ddp", "trainer.sync_batchnorm=true", "trainer.accelerator=cpu"])
    run = plan([*TINY, TWO, f"runs_dir={tmp_path}"])
    assert isinstance(run, Run)
    monkeypatch.setattr("hydra.core.hydra_config.HydraConfig.initialized", staticmethod(lambda: True))
    with pytest.raises(RunError, match=r"python -m facedistill.worker"):
        build_trainer(run, [], "")


def test_synchronized_batchnorm_is_another_run_and_its_absence_the_same(tmp_path: Path) -> None:
    words = ["runs_dir=x", "trainer.accelerator=gpu"]
    one, two = plan(words), plan([*words, "trainer=ddp"])
    synchronized = plan([*words, "trainer=ddp", "trainer.sync_batchnorm=true"])
    assert one.identity == two.identity != synchronized.identity
    assert json.loads(json.dumps(synchronized.recipe))["sync_batchnorm"] is True


def test_the_worker_makes_no_ancestors(tmp_path: Path) -> None:
    words = [*TINY, f"runs_dir={tmp_path}/runs", f"cache_dir={tmp_path}/cache", "init=full", "target=soft"]
    line = [sys.executable, "-m", "facedistill.worker", *words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 2
    assert "its teacher is not complete: teacher-r1-" in done.stderr
    assert not (tmp_path / "runs").exists()
