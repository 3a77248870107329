"""The shared base of the tasks: Φ(task) + Σ weight · target is written once, here."""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, NamedTuple, ParamSpec, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from facedistill.config.schema import Config
from facedistill.data.loading.datamodule import FaceData
from facedistill.data.loading.samplers import rank_and_world_size
from facedistill.data.loading.views import FaceBatch
from facedistill.distill.chunked_loss import chunked_mean
from facedistill.distill.parity import BATCHES, parity, unchanged, with_gradient
from facedistill.distill.target import Target
from facedistill.distill.teacher import Teacher, TeacherOutput, autocast_for
from facedistill.errors import ConfigError
from facedistill.evaluation.evaluation import Evaluation
from facedistill.models.network import Network, NetworkOutput
from facedistill.system.signals import stop_on_signals
from facedistill.tasks.batch_norm import WholeBatchNorm
from facedistill.tasks.gather import gather_batch, gather_tensor, gradient_length
from facedistill.tasks.optimizer import build_optimizer, cosine
from facedistill.tasks.split_classes import ClassifierShare, SplitsClasses

T = TypeVar("T")
P = ParamSpec("P")


class ScheduledModule(SplitsClasses):
    """A network, perhaps its teachers by role, its optimizer and schedule, and the evaluation of its task.

    Attributes:
        options_type: the dataclass of ``task.options``; None: it has none.
        uses_all_parameters: whether every parameter of the network gets a gradient.
    """

    options_type: ClassVar[type[Any] | None] = None
    uses_all_parameters: ClassVar[bool] = True

    def __init__(
        self,
        config: Config,
        network: Network,
        teachers: Mapping[str, Teacher] | None = None,
        targets: Mapping[str, Target] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.network = network
        self.teachers = dict(teachers or {})
        self.targets = nn.ModuleDict(dict(targets or {}))
        self.evaluation = self.build_evaluation(config, network)

    @property
    def terms(self) -> Mapping[str, Target]:
        """The terms of the target by name."""
        return cast(Mapping[str, Target], self.targets)

    @classmethod
    def options(cls, config: Config) -> Any:
        """``task.options`` as ``options_type``. Raises ``ConfigError`` for what it does not take."""
        given = config.task.options
        known = [field.name for field in dataclasses.fields(cls.options_type)] if cls.options_type else []
        if wrong := given.keys() ^ set(known):
            raise ConfigError(f"task.options.{min(wrong)}: type={config.task.type} has {', '.join(known) or 'none'}")
        return cls.options_type(**given) if cls.options_type else None

    @classmethod
    @abc.abstractmethod
    def build_evaluation(cls, config: Config, network: Network) -> Evaluation:
        """What the task measures of a network; no module of it is needed."""

    def compiled(self, forward: Callable[P, T]) -> Callable[P, T]:
        """A forward as training steps call it; measuring stays with the network itself, as it is published.

        By batch size, of which there are two: code for any size would depend on which came first.
        """
        return torch.compile(forward, dynamic=False) if self.config.trainer.compile else forward

    @abc.abstractmethod
    def training_step(self, batch: FaceBatch, batch_index: int) -> dict[str, Tensor]:
        """``loss`` to be minimized, and its detached terms by name, for the record."""

    def measure(self, batch: FaceBatch) -> None:
        """Have the evaluation count a batch of centre crops."""
        self.evaluation.measure(self.network, batch)

    def batch_sizes_per_rank(self, batch: FaceBatch, batch_index: int) -> list[int]:
        """How many samples of a training batch each rank has; by arithmetic, since asking them takes time."""
        _, world_size = rank_and_world_size()
        if world_size == 1:
            return [len(batch.labels)]
        data: FaceData = self.trainer.datamodule  # type: ignore[attr-defined]
        return data.train_batches.batch_sizes_per_rank(batch_index, world_size)

    def batch_norm_over(self, sizes: list[int]) -> AbstractContextManager[Any]:
        """Over which samples BatchNorm takes its statistics where ranks have shares of these sizes."""
        shared = len(sizes) > 1 and self.config.trainer.sync_batchnorm
        return WholeBatchNorm(sizes) if shared else nullcontext()

    def validation_step(self, batch: FaceBatch, batch_index: int) -> None:
        """In float32 whatever the precision of the steps, as what is published is scored in the end and again."""
        with torch.autocast(self.device.type, enabled=False):
            self.measure(batch)

    def on_validation_epoch_end(self) -> None:
        for name, value in self.evaluation.scores().items():
            self.log(f"test/{name}", value)
        self.evaluation.reset()

    def on_fit_start(self) -> None:
        """A teacher is no submodule, so it does not move by itself."""
        for teacher in self.teachers.values():
            teacher.to(self.device)

    def on_train_start(self) -> None:
        """Ranks end on a signal as one process does: Lightning's handler broadcasts, and they wait for ever."""
        if self.trainer.world_size > 1:
            stop_on_signals()

    def build_optimizer(self) -> torch.optim.Optimizer:
        slow = list(self.network.backbone.parameters()) if self.config.finetunes else []
        taken = {id(parameter) for parameter in slow}
        fast = [parameter for parameter in self.parameters() if id(parameter) not in taken]
        return build_optimizer(self.config.schedule, fast, slow, self.config.teacher.finetune)

    def configure_optimizers(self) -> Any:
        """Every epoch has its learning rate, by how the run starts; along a cosine every step has its own."""
        schedule, rates = self.config.schedule, self.config.epoch_rates
        optimizer = self.build_optimizer()
        if schedule.shape == "cosine":
            data: FaceData = self.trainer.datamodule  # type: ignore[attr-defined]
            steps = len(data.train_batches) * len(rates)
            scheduler = LambdaLR(optimizer, lambda step: rates[0] * cosine(step, steps, schedule.warmup))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
        scheduler = LambdaLR(optimizer, lambda epoch: rates[min(epoch, len(rates) - 1)])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def identity_loss(student: NetworkOutput, batch: FaceBatch) -> Tensor:
    """H(P, y), averaged over the batch."""
    classes = student.classes

    def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
        return -classes.of_labels(classes.log_softmax(logits), labels)

    return chunked_mean(cross_entropy, student, batch.labels)


class Answers(NamedTuple):
    """Of a whole batch: what the student and every teacher, by its role, say of it, and what is true (no images)."""

    student: NetworkOutput
    teachers: dict[str, TeacherOutput]
    batch: FaceBatch


class TaskModule(ScheduledModule):
    """Trains on a task's own loss Φ and on the terms of its target. A task supplies Φ and its evaluation."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._forward: Callable[[Tensor], NetworkOutput] = self.compiled(self.network.forward)

    @abc.abstractmethod
    def task_loss(self, student: NetworkOutput, batch: FaceBatch) -> Tensor | None:
        """Φ: the loss that needs no teacher, a scalar; None: there is none. The batch comes without its images."""

    def watch(self, answers: Answers) -> None:
        """Take note of what was said of a training batch, where later ones depend on it."""

    def training_step(self, batch: FaceBatch, batch_index: int) -> dict[str, Tensor]:
        """Φ(task) + α·soft + β·hidden + … of the whole batch, also where ranks share it; gradients have parity."""
        answers = self._answers(batch, batch_index, self._forward)
        self.watch(answers)
        losses = self._losses(answers)
        weights = {name: term.weight for name, term in self.terms.items()}
        first, *others = (weights.get(name, 1.0) * value for name, value in losses.items())
        return {"loss": sum(others, first), **{name: value.detach() for name, value in losses.items()}}

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.targets and self.trainer.global_step == 0:  # a run that resumes has them in its checkpoint
            data: FaceData = self.trainer.datamodule  # type: ignore[attr-defined]
            with unchanged(self.network):
                self.start_targets([batch.to(self.device) for batch in data.first_batches(2 * BATCHES)])

    def start_targets(self, batches: Sequence[FaceBatch]) -> None:
        """Start every term of the target from half of the first batches; the others tell its parity with the task.

        What a term fits to its batches it does not yet do on others, where its gradient is longer.

        Raises:
            RunError: there is no parity, as a loss has no gradient.
        """
        half = -(-len(batches) // 2)
        with torch.no_grad():
            answers = [self._answers(batch, number, self.network) for number, batch in enumerate(batches[:half])]
            embedding = torch.cat([answer.student.embedding for answer in answers])
            for name, target in self.terms.items():
                role = self.config.role_of(name)
                target.start(embedding, torch.cat([answer.teachers[role].embedding for answer in answers]))
        if self.config.target.parity is None or self.config.task.imitates:
            return
        weights = list(self.network.backbone.parameters())
        lengths: dict[str, list[float]] = {"task": [], **{name: [] for name in self.terms}}
        for number in range(min(half, len(batches) - 1), len(batches)):
            for name, loss in self._losses(self._answers(batches[number], number, self.network)).items():
                lengths[name].append(gradient_length(loss, weights))
        for name, value in parity(self.config.target.parity, lengths.pop("task"), lengths).items():
            self.terms[name].parity.fill_(value)

    def _losses(self, answers: Answers) -> dict[str, Tensor]:
        """Φ, where there is one, as ``task``, and every term by its name, not weighted; gradients have parity."""
        student, teachers, batch = answers
        own = self.task_loss(student, batch)
        losses = {} if own is None else {"task": own}
        for name, term in self.terms.items():
            labels = [batch.labels] if self.config.target.needs_labels(name) else []
            losses[name] = term(with_gradient(student, term.parity), teachers[self.config.role_of(name)], *labels)
        return losses

    def _answers(self, batch: FaceBatch, batch_index: int, network: Callable[[Tensor], NetworkOutput]) -> Answers:
        sizes = self.batch_sizes_per_rank(batch, batch_index)
        known = batch.teacher_embeddings.get("init")  # of a backbone that is frozen
        with self.batch_norm_over(sizes):
            output = network(batch.student_images) if known is None else self.network.of_embedding(known.float())
        student = gather_batch(output, sizes)
        # differences of what autocast has rounded are not rounded again
        student = student._replace(embedding=student.embedding.float(), landmarks=student.landmarks.float())
        if isinstance(self.network.classifier, ClassifierShare):
            student = self.network.classifier.answer(student)
        shown = batch if self.teachers.keys() <= batch.teacher_embeddings.keys() else self.for_teachers(batch)
        teachers = {role: self._teacher_output(role, shown, sizes) for role in self.teachers}
        return Answers(student, teachers, gather_batch(batch.without_images(), sizes))

    def for_teachers(self, batch: FaceBatch) -> FaceBatch:
        """A batch of this rank's share as its teachers see it, where they are asked in every step."""
        return batch

    def _teacher_output(self, role: str, batch: FaceBatch, sizes: list[int]) -> TeacherOutput:
        """What a teacher says of the whole batch: from its bank where the batch brings that, or now."""
        teacher = self.teachers[role]
        kept = batch.teacher_embeddings.get(role)
        if kept is None:
            with autocast_for(self.config.trainer.precision, batch.images.device):
                kept = teacher(batch.images).embedding.float()
        return teacher.recall(gather_tensor(kept, sizes))
