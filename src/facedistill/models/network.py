"""A backbone and the output layer of its task."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from facedistill.config import build
from facedistill.models.backbone import Backbone


class Answer(NamedTuple):
    """What a network says of a batch: K [B, width] and the logits a [B, C]."""

    features: Tensor
    logits: Tensor


class Network(nn.Module):
    """Images [B, 3, H, W] → the feature K and the logits a of C identities."""

    def __init__(self, backbone: Backbone, num_identities: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(backbone.width, num_identities)

    def forward(self, images: Tensor) -> Answer:
        """K and a."""
        features = self.backbone(images)
        return Answer(features, self.classifier(features))


def build_network(model: dict[str, Any], rate: int, num_identities: int) -> Network:
    """The network of an architecture (a ``conf/model`` node) at a compression rate."""
    return Network(build(model, rate=rate), num_identities)
