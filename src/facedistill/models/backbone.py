"""Backbones: an image to the embedding K that feeds the output layer."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from facedistill.errors import ConfigError


class Backbone(nn.Module):
    """Raw pixels [B, 3, H, W] (0 … 255) → the embedding K [B, ``width``]. A family of networks is a subclass.

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
        return (images - self.mean) / self.std
