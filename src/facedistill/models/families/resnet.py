"""ResNet at every compression rate."""

from collections.abc import Sequence

import torch
from timm.models.resnet import BasicBlock, Bottleneck, ResNet, downsample_conv
from torch import nn

from facedistill.errors import ConfigError
from facedistill.models.backbone import Backbone

BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}
MULTIPLES = (1, 2, 4, 8)  # of the stem's kernels, in each stage
MOST_BLOCKS = 1000


class ResNetBackbone(Backbone):
    """A ResNet with the number of kernels in every layer divided by ``rate``.

    ``width``: kernels of the stem at rate 1; the four stages have 1, 2, 4 and 8 times as many (times 4 where the
    block is a bottleneck). ``bias``: the convolutions have one; BatchNorm makes it idle. ``features``: values of a
    linear embedding at its end, undivided by ``rate``, so that it can be as wide as the teacher's; None: the pooled
    feature map is the embedding.

    Raises ``ConfigError`` for another block, or a stage without blocks or kernels.
    """

    def __init__(
        self,
        block: str,
        layers: Sequence[int],
        width: int,
        rate: int = 1,
        bias: bool = False,
        features: int | None = None,
    ) -> None:
        if block not in BLOCKS:
            raise ConfigError(f"model.block={block}: choices are {', '.join(BLOCKS)}")
        if len(layers) != len(MULTIPLES) or not all(1 <= count <= MOST_BLOCKS for count in layers):
            raise ConfigError(f"model.layers={[*layers]}: give the number of blocks of four stages, 1 … {MOST_BLOCKS}")
        if not 1 <= rate <= width:
            raise ConfigError(f"model.width={width} at rate={rate} leaves no kernel: width must be at least the rate")
        kind, stem = BLOCKS[block], width // rate
        channels = tuple(stem * multiple for multiple in MULTIPLES)
        net = ResNet(kind, tuple(layers), num_classes=features or 0, channels=channels)
        # timm's plain stem has 64 kernels whatever the argument: replace it, and the one block that it feeds
        net.conv1 = nn.Conv2d(3, stem, kernel_size=7, stride=2, padding=3, bias=False)
        net.bn1 = nn.BatchNorm2d(stem)
        out = stem * kind.expansion
        downsample = downsample_conv(stem, out, kernel_size=1) if out != stem else None
        net.layer1[0] = kind(stem, stem, downsample=downsample)
        net.init_weights()
        if bias:
            for layer in net.modules():
                if isinstance(layer, nn.Conv2d):
                    layer.bias = nn.Parameter(torch.zeros(layer.out_channels))
        super().__init__(net)
