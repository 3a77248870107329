"""From command-line words to a checked configuration: what is refused before anything runs.

Nothing here imports torch: ``plan=true`` and every refusal come at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import cast

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from facedistill.config.schema import CLASSIFICATION, Config
from facedistill.errors import ConfigError

_PACKAGE = Path(__file__).parents[1]
# In a wheel conf/ lies inside the package, in a checkout at its top; experiments/ is linked into it.
CONFIG_DIR = (_PACKAGE if (_PACKAGE / "conf").is_dir() else _PACKAGE.parents[1]) / "conf"

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
PATHS = ("root", "images", "annotations", "pairs", "landmarks", "boxes", "weights", "backbone", "runs_dir", "cache_dir")
_PLAIN = re.compile(r"""[\w./@%+:, ?-]*|'.*'|".*"|.*\$\{.*""", re.ASCII)
SOFT_TEACHERS = ("auto", "task", "classification")
BANKS = ("float16", "float32")


def quoted(word: str) -> str:
    """A word of the command line; a path that Hydra's grammar would refuse, as `data.root=Müller (1)`, in quotes."""
    key, _, value = word.partition("=")
    if key.split(".")[-1] not in PATHS or _PLAIN.fullmatch(value):
        return word
    escaped = value.replace("'", r"\'")
    return f"{key}='{escaped}'"


def compose_config(overrides: Sequence[str], trains: bool = True) -> Config:
    """Compose and check one cell from its command-line words.

    ``trains``: its task is done; else data are looked at, which need not be fit for it.

    Raises:
        ConfigError: an unknown key or choice, or an impossible combination.
    """
    inside = GlobalHydra.instance().is_initialized()
    with nullcontext() if inside else initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        try:
            return checked(compose("config", overrides=list(map(quoted, overrides))), trains)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(f"{' '.join(overrides)}: {error}") from error


def checked(node: DictConfig, trains: bool = True) -> Config:
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
    for complaint in [*(_unfit_data(config) if trains else []), *_complaints(config)]:
        raise ConfigError(complaint)
    return config


def _unfit_data(config: Config) -> list[str]:
    task, data = config.task, config.data
    if task.needs in data["gives"]:
        return []
    choices = ", ".join(f"data={name}" for name in _data_that_gives(task.needs))
    return [
        f"task={task.name} needs {task.needs}, which data={data['name']} does not give. Choices: {choices}. "
        "Where other runs stand on it: data@recognition=…"
    ]


def _complaints(config: Config) -> list[str]:
    task, init, target = config.task, config.init, config.target
    said = []
    if task.name not in init.tasks:
        choices = ", ".join(f"init={name}" for name in _initializations_of(task.name))
        said.append(
            f"init={init.name} starts {init.starts}: it can't start task={task.name}. "
            f"Choices for task={task.name}: {choices}"
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
    if not (target.views in ("all", "live") or (isinstance(target.views, int) and target.views >= 1)):
        said.append(f"target.views={target.views}: choices are live, all, or a number of views, at least 1")
    if target.bank not in BANKS:
        said.append(f"target.bank={target.bank}: choices are {', '.join(BANKS)}")
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
        "trainer.threads": trainer.threads,
        **{
            f"task.learning_rates.{start}[{i}]": rate
            for start, given in asdict(task.learning_rates).items()
            for i, rate in enumerate(given or [0])
        },
    }
    said += [f"{name} must be a number above 0" for name, value in positive.items() if not 0 < value < math.inf]
    if not (0 <= schedule.momentum < 1 and 0 <= schedule.weight_decay < math.inf):
        said.append("schedule.momentum must lie in 0 … 1, schedule.weight_decay must not be negative")
    if trainer.precision not in PRECISIONS:
        said.append(f"trainer.precision={trainer.precision}: choices are {', '.join(PRECISIONS)}")
    if trainer.accelerator not in ACCELERATORS:
        said.append(f"trainer.accelerator={trainer.accelerator}: choices are {', '.join(ACCELERATORS)}")
    if trainer.devices < 1 or trainer.num_nodes < 1:
        said.append("trainer.devices and trainer.num_nodes must be at least 1")
    ranks = trainer.devices * trainer.num_nodes
    share = task.batch_size // (task.images_per_identity or 1)
    if share // ranks < (1 if task.images_per_identity else 2):
        said.append(
            f"trainer.devices={trainer.devices} × trainer.num_nodes={trainer.num_nodes} share a batch of "
            f"task.batch_size={task.batch_size}: too few for each, as BatchNorm needs two images"
        )
    if trainer.sync_batchnorm and trainer.accelerator == "cpu":
        said.append("trainer.sync_batchnorm=true works on GPUs only: torch has none for CPUs")
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
