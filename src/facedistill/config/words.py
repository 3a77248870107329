"""What is wrong with a word of the command line, in one line that says what to type instead."""

import difflib
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Any

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from facedistill.config.choices import CONFIG_DIR, files_of, nodes
from facedistill.errors import ConfigError

PATHS = ("root", "images", "annotations", "pairs", "landmarks", "boxes", "weights", "backbone", "runs_dir", "cache_dir")
_SEVERAL = ("root", "landmarks")  # that may be lists: [A,B]
GROUPS = tuple(sorted(folder.name for folder in CONFIG_DIR.iterdir() if folder.is_dir() and folder.name != "hydra"))
_OPEN = ("data.", "recognition.", "protocol.", "model.", "teacher.model.", "target.terms.", "task.options.", "hydra.")
_PLAIN = re.compile(r"""(?! )[\w./@%+: ?-]*(?<! )|'.*'|".*"|.*\$\{.*""", re.ASCII | re.DOTALL)
_KEY = r"[A-Za-z_][\w.@/-]*"
_WORD = re.compile(rf"(\+{{0,2}})({_KEY})=(.*)", re.DOTALL)
_HELP = "`facedistill train --help` lists every key"
_KINDS = {int: int | float, float: int | float, bool: bool, DictConfig: dict, ListConfig: list}
_TAKES = {int: "a whole number", float: "a number", bool: "true or false"}


def quoted(word: str, sweep: bool = False) -> str:
    """A word of the command line; a path that Hydra's grammar would refuse, as `data.root=Müller (1)`, in quotes.

    In brackets with a comma, they are several. ``sweep``: commas are between several values.
    """
    key, _, value = word.partition("=")
    last = key.split(".")[-1]
    if last in _SEVERAL and (several := re.fullmatch(r"\[([^\[\]]+,[^\[\]]+)\]", value)):
        if value[1] in "'\"":
            return word
        parts = (part.strip() for part in several[1].split(","))
        return f"{key}=[{','.join(part if _PLAIN.fullmatch(part) else _in_quotes(part) for part in parts)}]"
    if last not in PATHS or _PLAIN.fullmatch(value.replace(",", "") if sweep else value):
        return word
    return f"{key}={_in_quotes(value)}"


def _in_quotes(value: str) -> str:
    """As Hydra's grammar takes any text: backslashes are doubled before a quote, also before the last."""
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + (found[2] and r"\'"), value) + "'"


def check_form(words: Iterable[str]) -> None:
    """Raise ``ConfigError`` for a word that is not KEY=VALUE, or that makes several choices where there is one."""
    for word in words:
        found = _WORD.fullmatch(word)
        if not found:
            raise ConfigError(_malformed(word))
        _, key, value = found.groups()
        if key == "hydra.job.chdir" and value != "false":
            raise ConfigError(
                f"{word}: paths are those of the folder where a command is given. Leave it out: runs_dir=FOLDER says "
                "where runs go"
            )
        if value.startswith("[") and _group(key) in GROUPS and key != "experiments":
            several = f"{key}={value.strip('[]')}"
            raise ConfigError(f"{word}: there is one choice. For a run of each: facedistill train -m {several}")


def _malformed(word: str) -> str:
    meant = re.match(rf"[-\s]*({_KEY})\s*[=:\s]\s*([^=\s].*)", word)
    if not word.strip():
        return "an empty word: words are KEY=VALUE, as rate=8"
    if meant:
        return f"{word}: words are KEY=VALUE: {shlex.quote(f'{meant[1]}={meant[2]}')}"
    if word.startswith("~"):
        return f"{word}: no key can be taken out. Give it another value: {word.strip('~').partition('=')[0]}=…"
    if word.startswith("-"):
        return f"{word}: there is no such option here; see --help"
    if "/" in word:
        return f"{word}: words are KEY=VALUE, as data.root={shlex.quote(word)}"
    choices = [f"{group}={word}" for group in GROUPS if word in files_of(group)]
    return f"{word}: words are KEY=VALUE, as {' or '.join(choices) or 'rate=8'}"


def explained(words: Sequence[str], error: Exception, sweep: bool = False) -> str:
    """Why words of the right form can't be composed. To be called where Hydra is initialized.

    ``error``: what Hydra or OmegaConf said. ``sweep``: a word may have several values.
    """
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _no_choice(words, error.missing_cfg_file, error.options)
    known = _known(tuple(word for word in words if _group(word.partition("=")[0]) in GROUPS)).copy()
    for word in words:
        for one in _values(word) if sweep else [word]:
            if complaint := _complaint(one, known):
                return f"{one}: {complaint}"
    word = next((word for word in words if "${" in word), " ".join(words))
    return f"{word + ': ' if word else ''}{str(error).splitlines()[0]}; {_HELP}"


def _group(key: str) -> str:
    return key.lstrip("+").partition("@")[0]


@cache
def _known(choices: tuple[str, ...]) -> DictConfig:
    """A configuration whose keys and types words are compared with: of these choices, where they can be composed."""
    try:
        return compose("config", overrides=list(choices), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException):
        return compose("config", return_hydra_config=True)


def _values(word: str) -> list[str]:
    """The word with each value of a sweep, up to a hundred, none for ``glob(…)``; itself, where it has one."""
    try:
        override = OverridesParser.create().parse_override(quoted(word, sweep=True))
    except OverrideParseException:
        return [word]
    if not override.is_sweep_override():
        return [word]
    if isinstance(override.value(), Glob):
        return []
    return [f"{word.partition('=')[0]}={value}" for value in islice(override.sweep_string_iterator(), 100)]


def _no_choice(words: Sequence[str], missing: str, given: Iterable[str] | None) -> str:
    """``missing``: GROUP/NAME; ``given``: the choices that Hydra names, if it does."""
    keys = [word.partition("=")[0].lstrip("+") for word in words]
    key = next((key for key in keys if missing.startswith(f"{_group(key)}/")), missing.partition("/")[0])
    name = missing.removeprefix(f"{_group(key)}/")
    options = sorted(given or files_of(_group(key)))
    near = "".join(f" Did you mean {key}={one}?" for one in _near(name, options)[:1])
    return f"{key}={name} is no choice.{near} Choices: {', '.join(f'{key}={one}' for one in options)}"


def _complaint(word: str, known: DictConfig) -> str:
    """What is wrong with a word; empty: nothing."""
    found = _WORD.fullmatch(word)
    assert found, "check_form comes first"
    plus, key, value = found.groups()
    groups = list(known.hydra.runtime.choices)
    keys = list(_keys(known))
    if key not in (*groups, *keys):
        return "" if plus and key.startswith(_OPEN) else _unknown(key, value, groups, keys)
    if plus == "+":
        return f"{key} is there already: {key}={value}"
    alike, now = True, OmegaConf.select(known, key, throw_on_missing=False)
    try:
        override = OverridesParser.create().parse_override(quoted(word))
        if override.is_sweep_override():
            return f"several values are a sweep, `facedistill train -m`; one is {[*_values(word), f'{key}=…'][0]}"
        if key not in groups:
            new = override.value()
            OmegaConf.update(known, key, new)
            if key.startswith(_OPEN):  # there OmegaConf takes anything
                alike = new is None or "${" in value or isinstance(new, _KINDS.get(type(now), object))
    except (HydraException, OmegaConfBaseException):
        alike = False
    if not alike and key == "rate":
        return f"choices are {', '.join(f'rate={rate}' for rate in known.model.get('rates', [1]))}"
    return "" if alike else _takes(key, value, now)


def _unknown(key: str, value: str, groups: Sequence[str], keys: Sequence[str]) -> str:
    """A key that is not there, and those that are like it."""
    room, _, last = key.rpartition(".")
    leaves = [one for one in keys if not any(other.startswith(f"{one}.") for other in keys)]
    within = [one for one in (*groups, *leaves) if one.startswith("hydra") == key.startswith("hydra")]
    alike = [one for one in within if _near(last, [one.rpartition(".")[2]])]
    alike = [one for one in alike if one.rpartition(".")[0] == room] or alike
    if "@" in key:
        alike = [one for one in groups if _group(one) == _group(key)]
    siblings = [one for one in keys if room and one.rpartition(".")[0] == room]
    elsewhere: dict[str, list[str]] = {}
    of_faces = room in ("recognition", "protocol")
    for name, node in nodes("data" if of_faces else room).items() if of_faces or room in GROUPS else ():
        for one in _near(last, node)[:1]:
            elsewhere.setdefault(f"{room}.{one}", []).append(f"{'data@' * of_faces}{room}={name}")
    said = ["there is no such key"]
    if key.startswith("teachers."):
        name = key.split(".")[1]
        file = value if key in (f"teachers.{name}", f"teachers.{name}.weights") else "FILE"
        said.append(f"A teacher is added by +teachers.{name}.weights={file}")
    if alike and key not in elsewhere:
        meant = difflib.get_close_matches(key, alike, 3) or alike[:3]
        said.append(f"Did you mean {' or '.join(f'{one}={value}' for one in meant)}?")
    elif elsewhere:
        said.extend(f"{one} belongs to {', '.join(names)}" for one, names in elsewhere.items())
    elif siblings:
        said.append(f"Keys: {', '.join(f'{one}=…' for one in siblings)}")
    else:
        said.append(_HELP)
    return ". ".join(said)


def _takes(key: str, value: str, now: Any) -> str:
    """What a key, which has the value ``now``, takes instead of one that can't be read or is of another type."""
    if isinstance(now, DictConfig):
        return f"{key} holds keys: {', '.join(f'{key}.{name}=…' for name in map(str, now)) or 'none here'}"
    if isinstance(now, ListConfig):
        return f"{key} takes a list, as {key}=[{','.join(map(str, now))}]"
    if type(now) in _TAKES:
        return f"{key} takes {_TAKES[type(now)]}, as {key}={str(now).lower()}"
    return f'{key} takes text; where it has such signs, in quotes: "{key}={_in_quotes(value)}"'


def _keys(node: DictConfig, above: str = "") -> Iterator[str]:
    """Every key with dots, those that hold others too."""
    for key in map(str, node):
        yield f"{above}{key}"
        part = None if OmegaConf.is_missing(node, key) else node._get_node(key)
        if isinstance(part, DictConfig) and not part._is_none():
            yield from _keys(part, f"{above}{key}.")


def _near(name: str, names: Iterable[str]) -> list[str]:
    by_lower = {one.lower(): one for one in names}
    return [by_lower[one] for one in difflib.get_close_matches(name.lower(), by_lower, 3, 0.7)]
