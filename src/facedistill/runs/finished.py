"""A finished run taken up again, by what its record says and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from facedistill.config.compose import compose_config, with_words
from facedistill.config.schema import Config
from facedistill.errors import RunError, WeightsError
from facedistill.runs.record import Record
from facedistill.runs.run import OWNER
from facedistill.system.files import read_json_object
from facedistill.system.text import command_line


def finished(directory: Path) -> Record:
    """The record of a finished run. Raises ``RunError``."""
    record = Record.read(directory)
    if record is None:
        begun = read_json_object(directory / OWNER) or {}
        if isinstance(words := begun.get("words"), list) and all(isinstance(word, str) for word in words):
            raise RunError(f"{directory} is not finished: facedistill train {command_line(words)} goes on with it")
        raise RunError(f"{directory} holds no finished run (no record.json): name a directory in runs/")
    return record


@contextmanager
def as_recorded(directory: Path) -> Iterator[None]:
    """Turn any error of the block into a ``RunError`` of a run's record, which may say anything."""
    try:
        yield
    except WeightsError:  # names its file itself
        raise
    except Exception as error:
        raise RunError(f"{directory} can't be scored as its record says: {error}") from error


def scored_config(record: Record) -> Config:
    """What decides a network, its images and its data, as a record says; all else as if no run were named.

    No record says where to write, or what to compute with; and what it says is not interpolated.
    """
    config, here = record.config, compose_config([])
    taken = replace(
        here,
        **{name: getattr(config, name) for name in ("task", "data", "model", "init", "image", "rate", "seed")},
        teacher=replace(here.teacher, model=config.teacher.model),
    )
    if config.task.imitates:
        own = config.teacher
        taken = replace(taken, target=config.target, teacher=replace(own, seed=here.teacher.seed, backbone=None))
    if "${" in str(asdict(taken)):
        raise RunError("it holds an interpolation, ${…}")
    return with_words(taken, [])
