"""What is said of a recognizer: its network, the file that it comes from, and what it takes."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from facedistill.config.groups import MOST_PIXELS, SEEDS, ImageConfig
from facedistill.errors import ConfigError

COLOURS = ("rgb", "bgr")
LEAST_CROP = 0.25  # of the side of an aligned face: less than its eyes, nose and mouth


@dataclass
class ContractConfig:
    """What a recognizer from elsewhere takes: the defaults are the student's own pixels.

    Attributes:
        size: side of its images in pixels; null: that of the student's.
        colour: the order of its channels, ``rgb`` or ``bgr``.
        mean, std: per channel in that order, of pixels 0 … 255, which become (x − mean) / std; null: by its model.
        columns: of its images where they are narrower than high: the centre ones of the square; null: all.
        crop: how much of the side of an aligned face it sees, about the centre: 1 is all of it.
    """

    name: str = "student"
    size: int | None = None
    colour: str = "rgb"
    mean: list[float] | None = None
    std: list[float] | None = None
    columns: int | None = None
    crop: float = 1.0

    @classmethod
    def of(cls, node: Any, key: str) -> "ContractConfig":
        """That of an open mapping. Raises ``ConfigError``, by its ``key``, where it is something else."""
        try:
            return cast(ContractConfig, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), node)))
        except (OmegaConfBaseException, ValueError, TypeError) as error:
            raise ConfigError(f"{key} is no contract, as in conf/contract: {str(error).splitlines()[0]}") from error

    @property
    def image(self) -> ImageConfig | None:
        """At which size faces are kept for it, and what it sees of them; None: the student's own pixels."""
        return None if self.size is None else ImageConfig(round(self.size / self.crop), self.size)

    @property
    def numbers(self) -> dict[str, Any]:
        """What differs from the student's own pixels; empty: nothing, it is no choice."""
        usual = asdict(ContractConfig())
        return {key: value for key, value in asdict(self).items() if key != "name" and value != usual[key]}

    def of_model(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """A network, with the mean and std of this contract where it has some."""
        own = {} if self.mean is None else {"mean": self.mean, "std": self.std}
        return {**model, **own}

    def complaints(self, key: str, model: Mapping[str, Any]) -> Iterator[str]:
        """``key``: its own in the configuration; ``model``: the network of the same teacher."""
        if self.size is not None and not 1 <= self.size <= MOST_PIXELS:
            yield f"{key}.size={self.size} must lie in 1 … {MOST_PIXELS}, or be null: the student's own pixels"
        if self.columns is not None and not 1 <= self.columns <= (self.size or 0):
            yield f"{key}.columns={self.columns} must lie in 1 … {key}.size: the centre ones of that square"
        if not LEAST_CROP <= self.crop <= 1:
            yield f"{key}.crop={self.crop:g} must lie in {LEAST_CROP} … 1, the share of an aligned face's side"
        elif self.crop != 1 and self.size is None:
            yield f"{key}.crop={self.crop:g} is a part of faces of its own size: give {key}.size, too"
        if self.colour not in COLOURS:
            yield f"{key}.colour={self.colour}: choices are {', '.join(COLOURS)}"
        if (self.mean is None) != (self.std is None):
            yield f"{key}.mean and {key}.std belong together: give both, or neither"
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is None:
                continue
            if len(values) != 3 or not all(map(math.isfinite, values)) or (name == "std" and min(values) <= 0):
                above = ", above 0" if name == "std" else ""
                yield f"{key}.{name}={values} must be three numbers{above}, one a channel"
            other = model.get(name)
            if other is not None and list(other) != values:
                own = f"{key.removesuffix('contract')}model.{name}"
                yield f"{own}={list(other)} and {key}.{name}={values} are not the same: leave out {own}"


def complaints_of_another(key: str, node: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a teacher of ``teachers``; ``key``: its own in the configuration."""
    if not isinstance(node.get("weights"), str) or node.keys() - {"weights", "model", "contract"}:
        yield f"{key} takes weights=FILE and, where it is not a run of ours, model and contract"
        return
    try:
        contract = ContractConfig.of(node.get("contract", {}), f"{key}.contract")
    except ConfigError as error:
        yield str(error)
    else:
        yield from contract.complaints(f"{key}.contract", node.get("model", {}))


@dataclass
class TeacherConfig:
    """The recognizer's architecture and seed, and a file to take it from instead of pretraining it.

    ``weights``: of a finished network, with or without a classifier; ``backbone``: of one on which a classifier is
    trained; ``finetune``: the share of the learning rate at which that backbone is trained as well, 0: not at all;
    ``contract``: what the finished network takes; ``check``: whether one from elsewhere first has to show on some
    faces that this is right.
    """

    model: dict[str, Any] = field(default_factory=dict)
    seed: int = MISSING
    weights: str | None = None
    backbone: str | None = None
    finetune: float = 0.0
    contract: ContractConfig = field(default_factory=ContractConfig)
    check: bool = True

    def complaints(self) -> Iterator[str]:
        yield from self.contract.complaints("teacher.contract", self.model)
        if self.contract.numbers and not self.weights:
            yield (
                f"contract={self.contract.name} is what a finished recognizer takes: name its file, "
                "teacher.weights=FILE. One that is trained here sees what its students see: contract=student"
            )
        if self.weights and self.backbone:
            yield "teacher.weights names a finished teacher, teacher.backbone one to be trained: give one"
        if not 0 <= self.finetune <= 1:
            yield f"teacher.finetune={self.finetune:g} must lie in 0 … 1: the share of the learning rate that it takes"
        if self.finetune and not self.backbone:
            yield f"teacher.finetune={self.finetune:g} trains a recognizer on: name its file, teacher.backbone=FILE"
        if not 0 <= self.seed < SEEDS:
            yield f"teacher.seed={self.seed} must lie in 0 … {SEEDS - 1}"
