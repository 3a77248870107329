"""From command-line words to a checked configuration: what is refused before anything runs.

Nothing here imports torch: ``plan=true`` and every refusal come at once.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from facedistill.config.choices import CONFIG_DIR
from facedistill.config.schema import Config
from facedistill.errors import ConfigError

PATHS = ("root", "images", "annotations", "pairs", "landmarks", "boxes", "weights", "backbone", "runs_dir", "cache_dir")
_PLAIN = re.compile(r"""[\w./@%+:, ?-]*|'.*'|".*"|.*\$\{.*""", re.ASCII)


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
    """The typed configuration. Raises ``ConfigError``, which says which words don't fit, why, and which do."""
    values = OmegaConf.to_container(node)
    for key in sorted(missing_keys(values)):
        raise ConfigError(f"{key} has no value: add {key}=… to the command")
    # once more against the schema: Hydra lets `+key=value` past it
    typed = OmegaConf.merge(OmegaConf.structured(Config), values)
    config = cast(Config, OmegaConf.to_object(typed))
    for complaint in config.complaints(trains):
        raise ConfigError(complaint)
    return config


def missing_keys(value: Any, path: str = "") -> Iterator[str]:
    """The keys without a value; not those that refer to them."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from missing_keys(part, f"{path}.{key}" if path else str(key))
    elif value == MISSING:
        yield path


def with_words(config: Config, words: Sequence[str]) -> Config:
    """A configuration that exists already, with some keys changed by ``key=value``. Raises as ``compose_config``."""
    try:
        return checked(
            cast(DictConfig, OmegaConf.merge(OmegaConf.structured(config), OmegaConf.from_dotlist(list(words))))
        )
    except OmegaConfBaseException as error:
        raise ConfigError(f"{' '.join(words)}: {error}") from error
