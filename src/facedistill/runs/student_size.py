"""Which student fits into a size: how many bytes its int8 file will have, and the words that choose it."""

import re
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

from facedistill.config.build import build_on_meta
from facedistill.config.schema import Config
from facedistill.errors import ConfigError
from facedistill.runs.run import Run, WeightsFile

_UNITS = {"kb": 10**3, "mb": 10**6}
SMALLEST = 512  # values of a constant: smaller ones stay in float in an int8 file
_OF_GRAPH = 300  # bytes a tensor: nodes, names, and what is computed beforehand
LAYERS = ("init=layers", "model=timm")  # where the teacher shows some that are small enough


def size_of(text: str) -> int:
    """Bytes, of 500kB or 1.5MB. Raises ``ConfigError``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([km]b)", text.lower())
    if not found:
        raise ConfigError(f"size={text} is no size: give it as size=500kB or size=1MB")
    return round(float(found[1]) * _UNITS[found[2]])


def layers_within(size: int, teacher: Run | WeightsFile, features: int | None) -> list[str]:
    """The words of a student that starts from layers of its teacher and whose int8 file has at most ``size`` bytes.

    ``features``: values of its embedding, where they are fewer than the teacher's.

    Block after block is left out, always in the stage that has most; of several, in that with the heaviest blocks.
    Empty: the teacher shows no layers, or the fewest have more bytes, or there is nothing to leave out.
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
    largest = bisect_left(choices, -size, key=lambda blocks: -int8_bytes({**model, "blocks": blocks}))
    if not 0 < largest < len(choices):
        return []
    values = {key: model[key] for key in ("name", "features", "mean", "std")} | {"blocks": choices[largest]}
    words = [f"model.{key}={value}".replace(" ", "") for key, value in values.items()]
    return [*LAYERS, *words, f"image.resize={own_size}", f"image.crop={own_size}"]


def width_for(size: int, config: Config) -> int:
    """The largest width of a configuration's network with which its int8 file has at most ``size`` bytes.

    Raises ``ConfigError`` where not even the narrowest has.
    """

    def file(width: int) -> int:
        return int8_bytes({**config.network, "width": width}, config.rate)

    width = config.rate
    while file(2 * width) <= size:
        width *= 2
    step = width
    while step := step // 2:
        width += step * (file(width + step) <= size)
    if (least := file(width)) > size:
        raise ConfigError(f"size= is too small: the narrowest {config.network['name']} has {least:,} bytes in int8")
    return width


def int8_bytes(model: Mapping[str, Any], rate: int = 1) -> int:
    """Of the int8 file of a ``conf/model`` node at a compression rate, a few percent more rather than less.

    Large weights have a byte, and each of their output channels a scale; small ones stay in float, and every layer
    takes its part of the graph.
    """
    parts = list(build_on_meta("model", model, rate=rate).parameters())
    large = [part for part in parts if part.numel() >= SMALLEST]
    weights: int = sum(part.numel() * (1 if part.numel() >= SMALLEST else 4) for part in parts)
    return weights + 4 * sum(len(part) for part in large) + _OF_GRAPH * len(parts)
