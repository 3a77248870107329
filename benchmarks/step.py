"""An epoch of training with a bank, with a live teacher, with no teacher; and of a loop without Lightning.

    python benchmarks/step.py

Embedded faces (48 px, crops of 40), the small ResNet at rates 2, 4 and 8, batches of 32, one thread, soft target. All
ways train the same student on the same batches, through the real Trainer with its callbacks; evaluation and the making
of the bank are left out. The loop is what one writes by hand: zero_grad, forward, cross-entropy, backward, step, on the
same DataLoader; what it is slower by with our training_step in it is ours, and the rest is the Trainer's. They take
turns: medians of 5 repetitions, ratios within a repetition. Three minutes on two cores.
"""

from __future__ import annotations

import gc
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from measure import alternating, print_table
from torch import Tensor

from facedistill.data.loading.datamodule import FaceData
from facedistill.data.loading.views import FaceBatch
from facedistill.runs.ensure import ensure
from facedistill.runs.plan import plan
from facedistill.runs.run import Run
from facedistill.tasks.assemble import build_module, build_targets, training_network
from facedistill.tasks.base import ScheduledModule
from facedistill.tracking.wandb_run import WandbRun
from facedistill.training.callbacks.finite import FiniteLoss
from facedistill.training.callbacks.history import History
from facedistill.training.fit import train_run
from facedistill.training.teachers import load_teachers
from facedistill.training.trainer import build_trainer, quiet

RATES = (2, 4, 8)
REPETITIONS = 5
SIZES = [
    *("data.num_identities=40", "data.images_per_identity=60", "image.resize=48", "image.crop=40"),
    *("task.batch_size=32", "schedule.epochs=1"),
]
WAYS = {"no teacher": "target=none", "bank": "target.views=all", "live teacher": "target.views=live"}


class Clock(pl.Callback):
    """Seconds from the end of an epoch's first batch to the end of its last."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self.started = now if batch_idx == 0 else self.started
        self.seconds = now - self.started


def module_of(run: Run, data: FaceData) -> ScheduledModule:
    """A student with the same random weights in every way."""
    config = run.config
    torch.manual_seed(0)
    network = training_network(config, len(data.faces.identities))
    teachers = load_teachers(run, data)
    return build_module(config, network, teachers, build_targets(config, network, teachers))


def epoch_of(run: Run, top: Path) -> Callable[[], float]:
    """Trains one epoch by the Trainer, and gives its seconds."""

    def seconds() -> float:
        data, clock = FaceData.of(run.config), Clock()
        module = module_of(run, data)
        trainer = build_trainer(run, [clock, FiniteLoss(), History(top / "metrics.csv", WandbRun(run))], "")
        trainer.fit_loop.max_epochs, trainer.limit_val_batches = 1, 0
        with quiet():
            trainer.fit(module, data)
        return clock.seconds

    return seconds


def by_hand(module: ScheduledModule, batch: FaceBatch, number: int) -> Tensor:
    """The loss as one writes it."""
    return F.cross_entropy(module.network(batch.images).logits, batch.labels)


def our_step(module: ScheduledModule, batch: FaceBatch, number: int) -> Tensor:
    """The loss as our module says it."""
    return module.training_step(batch, number)["loss"]


def loop_of(run: Run, loss: Callable[[ScheduledModule, FaceBatch, int], Tensor]) -> Callable[[], float]:
    """The same epoch without a Trainer."""

    def seconds() -> float:
        data = FaceData.of(run.config)
        module = module_of(run, data)
        optimizer = module.configure_optimizers()["optimizer"]
        for group in optimizer.param_groups:
            group["lr"] = run.config.epoch_rates[0]
        module.train()
        data.train_batches.set_epoch(0)
        started = ended = 0.0
        for number, batch in enumerate(data.train_dataloader()):
            optimizer.zero_grad()
            loss(module, batch, number).backward()
            optimizer.step()
            ended = time.perf_counter()
            started = ended if number == 0 else started
        return ended - started

    return seconds


def main() -> None:
    """Make the teacher and its bank, then measure rate by rate."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        words = ["init=scratch", "target=soft", "logger=csv", "trainer.progress=false", f"cache_dir={folder}/cache"]
        words += [f"runs_dir={folder}/runs", *SIZES, "trainer.accelerator=cpu"]
        torch.set_num_threads(1)
        gc.freeze()  # as the command does
        logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
        for rate in RATES:
            runs = {way: plan([*words, f"rate={rate}", word]) for way, word in WAYS.items()}
            teacher = runs["live teacher"].parents["teacher"]
            assert isinstance(teacher, Run)
            ensure(teacher, train_run)
            ways = {way: epoch_of(run, Path(folder)) for way, run in runs.items()}
            ways["our step in a loop"] = loop_of(runs["no teacher"], our_step)
            ways["loop by hand"] = loop_of(runs["no teacher"], by_hand)
            for way in ways.values():
                way()  # makes the bank, and warms up
            found = alternating(ways, REPETITIONS)
            steps = len(FaceData.of(runs["bank"].config).train_batches) - 1
            rows = [
                [
                    way,
                    f"{1000 * statistics.median(seconds) / steps:.2f}",
                    *(
                        f"{statistics.median(b / a for a, b in zip(seconds, found[other], strict=True)):.3f}"
                        for other in ("no teacher", "loop by hand")
                    ),
                ]
                for way, seconds in found.items()
            ]
            print_table([f"rate {rate}", "ms a step", "speed of no teacher", "speed of the loop"], rows)


if __name__ == "__main__":
    main()
