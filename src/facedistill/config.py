"""The typed schema of a run, how it is composed, and what is refused before anything runs.

Nothing here imports torch: ``plan=true`` and every refusal come at once.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from facedistill.errors import ConfigError

_PACKAGE = Path(__file__).parent
# In a wheel conf/ lies inside the package, in a checkout at its top; experiments/ is linked into it.
CONFIG_DIR = (_PACKAGE if (_PACKAGE / "conf").is_dir() else _PACKAGE.parents[1]) / "conf"

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
CLASSIFICATION = ("teacher", "classify", "hint")  # tasks whose own teacher is the one of classification
SOFT_TEACHERS = ("auto", "task", "classification")
DESCRIPTIVE = ("name", "rates", "gives", "compares")
BUILDABLE = ("facedistill.data.", "facedistill.models.", "facedistill.distill.", "facedistill.tasks.")


@dataclass
class TaskConfig:
    """What is trained.

    ``needs``: what its data must give. ``classifies``: its loss has H(P, y), so its network tells identities apart.
    ``distils``: may have a target. ``needs_teacher``: even with target=none. ``images_per_identity``: K of batches
    of P identities × K images, null where every sample comes once an epoch. ``alpha``: weight of the soft prediction
    unless ``target.alpha`` says otherwise. ``options``: arguments of its module.
    """

    _target_: str = MISSING
    name: str = MISSING
    rate: int = MISSING
    batch_size: int = MISSING
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
    """

    name: str = MISSING
    alpha: float = 0.0
    beta: float = 0.0
    tau: float = MISSING
    soft_teacher: str = MISSING
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
    """Learning rates, one after the other, ``epochs`` epochs each; from random weights or an initialization."""

    random: list[float] = MISSING
    initialized: list[float] = MISSING
    epochs: int = MISSING
    momentum: float = MISSING
    weight_decay: float = MISSING


@dataclass
class TrainerConfig:
    """Where and how a run is executed; only ``precision`` changes its numbers."""

    accelerator: str = MISSING
    precision: str = MISSING
    num_workers: int = MISSING
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

        The recognizer says who it is where the task's own teacher can't (paper: its 88.61 % is blamed in section 3.3).
        """
        if self.task.name in CLASSIFICATION or self.target.terms[term]["compares"] == "features":
            return "teacher"
        auto = "teacher" if self.task.classifies else "recognizer"
        return {"auto": auto, "task": "teacher", "classification": "recognizer"}[self.target.soft_teacher]

    @property
    def learning_rates(self) -> list[float]:
        """The learning rate of every epoch: it depends on whether the run starts from an initialization."""
        schedule = self.schedule
        from_backbone = self.task.name == "teacher" and self.teacher.backbone is not None
        rates = {
            "random": schedule.random,
            "initialized": schedule.initialized,
            "whole": [*schedule.random, *schedule.initialized],
        }["initialized" if from_backbone else self.init.rates]
        return [rate for rate in rates for _ in range(schedule.epochs)]


ConfigStore.instance().store(name="schema", node=Config)


def compose_config(overrides: Sequence[str]) -> Config:
    """Compose and check one cell from its command-line words.

    Raises:
        ConfigError: an unknown key or choice, or an impossible combination.
    """
    inside = GlobalHydra.instance().is_initialized()
    with nullcontext() if inside else initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        try:
            return checked(compose("config", overrides=list(overrides)))
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(f"{' '.join(overrides)}: {error}") from error


def checked(node: DictConfig) -> Config:
    """The typed configuration, once it is known to make sense.

    Raises:
        ConfigError: says which words don't fit, why, and which do.
    """
    missing = sorted(OmegaConf.missing_keys(node))
    if missing:
        raise ConfigError(f"{missing[0]} has no value: add {missing[0]}=… to the command")
    # once more against the schema: Hydra lets `+key=value` past it
    typed = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.to_container(node))
    config = cast(Config, OmegaConf.to_object(typed))
    for complaint in _complaints(config):
        raise ConfigError(complaint)
    return config


def _complaints(config: Config) -> list[str]:
    task, init, target = config.task, config.init, config.target
    said = []
    if task.name not in init.tasks:
        choices = ", ".join(f"init={name}" for name in _initializations_of(task.name))
        said.append(
            f"init={init.name} starts {init.starts}: it can't start task={task.name}. "
            f"Choices for task={task.name}: {choices}"
        )
    if task.needs not in config.data["gives"]:
        choices = ", ".join(f"data={name}" for name in _data_that_gives(task.needs))
        said.append(
            f"task={task.name} needs {task.needs}, which data={config.data['name']} does not give. Choices: {choices}. "
            "Where other runs stand on it: data@recognition=…"
        )
    if not task.distils and target.active():
        why = "a teacher has no teacher" if task.name == "teacher" else "its loss is the teacher's middle layer"
        said.append(f"target={target.name} can't be learnt by task={task.name}: {why}. Use target=none")
    if task.name == "teacher" and config.rate != 1:
        said.append(
            f"rate={config.rate} can't be a teacher: it is the network that is compressed, at rate=1. "
            f"For a student alone: task=classify rate={config.rate} init=scratch target=none"
        )
    if init.name == "teacher" and (config.rate != 1 or target.active()):
        said.append(
            f"init=teacher makes the teacher of task={task.name}: rate=1 target=none. "
            "For a student: init=pretrain or init=distill"
        )
    if task.softmax is not None and task.name != "verify":
        said.append(f"task.softmax belongs to task=verify, the joint form; task={task.name} has none")
    if target.soft_teacher not in SOFT_TEACHERS:
        said.append(f"target.soft_teacher={target.soft_teacher}: choices are {', '.join(SOFT_TEACHERS)}")
    elif target.soft_teacher == "task" and task.name not in CLASSIFICATION and not task.classifies:
        said.append(f"target.soft_teacher=task: the teacher of task={task.name} has no output layer of identities")
    elif task.classifies and config.identities_data != config.data:
        said.append("target.soft_teacher=classification: data@recognition has other identities than task.softmax")
    if config.recognition["name"] != "same" and "identities" not in config.recognition["gives"]:
        choices = ", ".join(f"data@recognition={name}" for name in _data_that_gives("identities"))
        said.append(f"data@recognition={config.recognition['name']} has no identities. Choices: {choices}")
    if task.images_per_identity is not None:
        per_identity = task.images_per_identity
        if per_identity < 2 or task.batch_size % per_identity or task.batch_size < 2 * per_identity:
            said.append(
                f"task.images_per_identity={per_identity}: batches of task.batch_size={task.batch_size} must hold at "
                "least two identities with at least two images each, all with as many"
            )
    rates = config.network.get("rates", [1])
    if config.rate not in rates:
        choices = ", ".join(f"rate={rate}" for rate in rates)
        said.append(f"rate={config.rate} is no compression rate of model={config.network['name']}. Choices: {choices}")
    if target.name == "none" and target.active():
        said.append("target=none has no weights. Use target=soft for alpha, target=hidden for beta")
    if target.name != "none" and not target.active():
        said.append(f"target={target.name} with every weight 0 learns nothing from the teacher. Use target=none")
    for name, term in target.terms.items():
        if not 0 <= term["weight"] < math.inf:
            said.append(f"target.terms.{name}.weight={term['weight']} must be a number that is not negative")
        if term.get("reduction", "mean") not in ("mean", "sum"):
            said.append(f"target.terms.{name}.reduction={term['reduction']}: choices are mean, sum")
    schedule, trainer = config.schedule, config.trainer
    if not 1 <= config.image.crop <= config.image.resize:
        said.append(f"image.crop={config.image.crop} must lie between 1 and image.resize={config.image.resize}")
    if config.teacher.weights and config.teacher.backbone:
        said.append("teacher.weights names a finished teacher, teacher.backbone one to be trained: give one")
    positive = {
        "task.batch_size, less the one that BatchNorm needs,": task.batch_size - 1,
        "target.tau": target.tau,
        "schedule.epochs": schedule.epochs,
        **{f"schedule.random[{i}]": rate for i, rate in enumerate(schedule.random or [0])},
        **{f"schedule.initialized[{i}]": rate for i, rate in enumerate(schedule.initialized or [0])},
    }
    said += [f"{name} must be a number above 0" for name, value in positive.items() if not 0 < value < math.inf]
    if not (0 <= schedule.momentum < 1 and 0 <= schedule.weight_decay < math.inf):
        said.append("schedule.momentum must lie in 0 … 1, schedule.weight_decay must not be negative")
    if trainer.precision not in PRECISIONS:
        said.append(f"trainer.precision={trainer.precision}: choices are {', '.join(PRECISIONS)}")
    if trainer.accelerator not in ACCELERATORS:
        said.append(f"trainer.accelerator={trainer.accelerator}: choices are {', '.join(ACCELERATORS)}")
    if trainer.num_workers < 0:
        said.append("trainer.num_workers must not be negative")
    if config.seed < 0 or config.teacher.seed < 0:
        said.append("seed and teacher.seed must not be negative")
    if config.logger.mode not in ("auto", "online", "offline"):
        said.append(f"logger.mode={config.logger.mode}: choices are auto, online, offline")
    return said


def _initializations_of(task: str) -> list[str]:
    files = sorted((CONFIG_DIR / "init").glob("*.yaml"))
    return [file.stem for file in files if task in yaml.safe_load(file.read_text())["tasks"]]


def _data_that_gives(what: str) -> list[str]:
    sources = {file.stem: yaml.safe_load(file.read_text()) for file in sorted((CONFIG_DIR / "data").glob("*.yaml"))}
    return [name for name, source in sources.items() if what in source.get("gives", [])]


def build(node: Mapping[str, Any], **arguments: Any) -> Any:
    """Call what ``_target_`` names with the node's other keys and ``arguments``; the only place that does.

    Keys that only describe (``DESCRIPTIVE``) are passed where the callee takes them.

    Raises:
        ConfigError: a target outside of the packages in ``BUILDABLE``, an unknown or missing argument.
    """
    factory = find_target(node)
    return factory(**_arguments(factory, node, arguments))


def find_target(node: Mapping[str, Any]) -> Callable[..., Any]:
    """What ``_target_`` names, if it may be called."""
    target = str(node.get("_target_"))
    module_name, _, attribute = target.rpartition(".")
    if not target.startswith(BUILDABLE):
        raise ConfigError(f"_target_: {target} is not allowed; it must start with one of {', '.join(BUILDABLE)}")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"_target_: {target} does not exist ({error})") from error
    # facedistill.data.source.os.system would otherwise be reached through a module's own imports
    if not callable(found) or not str(found.__module__).startswith(BUILDABLE):
        raise ConfigError(f"_target_: {target} is not a class or function of this package")
    return cast(Callable[..., Any], found)


def check_target(node: Mapping[str, Any], **arguments: Any) -> None:
    """Raise ``ConfigError`` where ``build`` would, without building."""
    _arguments(find_target(node), node, arguments)


def _arguments(factory: Callable[..., Any], node: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    signature = inspect.signature(factory)
    given = {key: value for key, value in node.items() if key != "_target_"}
    for described in DESCRIPTIVE:
        if described not in signature.parameters:
            given.pop(described, None)
    try:
        signature.bind(**{**given, **more})
    except TypeError as error:
        known = ", ".join(signature.parameters)
        raise ConfigError(f"{node['_target_']}: {error}; it takes {known}") from error
    return {**given, **more}
