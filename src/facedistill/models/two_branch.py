"""Two networks that share their stem and stages 1 to 3, for two kinds of images of the same faces."""

from functools import reduce

import torch
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from facedistill.models.network import Network, NetworkOutput

# of a backbone of ``families.resnet``, in the order in which images pass through them
_SHARED = ("input", "net.conv1", "net.bn1", "net.act1", "net.maxpool", "net.layer1", "net.layer2", "net.layer3")
_BRANCH = ("conv1", "bn1", "act1", "conv2", "bn2", "act2", "conv3", "bn3")  # of a residual block, up to the sum

Maps = tuple[Tensor, Tensor]  # [B, C, h, w] of both kinds of images, of other heights and widths


def share(network: Network, other: Network, batch_norm: bool) -> None:
    """Put the stem and stages 1 to 3 of a network into another in the place of its own.

    Args:
        batch_norm: with their BatchNorms; else the other keeps its own weights and statistics in these.
    """
    kinds = (nn.Conv2d, nn.BatchNorm2d) if batch_norm else (nn.Conv2d,)
    for name, layer in network.backbone.named_modules():
        if name.startswith(_SHARED) and isinstance(layer, kinds):
            other.backbone.set_submodule(name, layer)


def side_by_side(
    network: Network, other: Network, images: Tensor, others: Tensor
) -> tuple[NetworkOutput, NetworkOutput]:
    """What two networks with shared BatchNorms say of images [B, 3, h, w] and others [B, 3, H, W] of the same faces.

    In training, a BatchNorm that they share has the mean and the variance over the batch and the pixels of both
    (arXiv 2012.06746), once; those of stage 4 are each network's own. Otherwise it is as if each were called alone.
    """
    one, two = network.backbone, other.backbone
    maps = (
        images.to(torch.float32, memory_format=one.memory_format),
        others.to(torch.float32, memory_format=two.memory_format),
    )
    maps = reduce(_passed, map(one.get_submodule, _SHARED), maps)
    ends = (of.net.forward_head(of.net.layer4(found)) for of, found in zip((one, two), maps, strict=True))
    return network.of_embedding(next(ends)), other.of_embedding(next(ends))


def _passed(maps: Maps, layer: nn.Module) -> Maps:
    """What a layer makes of both."""
    if isinstance(layer, nn.BatchNorm2d):
        return _normalized(maps, layer)
    if isinstance(layer, nn.Sequential):
        return reduce(_passed, layer, maps)
    if isinstance(layer, BasicBlock | Bottleneck):
        parts = [getattr(layer, name) for name in _BRANCH if hasattr(layer, name)]
        last = parts.pop() if isinstance(layer, BasicBlock) else layer.act3
        one, other = reduce(_passed, parts, maps)
        shortcut = maps if layer.downsample is None else _passed(maps, layer.downsample)
        return last(one + shortcut[0]), last(other + shortcut[1])
    return layer(maps[0]), layer(maps[1])


def _normalized(maps: Maps, layer: nn.BatchNorm2d) -> Maps:
    """With the pixels of both in one row: BatchNorm, as ``tasks.batch_norm`` for the whole batch, sees a map a face."""
    rows = torch.cat([found.flatten(2).unsqueeze(3) for found in maps], dim=2)
    normal, count = layer(rows), maps[0][0, 0].numel()
    one, other = (
        part.reshape(found.shape).contiguous(memory_format=_format_of(found))
        for part, found in zip((normal[:, :, :count], normal[:, :, count:]), maps, strict=True)
    )
    return one, other


def _format_of(maps: Tensor) -> torch.memory_format:
    return torch.contiguous_format if maps.is_contiguous() else torch.channels_last
