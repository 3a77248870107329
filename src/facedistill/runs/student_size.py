"""Which student fits into a size: how many bytes its weights have at one each, and the words that choose it."""

import re
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

from facedistill.config.build import build_on_meta
from facedistill.config.schema import Config
from facedistill.errors import ConfigError
from facedistill.runs.run import Run, WeightsFile

_UNITS = {"kb": 10**3, "mb": 10**6}
LAYERS = ("init=layers", "model=timm")  # where the teacher shows some that are small enough


def size_of(text: str) -> int:
    """Bytes, of 500kB or 1.5MB. Raises ``ConfigError``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([km]b)", text.lower())
    if not found:
        raise ConfigError(f"size={text} is no size: give it as size=500kB or size=1MB")
    return round(float(found[1]) * _UNITS[found[2]])


def layers_within(size: int, teacher: Run | WeightsFile, features: int | None) -> list[str]:
    """The words of a student that starts from layers of its teacher and has no more weights than ``size``.

    ``features``: values of its embedding, where they are fewer than the teacher's.

    Block after block is left out, always in the stage that has most; of several, in that with the heaviest blocks.
    Empty: the teacher shows no layers, or the fewest have more weights, or there is nothing to leave out.
    """
    if not isinstance(teacher, WeightsFile) or teacher.model.get("type") != "timm" or teacher.contract.colour != "rgb":
        return []
    from facedistill.models.families.timm import stages_of  # torch takes seconds

    model, own_size = {**teacher.network, **({"features": features} if features else {})}, teacher.contract.size
    stages = stages_of(build_on_meta("model", model, rate=1).net)
    if not stages or own_size is None or model.get("mean") is None:
        return []
    if features and not teacher.model.get("features"):  # it ends in pooled features, which no layer gives on axes
        return []
    blocks = [len(stage) for stage in stages]
    weight = [sum(part.numel() for part in stage.parameters()) / len(stage) for stage in stages]
    choices = [blocks]
    while max(blocks) > 1:
        shortened = max(range(len(blocks)), key=lambda stage: (blocks[stage], weight[stage]))
        blocks = [count - (stage == shortened) for stage, count in enumerate(blocks)]
        choices.append(blocks)
    largest = bisect_left(choices, -size, key=lambda blocks: -parameters({**model, "blocks": blocks}))
    if not 0 < largest < len(choices):
        return []
    values = {key: model[key] for key in ("name", "features", "mean", "std")} | {"blocks": choices[largest]}
    words = [f"model.{key}={value}".replace(" ", "") for key, value in values.items()]
    return [*LAYERS, *words, f"image.resize={own_size}", f"image.crop={own_size}"]


def width_for(size: int, config: Config) -> int:
    """The largest width of a configuration's network with which it has no more parameters than ``size``.

    Raises ``ConfigError`` where not even the narrowest has.
    """

    def weights(width: int) -> int:
        return parameters({**config.network, "width": width}, config.rate)

    width = config.rate
    while weights(2 * width) <= size:
        width *= 2
    step = width
    while step := step // 2:
        width += step * (weights(width + step) <= size)
    if (least := weights(width)) > size:
        raise ConfigError(f"size= is too small: the narrowest {config.network['name']} has {least:,} weights")
    return width


def parameters(model: Mapping[str, Any], rate: int = 1) -> int:
    """Of a ``conf/model`` node at a compression rate."""
    return sum(part.numel() for part in build_on_meta("model", model, rate=rate).parameters())
