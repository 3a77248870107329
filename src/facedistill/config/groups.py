"""The groups of a configuration, one dataclass each, with the rules about its own keys in ``complaints``."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from omegaconf import MISSING

from facedistill.config.choices import nodes
from facedistill.system.cores import MOST_THREADS

FLOAT32 = "32-true"
PRECISIONS = (FLOAT32, "16-mixed", "bf16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
LOGGER_MODES = ("auto", "online", "offline")
READINGS = ("both_rates", "one_rate")
OPTIMIZERS = ("sgd", "adamw")
SHAPES = ("steps", "cosine")
AUGMENTATIONS = ("paper", "recognizer")
INIT_RATES = ("random", "initialized", "whole")
SEEDS = 2**32  # what torch, NumPy and Lightning together take
MOST_EPOCHS = 100_000
MOST_PIXELS = 2048  # of an image's side


def band_size(crop: int) -> tuple[int, int]:
    """Height and width in pixels of the band about the eyes of a crop, 48 × 128 of 128² (arXiv 2012.06746)."""
    return (3 * crop + 4) // 8, crop


@dataclass
class RatesConfig:
    """Learning rates, one after the other: from random weights, or from an initialization."""

    random: list[float] = MISSING
    initialized: list[float] = MISSING


@dataclass
class TaskConfig:
    """What is trained.

    Attributes:
        type: the registered LightningModule.
        metric: the score that stands for a run, one of its evaluation's.
        needs: what its data must give, ``identities``, ``landmarks``, ``liveness``, or ``faces``, which all data have.
        live_only: presentation attacks among its faces are neither trained on nor tested.
        classifies: its loss has H(P, y), so its network has an output layer of identities.
        distils: it may have a target.
        imitates: it has no loss of its own, so it must have one.
        needs_teacher: even with target=none.
        own_teacher: its teacher is of the same task (made with init=teacher); else the teacher is the recognizer.
        teachers: others that its terms may come ``from``, by role, instead of these: the choices that make each, as
            ``init.parent``. A choice of data gives way to data@recognition.
        is_teacher: it pretrains the recognizer, or another network of its architecture that teaches.
        intermediate: a first stage that others start or learn from, not a student that is scored.
        bands: its student sees the band about the eyes alone, so data must also say where these are.
        compared_as: the task whose runs its metrics are compared with; null: its own.
        softmax: adds H(P, y) to a loss that compares faces; null where there is no choice.
        images_per_identity: K of batches of P identities × K images, null where every sample comes once an epoch.
        options: arguments of its type.
    """

    type: str = MISSING
    name: str = MISSING
    rate: int = MISSING
    batch_size: int = MISSING
    learning_rates: RatesConfig = field(default_factory=RatesConfig)
    metric: str = MISSING
    needs: str = MISSING
    classifies: bool = MISSING
    distils: bool = MISSING
    imitates: bool = False
    live_only: bool = False
    needs_teacher: bool = False
    own_teacher: bool = False
    teachers: dict[str, dict[str, Any]] = field(default_factory=dict)
    is_teacher: bool = False
    intermediate: bool = False
    bands: bool = False
    compared_as: str | None = None
    softmax: bool | None = None
    images_per_identity: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def complaints(self) -> Iterator[str]:
        if self.images_per_identity is not None and self.needs != "identities":
            yield f"task.images_per_identity belongs to tasks that need identities; task={self.name} needs {self.needs}"
        if self.softmax is not None and "softmax" not in nodes("task")[self.name]:
            joint = ", ".join(f"task={name}" for name, node in nodes("task").items() if "softmax" in node)
            yield f"task.softmax belongs to {joint}, the joint form; task={self.name} has none"
        per_identity = self.images_per_identity
        if per_identity is not None and not (
            per_identity >= 2 and self.batch_size % per_identity == 0 and self.batch_size >= 2 * per_identity
        ):
            yield (
                f"task.images_per_identity={per_identity}: batches of task.batch_size={self.batch_size} must hold at "
                "least two identities with at least two images each, and equally many of each"
            )
        if self.batch_size < 2:
            yield f"task.batch_size={self.batch_size} must be at least 2: BatchNorm needs two images"
        for start, rates in asdict(self.learning_rates).items():
            if not rates or not all(0 < rate < math.inf for rate in rates):
                yield f"task.learning_rates.{start} must be one or more numbers above 0"


@dataclass
class InitConfig:
    """Where the weights start.

    Attributes:
        starts: what it starts from what, for messages.
        tasks: that it may start.
        parent: the choices of the run whose weights are loaded; null: random weights.
        rates: which of the task's learning rates it takes: ``random``, as ``schedule.reading`` reads them,
            ``initialized``, or ``whole``, both in turn.
        makes_teacher: a run with it is the teacher of its task.
        from_teacher: the weights are some of its teacher's own.
    """

    name: str = MISSING
    starts: str = MISSING
    tasks: list[str] = MISSING
    parent: dict[str, str] | None = None
    rates: str = MISSING
    makes_teacher: bool = False
    from_teacher: bool = False

    def complaints(self) -> Iterator[str]:
        if self.rates not in INIT_RATES:
            yield f"init.rates={self.rates}: choices are {', '.join(INIT_RATES)}"


@dataclass
class ImageConfig:
    """Pixels: images are kept at ``resize``, trained on random crops of ``crop``."""

    resize: int = MISSING
    crop: int = MISSING

    def complaints(self, trains: bool = True) -> Iterator[str]:
        if self.resize < 1:
            yield f"image.resize={self.resize} must be at least 1"
        elif trains and not 1 <= self.crop <= self.resize:
            yield f"image.crop={self.crop} must lie between 1 and image.resize={self.resize}"
        if self.resize > MOST_PIXELS:
            yield f"image.resize={self.resize} must be at most {MOST_PIXELS}: no recognizer takes larger faces"


@dataclass
class AugmentConfig:
    """What is drawn of a training image for a view, beside ``image.crop``: a preset by name."""

    name: str = "paper"

    def complaints(self) -> Iterator[str]:
        if self.name not in AUGMENTATIONS:
            yield f"augment.name={self.name}: choices are {', '.join(f'augment={name}' for name in AUGMENTATIONS)}"


@dataclass
class ScheduleConfig:
    """The optimizer, and the learning rate of every step.

    Attributes:
        epochs: at each learning rate of the task.
        reading: of "0.1 from random weights, 0.01 from an initialization": a run from random weights takes the
            ``random`` learning rates of its task one after the other (``both_rates``), or the first alone
            (``one_rate``).
        optimizer: Nesterov SGD, or AdamW, which decays matrices and kernels only.
        shape: the learning rates as they stand, one after the other (``steps``); or one that falls to 0 along half a
            ``cosine``, after it rose during ``warmup``, a share of all steps.
        momentum: of AdamW: β₁.
    """

    epochs: int = MISSING
    reading: str = "both_rates"
    optimizer: str = "sgd"
    shape: str = "steps"
    warmup: float = 0.0
    momentum: float = MISSING
    weight_decay: float = MISSING

    def complaints(self) -> Iterator[str]:
        if not 1 <= self.epochs <= MOST_EPOCHS:
            yield f"schedule.epochs={self.epochs} must lie in 1 … {MOST_EPOCHS}"
        for key, choices in {"reading": READINGS, "optimizer": OPTIMIZERS, "shape": SHAPES}.items():
            if getattr(self, key) not in choices:
                yield f"schedule.{key}={getattr(self, key)}: choices are {', '.join(choices)}"
        if not 0 <= self.warmup < 1:
            yield f"schedule.warmup={self.warmup:g} must lie in 0 … 1, the share of steps in which the rate rises"
        if self.warmup and self.shape != "cosine":
            yield f"schedule.warmup={self.warmup:g} belongs to schedule.shape=cosine"
        if not (0 <= self.momentum < 1 and 0 <= self.weight_decay < math.inf):
            yield "schedule.momentum must lie in 0 … 1, schedule.weight_decay must not be negative"


@dataclass
class TrainerConfig:
    """Where and how a run is executed; in its identity are precision, threads, compile and ``batchnorm_shares``.

    ``num_workers``: processes that prepare batches; ``auto``: a GPU's share of the cores, and none without a GPU.
    ``score_every``: epochs between scores on the test split while a run trains; 0: only at its end.
    ``split_classes``: each of several processes keeps a share of the classes of the output layer of identities.
    """

    accelerator: str = MISSING
    precision: str = MISSING
    threads: int = MISSING
    compile: bool = MISSING
    num_workers: int | str = MISSING
    score_every: int = 1
    devices: int = MISSING
    num_nodes: int = MISSING
    sync_batchnorm: bool = MISSING
    split_classes: bool = False
    progress: bool = MISSING

    @property
    def world_size(self) -> int:
        """How many processes train a run together."""
        return self.devices * self.num_nodes

    @property
    def splits_classes(self) -> bool:
        """Whether there are several processes to split them between."""
        return self.split_classes and self.world_size > 1

    @property
    def batchnorm_shares(self) -> int:
        """Into how many shares BatchNorm divides a batch, each with statistics of its own."""
        return 1 if self.sync_batchnorm else self.world_size

    def complaints(self) -> Iterator[str]:
        if self.precision not in PRECISIONS:
            yield f"trainer.precision={self.precision}: choices are {', '.join(PRECISIONS)}"
        if self.accelerator not in ACCELERATORS:
            yield f"trainer.accelerator={self.accelerator}: choices are {', '.join(ACCELERATORS)}"
        if self.devices < 1 or self.num_nodes < 1:
            yield "trainer.devices and trainer.num_nodes must be at least 1"
        if not 1 <= self.threads <= MOST_THREADS:
            yield f"trainer.threads={self.threads} must lie in 1 … {MOST_THREADS}"
        workers = self.num_workers
        if workers != "auto" and not (isinstance(workers, int) and 0 <= workers <= MOST_THREADS):
            yield f"trainer.num_workers={workers} must lie in 0 … {MOST_THREADS}, or be auto: by the cores"
        if self.splits_classes and self.precision == "16-mixed":
            yield (
                "trainer.split_classes=true with trainer.precision=16-mixed: one process would skip a step whose "
                "gradients overflow, and others would not. Use trainer.precision=bf16-mixed"
            )
        if self.score_every < 0:
            yield f"trainer.score_every={self.score_every} must be a number of epochs, or 0: only at the end"


@dataclass
class LoggerConfig:
    """Weights & Biases."""

    wandb: bool = MISSING
    mode: str = MISSING
    project: str = MISSING
    entity: str | None = None

    def complaints(self) -> Iterator[str]:
        if self.mode not in LOGGER_MODES:
            yield f"logger.mode={self.mode}: choices are {', '.join(LOGGER_MODES)}"
