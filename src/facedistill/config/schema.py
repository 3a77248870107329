"""The typed schema of a run: what a configuration holds, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

CLASSIFICATION = ("teacher", "classify", "hint")  # tasks whose own teacher is the one of classification


@dataclass
class RatesConfig:
    """Learning rates, one after the other: from random weights, or from an initialization."""

    random: list[float] = MISSING
    initialized: list[float] = MISSING


@dataclass
class TaskConfig:
    """What is trained.

    ``needs``: what its data must give. ``classifies``: its loss has H(P, y), so its network tells identities apart.
    ``distils``: may have a target. ``needs_teacher``: even with target=none. ``images_per_identity``: K of batches
    of P identities × K images, null where every sample comes once an epoch. ``alpha``: weight of the soft prediction
    unless ``target.alpha`` says otherwise. ``options``: what else its module is told; ``_target_`` checks it.
    """

    _target_: str = MISSING
    name: str = MISSING
    rate: int = MISSING
    batch_size: int = MISSING
    learning_rates: RatesConfig = field(default_factory=RatesConfig)
    metric: str = MISSING
    needs: str = MISSING
    classifies: bool = MISSING
    distils: bool = MISSING
    needs_teacher: bool = False
    softmax: bool | None = None
    images_per_identity: int | None = None
    alpha: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class InitConfig:
    """Where the weights start. ``parent``: the choices of the run whose weights are loaded, else random."""

    name: str = MISSING
    starts: str = MISSING
    tasks: list[str] = MISSING
    parent: dict[str, str] | None = None
    rates: str = MISSING


@dataclass
class TargetConfig:
    """What is learnt from the teacher: the terms of the loss and their weights.

    A term ``compares`` the hidden layers (``features``) or what is said of identities (``logits``).
    ``views``: of every training image that the teacher answers once for all students, and its bank keeps as ``bank``
    (float16, float32): a number, ``all`` (one an epoch), or ``live``: it answers in every step.
    """

    name: str = MISSING
    alpha: float = 0.0
    beta: float = 0.0
    tau: float = MISSING
    soft_teacher: str = MISSING
    views: int | str = MISSING
    bank: str = MISSING
    terms: dict[str, dict[str, Any]] = field(default_factory=dict)

    def active(self) -> dict[str, dict[str, Any]]:
        """The terms that count, i.e. whose weight is not zero."""
        return {name: term for name, term in self.terms.items() if term["weight"] != 0}


@dataclass
class TeacherConfig:
    """The teacher's architecture, its seed, and a file to take it from instead of pretraining it."""

    model: dict[str, Any] = field(default_factory=dict)
    seed: int = MISSING
    weights: str | None = None
    backbone: str | None = None


@dataclass
class ImageConfig:
    """Pixels: images are kept at ``resize``, trained on random crops of ``crop``."""

    resize: int = MISSING
    crop: int = MISSING


@dataclass
class ScheduleConfig:
    """Nesterov SGD, ``epochs`` epochs at each learning rate of the task."""

    epochs: int = MISSING
    momentum: float = MISSING
    weight_decay: float = MISSING


@dataclass
class TrainerConfig:
    """Where and how a run is executed; its identity has ``precision``, ``threads``, ``compile``, ``sync_batchnorm``."""

    accelerator: str = MISSING
    precision: str = MISSING
    threads: int = MISSING
    compile: bool = MISSING
    num_workers: int = MISSING
    devices: int = MISSING
    num_nodes: int = MISSING
    sync_batchnorm: bool = MISSING
    progress: bool = MISSING


@dataclass
class LoggerConfig:
    """Weights & Biases."""

    wandb: bool = MISSING
    mode: str = MISSING
    project: str = MISSING
    entity: str | None = None


@dataclass
class Config:
    """One cell of the sweep."""

    task: TaskConfig = field(default_factory=TaskConfig)
    data: dict[str, Any] = field(default_factory=dict)
    recognition: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
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
    def is_teacher(self) -> bool:
        """Whether this is the teacher of its task: of classification, or what init=teacher makes of that one."""
        return self.task.name == "teacher" or self.init.name == "teacher"

    @property
    def network(self) -> dict[str, Any]:
        """The architecture of this run: the teacher's own, or the student's."""
        return self.teacher.model if self.is_teacher else self.model

    @property
    def recognition_data(self) -> dict[str, Any]:
        """Whose faces the classification runs see that this run stands on."""
        return self.data if self.recognition["name"] == "same" else self.recognition

    @property
    def tells_identities(self) -> bool:
        """Whether the network has an output layer of identities: for its own loss, or for a term of its target."""
        return self.task.classifies or any(term["compares"] == "logits" for term in self.target.active().values())

    @property
    def identities_data(self) -> dict[str, Any]:
        """Whose identities that output layer tells apart."""
        answering = {self.teacher_of(term) for term in self.target.active()}
        return self.recognition_data if "recognizer" in answering else self.data

    def teacher_of(self, term: str) -> str:
        """Who answers for a term: ``teacher``, the task's own, or ``recognizer``, the one of classification.

        The recognizer says who it is where the task's own teacher can't.
        """
        if self.task.name in CLASSIFICATION or self.target.terms[term]["compares"] == "features":
            return "teacher"
        auto = "teacher" if self.task.classifies else "recognizer"
        return {"auto": auto, "task": "teacher", "classification": "recognizer"}[self.target.soft_teacher]

    @property
    def epoch_rates(self) -> list[float]:
        """The learning rate of every epoch: it depends on whether the run starts from an initialization."""
        given = self.task.learning_rates
        from_backbone = self.task.name == "teacher" and self.teacher.backbone is not None
        rates = {
            "random": given.random,
            "initialized": given.initialized,
            "whole": [*given.random, *given.initialized],
        }["initialized" if from_backbone else self.init.rates]
        return [rate for rate in rates for _ in range(self.schedule.epochs)]


ConfigStore.instance().store(name="schema", node=Config)
