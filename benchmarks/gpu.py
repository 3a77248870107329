"""Training on a GPU: images a second of the paper's network, and what every choice is worth.

    python benchmarks/gpu.py

ResNet-50 of the paper's size (`scale=paper`: batches of 256, bf16) on random pixels that lie in a mapped file, 10,575
identities, crops of 224 of 256 and of 112 of 128 pixels, the soft target. Five ways train the same student: our Trainer
with its callbacks without a teacher, with a bank and with the teacher live; a loop as one writes it on the same
batches, whose images come from the host; and that loop on one batch of random data in the GPU's memory, which nothing
can be faster than. Then, at 224 pixels: other precision, torch.compile, and images that are not kept on the GPU;
several runs on one GPU at once; and two ranks where there are two GPUs.

The first half of the steps warms up, and uses up what workers had prepared. The second is timed in windows, at whose
ends the GPU is waited for; the median window counts. Nothing is trained to an end: weights and K_T are random. It takes
8 GB in a temporary folder. Half an hour on one GPU is a guess: not measured.

`--small` tries all of it in two minutes, on a CPU too, with networks and images that say nothing of speed.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from measure import print_table

from facedistill.data.faces import FaceSet
from facedistill.data.loading import on_device
from facedistill.data.loading.datamodule import FaceData
from facedistill.distill.bank import Answered
from facedistill.distill.teacher import NetworkTeacher, autocast_for
from facedistill.evaluation.scoring import device_for
from facedistill.models.network import Network, build_network
from facedistill.runs.plan import plan
from facedistill.system.cores import JOBS_AT_A_TIME
from facedistill.tasks.assemble import build_module, build_targets, training_network
from facedistill.tasks.optimizer import build_optimizer
from facedistill.tracking.wandb_run import WandbRun
from facedistill.training.callbacks.finite import FiniteLoss
from facedistill.training.callbacks.history import History
from facedistill.training.trainer import build_trainer, check_precision, prepare_compiler, quiet

NO_TEACHER, BANK, LIVE = "no teacher", "bank", "live teacher"
LOOP, MEMORY = "loop by hand", "random data in memory"
WAYS = {MEMORY: ["target=none"], LOOP: ["target=none"], NO_TEACHER: ["target=none"]}
WAYS |= {BANK: ["target=soft", "target.views=all"], LIVE: ["target=soft", "target.views=live"]}
KEPT, COPIED, CUT = "kept on the GPU", "copied whole, cut on the GPU", "cut by the workers"


@dataclass(frozen=True)
class Scale:
    """How much is measured; ``sizes``: stored pixels by crop, the largest first; ``window``: steps of one."""

    words: tuple[str, ...]
    sizes: dict[int, int]
    rates: tuple[int, ...]
    identities: int
    images: int
    batch: int
    window: int
    at_once: tuple[int, ...]


WHOLE = Scale(("scale=paper",), {224: 256, 112: 128}, (1, 2, 4, 8), 10_575, 2**15, 256, 16, (1, 2, 4))
_TINY = ("model.width=16", "teacher.model.width=16", "task.batch_size=16")
SMALL = Scale(("scale=embedded", "trainer.precision=bf16-mixed", *_TINY), {20: 24}, (8,), 10, 128, 16, 1, (2,))


class Clock(pl.Callback):
    """Seconds of windows of steps."""

    def __init__(self, scale: Scale, device: torch.device) -> None:
        self._scale, self._device, self._steps, self._ends = scale, device, 0, [0.0]

    def tick(self) -> None:
        """A step has ended, on the host."""
        self._steps += 1
        if self._steps % self._scale.window == 0:
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            self._ends.append(time.perf_counter())

    def on_train_batch_end(self, *_: object) -> None:
        self.tick()

    def images_per_second(self, batch: int) -> float:
        """Of batches of this size, in the second half."""
        seconds = np.diff(self._ends[len(self._ends) // 2 :])
        return batch * self._scale.window / median(seconds.tolist())


def faces_in(top: Path, scale: Scale, size: int) -> FaceSet:
    """Random pixels in a mapped file, and random identities."""
    path = top / f"faces-{size}.npy"
    if not path.exists():
        draw, some = np.random.default_rng(0), min(1024, scale.images)
        block = draw.integers(0, 256, (some, size, size, 3), np.uint8)
        images = np.lib.format.open_memmap(path, "w+", np.uint8, (scale.images, size, size, 3))
        for start in range(0, scale.images, some):
            images[start : start + some] = block
        images.flush()
    labels = np.random.default_rng(1).integers(0, scale.identities, scale.images)
    names = [str(number) for number in range(scale.identities)]
    return FaceSet(np.load(path, mmap_mode="r"), labels, np.zeros(scale.images, bool), names)


def measured(scale: Scale, top: Path, way: str, words: Sequence[str], images: str = KEPT) -> float:
    """Images a second of one way, of all ranks together; its memory is free again."""
    found = epoch_of(scale, top, way, words, images)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return found


def epoch_of(scale: Scale, top: Path, way: str, words: Sequence[str], images: str) -> float:
    """Trains one epoch."""
    folders = [f"runs_dir={top}/runs", f"cache_dir={top}/cache"]
    run = plan([*scale.words, *WAYS[way], *words, *folders, "init=scratch", "logger=csv", "trainer.progress=false"])
    config = run.config
    torch.set_num_threads(config.trainer.threads)
    check_precision(config)
    prepare_compiler(config)
    torch.manual_seed(0)
    device, batch = device_for(config.trainer.accelerator), config.task.batch_size
    clock, faces = Clock(scale, device), faces_in(top, scale, config.image.resize)
    network = training_network(config, scale.identities)
    on_device.SHARE = 0.5 if images == KEPT else 0.0
    data = FaceData(config, faces)
    data._cuts_on_device &= images != CUT
    if way in (LOOP, MEMORY):
        by_hand(network.to(device).train(), shown(way, data, device), clock, config)
    else:
        roles = {config.role_of(term) for term in config.target.active()}
        model = config.teacher.model
        teachers = {role: NetworkTeacher(build_network(model, 1, scale.identities)) for role in roles}
        if way == BANK:
            draw = np.random.default_rng(2)
            answers = {role: draw.random((scale.images, of.width), np.float32) for role, of in teachers.items()}
            data.use_banks({role: Answered(faces.train, of.astype(np.float16)) for role, of in answers.items()})
        module = build_module(config, network, teachers, build_targets(config, network, teachers))
        history = History(top / f"metrics-{os.getpid()}.csv", WandbRun(run))
        trainer = build_trainer(run, [clock, FiniteLoss(), history], "", starts_ranks=True)
        trainer.fit_loop.max_epochs, trainer.limit_val_batches = 1, 0
        trainer.callbacks = [one for one in trainer.callbacks if not isinstance(one, pl.callbacks.ModelCheckpoint)]
        with quiet():
            trainer.fit(module, data)
    return clock.images_per_second(batch)


Shown = Iterator[tuple[torch.Tensor, torch.Tensor]]


def shown(way: str, data: FaceData, device: torch.device) -> Shown:
    """Images and labels of every step of a loop by hand."""
    if way == LOOP:
        for batch in data.train_dataloader():
            there = batch.to(device)
            yield there.images, there.labels
        return
    first = data.first_batches(1)[0].to(device)
    for _ in range(len(data.train_batches)):
        yield first.images, first.labels


def by_hand(network: Network, batches: Shown, clock: Clock, config: object) -> None:
    """An epoch as one writes it."""
    optimizer = build_optimizer(config.schedule, network.parameters())
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    forward = torch.compile(network, dynamic=False) if config.trainer.compile else network
    for images, labels in batches:
        optimizer.zero_grad()
        with autocast_for(config.trainer.precision, images.device):
            loss = F.cross_entropy(forward(images).logits, labels)
        loss.backward()
        optimizer.step()
        clock.tick()


def in_processes(top: Path, count: int, words: Sequence[str], small: bool) -> list[float]:
    """Images a second of as many live runs at once, each in a process of its own, which begin together."""
    line = [sys.executable, __file__, "--one", json.dumps([str(top), small, list(words)])]
    started = [
        subprocess.Popen(
            line,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, JOBS_AT_A_TIME: str(count)},
        )
        for _ in range(count)
    ]
    for process in started:
        process.stdout.readline()
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate()[0] for process in started]
    if failed := [process.returncode for process in started if process.returncode]:
        sys.exit(f"{' '.join(words)}: status {failed[0]}")
    return [float(output.split()[-1]) for output in outputs]


def one(top: str, small: bool, words: Sequence[str]) -> None:
    """A live run that says when it could begin, begins when it is told to, and says its images a second."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print("ready", flush=True)
        sys.stdin.readline()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    found = measured(SMALL if small else WHOLE, Path(top), LIVE, words)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(found, flush=True)


def main(small: bool) -> None:
    """Every table, on the GPUs that there are."""
    gpus = torch.cuda.device_count()
    if not gpus and not small:
        sys.exit("there is no GPU here, so nothing is measured; --small tries the script on a CPU")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    scale = SMALL if small else WHOLE
    names = ", ".join(torch.cuda.get_device_name(number) for number in range(gpus)) or "no GPU"
    print(f"{names}; {len(os.sched_getaffinity(0))} cores; torch {torch.__version__}\n")
    largest = next(iter(scale.sizes))
    at_largest = [f"image.resize={scale.sizes[largest]}", f"image.crop={largest}"]
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        for crop, size in scale.sizes.items():
            of_size, rows = [f"image.resize={size}", f"image.crop={crop}"], []
            for rate in scale.rates:
                ways = [way for way in WAYS if rate > 1 or way not in (BANK, LIVE)]  # the teacher itself has none
                found = [measured(scale, top, way, [*of_size, f"rate={rate}"]) for way in ways]
                rows.append([f"/{rate}", *(f"{value:,.0f}" for value in found), *["–"] * (len(WAYS) - len(found))])
            print_table([f"{crop} px, images/s", *WAYS], rows)

        rate = scale.rates[len(scale.rates) // 2]
        choices = {
            "as it is, in bf16, images kept on the GPU": ([], KEPT),
            "`trainer.precision=32-true`": (["trainer.precision=32-true"], KEPT),
            **({} if small else {"`trainer.compile=true`": (["trainer.compile=true"], KEPT)}),  # a minute of compiling
            **{f"images {where}": ([], where) for where in (COPIED, CUT)},
        }
        rows = []
        for name, (own, where) in choices.items():
            words = [*at_largest, f"rate={rate}", *own]
            rows.append([name, *(f"{measured(scale, top, way, words, where):,.0f}" for way in (BANK, LIVE))])
        print_table([f"{largest} px, /{rate}, images/s", BANK, LIVE], rows)

        rows = []
        for rate in scale.rates[-2:]:
            for count in scale.at_once:
                found = in_processes(top, count, [*at_largest, f"rate={rate}"], small)
                rows.append([f"/{rate}", str(count), f"{sum(found):,.0f}", f"{min(found):,.0f}"])
        print_table([f"{largest} px, {LIVE}", "runs at once", "images/s of all", "of the slowest"], rows)

        if gpus < 2 and not small:
            print("two ranks: not measured, as there is one GPU")
            return
        rows, widest = [], min(rate for rate in scale.rates if rate > 1)
        for batch in (scale.batch, 2 * scale.batch):
            words = [*at_largest, f"rate={widest}", f"task.batch_size={batch}", "trainer=ddp"]
            (found,) = in_processes(top, 1, [*words, *([] if gpus > 1 else ["trainer.accelerator=cpu"])], small)
            rows.append([str(batch), f"{found:,.0f}"])
        print_table([f"{largest} px, /{widest}, two ranks, batches of", f"{LIVE}, images/s"], rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(*json.loads(sys.argv[2]))
    else:
        main(small=sys.argv[1:] == ["--small"])
