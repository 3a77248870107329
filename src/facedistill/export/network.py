"""The network as it is deployed: from the image of its contract to the one thing that it gives."""

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedistill.distill.teacher import NetworkTeacher
from facedistill.models.backbone import Standardize
from facedistill.models.network import Network
from facedistill.runs.exported import ImageInput


class Deployed(nn.Module):
    """Images [N, 3, height, width] as ``ImageInput`` says → embedding [N, D], logits [N, C] or landmarks [N, 5, 2].

    Whatever normalization the network begins with, of pixels 0 … 255, is one scale and one shift of each channel here.

    Args:
        kind: which of the three.
        normalized: the embedding has length 1.
        taken: what an image is.
        colour, columns: what the network itself takes of an RGB image, see ``TeacherInput``.
    """

    def __init__(
        self,
        network: Network,
        kind: str,
        taken: ImageInput,
        normalized: bool = False,
        colour: str = "rgb",
        columns: int | None = None,
    ) -> None:
        super().__init__()
        self.kind, self.taken, self.normalized = kind, taken, normalized
        self.colour, self.columns = colour, columns
        self.net = _without_strides(deepcopy(network.backbone.net))
        head = {"embedding": None, "logits": network.classifier, "landmarks": network.regressor}[kind]
        self.head: nn.Module = nn.Identity() if head is None else deepcopy(head)
        scale, shift = _affine(network.backbone.input)
        if taken.pixel == "float32":
            mean, std = torch.tensor(taken.mean), torch.tensor(taken.std)
            scale, shift = scale * std, shift + scale * mean
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", scale.detach().view(1, 3, 1, 1).contiguous())
        self.register_buffer("shift", shift.detach().view(1, 3, 1, 1).contiguous())
        self.eval().requires_grad_(False)
        self.to(memory_format=torch.contiguous_format)

    @classmethod
    def of(cls, teacher: NetworkTeacher, kind: str, taken: ImageInput, normalized: bool = False) -> "Deployed":
        return cls(teacher.network, kind, taken, normalized, teacher.input.colour, teacher.input.columns)

    @property
    def width(self) -> int:
        """Values that it gives of an image."""
        return int(self(self.example(1)).shape[1:].numel())

    def example(self, count: int) -> Tensor:
        """``count`` images of noise, of the form that it takes."""
        pixels = torch.randint(0, 256, (count, 3, self.taken.height, self.taken.width), generator=torch.Generator())
        return self.as_taken(pixels.to(torch.uint8))

    def as_taken(self, pixels: Tensor) -> Tensor:
        """RGB pixels 0 … 255 [N, 3, height, width] in the form that it takes."""
        if self.taken.pixel == "uint8":
            return pixels.to(torch.uint8)
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (self.taken.mean, self.taken.std))
        return (pixels.float() - mean) / std

    def forward(self, image: Tensor) -> Tensor:
        if self.colour == "bgr":
            image = image[:, [2, 1, 0]]
        if self.columns is not None:
            left = (self.taken.width - self.columns) // 2
            image = image[..., left : left + self.columns]
        answer = self.head(self.net(image.float() * self.scale + self.shift))
        if self.kind == "embedding" and self.normalized:
            return F.normalize(answer, dim=1)
        return answer.unflatten(1, (-1, 2)) if self.kind == "landmarks" else answer  # type: ignore[no-any-return]


@torch.no_grad()
def _affine(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Scale and shift [3] of what normalizes pixels 0 … 255."""
    if isinstance(layer, Standardize):
        mean, std = layer.mean.flatten(), layer.std.flatten()
        return 1 / std, -mean / std
    assert isinstance(layer, nn.BatchNorm2d)
    assert layer.running_var is not None
    assert layer.running_mean is not None
    scale = layer.weight / (layer.running_var + layer.eps).sqrt()
    return scale, layer.bias - scale * layer.running_mean


class _Mean(nn.Module):
    """The mean over a feature map, [N, C, h, w] → [N, C, 1, 1]."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3), keepdim=True)


def _without_strides(net: nn.Module) -> nn.Module:
    """Pooling to one pixel as a mean: torch exports its own by strides of memory, of which a graph knows nothing."""
    for part in list(net.modules()):
        for name, child in part.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size in (1, (1, 1)):
                setattr(part, name, _Mean())
    return net
