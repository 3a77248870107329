"""ResNet at every compression rate."""

from collections.abc import Sequence

import torch
from timm.models.resnet import BasicBlock, Bottleneck, ResNet, downsample_conv
from torch import nn

from facedistill.models.backbone import Backbone

BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}


class ResNetBackbone(Backbone):
    """A ResNet with the number of kernels in every layer divided by ``rate``.

    ``width``: kernels of the stem at rate 1; the four stages have 1, 2, 4 and 8 times as many (times 4 where the
    block is a bottleneck). ``bias``: the convolutions have one; BatchNorm makes it idle.
    """

    def __init__(self, block: str, layers: Sequence[int], width: int, rate: int = 1, bias: bool = False) -> None:
        kind, stem = BLOCKS[block], width // rate
        channels = tuple(stem * multiple for multiple in (1, 2, 4, 8))
        net = ResNet(kind, tuple(layers), num_classes=0, channels=channels)
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
