"""Any network of timm."""

from collections.abc import Sequence
from difflib import get_close_matches

import timm
from torch import nn

from facedistill.errors import ConfigError
from facedistill.models.backbone import Backbone


class TimmBackbone(Backbone):
    """A timm network by its name; ``features``: values of its linear embedding, 0 for the pooled feature map.

    ``blocks``: how many each of its stages has; None: as many as the architecture of that name.

    Raises:
        ConfigError: a network that timm does not know, or without stages of ``blocks``; or a rate other than 1: only
            our own family is divided.
    """

    def __init__(
        self,
        architecture: str,
        features: int = 0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        blocks: Sequence[int] | None = None,
        rate: int = 1,
    ) -> None:
        if not timm.is_model(architecture):
            near = ", ".join(get_close_matches(architecture, timm.list_models(), n=5)) or "see timm.list_models()"
            raise ConfigError(f"model.name={architecture} is not known to timm. Near it: {near}")
        if rate != 1:
            raise ConfigError(f"rate={rate}: a timm network has no compression rate; name a smaller one")
        net = timm.create_model(architecture, pretrained=False, num_classes=features)
        super().__init__(net if blocks is None else _with_blocks(net, architecture, features, blocks), mean, std)


def _with_blocks(net: nn.Module, architecture: str, features: int, blocks: Sequence[int]) -> nn.Module:
    """The network with so many blocks in its stages, instead of those that it has."""
    has = [len(stage) for stage in stages_of(net)]
    word = f"model.blocks=[{','.join(map(str, blocks))}]"
    if not has:
        raise ConfigError(f"{word}: {architecture} has no stages whose blocks can be counted. Leave it out")
    if len(blocks) != len(has) or not all(1 <= count <= most for count, most in zip(blocks, has, strict=True)):
        most = ",".join(map(str, has))
        raise ConfigError(f"{word}: give the number of blocks of each stage of {architecture}, from 1 to [{most}]")
    counted = "layers" if hasattr(net, "layer1") else "depths"
    try:
        found: nn.Module = timm.create_model(architecture, num_classes=features, **{counted: tuple(blocks)})
    except TypeError as error:  # of a family that takes no such argument
        raise ConfigError(f"{word}: timm builds {architecture} with [{','.join(map(str, has))}] only") from error
    return found


def stages_of(net: nn.Module) -> list[nn.Sequential]:
    """The blocks of every stage of a timm network; empty where it has no such stages."""
    stages = [getattr(net, f"layer{i}") for i in range(1, 5) if hasattr(net, f"layer{i}")]
    stages = stages or [getattr(stage, "blocks", ()) for stage in getattr(net, "stages", ())]
    return stages if all(len(stage) for stage in stages) else []
