"""From an embedding back to the image that it is of."""

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor, nn

CHANNELS = (64, 48, 32, 16)  # at an eighth of the image's side, and after each doubling
EIGHTH = 8


class Decoder(nn.Module):
    """K [B, width] → pixels [B, 3, crop, crop], 0 … 255, by doubling a small map three times."""

    def __init__(self, width: int, crop: int) -> None:
        side = -(-crop // EIGHTH)
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, CHANNELS[0] * side * side),
            nn.Unflatten(1, (CHANNELS[0], side, side)),
            *self._doublings(),
            nn.Conv2d(CHANNELS[-1], 3, 3, padding=1),
            nn.Sigmoid(),
        )
        self._crop = crop

    @staticmethod
    def _doublings() -> Iterator[nn.Module]:
        for given, made in pairwise(CHANNELS):
            conv = nn.Conv2d(given, made, 3, padding=1, bias=False)
            yield nn.Sequential(nn.Upsample(scale_factor=2), conv, nn.BatchNorm2d(made), nn.ReLU())

    def forward(self, embedding: Tensor) -> Tensor:
        pixels: Tensor = self.layers(embedding)
        return 255 * pixels[..., : self._crop, : self._crop]
