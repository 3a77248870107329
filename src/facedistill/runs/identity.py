"""What is in the identity of a run, and what is not: every key of the configuration is declared here.

The identity hashes what changes the result, by short registered names and their numbers: not import paths, names that
are only displayed, lists of choices, nor where and how a run is executed.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from facedistill.config.groups import FLOAT32
from facedistill.config.schema import RECOGNIZER, TEACHER, Config
from facedistill.data.loading.view_schedule import banked_views

# Raised whenever a change of the code changes the numbers that a configuration gives.
RESULTS_VERSION = 4

# Of nodes whose keys are their type's own (data, model, terms): keys that are not in the identity.
PRESENTATION = ("name", "rates", "gives", "published", "compares", "needs")
# The paths of the configuration that change the result (``*``: any key): themselves, or through the learning rate of
# every epoch, the bank, the identity of the data or those of the ancestors.
INCLUDED = {
    *("task.name", "task.type", "task.batch_size", "task.softmax", "task.images_per_identity", "task.options.*"),
    *("task.learning_rates.*", "schedule.epochs", "schedule.reading"),
    *("schedule.momentum", "schedule.weight_decay", "schedule.optimizer", "schedule.shape", "schedule.warmup"),
    *("data.*", "recognition.*", "protocol.*", "image.resize", "image.crop", "augment.name", "rate", "seed"),
    *("model.*", "teacher.model.*", "teacher.seed", "teacher.weights", "teachers.*"),
    *("teacher.backbone", "teacher.finetune"),
    *("teacher.contract.size", "teacher.contract.columns", "teacher.contract.crop"),
    *("teacher.contract.colour", "teacher.contract.mean", "teacher.contract.std"),
    *("init.name", "init.parent.*", "task.teachers.*", "init.rates", "init.makes_teacher", "init.from_teacher"),
    *("target.terms.*", "target.parity", "target.views", "target.bank"),
    *("trainer.precision", "trainer.threads", "trainer.compile", "trainer.sync_batchnorm"),
    *("trainer.devices", "trainer.num_nodes"),  # without sync_batchnorm
}
EXCLUDED = {
    # defaults of other keys, which are in it
    *("task.rate", "batch_sizes.*", "learning_rates.*", "target.alpha", "target.beta", "target.tau"),
    # presentation
    *("task.metric", "task.needs", "task.compared_as", "init.starts", "target.name", "teacher.contract.name"),
    # what follows from the task, and what is allowed
    *("task.classifies", "task.own_teacher", "task.is_teacher", "task.intermediate", "task.bands", "task.live_only"),
    *("task.distils", "task.imitates", "task.needs_teacher", "init.tasks"),
    # where and how it is executed, and in which sweep
    *("teacher.check", "trainer.accelerator", "trainer.num_workers", "trainer.score_every", "trainer.progress"),
    "trainer.split_classes",
    *("logger.*", "runs_dir", "cache_dir", "plan", "group", "cells"),
}


def recipe_of(config: Config, data: Mapping[str, Any], parents: Mapping[str, str]) -> dict[str, Any]:
    """Everything that changes the result of a run, as plain values.

    Args:
        data: the identity of its data source.
        parents: the identities of the runs and files that it stands on, by role.
    """
    views = banked_views(config)
    task = {
        key: getattr(config.task, key)
        for key in ("name", "type", "batch_size", "softmax", "images_per_identity", "options")
        if getattr(config.task, key) not in (None, {})
    }
    schedule = asdict(config.schedule)
    mixed = [] if config.trainer.precision == FLOAT32 else [config.trainer.precision]  # a bank is answered in it
    has_parity = config.target.parity is not None and not config.task.imitates  # there is no task to be equal with
    parity = {"parity": config.target.parity} if has_parity else {}
    terms = {
        name: {**numbers_of(term), **parity, "from": config.role_of(name)}
        for name, term in config.target.active().items()
    }
    return {
        "version": RESULTS_VERSION,
        "task": task,
        "data": dict(data),
        "image": asdict(config.image),
        **augment_of(config),
        "model": numbers_of(config.network),
        "rate": config.rate,
        "teacher_model": numbers_of(config.teacher.model) if parents.keys() & {TEACHER, RECOGNIZER} else None,
        "init": config.init.name,
        "target": terms,
        # a number where every epoch has a view of its own
        **({"bank": [views if min(views) < 0 else len(views), config.target.keeps, *mixed]} if views else {}),
        **({"finetune": config.teacher.finetune} if config.starts_from_recognizer else {}),
        "learning_rates": config.epoch_rates,
        "optimizer": {
            **{key: schedule[key] for key in ("momentum", "weight_decay")},
            **({"type": config.schedule.optimizer} if config.schedule.optimizer != "sgd" else {}),
        },
        **({"cosine": {"warmup": config.schedule.warmup}} if config.schedule.shape == "cosine" else {}),
        "precision": config.trainer.precision,
        "threads": config.trainer.threads,
        **({"compile": True} if config.trainer.compile else {}),
        **({"batchnorm_shares": shares} if (shares := config.trainer.batchnorm_shares) > 1 else {}),
        "seed": config.seed,
        "parents": dict(parents),
    }


def augment_of(config: Config) -> dict[str, str]:
    """What runs and banks with other views than the paper's have in their identities."""
    return {} if config.augment.name == "paper" else {"augment": config.augment.name}


def numbers_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """A node of the configuration without what only presents it, and without what is not set."""
    return {key: value for key, value in node.items() if key not in PRESENTATION and value is not None}
