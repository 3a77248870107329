"""The typed schema of a run: what follows from its groups together, and what they refuse of each other."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, NamedTuple

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from facedistill.config.choices import data_with, initializations_of, nodes, serves
from facedistill.config.groups import (
    SEEDS,
    AugmentConfig,
    ImageConfig,
    InitConfig,
    LoggerConfig,
    RatesConfig,
    ScheduleConfig,
    TaskConfig,
    TrainerConfig,
    band_size,
)
from facedistill.config.recognizer import ContractConfig, TeacherConfig, complaints_of_another
from facedistill.config.target import TargetConfig

TEACHER, RECOGNIZER = "teacher", "recognizer"  # the roles that every chain may have
MOST_ADAMW_RATE = 0.02  # AdamW moves every weight by about the learning rate in a step, whatever its gradient


class Cell(NamedTuple):
    """A cell of a sweep, whatever its data, schedule and seed."""

    task: str
    softmax: bool
    rate: int
    init: str
    target: str


@dataclass
class Config:
    """One cell of the sweep.

    ``teachers``: more of them by role, each with a file of ``weights`` and, where it is not a run of ours, its
    ``model``, as in ``conf/model``, and its ``contract``, as in ``conf/contract``.
    """

    task: TaskConfig = field(default_factory=TaskConfig)
    data: dict[str, Any] = field(default_factory=dict)
    recognition: dict[str, Any] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    teachers: dict[str, dict[str, Any]] = field(default_factory=dict)
    init: InitConfig = field(default_factory=InitConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
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
    def student_size(self) -> tuple[int, int]:
        """Height and width in pixels of what the network of this run sees."""
        return band_size(self.image.crop) if self.task.bands else (self.image.crop, self.image.crop)

    @property
    def starts_from_recognizer(self) -> bool:
        """Whether it trains a classifier on the backbone of a recognizer from elsewhere."""
        return self.task.is_teacher and self.task.classifies and self.teacher.backbone is not None

    @property
    def finetunes(self) -> bool:
        """Whether that backbone is trained, too; else the classifier alone is."""
        return self.starts_from_recognizer and self.teacher.finetune > 0

    @property
    def recognition_data(self) -> dict[str, Any]:
        """Whose faces the classification runs see that this run stands on."""
        return self.recognition if "type" in self.recognition else self.data

    @property
    def has_protocol(self) -> bool:
        """Whether pairs are scored that are not those of the data, if these have any."""
        return "type" in self.protocol

    @property
    def has_identities(self) -> bool:
        """Whether the network has an output layer of identities: for its own loss, or for a term of its target."""
        return self.task.classifies or any(term["compares"] == "logits" for term in self.target.active().values())

    @property
    def identities_data(self) -> dict[str, Any]:
        """Whose identities that output layer has."""
        return self.recognition_data if RECOGNIZER in map(self.role_of, self.target.active()) else self.data

    @property
    def has_labels(self) -> bool:
        """Whether the labels of its data are classes of that output layer."""
        named = serves(self.data, "identities") and self.identities_data == self.data
        return self.task.classifies or named

    def role_of(self, term: str) -> str:
        """The role of the teacher that a term comes from."""
        node = self.target.terms[term]
        role: str = node.get("from", "auto")
        if role == "auto":
            role = RECOGNIZER if node["compares"] == "logits" and not self.task.classifies else TEACHER
        return TEACHER if role == RECOGNIZER and not self.task.own_teacher else role

    def contract_of(self, role: str) -> ContractConfig:
        """What the teacher of a role takes, where it comes from a file.

        Raises ``ConfigError`` where ``teachers`` holds something else.
        """
        if role not in self.teachers:
            return self.teacher.contract
        return ContractConfig.of(self.teachers[role].get("contract", {}), f"teachers.{role}.contract")

    @property
    def epoch_rates(self) -> list[float]:
        """The learning rate of every epoch, or that from which a cosine falls."""
        return [rate for rate in self._rates for _ in range(self.schedule.epochs)]

    @property
    def _start(self) -> str:
        """Which of the task's learning rates it takes: it depends on whether it starts from an initialization."""
        return "initialized" if self.starts_from_recognizer else self.init.rates

    @property
    def _rates(self) -> list[float]:
        """Its learning rates, one after the other."""
        given = self.task.learning_rates
        random = given.random[:1] if self.schedule.reading == "one_rate" else given.random
        return {"random": random, "initialized": given.initialized, "whole": [*random, *given.initialized]}[self._start]

    def complaints(self, trains: bool = True) -> Iterator[str]:
        """What is impossible, one by one; ``trains``: its task is done, else data are looked at."""
        if not 0 <= self.seed < SEEDS:
            yield f"seed={self.seed} must lie in 0 … {SEEDS - 1}"
        for key in ("runs_dir", "cache_dir"):
            if not getattr(self, key):
                yield f"{key}= names no folder: {key}=FOLDER"
        yield from self._complaints_of_numbers()
        if trains:
            yield from self._complaints_of_data()
        yield from self._complaints_of_choices()
        yield from self.task.complaints()
        yield from self.init.complaints()
        yield from self.target.complaints()
        yield from self._complaints_of_teachers()
        yield from self.image.complaints(trains)
        for part in (self.augment, self.teacher, self.schedule, self.trainer, self.logger):
            yield from part.complaints()
        yield from self._complaints_of_rates()
        ranks, task = self.trainer.world_size, self.task
        if task.batch_size // (task.images_per_identity or 1) // ranks < (1 if task.images_per_identity else 2):
            yield (
                f"trainer.devices={self.trainer.devices} × trainer.num_nodes={self.trainer.num_nodes} share a batch of "
                f"task.batch_size={task.batch_size}: too few for each, as BatchNorm needs two images"
            )

    def _complaints_of_numbers(self) -> Iterator[str]:
        for group, node in {"data": self.data, "recognition": self.recognition, "protocol": self.protocol}.items():
            wrong = {key: value for key, value in node.items() if isinstance(value, float) and not isfinite(value)}
            yield from (f"{group}.{key}={value} must be a finite number" for key, value in wrong.items())

    def _complaints_of_data(self) -> Iterator[str]:
        needs = self.task.needs
        if not serves(self.data, needs):
            choices = ", ".join(f"data={name}" for name in data_with(needs, *["eyes"] * self.task.bands))
            stands = needs == "identities" and not self.task.bands
            more = ". Where other runs stand on it: data@recognition=…" if stands else ""
            name = self.data["name"]
            yield f"task={self.task.name} needs {needs}, which data={name} does not give. Choices: {choices}{more}"
        elif self.task.bands and not serves(self.data, "eyes"):
            choices = ", ".join(f"data={name}" for name in data_with(needs, "eyes"))
            yield (
                f"task={self.task.name} cuts the band about the eyes, and data={self.data['name']} does not say where "
                f"they are. Choices: {choices}"
            )
        if self.task.bands and min(self.student_size) < 1:
            yield f"image.crop={self.image.crop} leaves no row of a band about the eyes: use a larger one"
        if self.task.bands and self.has_protocol:
            yield (
                f"task={self.task.name} sees bands about the eyes, and the pairs of data@protocol="
                f"{self.protocol['name']} are of whole faces: leave it out"
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
        if task.imitates and not target.active():
            yield f"task={task.name} learns from its target alone, and target={target.name} is none. Use target=cosine"
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

    def _complaints_of_rates(self) -> Iterator[str]:
        rates, given = self._rates, self.task.learning_rates
        if self.schedule.optimizer == "adamw" and max(rates) > MOST_ADAMW_RATE:
            too_large = "initialized" if self._start != "random" and max(rates) in given.initialized else "random"
            written = nodes("task")[self.task.name]["learning_rates"][too_large]  # perhaps by reference to its group
            key = written.strip("${}") if isinstance(written, str) else f"task.learning_rates.{too_large}"
            yield (
                f"schedule.optimizer=adamw moves every weight by about the learning rate in every step: {max(rates):g} "
                f"is too much. Add {key}=[0.001]"
            )
        if self.schedule.shape == "cosine" and len(rates) > 1:
            one = {
                "random": "schedule.reading=one_rate",
                "initialized": f"task.learning_rates.initialized=[{rates[0]:g}]",
                "whole": "init.rates=random schedule.reading=one_rate",
            }[self._start]
            yield (
                "schedule.shape=cosine falls from one learning rate, and this run takes "
                f"{', '.join(f'{rate:g}' for rate in rates)} in turn. For the first alone: {one}"
            )

    def _complaints_of_imitation(self) -> Iterator[str]:
        active = self.target.active()
        if not self.task.imitates or not active:
            return
        for name, term in active.items():
            if term["compares"] == "logits":
                yield f"target.terms.{name} needs identities, and task={self.task.name} has none. Use target=cosine"
            elif self.role_of(name) != TEACHER:
                yield f"target.terms.{name}.from={term['from']}: task={self.task.name} imitates one, from={TEACHER}"
        if self.target.leaves_embedding_free:
            yield (
                f"target={self.target.name} leaves the embedding of the student as it likes, behind a map that is "
                f"dropped or in other directions: task={self.task.name} needs one that can be compared with the "
                "teacher's. Use target=cosine"
            )

    def _complaints_of_own_pixels(self) -> Iterator[str]:
        """Where a teacher is asked about the student's own pixels, but sees its own view of the face."""
        if self.task.intermediate and self.task.needs_teacher:
            asks, instead, roles = "init=fitnet", "init=full", {TEACHER}
        elif self.target.views == "live":
            asks, instead, roles = "target.views=live", "target.views=all", set(map(self.role_of, self.target.active()))
        else:
            return
        for role in sorted(roles):
            contract = self.contract_of(role)
            if contract.size is not None and (role in self.teachers or self.teacher.weights):
                yield (
                    f"{asks} asks the teacher about the student's own pixels, but contract={contract.name} has it see "
                    f"faces of {contract.size} pixels. Use {instead}"
                )

    def _complaints_of_teachers(self) -> Iterator[str]:
        chain = ("auto", TEACHER, RECOGNIZER)
        roles = (*(self.task.teachers or chain), *self.teachers)
        for name, term in self.target.active().items():
            if (role := term.get("from", "auto")) not in roles:
                yield f"target.terms.{name}.from={role}: choices for task={self.task.name} are {', '.join(roles)}"
                return
            if role in self.task.teachers and term["compares"] == "logits":
                yield (
                    f"target.terms.{name}.from={role}: the teachers of task={self.task.name} have other classes. Use a "
                    "term that compares embeddings, as those of target=two_teachers"
                )
            own = self.role_of(name) == TEACHER and self.task.own_teacher
            if term["compares"] == "logits" and own and not self.task.classifies:
                yield (
                    f"target.terms.{name}.from={TEACHER}: the teacher of task={self.task.name} has no output layer of "
                    f"identities. Use from={RECOGNIZER}"
                )
        for role, node in self.teachers.items():
            if role in chain:
                yield f"teachers.{role}: {', '.join(chain)} are the chain's own; choose another name"
            yield from complaints_of_another(f"teachers.{role}", node)
        yield from self._complaints_of_imitation()
        labelled = [name for name in self.target.active() if self.target.needs_labels(name)]
        if labelled and not self.has_labels:
            others = "target=cosine" if self.task.imitates else "target=soft, target=dist or target=grouped"
            yield (
                f"target.terms.{labelled[0]} needs labels, and data={self.data['name']} does not say who of the "
                f"teacher's identities is shown. Use {others}"
            )
        yield from self._complaints_of_own_pixels()
        if self.task.classifies and self.identities_data != self.data:
            yield (
                f"a term from={RECOGNIZER} needs the identities of task={self.task.name}, but data@recognition has "
                "other identities than data"
            )
        if "type" in self.recognition and not serves(self.recognition, "identities"):
            choices = ", ".join(f"data@recognition={name}" for name in data_with("identities"))
            yield f"data@recognition={self.recognition['name']} has no identities. Choices: {choices}"


ConfigStore.instance().store(name="schema", node=Config)
