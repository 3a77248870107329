"""From a configuration to its network and its LightningModule."""

from collections.abc import Mapping

from facedistill.config.build import build, find_type
from facedistill.config.schema import Config
from facedistill.distill.target import Target
from facedistill.distill.teacher import Teacher
from facedistill.evaluation.evaluation import Evaluation
from facedistill.models.network import Network, build_network
from facedistill.tasks.base import ScheduledModule


def training_network(config: Config, num_identities: int) -> Network:
    """The network that is trained: an output layer for its task, and one of identities where its target needs that."""
    count = num_identities if config.has_identities else 0
    return build_network(config.network, config.rate, count, landmarks=config.task.needs == "landmarks")


def build_module(
    config: Config,
    network: Network,
    teachers: Mapping[str, Teacher] | None = None,
    targets: Mapping[str, Target] | None = None,
) -> ScheduledModule:
    node = {"type": config.task.type}
    module: ScheduledModule = build("task", node, config=config, network=network, teachers=teachers, targets=targets)
    return module


def build_evaluation(config: Config, network: Network) -> Evaluation:
    """What the configuration's task measures of a network."""
    task: type[ScheduledModule] = find_type("task", {"type": config.task.type})
    return task.build_evaluation(config, network)


def build_targets(config: Config, network: Network, teachers: Mapping[str, Teacher]) -> dict[str, Target]:
    return {
        name: build(
            "target",
            term,
            student_width=network.backbone.width,
            teacher_width=teachers[config.role_of(name)].width,
        )
        for name, term in config.target.active().items()
    }
