"""Backbones: an image to the feature K that feeds the output layer, at every compression rate."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import timm
import torch
from timm.models.resnet import BasicBlock, Bottleneck, ResNet, downsample_conv
from torch import Tensor, nn

from facedistill.errors import ConfigError

BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}


class Backbone(nn.Module):
    """Raw pixels [B, 3, H, W] (0 … 255) → K [B, ``width``].

    ``mean`` and ``std`` normalize the pixels; without them a BatchNorm on the raw input replaces the subtraction
    of a mean (the paper's choice).
    """

    def __init__(self, net: Any, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> None:
        super().__init__()
        if (mean is None) != (std is None):
            raise ConfigError("model.mean and model.std belong together: give both, or neither")
        self.input: nn.Module = nn.BatchNorm2d(3) if mean is None or std is None else Standardize(mean, std)
        self.net = net
        # a linear embedding at its end, a hidden layer before its head, or the pooled feature map
        self.width = int(net.num_classes or getattr(net, "head_hidden_size", None) or net.num_features)

        self.memory_format = _memory_format(net)
        self.to(memory_format=self.memory_format)

    def forward(self, images: Tensor) -> Tensor:
        """The feature K."""
        return self.net(self._normalized(images))  # type: ignore[no-any-return]

    def middle(self, images: Tensor) -> Tensor:
        """The feature map [B, C, h, w] in the middle of the network; nothing behind it is computed."""
        layers = len(self.net.feature_info)
        maps = self.net.forward_intermediates(
            self._normalized(images), indices=[layers // 2], stop_early=True, intermediates_only=True
        )
        return maps[0]  # type: ignore[no-any-return]

    def _normalized(self, images: Tensor) -> Tensor:
        return self.input(images.to(torch.float32, memory_format=self.memory_format))  # type: ignore[no-any-return]


def _memory_format(net: nn.Module) -> torch.memory_format:
    """channels_last, in which batches come and convolutions are faster, on CPUs too; except for narrow networks.

    With fewer than 16 channels, the gradient of a strided 1 × 1 convolution in channels_last writes beyond its memory
    (torch 2.14.1 on a CPU; with 8 to 15 where several threads share an uneven batch): other numbers in every process,
    or a crash.
    """
    narrow = any(
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and layer.stride != (1, 1)
        and min(layer.in_channels, layer.out_channels) < 16
        for layer in net.modules()
    )
    return torch.contiguous_format if narrow else torch.channels_last


class Standardize(nn.Module):
    """(pixels − mean) / std, per channel; the units are those of the pixels, 0 … 255."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Pixels of zero mean and unit deviation, same shape."""
        return (images - self.mean) / self.std


def resnet(block: str, layers: Sequence[int], width: int, rate: int = 1, bias: bool = False) -> Backbone:
    """A ResNet with the number of kernels in every layer divided by ``rate``.

    ``width``: kernels of the stem at rate 1; the four stages have 1, 2, 4 and 8 times as many (times 4 where the
    block is a bottleneck). ``bias``: the convolutions have one; BatchNorm makes it idle.
    """
    kind, stem = BLOCKS[block], width // rate
    channels = tuple(stem * multiple for multiple in (1, 2, 4, 8))
    net = ResNet(kind, tuple(layers), num_classes=0, channels=channels)
    # timm's plain stem has 64 kernels whatever it is told: replace it, and the one block that it feeds
    net.conv1 = nn.Conv2d(3, stem, kernel_size=7, stride=2, padding=3, bias=False)
    net.bn1 = nn.BatchNorm2d(stem)
    out = stem * kind.expansion
    net.layer1[0] = kind(stem, stem, downsample=downsample_conv(stem, out, kernel_size=1) if out != stem else None)
    net.init_weights()
    if bias:
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                layer.bias = nn.Parameter(torch.zeros(layer.out_channels))
    return Backbone(net)


def timm_backbone(
    name: str,
    features: int = 0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    rate: int = 1,
) -> Backbone:
    """Any timm network; ``features``: values of its linear embedding, 0 for the pooled feature.

    Raises:
        ConfigError: a network that timm does not know, or a rate other than 1: only our own family is divided.
    """
    if not timm.is_model(name):
        near = ", ".join(get_close_matches(name, timm.list_models(), n=5)) or "see timm.list_models()"
        raise ConfigError(f"model.name={name} is not known to timm. Near it: {near}")
    if rate != 1:
        raise ConfigError(f"rate={rate}: a timm network has no compression rate; name a smaller one")
    return Backbone(timm.create_model(name, pretrained=False, num_classes=features), mean, std)
