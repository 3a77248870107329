"""The typed schema of a run: what a configuration holds, what follows from it, and what it refuses.

Each dataclass has the rules about its own keys in ``complaints``; those about several of them are ``Config``'s.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from facedistill.config.choices import data_with, initializations_of, nodes

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
BANK_TYPES = ("float16", "float32")
REDUCTIONS = ("mean", "sum")
MAPS = ("ridge", "random")
LOGGER_MODES = ("auto", "online", "offline")
READINGS = ("both_rates", "one_rate")
INIT_RATES = ("random", "initialized", "whole")
SEEDS = 2**32  # what torch, NumPy and Lightning together take
MOST_EPOCHS = 100_000
MOST_PIXELS = 2048  # of an image's side
MOST_THREADS = 1024
TEACHER, RECOGNIZER = "teacher", "recognizer"  # the roles that every chain may have


class Cell(NamedTuple):
    """A cell of a sweep, whatever its data, schedule and seed."""

    task: str
    softmax: bool
    rate: int
    init: str
    target: str


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
        needs: what its data must give, ``identities`` or ``landmarks``.
        classifies: its loss has H(P, y), so its network has an output layer of identities.
        distils: it may have a target.
        needs_teacher: even with target=none.
        own_teacher: its teacher is of the same task (made with init=teacher); else the teacher is the recognizer.
        is_teacher: it pretrains the recognizer.
        intermediate: a first stage that others start from, not a student that is scored.
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
    needs_teacher: bool = False
    own_teacher: bool = False
    is_teacher: bool = False
    intermediate: bool = False
    compared_as: str | None = None
    softmax: bool | None = None
    images_per_identity: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def complaints(self) -> Iterator[str]:
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
    """

    name: str = MISSING
    starts: str = MISSING
    tasks: list[str] = MISSING
    parent: dict[str, str] | None = None
    rates: str = MISSING
    makes_teacher: bool = False

    def complaints(self) -> Iterator[str]:
        if self.rates not in INIT_RATES:
            yield f"init.rates={self.rates}: choices are {', '.join(INIT_RATES)}"


@dataclass
class TargetConfig:
    """What is learnt from the teachers: the terms of the loss and their weights.

    Attributes:
        parity: c: the gradient of every term on the student is multiplied by what makes it, on the backbone and before
            the first step, c times as long as that of the task's loss; null: weights are as they stand.
        views: of every training image that a teacher answers once for all students, and its bank keeps as ``bank``
            (float16, float32): a number, ``all`` (one an epoch), or ``live``: it answers in every step.
        terms: by name. A term has the ``type`` of a registered target, its ``weight``, what it ``compares``
            (``embedding`` or ``logits``), the role of the teacher that it comes ``from`` (``auto``: the recognizer
            where logits are compared and the task's own teacher has none, else the task's own), and the arguments of
            its type.
    """

    name: str = MISSING
    alpha: float = 0.0
    beta: float = 0.0
    tau: float = MISSING
    parity: float | None = None
    views: int | str = MISSING
    bank: str = MISSING
    terms: dict[str, dict[str, Any]] = field(default_factory=dict)

    def active(self) -> dict[str, dict[str, Any]]:
        """The terms that count, i.e. whose weight is not zero."""
        return {name: term for name, term in self.terms.items() if term["weight"] != 0}

    def complaints(self) -> Iterator[str]:
        if not (self.views in ("all", "live") or (isinstance(self.views, int) and self.views >= 1)):
            yield f"target.views={self.views}: choices are live, all, or a number of views, at least 1"
        if self.bank not in BANK_TYPES:
            yield f"target.bank={self.bank}: choices are {', '.join(BANK_TYPES)}"
        for name, term in self.terms.items():
            if missing := {"type", "weight", "compares"} - term.keys():
                yield f"target.terms.{name} has no {min(missing)}"
                return
            if not isinstance(term["weight"], int | float) or not 0 <= term["weight"] < math.inf:
                yield f"target.terms.{name}.weight={term['weight']} must be a number that is not negative"
            if term.get("reduction", "mean") not in REDUCTIONS:
                yield f"target.terms.{name}.reduction={term['reduction']}: choices are {', '.join(REDUCTIONS)}"
            if term["type"] == "hidden" and term.get("map", "ridge") not in MAPS:
                yield f"target.terms.{name}.map={term['map']}: choices are {', '.join(MAPS)}"
        if self.parity is not None and not 0 < self.parity < math.inf:
            yield f"target.parity={self.parity} must be a number above 0, or null: weights as they stand"
        if self.name == "none" and self.active():
            yield "target=none has no weights. Use target=soft for alpha, target=hidden for beta"
        if self.name != "none" and not self.active():
            yield f"target={self.name} with every weight 0 learns nothing from the teacher. Use target=none"
        if not 0 < self.tau < math.inf:
            yield "target.tau must be a number above 0"


@dataclass
class TeacherConfig:
    """The recognizer's architecture and seed, and a file to take it from instead of pretraining it.

    ``weights``: of a finished network, with or without a classifier; ``backbone``: where pretraining starts from.
    """

    model: dict[str, Any] = field(default_factory=dict)
    seed: int = MISSING
    weights: str | None = None
    backbone: str | None = None

    def complaints(self) -> Iterator[str]:
        if self.weights and self.backbone:
            yield "teacher.weights names a finished teacher, teacher.backbone one to be trained: give one"
        if not 0 <= self.seed < SEEDS:
            yield f"teacher.seed={self.seed} must lie in 0 … {SEEDS - 1}"


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
class ScheduleConfig:
    """Nesterov SGD, ``epochs`` epochs at each learning rate of the task.

    ``reading`` of "0.1 from random weights, 0.01 from an initialization": a run from random weights takes the
    ``random`` learning rates of its task one after the other (``both_rates``), or the first alone (``one_rate``).
    """

    epochs: int = MISSING
    reading: str = "both_rates"
    momentum: float = MISSING
    weight_decay: float = MISSING

    def complaints(self) -> Iterator[str]:
        if not 1 <= self.epochs <= MOST_EPOCHS:
            yield f"schedule.epochs={self.epochs} must lie in 1 … {MOST_EPOCHS}"
        if self.reading not in READINGS:
            yield f"schedule.reading={self.reading}: choices are {', '.join(READINGS)}"
        if not (0 <= self.momentum < 1 and 0 <= self.weight_decay < math.inf):
            yield "schedule.momentum must lie in 0 … 1, schedule.weight_decay must not be negative"


@dataclass
class TrainerConfig:
    """Where and how a run is executed; in its identity are precision, threads, compile and ``batchnorm_shares``.

    ``score_every``: epochs between scores on the test split while a run trains; 0: only at its end.
    """

    accelerator: str = MISSING
    precision: str = MISSING
    threads: int = MISSING
    compile: bool = MISSING
    num_workers: int = MISSING
    score_every: int = 1
    devices: int = MISSING
    num_nodes: int = MISSING
    sync_batchnorm: bool = MISSING
    progress: bool = MISSING

    @property
    def world_size(self) -> int:
        """How many processes train a run together."""
        return self.devices * self.num_nodes

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
        if not 1 <= self.threads <= MOST_THREADS or not 0 <= self.num_workers <= MOST_THREADS:
            yield f"trainer.threads must lie in 1 … {MOST_THREADS}, and trainer.num_workers in 0 … {MOST_THREADS}"
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


@dataclass
class Config:
    """One cell of the sweep.

    ``teachers``: more of them by role, each with a file of ``weights`` and, where it is not a run of ours, its
    ``model``, as in ``conf/model``.
    """

    task: TaskConfig = field(default_factory=TaskConfig)
    data: dict[str, Any] = field(default_factory=dict)
    recognition: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    teachers: dict[str, dict[str, Any]] = field(default_factory=dict)
    init: InitConfig = field(default_factory=InitConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    batch_sizes: dict[str, int] = field(default_factory=dict)
    learning_rates: dict[str, RatesConfig] = field(default_factory=dict)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    rate: int = MISSING
    seed: int = MISSING
    runs_dir: str = MISSING
    cache_dir: str = MISSING
    plan: bool = False
    group: str | None = None
    cells: int = 1

    @property
    def cell(self) -> Cell:
        return Cell(self.task.name, bool(self.task.softmax), self.rate, self.init.name, self.target.name)

    @property
    def axes(self) -> list[str]:
        """The cell in a few words; a recognizer and an intermediate stage have no initialization and no target."""
        axes = [self.task.name + ("-softmax" if self.task.softmax else ""), f"r{self.rate}"]
        has_choices = not (self.task.is_teacher or self.task.intermediate)
        return [*axes, self.init.name, self.target.name] if has_choices else axes

    @property
    def compared_as(self) -> str:
        """Under which name the metrics of a task, its teacher's and its students', are compared."""
        return (self.task.compared_as or self.task.name) + ("-softmax" if self.task.softmax else "")

    @property
    def is_teacher(self) -> bool:
        """Whether this is the teacher of its task: the recognizer, or what init=teacher makes of it."""
        return self.task.is_teacher or self.init.makes_teacher

    @property
    def network(self) -> dict[str, Any]:
        """The architecture of this run: the teacher's own, or the student's."""
        return self.teacher.model if self.is_teacher else self.model

    @property
    def recognition_data(self) -> dict[str, Any]:
        """Whose faces the classification runs see that this run stands on."""
        return self.recognition if "type" in self.recognition else self.data

    @property
    def has_identities(self) -> bool:
        """Whether the network has an output layer of identities: for its own loss, or for a term of its target."""
        return self.task.classifies or any(term["compares"] == "logits" for term in self.target.active().values())

    @property
    def identities_data(self) -> dict[str, Any]:
        """Whose identities that output layer has."""
        return self.recognition_data if RECOGNIZER in map(self.role_of, self.target.active()) else self.data

    def role_of(self, term: str) -> str:
        """The role of the teacher that a term comes from."""
        node = self.target.terms[term]
        role: str = node.get("from", "auto")
        if role == "auto":
            role = RECOGNIZER if node["compares"] == "logits" and not self.task.classifies else TEACHER
        return TEACHER if role == RECOGNIZER and not self.task.own_teacher else role

    @property
    def epoch_rates(self) -> list[float]:
        """The learning rate of every epoch: it depends on whether the run starts from an initialization."""
        given = self.task.learning_rates
        random = given.random[:1] if self.schedule.reading == "one_rate" else given.random
        from_backbone = self.task.is_teacher and self.teacher.backbone is not None
        rates = {
            "random": random,
            "initialized": given.initialized,
            "whole": [*random, *given.initialized],
        }["initialized" if from_backbone else self.init.rates]
        return [rate for rate in rates for _ in range(self.schedule.epochs)]

    def complaints(self, trains: bool = True) -> Iterator[str]:
        """What is impossible, one by one; ``trains``: its task is done, else data are looked at."""
        if not 0 <= self.seed < SEEDS:
            yield f"seed={self.seed} must lie in 0 … {SEEDS - 1}"
        for key in ("runs_dir", "cache_dir"):
            if not getattr(self, key):
                yield f"{key}= names no folder: {key}=FOLDER"
        if trains:
            yield from self._complaints_of_data()
        yield from self._complaints_of_choices()
        yield from self.task.complaints()
        yield from self.init.complaints()
        yield from self.target.complaints()
        yield from self._complaints_of_teachers()
        yield from self.image.complaints(trains)
        for part in (self.teacher, self.schedule, self.trainer, self.logger):
            yield from part.complaints()
        ranks, task = self.trainer.world_size, self.task
        if task.batch_size // (task.images_per_identity or 1) // ranks < (1 if task.images_per_identity else 2):
            yield (
                f"trainer.devices={self.trainer.devices} × trainer.num_nodes={self.trainer.num_nodes} share a batch of "
                f"task.batch_size={task.batch_size}: too few for each, as BatchNorm needs two images"
            )

    def _complaints_of_data(self) -> Iterator[str]:
        needs = self.task.needs
        if needs not in self.data["gives"]:
            choices = ", ".join(f"data={name}" for name in data_with(needs))
            yield (
                f"task={self.task.name} needs {needs}, which data={self.data['name']} does not give. Choices: "
                f"{choices}. Where other runs stand on it: data@recognition=…"
            )

    def _complaints_of_choices(self) -> Iterator[str]:
        task, init, target = self.task, self.init, self.target
        if task.name not in init.tasks:
            choices = ", ".join(f"init={name}" for name in initializations_of(task.name))
            yield (
                f"init={init.name} starts {init.starts}: it can't start task={task.name}. "
                f"Choices for task={task.name}: {choices}"
            )
        if not task.distils and target.active():
            why = "a teacher has no teacher" if task.is_teacher else "its loss is the teacher's middle layer"
            yield f"target={target.name} can't be learnt by task={task.name}: {why}. Use target=none"
        if task.is_teacher and self.rate != 1:
            yield (
                f"rate={self.rate} can't be a teacher: it is the network that is compressed, at rate=1. "
                f"For a student alone: task=classify rate={self.rate} init=scratch target=none"
            )
        if init.makes_teacher and (self.rate != 1 or target.active()):
            yield (
                f"init={init.name} makes the teacher of task={task.name}: rate=1 target=none. "
                "For a student: init=pretrain or init=distill"
            )
        rates = self.network.get("rates", [1])
        if self.rate not in rates:
            choices = ", ".join(f"rate={rate}" for rate in rates)
            yield f"rate={self.rate} is no compression rate of model={self.network['name']}. Choices: {choices}"

    def _complaints_of_teachers(self) -> Iterator[str]:
        roles = ("auto", TEACHER, RECOGNIZER, *self.teachers)
        for name, term in self.target.active().items():
            if term.get("from", "auto") not in roles:
                yield f"target.terms.{name}.from={term['from']}: choices are {', '.join(roles)}"
                return
            own = self.role_of(name) == TEACHER and self.task.own_teacher
            if term["compares"] == "logits" and own and not self.task.classifies:
                yield (
                    f"target.terms.{name}.from={TEACHER}: the teacher of task={self.task.name} has no output layer of "
                    f"identities. Use from={RECOGNIZER}"
                )
        for role, node in self.teachers.items():
            if role in roles[:3]:
                yield f"teachers.{role}: {', '.join(roles[:3])} are the chain's own; choose another name"
            if not isinstance(node.get("weights"), str) or node.keys() - {"weights", "model"}:
                yield f"teachers.{role} takes weights=FILE and, where it is not a run of ours, model"
        if self.task.classifies and self.identities_data != self.data:
            yield (
                f"a term from={RECOGNIZER} needs the identities of task={self.task.name}, but data@recognition has "
                "other identities than data"
            )
        if "type" in self.recognition and "identities" not in self.recognition["gives"]:
            choices = ", ".join(f"data@recognition={name}" for name in data_with("identities"))
            yield f"data@recognition={self.recognition['name']} has no identities. Choices: {choices}"


ConfigStore.instance().store(name="schema", node=Config)
