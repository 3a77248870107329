"""The teacher: frozen, in eval mode, in no checkpoint, and checked before it teaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from facedistill.distill.target import TeacherOutput
from facedistill.errors import WeightsError
from facedistill.models.network import Network
from facedistill.models.weights import load_into, read_weights

PROBE_SAMPLES = 512  # of the test split: enough to notice wrong weights or wrong data, cheap at any size
TOLERANCE = 0.5  # points by which a probe may be worse than it was: another device rounds differently


class Probe(NamedTuple):
    """What a network scored on the first test samples: the metric of its task, %."""

    metric: str
    value: float
    samples: int
    higher_is_better: bool


class NetworkTeacher:
    """Answers for a batch of pixels.

    Not an ``nn.Module``: as a module inside of the student it would be put in train mode with it (its BatchNorm
    statistics would drift), optimized, and written into every checkpoint.
    """

    def __init__(self, network: Network, about: dict[str, Any]) -> None:
        self.network = network.eval().requires_grad_(False)
        self.about = about

    @classmethod
    def load(cls, path: Path, network: Network) -> NetworkTeacher:
        """Give ``network`` the weights of ``path``, and freeze it.

        Raises:
            WeightsError: the file is unreadable, of another architecture or of another number of identities.
        """
        tensors, about = read_weights(path)
        load_into(network, tensors, path)
        return cls(network, about)

    def to(self, device: torch.device) -> None:
        """Move the weights."""
        self.network.to(device)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> TeacherOutput:
        """What the teacher says of images [B, 3, H, W]."""
        return self.recall(self.network.backbone(images))

    def recall(self, features: Tensor) -> TeacherOutput:
        """What the teacher says where its K_T [B, width] is known already."""
        return TeacherOutput(features, self._logits)

    @torch.no_grad()
    def _logits(self, features: Tensor) -> Tensor:
        classifier = self.network.classifier
        assert classifier is not None, "no output layer of identities"
        logits: Tensor = classifier(features)
        return logits

    @torch.no_grad()
    def middle(self, images: Tensor) -> Tensor:
        """The feature map in the middle of the teacher, [B, C, h, w]."""
        return self.network.backbone.middle(images)

    def check(self, probe: Probe, path: Path) -> None:
        """Stop a run whose teacher does not do what it did when it was published.

        The file says what it scored then, or, where it comes from elsewhere and says nothing, a classifier has to
        beat chance.

        Raises:
            WeightsError: it scores less.
        """
        recorded = self.about.get("probe")
        if recorded is None:
            if self.network.classifier is None:
                return
            identities = self.network.classifier.out_features
            chance = 1 / identities
            if probe.value <= 100 * min(2 * chance, (1 + chance) / 2):
                raise WeightsError(
                    f"{path} is right on {probe.value:.1f} % of {probe.samples} test samples, no more than chance "
                    f"among {identities} identities: are its classes in the order of this data's folders, and "
                    "model.mean and model.std those it was trained with?"
                )
            return
        worse = recorded["value"] - probe.value if probe.higher_is_better else probe.value - recorded["value"]
        if probe.samples != recorded["samples"] or not worse <= TOLERANCE:
            raise WeightsError(
                f"{path} has {probe.metric} {probe.value:.2f} on {probe.samples} test samples; it was published with "
                f"{recorded['value']:.2f} on {recorded['samples']}. The data, its split or its preprocessing has "
                "changed since"
            )
