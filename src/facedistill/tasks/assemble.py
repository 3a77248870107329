"""From a configuration to its network and its LightningModule."""

from __future__ import annotations

from collections.abc import Mapping

from facedistill.config.build import build
from facedistill.config.schema import Config
from facedistill.distill.target import Target
from facedistill.distill.teacher import NetworkTeacher
from facedistill.models.network import Network, build_network
from facedistill.tasks.base import ScheduledModule


def training_network(config: Config, num_identities: int) -> Network:
    """The network that is trained: an output layer for its task, and one of identities where its target needs that."""
    count = num_identities if config.tells_identities else 0
    return build_network(config.network, config.rate, count, landmarks=config.task.needs == "landmarks")


def published_network(config: Config, num_identities: int) -> Network:
    """The network that is kept: without the output layer of identities, where only its target needed that."""
    count = num_identities if config.task.classifies else 0
    return build_network(config.network, config.rate, count, landmarks=config.task.needs == "landmarks")


def build_module(
    config: Config,
    network: Network,
    teachers: Mapping[str, NetworkTeacher] | None = None,
    targets: Mapping[str, Target] | None = None,
) -> ScheduledModule:
    """The LightningModule of the configuration's task."""
    node = {"_target_": config.task._target_}
    module: ScheduledModule = build(node, config=config, network=network, teachers=teachers, targets=targets)
    return module


def build_targets(config: Config, network: Network, teachers: Mapping[str, NetworkTeacher]) -> dict[str, Target]:
    """The terms of the configured target."""
    return {
        name: build(
            term,
            student_width=network.backbone.width,
            teacher_width=teachers[config.teacher_of(name)].network.backbone.width,
        )
        for name, term in config.target.active().items()
    }
