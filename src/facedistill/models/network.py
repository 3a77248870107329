"""A backbone and the output layers of its task."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from facedistill.config.build import build
from facedistill.models.backbone import Backbone
from facedistill.models.classes import ALL, Classes

POINTS = 5


class NetworkOutput(NamedTuple):
    """What a network says of a batch: the embedding K [B, width], logits a [B, C] and landmarks R [B, 5, 2].

    Landmarks are in units of the crop, −1 to 1 from edge to edge. What the network has no output layer for has no
    values: [B, 0] and [B, 0, 2]. ``classes``: of which logits are; all, unless ranks split them.
    """

    embedding: Tensor
    logits: Tensor
    landmarks: Tensor
    classes: Classes = ALL


class Network(nn.Module):
    """Images [B, 3, H, W] → the embedding K, the logits a of C identities, the regressed landmarks R = fc(K)."""

    def __init__(self, backbone: Backbone, num_identities: int = 0, landmarks: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(backbone.width, num_identities) if num_identities else None
        self.regressor = nn.Linear(backbone.width, 2 * POINTS) if landmarks else None

    @property
    def num_identities(self) -> int:
        return 0 if self.classifier is None else self.classifier.out_features

    def forward(self, images: Tensor) -> NetworkOutput:
        return self.of_embedding(self.backbone(images))

    def of_embedding(self, embedding: Tensor) -> NetworkOutput:
        """What it says where K [B, width] is known already."""
        nothing = embedding[:, :0]
        logits = nothing if self.classifier is None else self.classifier(embedding)
        points = nothing if self.regressor is None else self.regressor(embedding)
        return NetworkOutput(embedding, logits, points.unflatten(1, (-1, 2)))


def build_network(model: Mapping[str, Any], rate: int, num_identities: int = 0, landmarks: bool = False) -> Network:
    """The network of an architecture (a ``conf/model`` node) at a compression rate."""
    return Network(build("model", model, rate=rate), num_identities, landmarks)
