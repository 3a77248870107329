"""The camera of a domain and the light before it: what it makes of live faces, paper and screens.

Light, exposure, tone, sensor, noise and block compression, in operations that are exactly defined, as everywhere in
the package.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedistill.data.synthetic.kernels import Array, Params, clip01, mix, smooth
from facedistill.data.synthetic.surface import pixel_centres

SCENE = 96  # pixels a side of what is before the camera


class Domain(NamedTuple):
    """A camera and the light before it.

    Attributes:
        tint: of its light and white balance together, in linear light, red, green, blue.
        gain: range of the exposure.
        side: how much darker the far side of the scene is.
        contrast: strength of the tone curve.
        lift: the display value of black.
        saturation: 1 keeps the colours.
        pixels: of the sensor's side, a multiple of 8.
        noise: standard deviation in display values 0 … 1.
        step: of the quantization of 8 × 8 blocks, in levels of 255, for the coarsest detail.
    """

    tint: tuple[float, float, float]
    gain: tuple[float, float]
    side: float
    contrast: float
    lift: float
    saturation: float
    pixels: int
    noise: float
    step: float


DOMAINS = {
    "office": Domain((1.00, 1.02, 0.92), (0.90, 1.15), 0.20, 0.30, 0.00, 1.00, 80, 0.012, 7.0),
    "window": Domain((0.90, 1.00, 1.22), (1.10, 1.50), 0.70, 0.70, 0.00, 1.10, 96, 0.005, 3.0),
    "evening": Domain((1.40, 1.00, 0.55), (0.40, 0.65), 0.40, 0.20, 0.02, 0.90, 64, 0.045, 8.0),
    "webcam": Domain((0.95, 1.05, 1.05), (0.75, 1.00), 0.10, 0.00, 0.10, 0.60, 48, 0.018, 14.0),
}


class Scene(NamedTuple):
    """What is before a camera, linear light, red, green and blue [N, SCENE, SCENE] each: surfaces, which the light
    falls on, and screens, which shine."""

    lit: list[Array]
    shining: list[Array] | None = None


def photographed(scene: Scene, d: Params, domain: Domain, noise: Array, size: int) -> NDArray[np.uint8]:
    """Images uint8 [N, size, size, 3] of a scene. ``noise``: normal, [N, 3, pixels, pixels] of the domain's sensor."""
    u, v = pixel_centres(SCENE)
    low, high = domain.gain
    along = (d["side_x"] * 2.0 - 1.0) * u + (d["side_y"] * 0.8 - 0.4) * v
    light = (low + (high - low) * d["gain"]) * (1.0 - np.float32(domain.side) * smooth(along * 0.6 + 0.5))
    seen = [plane * light * np.float32(tint) for plane, tint in zip(scene.lit, domain.tint, strict=True)]
    if scene.shining is not None:  # its own light: white balance and exposure move it less
        tints = [np.float32(0.85 * (0.6 + 0.4 * tint)) for tint in domain.tint]
        seen = [plane + own * tint for plane, own, tint in zip(seen, scene.shining, tints, strict=True)]
    planes = [_resized(np.sqrt(plane * 1.25 / (1.0 + 0.25 * plane)), domain.pixels) for plane in seen]
    planes = [mix(plane, plane * plane * (3.0 - 2.0 * plane), domain.contrast) for plane in planes]
    grey = grey_of(planes)
    lift = np.float32(domain.lift)
    planes = [lift + (1.0 - lift) * mix(grey, plane, domain.saturation) for plane in planes]
    planes = [clip01(plane + noise[:, c] * np.float32(domain.noise)) for c, plane in enumerate(planes)]
    planes = [_resized(plane, size) for plane in _compressed(planes, domain.step)]
    levels = [np.floor(clip01(plane) * 255.0 + 0.5).astype(np.uint8) for plane in planes]
    return np.stack(levels, axis=-1)


def grey_of(planes: Sequence[Array]) -> Array:
    grey: Array = planes[0] * 0.3 + planes[1] * 0.59 + planes[2] * 0.11
    return grey


def _resized(plane: Array, size: int) -> Array:
    """A plane [N, S, S] at another size, by a triangle filter as wide as the coarser of the two pixels."""
    return _rows_resized(_rows_resized(plane, size).transpose(0, 2, 1), size).transpose(0, 2, 1)


def _rows_resized(plane: Array, size: int) -> Array:
    given = plane.shape[1]
    if given == size:
        return plane
    ratio = np.float32(given) / np.float32(size)
    support = max(np.float32(1), ratio)
    centre = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * ratio - np.float32(0.5)
    first = np.floor(centre - support).astype(np.int64) + 1
    total, weights = np.zeros((len(plane), size, plane.shape[2]), np.float32), np.zeros(size, np.float32)
    for tap in range(int(np.floor(2 * support)) + 1):
        row = first + tap
        weight = np.maximum(np.float32(1) - np.abs(row.astype(np.float32) - centre) / support, np.float32(0))
        total = total + plane[:, np.clip(row, 0, given - 1)] * weight[:, None]
        weights = weights + weight
    resized: Array = total / weights[:, None]
    return resized


# cos(k π / 16) / 2, k = 0 … 8
_COSINES = (0.5, 0.4903926402, 0.4619397663, 0.4157348062, 0.3535533906, 0.2777851165, 0.1913417162, 0.0975451610, 0.0)


def _cosine(k: int, n: int) -> float:
    """Entry (k, n) of the orthonormal 8-point discrete cosine transform."""
    if k == 0:
        return _COSINES[4]
    angle = (2 * n + 1) * k % 32
    angle = min(angle, 32 - angle)
    return _COSINES[angle] if angle <= 8 else -_COSINES[16 - angle]


_DCT = np.array([[_cosine(k, n) for n in range(8)] for k in range(8)], np.float32)
_DETAIL = np.array([[1.0 + 0.5 * (k + n) for n in range(8)] for k in range(8)], np.float32)


def _compressed(planes: Sequence[Array], step: float) -> list[Array]:
    """Display planes [N, S, S] after a block compression: grey, and colours twice as coarsely."""
    grey = grey_of(planes)
    grey_kept = _quantized(grey, step)
    red, blue = (grey_kept + _quantized(planes[c] - grey, 2 * step) for c in (0, 2))
    green = (grey_kept - red * 0.3 - blue * 0.11) / np.float32(0.59)
    return [red, green, blue]


def _quantized(plane: Array, step: float) -> Array:
    n, side = plane.shape[:2]
    blocks = plane.reshape(n, side // 8, 8, side // 8, 8)
    steps = (_DETAIL * np.float32(step / 255))[:, None, :]
    values = _transformed(_transformed(blocks, _DCT, 2), _DCT, 4)
    kept = np.floor(values / steps + np.float32(0.5)) * steps
    back = _transformed(_transformed(kept, _DCT.T, 2), _DCT.T, 4)
    return back.reshape(n, side, side)


def _transformed(blocks: Array, table: Array, axis: int) -> Array:
    """Table times blocks along an axis of eight, summed in order: a matrix product would sum as its library likes."""
    parts = [blocks.take(n, axis) for n in range(8)]
    rows = []
    for weights in table:
        total = parts[0] * weights[0]
        for part, weight in zip(parts[1:], weights[1:], strict=True):
            total = total + part * weight
        rows.append(total)
    return np.stack(rows, axis)
