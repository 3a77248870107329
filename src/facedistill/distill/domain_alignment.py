"""Domains aligned before teachers see them: a discriminator tells them apart, and images are moved until it fails.

After arXiv 2401.01102; the network, the single step and its length are ours.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 16


class DomainDiscriminator(nn.Module):
    """Pixels [B, 3, S, S], 0 … 255 → logits [B, D] of the domains. Nothing in it mixes the samples of a batch."""

    def __init__(self, domains: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, WIDTH, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(WIDTH, 2 * WIDTH, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * WIDTH, 2 * WIDTH, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * WIDTH, domains),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.layers(pixels.float() / 127.5 - 1)
        return logits


def aligned(discriminator: nn.Module, images: Tensor, domains: Tensor, strength: float) -> Tensor:
    """Images [B, 3, S, S] moved by δ = ε · sign(∂ H(discriminator(x), domain) / ∂x), as pixels 0 … 255, float32.

    ``domains``: int64 [B]; ``strength``: ε in pixel levels. Leaves no gradient on the discriminator.
    """
    with torch.enable_grad():
        pixels = images.float().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(discriminator(pixels), domains, reduction="sum"), pixels)
    return (pixels.detach() + strength * gradient.sign()).clamp(0, 255)
