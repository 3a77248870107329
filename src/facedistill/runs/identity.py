"""What is in the identity of a run, and what is not: every key of the configuration is declared here.

The identity hashes what changes the result, by short registered names and their numbers: not import paths, names that
are only displayed, lists of choices, nor where and how a run is executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from facedistill.config.schema import Config
from facedistill.data.loading.view_schedule import banked_views

# Raised whenever a change of the code changes the numbers that a configuration gives.
RESULTS_VERSION = 3

# Of nodes whose keys are their type's own (data, model, terms): keys that are not in the identity.
PRESENTATION = ("name", "rates", "gives", "published", "compares")
# Paths of the configuration that change the result (``*``: any key), and the key of the recipe that has them, if another.
INCLUDED = {
    "task.name": "",
    "task.type": "",
    "task.batch_size": "",
    "task.softmax": "",
    "task.images_per_identity": "",
    "task.options.*": "",
    "task.learning_rates.*": "learning_rates",
    "data.*": "data: what the source says that it holds",
    "model.*": "",
    "teacher.model.*": "model of the teacher's own run, or of its file",
    "teacher.seed": "parents",
    "teacher.weights": "parents: the bytes of the file",
    "teacher.backbone": "parents: the bytes of the file",
    "teachers.*": "parents: the bytes of the file, and its model",
    "recognition.*": "parents: data of the classification runs",
    "init.name": "",
    "init.parent.*": "parents",
    "init.rates": "learning_rates",
    "init.makes_teacher": "model",
    "target.terms.*": "target",
    "target.views": "bank",
    "target.bank": "bank",
    "image.resize": "",
    "image.crop": "",
    "schedule.epochs": "learning_rates",
    "schedule.momentum": "",
    "schedule.weight_decay": "",
    "trainer.precision": "",
    "trainer.threads": "",
    "trainer.compile": "",
    "trainer.sync_batchnorm": "",
    "rate": "",
    "seed": "",
}
# Paths that do not, with the reason.
EXCLUDED = {
    **dict.fromkeys(("task.rate", "task.alpha"), "a default of another key, which is in it"),
    **dict.fromkeys(("batch_sizes.*", "learning_rates.*", "target.alpha", "target.beta", "target.tau"), "as above"),
    **dict.fromkeys(("task.metric", "task.needs", "task.compared_as", "init.starts", "target.name"), "presentation"),
    **dict.fromkeys(("task.classifies", "task.own_teacher", "task.is_teacher"), "follows from the task"),
    **dict.fromkeys(("task.distils", "task.needs_teacher", "task.intermediate", "init.tasks"), "what is allowed"),
    **dict.fromkeys(("trainer.accelerator", "trainer.num_workers", "trainer.devices"), "how it is executed"),
    **dict.fromkeys(("trainer.num_nodes", "trainer.progress", "logger.*"), "how it is executed"),
    **dict.fromkeys(("runs_dir", "cache_dir", "plan", "group", "cells"), "where it is executed, and in which sweep"),
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
    terms = {name: {**numbers_of(term), "from": config.role_of(name)} for name, term in config.target.active().items()}
    return {
        "version": RESULTS_VERSION,
        "task": task,
        "data": dict(data),
        "image": asdict(config.image),
        "model": numbers_of(config.network),
        "rate": config.rate,
        "init": config.init.name,
        "target": terms,
        # a number where every epoch has a view of its own
        **({"bank": [views if min(views) < 0 else len(views), config.target.bank]} if views else {}),
        "learning_rates": config.epoch_rates,
        "optimizer": {key: schedule[key] for key in ("momentum", "weight_decay")},
        "precision": config.trainer.precision,
        "threads": config.trainer.threads,
        **{name: True for name in ("compile", "sync_batchnorm") if getattr(config.trainer, name)},
        "seed": config.seed,
        "parents": dict(parents),
    }


def numbers_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """A node of the configuration without what only presents it, and without what is not set."""
    return {key: value for key, value in node.items() if key not in PRESENTATION and value is not None}
