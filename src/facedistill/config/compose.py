"""From command-line words to a checked configuration: what is refused before anything runs.

Nothing here imports torch: a refusal comes at once.
"""

import pickle
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import is_dataclass, replace
from functools import cache
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from facedistill.config.choices import CONFIG_DIR
from facedistill.config.schema import Config
from facedistill.config.words import GROUPS, check_form, explained, quoted
from facedistill.errors import ConfigError, NotUnderstoodError

_SEED = re.compile(r"[+~]*seed\b")
_VALUE = re.compile(rf"(?!(hydra\b|({'|'.join(GROUPS)})=))[\w.]+=.*", re.DOTALL)  # no choice, nothing added or removed


def compose_config(overrides: Sequence[str], trains: bool = True) -> Config:
    """Compose and check one cell from its command-line words.

    ``trains``: its task is done; else data are looked at, which need not be fit for it.

    Raises:
        ConfigError: an unknown key or choice, or an impossible combination.
    """
    with understood(overrides):
        words = tuple(map(quoted, overrides))
        seeds = [word for word in words if _SEED.match(word)]
        if len(seeds) == 1 and (number := seeds[0].removeprefix("seed=")).isdecimal() and number.isascii():
            first, refers_to_seed = _with_first_seed(tuple(word for word in words if word not in seeds), trains)
            if not refers_to_seed:
                return _allowed(replace(deepcopy(first), seed=int(number)), trains)
        return checked(composed(words), words, trains)


@cache
def _with_first_seed(words: tuple[str, ...], trains: bool) -> tuple[Config, bool]:
    """What all seeds of a cell have in common, and whether a value refers to the seed."""
    node = composed(words)
    refers_to_seed = "seed}" in OmegaConf.to_yaml(node)
    return checked(node, words, trains), refers_to_seed


def composed(words: Sequence[str]) -> DictConfig:
    """What Hydra composes of words, a third of a second; what makes the same choices is composed once in a process.

    Hydra, too, gives keys their values once all choices are made. Where words add or remove keys it gets all of them,
    and where they don't fit: it says why.
    """
    values = [word for word in words if _VALUE.fullmatch(word)]
    choices = tuple(word for word in words if word not in values)
    if not any(word.startswith(("+", "~")) for word in choices):
        try:
            node: DictConfig = pickle.loads(_of_choices(choices))
            for override in map(_parsed, values):
                if override.is_sweep_override():
                    raise ConfigCompositionException("several values")
                OmegaConf.update(node, override.key_or_group, override.value(), merge=True)
            return node
        except (HydraException, OmegaConfBaseException):
            pass
    return compose("config", overrides=list(words))


@cache
def _of_choices(words: tuple[str, ...]) -> bytes:
    """Pickled, as that copies a node twice as fast as ``deepcopy``."""
    return pickle.dumps(compose("config", overrides=list(words)))


@cache
def _parsed(word: str) -> Override:
    """The cells of a sweep share most of their words."""
    return OverridesParser.create().parse_override(word)


@cache
def _schema() -> DictConfig:
    schema: DictConfig = OmegaConf.structured(Config)
    return schema


@contextmanager
def understood(words: Sequence[str], sweep: bool = False) -> Iterator[None]:
    """Have Hydra initialized, and say of the error that it or OmegaConf raises which of the words is meant.

    ``sweep``: a word may have several values.
    """
    check_form(words)
    inside = GlobalHydra.instance().is_initialized()
    with nullcontext() if inside else initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        try:
            yield
        except (HydraException, OmegaConfBaseException) as error:
            raise NotUnderstoodError(explained(words, error, sweep)) from error


def checked(node: DictConfig, words: Sequence[str], trains: bool = True) -> Config:
    """The typed configuration that words made; to be called where these are ``understood``.

    Raises:
        ConfigError: it says which words don't fit, why, and which do.
    """
    values = OmegaConf.to_container(node)
    for key in sorted(missing_keys(values)):
        raise ConfigError(f"{key} has no value: add {key}=… to the command")
    if any(word.startswith("+") for word in words):  # Hydra lets `+key=value` past the schema
        node = cast(DictConfig, OmegaConf.merge(_schema(), values))
    return _allowed(cast(Config, OmegaConf.to_object(node)), trains)


def _allowed(config: Config, trains: bool) -> Config:
    try:
        complaint = next(config.complaints(trains), None)
    except (TypeError, AttributeError, KeyError) as error:  # an open mapping holds what it should not
        raise ConfigCompositionException(f"{type(error).__name__}: {error}") from error
    if complaint:
        raise ConfigError(complaint)
    return config


def missing_keys(value: Any, path: str = "") -> Iterator[str]:
    """The keys without a value, of a mapping or a dataclass; not those that refer to them."""
    if isinstance(value, dict) or is_dataclass(value):
        for key, part in (value if isinstance(value, dict) else vars(value)).items():
            yield from missing_keys(part, f"{path}.{key}" if path else str(key))
    elif value == MISSING:
        yield path


def with_words(config: Config, words: Sequence[str]) -> Config:
    """A configuration that exists already, with some keys changed by ``key=value``. Raises as ``compose_config``."""
    with understood(words):
        changed = OmegaConf.structured(config)
        for override in map(_parsed, map(quoted, words)):
            OmegaConf.update(changed, override.key_or_group, override.value())
        return checked(changed, words)
