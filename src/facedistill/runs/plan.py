"""Which runs a run stands on."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from rich.markup import escape
from rich.tree import Tree

from facedistill.config.build import build_on_meta, check_buildable, check_term, find_type
from facedistill.config.choices import nodes
from facedistill.config.compose import compose_config
from facedistill.config.schema import RECOGNIZER, TEACHER, Config
from facedistill.data.faces import Samples
from facedistill.data.judgement import check, check_seen_as
from facedistill.data.sources.source import build_source
from facedistill.errors import ConfigError
from facedistill.model_files.file_kinds import check_kind
from facedistill.model_files.onnx_trial import check_runs
from facedistill.runs.data_identity import Identities, identity_of_data, in_words_of
from facedistill.runs.run import Run, WeightsFile, refuse_bands
from facedistill.system.files import hash_of
from facedistill.system.text import shown

_RECOGNIZER = {"task": "teacher", "init": "scratch", "target": "none", "rate": "1"}
_OWN_TEACHER = {"init": "teacher", "target": "none", "rate": "1"}  # of the same task
# Words that describe one run of a chain, not all of it: they go to an ancestor only where it makes the same choice.
_OWN = ("task", "init", "target")
_OF_ALL = ("target.views", "target.bank")  # how teachers answer is one choice for a chain


def plan(words: Sequence[str], composed: Config | None = None, data: Identities | None = None) -> Run:
    """The run that command-line words ask for, with everything it stands on. Trains nothing.

    Args:
        composed: the configuration of these words, where it is there already.
        data: what is known of data sources and found here: of a large folder it takes a second, and the cells of a
            sweep have it in common.

    Raises:
        ConfigError: an impossible combination. DataError: the data is not there.
    """
    return _plan(tuple(words), composed, {}, {} if data is None else data)


def _plan(
    words: tuple[str, ...],
    composed: Config | None,
    planned: dict[tuple[str, ...], Run],
    data: Identities,
) -> Run:
    if words in planned:
        return planned[words]
    config = composed or _composed(words)
    identity = identity_of_data(config, data)
    parents: dict[str, Run | WeightsFile] = {}
    for role, choices in _stands_on(config):
        ancestor = _ancestor_words(words, config, choices)
        if config.teacher.weights and choices.get("task") == _RECOGNIZER["task"]:
            own = config.teacher
            parents[role] = (
                WeightsFile.imitated(own)  # its data may name nobody
                if config.task.imitates
                else WeightsFile(Path(config.teacher.weights), own.model, _composed(ancestor), contract=own.contract)
            )
        else:
            with in_words_of(_group_of(_composed(ancestor).data, config), config.recognition):
                parents[role] = _plan(ancestor, None, planned, data)
    for role in sorted({config.role_of(term) for term in config.target.active()} & config.teachers.keys()):
        node = config.teachers[role]
        model, contract = f"teachers.{role}.model", config.contract_of(role)
        parents[role] = WeightsFile(Path(node["weights"]), node.get("model", {}), key=model, contract=contract)
    for role, parent in parents.items():
        if isinstance(parent, WeightsFile):
            check_contract(parent, config, role)
    if config.starts_from_recognizer and config.teacher.backbone:
        check_kind(Path(config.teacher.backbone))  # an ONNX file can't be trained
        parents["init"] = WeightsFile(Path(config.teacher.backbone), config.teacher.model)
    for name, term in config.target.active().items():
        teacher = parents[config.role_of(name)]
        if term["compares"] == "logits" and isinstance(teacher, WeightsFile):
            _check_logits(name, teacher, teacher.may_classify)
    return planned.setdefault(words, Run(config, words, identity, parents))


def check_contract(teacher: WeightsFile, config: Config, role: str) -> None:
    """Refuse a recognizer that nobody can ask, because it is not known what it takes, or it takes something else.

    Raises:
        ConfigError: and which words say it.
    """
    file, key, contract = teacher.weights, teacher.contract_key, teacher.contract
    if role == "init" and (teacher.is_onnx or contract.numbers):
        raise ConfigError(
            f"init={config.init.name} trains {file} on as the teacher of task={config.task.name}: that takes weights "
            "of torch, for the student's own pixels (contract=student)"
        )
    if not teacher.is_onnx:
        trained, own = teacher.image, contract.image
        if trained and own and trained != own:
            raise ConfigError(
                f"{file} was trained with image.resize={trained.resize} image.crop={trained.crop}, and is to see faces "
                f"of {own.resize} pixels, crops of {own.crop}. Leave out {key}: the file says what it takes"
            )
        if contract.mean is not None and not teacher.model:
            raise ConfigError(
                f"{file} normalizes as its network says: leave out {key}, or name the network, "
                f"model@{teacher.key}=timm {teacher.key}.name=…"
            )
        if contract.mean is not None and "mean" not in teacher.model:
            raise ConfigError(
                f"{key} has mean and std, and {teacher.model['name']} takes none: name the network of {file}, "
                f"model@{teacher.key}=timm {teacher.key}.name=… {teacher.key}.features=…"
            )
        return
    if contract.mean is None:
        word = "contract" if key == "teacher.contract" else f"+contract@{key}"
        choices = ", ".join(f"{word}={name}" for name, node in nodes("contract").items() if node["mean"] is not None)
        raise ConfigError(
            f"{file} does not say which order of colours, mean and std it takes, and a wrong guess ruins it without a "
            f"word. Say by which convention it was trained: {choices}; single keys as {key}.colour=bgr"
        )
    if config.task.intermediate:
        raise ConfigError(f"{file} is an ONNX file, which shows no middle layer to start FitNet from. Use init=full")
    graph = teacher.graph
    if contract.size not in (None, graph.size):
        raise ConfigError(
            f"{file} takes images of {graph.size} pixels, not of {key}.size={contract.size}: {key}.size={graph.size}"
        )
    if contract.columns not in (None, graph.columns or graph.size):
        raise ConfigError(
            f"{file} takes images of {graph.columns or graph.size} columns, not of {key}.columns={contract.columns}: "
            f"leave out {key}.columns, the graph says it"
        )
    if contract.size is None and config.image.crop != graph.size:
        raise ConfigError(
            f"{file} takes images of {graph.size} pixels, the student's have image.crop={config.image.crop}: "
            f"{key}.size={graph.size}"
        )
    if graph.pixel == "uint8" and (set(contract.mean), set(contract.std or ())) != ({0}, {1}):
        raise ConfigError(
            f"{file} takes whole pixels 0 … 255 and normalizes them itself: '{key}.mean=[0,0,0]' '{key}.std=[1,1,1]'"
        )


def _check_logits(term: str, teacher: WeightsFile, has_classifier: bool) -> None:
    if not has_classifier:
        other = "" if teacher.is_onnx else ", or pretrain a classifier on it: teacher.backbone="
        raise ConfigError(
            f"{teacher.weights} has no classifier, so no logits for target.terms.{term}. Use a target "
            f"that compares embeddings, as target=hidden{other}"
        )


@cache
def _composed(words: tuple[str, ...]) -> Config:
    """Composing takes a fifth of a second, and the cells of a sweep share their ancestors."""
    return compose_config(words)


def _group_of(data: Mapping[str, Any], config: Config) -> str:
    """Behind which words a configuration has the data of an ancestor."""
    return "recognition" if data == config.recognition else "data"


def _stands_on(config: Config) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The role of every ancestor, and the choices that make it."""
    seed = {"seed": str(config.teacher.seed)}
    roles = {config.role_of(term) for term in config.target.active()}
    if TEACHER in roles or config.task.needs_teacher:
        yield TEACHER, {**(_OWN_TEACHER if config.task.own_teacher else _RECOGNIZER), **seed}
    if RECOGNIZER in roles:
        yield RECOGNIZER, {**_RECOGNIZER, **seed}
    for role in sorted(roles & config.task.teachers.keys() - config.teachers.keys()):
        yield role, {**config.task.teachers[role], **seed}
    if config.init.makes_teacher:
        yield "init", {**_RECOGNIZER, **seed}
    elif config.init.parent:
        yield "init", {"rate": str(config.rate), **config.init.parent}


def _ancestor_words(words: Sequence[str], config: Config, choices: Mapping[str, str]) -> tuple[str, ...]:
    """The words of a run, changed to those of an ancestor that makes other ``choices``."""
    own = {"task": config.task.name, "init": config.init.name, "target": config.target.name}
    other_task = choices.get("task", own["task"]) != own["task"]
    if "data" in choices:
        words = _seen_by_the_recognizer(words)
        if "type" in config.recognition:
            choices = {key: value for key, value in choices.items() if key != "data"}
    elif other_task and (config.task.own_teacher or config.task.imitates) and "type" in config.recognition:
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
    state = "[green]complete[/]" if run.is_complete else "[yellow]to be trained[/]"
    found = Tree(f"{label}{escape(shown(run.name))}  {state}", highlight=False)
    if isinstance(run, Run):
        for role, parent in run.parents.items():
            found.add(tree(parent, f"{role}: "))
    return found


def check_data(run: Run, usable: Samples | None = None) -> None:
    """Refuse data that names, lists and the split show to be unfit for a task, in the whole tree, before it is read.

    ``usable``: the samples of the run's own data that are known to be usable, where they have been looked at. Raises
    ``DataError`` with the first reason.
    """
    for each in runs_of(run):
        if not each.is_complete:
            config = each.config
            samples = usable if usable and config.data == run.config.data else None
            samples = samples or _samples(json.dumps(config.data), config.cache_dir, hash_of(each.data))
            if samples is not None:
                with in_words_of(_group_of(config.data, run.config), run.config.recognition):
                    check(config, samples)
            for parent in each.parents.values():
                if isinstance(parent, WeightsFile) and parent.pixels:
                    check_seen_as(parent.pixels, config.data)


def runs_of(run: Run) -> Iterator[Run]:
    """What a run stands on, and then itself; a run that several stand on comes several times."""
    for parent in run.parents.values():
        if isinstance(parent, Run):
            yield from runs_of(parent)
    yield run


@cache
def _samples(data: str, cache_dir: str, identity: str) -> Samples | None:
    """Many cells have the same data; ``identity`` tells what it was when they were planned."""
    return build_source(json.loads(data)).samples(Path(cache_dir).expanduser())


def check_tree(run: Run) -> None:
    """Refuse a target, model, task or file of weights that can't be built, in the whole tree, before it is trained."""
    config = run.config
    check_buildable("model", config.network, rate=config.rate)
    task = find_type("task", {"type": config.task.type})
    task.options(config)
    for name, term in config.target.active().items():
        teacher = run.parents[config.role_of(name)]
        if term["compares"] == "logits" and isinstance(teacher, WeightsFile):
            _check_logits(name, teacher, _loadable(teacher, teacher.network).identities > 0)
        width, taught = _width(run), width_of(teacher)
        if config.task.imitates and build_source(config.data).epochs_per_round is None:  # it may imitate some axes
            taught = min(width, taught)
        gets_labels = config.target.needs_labels(name)
        check_term(f"target.terms.{name}", term, gets_labels, student_width=width, teacher_width=taught)
    if config.init.from_teacher:
        _check_layers(run)
    for parent in run.parents.values():
        if isinstance(parent, Run):
            check_tree(parent)
        else:
            _loadable(parent, parent.network)


def _check_layers(run: Run) -> None:
    """Refuse to start a student from layers of a teacher that shows none, or takes other pixels than it."""
    import torch  # it takes seconds

    from facedistill.models.load import layers_from

    teacher, starts = run.parents[TEACHER], f"init={run.config.init.name}"
    if isinstance(teacher, Run):
        return  # once it is trained
    if teacher.is_onnx:
        raise ConfigError(f"{starts}: {teacher.weights} is an ONNX file, whose layers can't be taken. Use init=scratch")
    if teacher.contract.colour != "rgb":
        raise ConfigError(f"{starts}: {teacher.weights} takes BGR, and its student would see RGB. Use init=scratch")
    own = {name: run.config.network.get(name) for name in ("mean", "std")}
    taken = {name: teacher.network.get(name) for name in own}
    if own != taken:
        words = " ".join(f"model.{name}={value}".replace(" ", "") for name, value in taken.items())
        raise ConfigError(f"{starts}: the student has to normalize pixels as {teacher.weights} does: {words}")
    student, width = build_on_meta("model", run.config.network, rate=run.config.rate), width_of(teacher)
    axes = torch.eye(width, student.width) if student.width < width else None  # which ones, the faces will say
    layers_from(teacher.weights, teacher.network, student, axes)


def stands_on_files(run: Run) -> bool:
    """Whether weights from elsewhere are in the tree."""
    return any(isinstance(parent, WeightsFile) for each in runs_of(run) for parent in each.parents.values())


def width_of(teacher: Run | WeightsFile) -> int:
    """How many values its embedding has. Raises as ``check_tree``."""
    return _width(teacher) if isinstance(teacher, Run) else _loadable(teacher, teacher.network).width


def _width(run: Run) -> int:
    return _width_of_model(json.dumps(run.config.network, sort_keys=True), run.config.rate)


@cache
def _width_of_model(model: str, rate: int) -> int:
    width: int = build_on_meta("model", json.loads(model), rate=rate).width
    return width


class _Loaded(NamedTuple):
    """Of a file: how many identities its classifier has, 0 without one, and values its embedding."""

    identities: int
    width: int


def _loadable(file: WeightsFile, model: Mapping[str, Any]) -> _Loaded:
    """Raises ``WeightsError`` if ``model`` is another."""
    if file.is_onnx:
        check_runs(file.weights)
        return _Loaded(0, file.graph.width)
    if model:
        check_buildable("model", model, rate=1)
    return _loaded(file.weights, file.identity, json.dumps(model, sort_keys=True), file.key)


@cache
def _loaded(weights: Path, identity: str, model: str, key: str) -> _Loaded:
    """Many cells have the same teacher; ``identity`` tells what it was when they were planned."""
    from facedistill.models.load import load_network  # torch takes seconds

    network, about, *_ = load_network(weights, json.loads(model), key=key)
    refuse_bands(weights, about)
    return _Loaded(network.num_identities, network.backbone.width)
