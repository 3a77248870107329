"""An epoch of a student with a bank, an epoch with a live teacher, and the same epoch in torchdistill, on one core.

    python benchmarks/torchdistill_epoch.py

It needs `pip install torchdistill`. The embedded faces (40 identities, 48 → 40 pixels, batches of 32), teacher and
students of resnet_small at rates 1, 8 and 4, cross-entropy and τ² times the soft one, τ = 3, Nesterov SGD. Both
libraries train equal networks from equal weights on the same batches; first the losses of the first steps must agree.

Ours is what `facedistill.training.fit` builds: its Trainer, module, callbacks and data. torchdistill's is what its
examples do: DistillationBox with KDLoss, and their loop with its MetricLogger. In its favour, it gets whole batches
instead of collating images, the fused SGD that ours has, networks in the memory format that is faster here, and none of
torch's deterministic algorithms. Its box leaves a teacher in the mode in which it comes, and the examples never change
it: here it comes in eval mode, as ours is.

Images/s are those of one epoch from the end of its first batch to the end of its last: start-up, evaluation and
checkpoint are in neither. The three ways take turns; the table has medians of eleven repetitions, and the median of the
ratios within a repetition. The bank is made before, and what that took is printed. Everything lies in a temporary
folder. Five minutes.
"""

from __future__ import annotations

import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from itertools import islice
from typing import Any

import pytorch_lightning as pl
import torch
from measure import alternating, print_table
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from facedistill.data.loading.datamodule import FaceData
from facedistill.data.loading.samplers import Keys
from facedistill.data.loading.views import FaceBatch
from facedistill.distill.teacher import NetworkTeacher
from facedistill.models.network import Network
from facedistill.runs.ensure import ensure
from facedistill.runs.plan import plan
from facedistill.runs.run import Run
from facedistill.tasks.assemble import build_module, build_targets, training_network
from facedistill.tracking.wandb_run import WandbRun
from facedistill.training.callbacks.finite import FiniteLoss
from facedistill.training.callbacks.history import History
from facedistill.training.fit import train_run
from facedistill.training.teachers import load_teachers
from facedistill.training.trainer import build_trainer, quiet

RATES = (8, 4)
REPETITIONS = 11
CHECKED = 5  # first steps whose losses are compared
TOLERANCE = 1e-3  # of a loss: the bank rounds to float16
RIVAL, BANK, LIVE = "torchdistill", "facedistill, bank", "facedistill, live teacher"
CPU = torch.device("cpu")
WORDS = [
    *(
        "task=classify",
        "init=scratch",
        "target=soft",
        "target.parity=null",
        "seed=0",
        "data=synthetic",
        "scale=embedded",
    ),
    *("data.num_identities=40", "data.images_per_identity=60", "image.resize=48", "image.crop=40"),
    *("task.batch_size=32", "schedule.epochs=1", "task.learning_rates.random=[0.01]"),  # one epoch
    *("trainer.accelerator=cpu", "trainer.threads=1", "trainer.num_workers=0", "trainer.progress=false", "logger=csv"),
]


@dataclass
class Watch:
    """What every step of an epoch was: when it ended, its images, its loss."""

    ends: list[float] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def step(self, images: int, loss: float) -> None:
        """A step has ended."""
        self.ends.append(time.perf_counter())
        self.images.append(images)
        self.losses.append(loss)

    @property
    def rate(self) -> float:
        """Images a second after the first step, which also pays for what torch prepares once."""
        return sum(self.images[1:]) / (self.ends[-1] - self.ends[0])


class Watched(pl.Callback):
    """Lightning's steps."""

    def __init__(self) -> None:
        self.watch = Watch()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: FaceBatch, batch_idx: int
    ) -> None:
        """A step has ended; this callback is the last one."""
        self.watch.step(len(batch.labels), outputs["loss"].item())


@dataclass(frozen=True)
class Cell:
    """A run that is ready to train, as often as one likes."""

    run: Run
    data: FaceData
    teachers: dict[str, NetworkTeacher]

    @classmethod
    def prepared(cls, run: Run) -> Cell:
        """With the teacher that it stands on, and its bank."""
        for parent in run.parents.values():
            assert isinstance(parent, Run)
            ensure(parent, train_run)
        run.directory.mkdir(parents=True, exist_ok=True)
        data = FaceData.of(run.config)
        return cls(run, data, load_teachers(run, data))

    @property
    def loader(self) -> DataLoader[FaceBatch]:
        """The batches of the epoch."""
        return self.data.train_dataloader()

    def student(self) -> Network:
        """Always the same weights."""
        torch.manual_seed(self.run.config.seed)
        return training_network(self.run.config, len(self.data.faces.identities))


def ours(cell: Cell) -> Watch:
    """An epoch as ``facedistill.training.fit.train_run`` trains it."""
    config, network, watched = cell.run.config, cell.student(), Watched()
    module = build_module(config, network, cell.teachers, build_targets(config, network, cell.teachers))
    history = History(cell.run.directory / "metrics.csv", WandbRun(cell.run))
    with quiet():
        build_trainer(cell.run, [FiniteLoss(), history, watched], "").fit(module, cell.data)
    return watched.watch


class ImagesAndLabels(Dataset[tuple[Tensor, Tensor]]):
    """Our batches, as torchdistill takes those of classification."""

    def __init__(self, views: Dataset[FaceBatch]) -> None:
        self._views = views

    def __getitem__(self, keys: Keys) -> tuple[Tensor, Tensor]:
        batch = self._views[keys]
        return batch.images, batch.labels


class Logits(nn.Module):
    """A network that says logits alone, as KDLoss takes them."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """a [B, C]."""
        logits: Tensor = self.network(images).logits
        return logits


def box_of(cell: Cell) -> Any:
    """torchdistill's box with a new student; its configuration is a node of its examples' YAML files."""
    from torchdistill.core.distillation import get_distillation_box  # slow, and processes that render import this file

    config, loader = cell.run.config, cell.loader
    target, schedule = config.target, config.schedule
    kd = {
        "student_module_path": ".",
        "student_module_io": "output",
        "teacher_module_path": ".",
        "teacher_module_io": "output",
        "temperature": target.tau,
        "alpha": 1.0,
        "beta": target.alpha,
        "reduction": "batchmean",
    }
    sgd = {
        "lr": config.epoch_rates[0],
        "momentum": schedule.momentum,
        "nesterov": True,
        "weight_decay": schedule.weight_decay,
        "fused": True,
    }
    term = {"criterion": {"key": "KDLoss", "kwargs": kd}, "weight": 1.0}
    node = {
        "num_epochs": 1,
        "train_data_loader": {
            "dataset_id": "faces",
            "sampler": {"class_or_func": lambda _: loader.sampler},
            "kwargs": {"batch_size": None, "num_workers": 0},
        },
        "teacher": {"forward_proc": "forward_batch_only", "sequential": [], "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only", "sequential": [], "requires_grad": True},
        "optimizer": {"key": "SGD", "kwargs": sgd},
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"kd": term}}},
    }
    teacher, data = Logits(cell.teachers["teacher"].network).eval(), {"faces": ImagesAndLabels(loader.dataset)}
    return get_distillation_box(teacher, Logits(cell.student()), data, node, CPU, None, False, 1)


def theirs(cell: Cell) -> Watch:
    """An epoch as torchdistill's examples train it."""
    from torchdistill.misc.log import MetricLogger, SmoothedValue

    torch.use_deterministic_algorithms(False)  # a Trainer of ours turns them on for the whole process
    box, watch, meters = box_of(cell), Watch(), MetricLogger(delimiter="  ")
    meters.add_meter("lr", SmoothedValue(window_size=1, fmt="{value}"))
    meters.add_meter("img/s", SmoothedValue(window_size=10, fmt="{value}"))
    box.pre_epoch_process(epoch=0)
    for images, labels, extra in meters.log_every(box.train_data_loader, 1000, "Epoch: [0]"):
        start = time.time()
        loss = box.forward_process(images.to(CPU), labels.to(CPU), extra)
        box.post_forward_process(loss=loss)
        meters.update(loss=loss.item(), lr=box.optimizer.param_groups[0]["lr"])
        meters.meters["img/s"].update(len(images) / (time.time() - start))
        assert torch.isfinite(loss)
        watch.step(len(images), loss.item())
    box.post_epoch_process()
    return watch


@torch.no_grad()
def entropies(cell: Cell) -> list[float]:
    """τ² times the entropy of the teacher's soft prediction, of the first batches.

    Our soft term is a cross-entropy and KDLoss a divergence, which is less by this: it has no gradient.
    """
    target, found = cell.run.config.target, []
    for batch in islice(cell.loader, CHECKED):
        soft = (cell.teachers["teacher"](batch.images).logits / target.tau).log_softmax(1)
        found.append(target.alpha * target.tau**2 * -float((soft.exp() * soft).sum(1).mean()))
    return found


def rate_of(way: Callable[[], Watch]) -> float:
    """Images a second of one more epoch."""
    return way().rate


def check_equal(ways: Mapping[str, Callable[[], Watch]], cell: Cell) -> None:
    """Every way has the same losses, or they do not do the same work."""
    losses = {name: torch.tensor(way().losses[:CHECKED], dtype=torch.float64) for name, way in ways.items()}
    losses[RIVAL] += torch.tensor(entropies(cell), dtype=torch.float64)
    off = {name: float((found / losses[RIVAL] - 1).abs().max()) for name, found in losses.items()}
    assert max(off.values()) < TOLERANCE, f"losses of the first {CHECKED} steps differ: {losses}"
    print(f"losses of the first {CHECKED} steps agree within {max(off.values()):.0e}\n")


def measure(rate: int, folder: str) -> None:
    """The table of one rate."""
    words = [*WORDS, f"rate={rate}", f"runs_dir={folder}/runs", f"cache_dir={folder}/cache"]
    live = Cell.prepared(plan([*words, "target.views=live"]))
    start = time.perf_counter()
    bank = Cell.prepared(plan([*words, "target.views=all"]))
    if rate == RATES[0]:
        seconds, count = time.perf_counter() - start, len(bank.data.faces.train)
        print(f"making the bank of an epoch, {count:,} images, once for all students: {seconds:.1f} s\n")
    ways = {RIVAL: partial(theirs, live), BANK: partial(ours, bank), LIVE: partial(ours, live)}
    check_equal(ways, live)
    found = alternating({name: partial(rate_of, way) for name, way in ways.items()}, REPETITIONS)
    rows = []
    for name, rates in found.items():
        times = statistics.median(own / other for own, other in zip(rates, found[RIVAL], strict=True))
        rows.append([name, f"{statistics.median(rates):,.0f}", f"{times:.2f}"])
    print_table([f"rate {rate}", "images/s", "times torchdistill"], rows)


def main() -> None:
    """Measure and print."""
    if find_spec("torchdistill") is None:
        print(f"torchdistill is missing: {sys.executable} -m pip install torchdistill", file=sys.stderr)
        sys.exit(2)
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    print(f"torchdistill {version('torchdistill')}, torch {version('torch')}\n")
    with tempfile.TemporaryDirectory() as folder:
        for rate in RATES:
            measure(rate, folder)


if __name__ == "__main__":
    main()
