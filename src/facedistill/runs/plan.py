"""Which runs a run stands on, and getting them made first."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from filelock import AcquireReturnProxy, FileLock, Timeout
from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from facedistill.config.build import build, check_target
from facedistill.config.compose import compose_config
from facedistill.config.schema import CLASSIFICATION, Config
from facedistill.data.sources.source import build_source
from facedistill.errors import BusyError, RunError
from facedistill.runs.run import Run, WeightsFile
from facedistill.system.files import hash_of

TEACHER = {"task": "teacher", "init": "scratch", "target": "none", "rate": "1"}
OWN_TEACHER = {"init": "teacher", "target": "none", "rate": "1"}  # of the same task
TELL_EVERY = 60.0  # seconds
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
# Words that describe one run of a chain, not all of it: they go to an ancestor only where it makes the same choice.
_OWN = ("task", "init", "target")
_OF_ALL = ("target.views", "target.bank")  # how teachers answer is one choice for a chain


def plan(words: Sequence[str], composed: Config | None = None) -> Run:
    """The run that command-line words ask for, with everything it stands on. Trains nothing.

    ``composed``: the configuration of these words, where it is there already.

    Raises:
        ConfigError: an impossible combination. DataError: the data is not there.
    """
    return _plan(tuple(words), composed, {}, {})


def _plan(
    words: tuple[str, ...],
    composed: Config | None,
    planned: dict[tuple[str, ...], Run],
    data: dict[str, dict[str, Any]],
) -> Run:
    if words in planned:
        return planned[words]
    config = composed or _composed(words)
    key = hash_of(config.data)
    if key not in data:
        data[key] = build_source(config.data).identity()
    parents: dict[str, Run | WeightsFile] = {}
    for role, choices in _stands_on(config):
        ancestor = _ancestor_words(words, config, choices)
        if config.teacher.weights and choices.get("task") == "teacher":
            parents[role] = WeightsFile(Path(config.teacher.weights), _composed(ancestor))
        else:
            parents[role] = _plan(ancestor, None, planned, data)
    if config.task.name == "teacher" and config.teacher.backbone:
        parents["init"] = WeightsFile(Path(config.teacher.backbone))
    return planned.setdefault(words, Run(config, words, data[key], parents))


@cache
def _composed(words: tuple[str, ...]) -> Config:
    """Composing takes a fifth of a second, and the cells of a sweep share their ancestors."""
    return compose_config(words)


def _stands_on(config: Config) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The role of every ancestor, and the choices that make it."""
    recognizer = {**TEACHER, "seed": str(config.teacher.seed)}
    own_teacher = recognizer if config.task.name in CLASSIFICATION else {**OWN_TEACHER, "seed": recognizer["seed"]}
    roles = {config.teacher_of(term) for term in config.target.active()}
    if "teacher" in roles or config.task.needs_teacher:
        yield "teacher", own_teacher
    if "recognizer" in roles:
        yield "recognizer", recognizer
    if config.init.parent:
        yield "init", recognizer if config.init.name == "teacher" else {"rate": str(config.rate), **config.init.parent}


def _ancestor_words(words: Sequence[str], config: Config, choices: Mapping[str, str]) -> tuple[str, ...]:
    """The words of a run, changed to those of an ancestor that makes other ``choices``."""
    own = {"task": config.task.name, "init": config.init.name, "target": config.target.name}
    other_task = choices.get("task", own["task"]) != own["task"]
    if other_task and config.task.name not in CLASSIFICATION and config.recognition["name"] != "same":
        words = _seen_by_the_recognizer(words)
    kept = []
    for word in words:
        key = _key(word)
        group = key.split(".", 1)[0]
        own_word = group in _OWN and key not in _OF_ALL
        foreign = own_word and (choices.get(group, own[group]) != own[group] or (group == "target" and other_task))
        if key not in choices and not foreign:
            kept.append(word)
    return (*kept, *(f"{key}={value}" for key, value in choices.items()))


def _seen_by_the_recognizer(words: Sequence[str]) -> list[str]:
    """``data@recognition=lfw recognition.root=…`` is ``data=lfw data.root=…`` to a classification run."""
    others = [word for word in words if _key(word).split(".", 1)[0] != "data"]
    return [re.sub(r"^(\+*)(data@)?recognition(?=[.=])", r"\1data", word) for word in others]


def _key(word: str) -> str:
    return word.split("=", 1)[0].lstrip("+~")


def tree(run: Run | WeightsFile, label: str = "") -> Tree:
    """A run and what it stands on, for a terminal."""
    state = "[green]complete[/]" if run.is_complete else "[yellow]to be made[/]"
    shown = Tree(f"{label}{escape(run.name)}  {state}", highlight=False)
    if isinstance(run, Run):
        for role, parent in run.parents.items():
            shown.add(tree(parent, f"{role}: "))
    return shown


def ensure(run: Run, make: Callable[[Run, str], None], title: str = "", wait: bool = True) -> None:
    """Make ``run`` and whatever it stands on, each unless it is complete; the one place that decides to train.

    Two processes that need the same run make it once: the other waits.

    Raises:
        RunError: it could not be finished.
        BusyError: another process is making it, or something that it stands on, and ``wait`` is false.
    """
    if run.is_complete:
        return
    for role, parent in run.parents.items():
        if isinstance(parent, Run):
            ensure(parent, make, f"{title}{role} ", wait)
    try:
        run.directory.mkdir(parents=True, exist_ok=True)
        with _acquired(run, wait):
            if not run.is_complete:
                run.claim()
                make(run, title)
    except OSError as error:
        raise RunError(
            f"{run.directory}: {error.strerror or error}. Nothing complete was damaged; the same command goes on "
            "from the last whole epoch"
        ) from error


def _acquired(run: Run, wait: bool) -> AcquireReturnProxy[FileLock]:
    """The right to make a run, once nobody else has it; who waits is told for whom, every minute.

    Raises:
        RunError: the disk has no locks. BusyError: another process has it, and ``wait`` is false.
    """
    lock, console = FileLock(run.lock), Console(stderr=True)
    timeout = 0.0
    while True:
        try:
            return lock.acquire(timeout=timeout)
        except Timeout as error:
            if not wait:
                raise BusyError(f"{run.maker} is making {run.name}") from error
            console.print(f"{run.maker} is making {run.name}: waiting for it", highlight=False, soft_wrap=True)
            timeout = TELL_EVERY
        except (NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in NO_LOCKS:
                raise
            raise RunError(
                f"{run.lock}: this disk has no file locks ({error}), so two processes would make one run. "
                "Name another with runs_dir=…, or have it mounted with locks"
            ) from error


def check_buildable(run: Run | WeightsFile) -> None:
    """Refuse a target, model or task that can't be built, in the whole tree, before any of it is trained."""
    if isinstance(run, WeightsFile):
        run.identity  # noqa: B018 - raises where there is no such file
        return
    config = run.config
    check_target(config.network, rate=config.rate)
    check_target({"_target_": config.task._target_}, config=None, network=None)
    if config.task.options:
        build(config.task.options)  # a value that it refuses should not wait for the ancestors
    for term in config.target.active().values():
        check_target(term, student_width=1, teacher_width=1)
    for parent in run.parents.values():
        check_buildable(parent)
