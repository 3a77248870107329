"""The shared base of the tasks: Φ(task) + Σ weight · target is written once, here."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from facedistill.config import Config
from facedistill.data.views import FaceBatch
from facedistill.distill.target import Target
from facedistill.distill.teacher import FrozenTeacher
from facedistill.models.network import Answer, Network


class ScheduledModule(pl.LightningModule, abc.ABC):
    """A network, perhaps a teacher, and the paper's optimizer and schedule."""

    def __init__(
        self,
        config: Config,
        network: Network,
        teacher: FrozenTeacher | None = None,
        targets: Mapping[str, Target] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.network = network
        self.teacher = teacher
        self.targets = nn.ModuleDict(dict(targets or {}))

    @abc.abstractmethod
    def training_step(self, batch: FaceBatch, batch_index: int) -> dict[str, Tensor]:
        """``loss`` to be minimized, and its detached terms by name, for the record."""

    def on_fit_start(self) -> None:
        """The teacher is no submodule, so it does not move by itself."""
        if self.teacher is not None:
            self.teacher.to(self.device)

    def configure_optimizers(self) -> Any:
        """Nesterov SGD; every epoch has its learning rate, by how the run starts."""
        schedule = self.config.schedule
        rates = self.config.learning_rates
        optimizer = torch.optim.SGD(
            self.parameters(),
            lr=1.0,
            momentum=schedule.momentum,
            weight_decay=schedule.weight_decay,
            nesterov=schedule.momentum > 0,
            fused=True,
        )
        scheduler = LambdaLR(optimizer, lambda epoch: rates[min(epoch, len(rates) - 1)])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


class TaskModule(ScheduledModule):
    """Trains on a task's own loss Φ and on the terms of its target. A task supplies Φ and its test metrics."""

    @abc.abstractmethod
    def task_loss(self, student: Answer, batch: FaceBatch) -> Tensor:
        """Φ: the loss that needs no teacher, a scalar."""

    def training_step(self, batch: FaceBatch, batch_index: int) -> dict[str, Tensor]:
        """Φ(task) + α·soft + β·hidden + …"""
        student: Answer = self.network(batch.images)
        loss = self.task_loss(student, batch)
        terms = {"task": loss.detach()}
        if self.targets:
            assert self.teacher is not None
            teacher = self.teacher(batch.images)
            for name, target in self.targets.items():
                distance = target(student, teacher)
                terms[name] = distance.detach()
                loss = loss + target.weight * distance
        return {"loss": loss, **terms}
