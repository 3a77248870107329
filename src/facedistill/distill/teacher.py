"""The teacher: frozen, in eval mode, in no checkpoint, and checked before it teaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facedistill.errors import WeightsError
from facedistill.models.network import Answer, Network, build_network
from facedistill.models.weights import load_into, read_weights

PROBE_SAMPLES = 512  # of the test split: enough to notice wrong weights or wrong data, cheap at any size


class FrozenTeacher:
    """Answers for a batch of pixels.

    Not an ``nn.Module``: as a module inside of the student it would be put in train mode with it (its BatchNorm
    statistics would drift), optimized, and written into every checkpoint.
    """

    def __init__(self, network: Network, about: dict[str, Any]) -> None:
        self.network = network.eval().requires_grad_(False)
        self.about = about

    @classmethod
    def load(cls, path: Path, model: dict[str, Any], num_identities: int) -> FrozenTeacher:
        """Build the architecture ``model`` and give it the weights of ``path``.

        Raises:
            WeightsError: the file is unreadable, of another architecture or of another number of identities.
        """
        tensors, about = read_weights(path)
        network = build_network(model, rate=1, num_identities=num_identities)
        load_into(network, tensors, path)
        return cls(network, about)

    def to(self, device: torch.device) -> None:
        """Move the weights."""
        self.network.to(device)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Answer:
        """K_T and a_T for images [B, 3, H, W]."""
        return self.network(images)  # type: ignore[no-any-return]

    @torch.no_grad()
    def middle(self, images: Tensor) -> Tensor:
        """The feature map in the middle of the teacher, [B, C, h, w]."""
        return self.network.backbone.middle(images)

    def check(self, correct: int, samples: int, num_identities: int, path: Path) -> None:
        """Stop a run whose teacher does not do what it did when it was published.

        ``correct`` of ``samples`` probes were classified; the file says how many there were, or, where it comes
        from elsewhere and says nothing, chance has to be beaten.

        Raises:
            WeightsError: it scores less.
        """
        recorded = self.about.get("probe")
        if recorded is None:
            chance = 1 / num_identities
            if correct <= samples * min(2 * chance, (1 + chance) / 2):
                raise WeightsError(
                    f"{path} classifies {correct} of {samples} test samples, no more than chance among "
                    f"{num_identities} identities: are its classes in the order of this data's folders, and "
                    "model.mean and model.std those it was trained with?"
                )
        elif samples != recorded["samples"] or correct < recorded["correct"] - 0.005 * samples:
            raise WeightsError(
                f"{path} classifies {correct} of {samples} test samples; it was published with "
                f"{recorded['correct']} of {recorded['samples']}. The data, its split or its preprocessing "
                "has changed since"
            )
