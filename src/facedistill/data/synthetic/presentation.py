"""Presentation attacks: faces before a camera, live, printed on paper or replayed on a screen.

A domain is a camera and its light. An attack shows a photograph of the person, rendered as any other face, on its
medium; the camera then sees the medium as it sees live faces: light, sensor, noise, block compression. The size of the
scene is fixed, and artefacts are parts of it, so that an attack is as easy to see at every output size.

All rules of the package hold: exactly defined operations in a fixed order, constants as literals, counter-based draws.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedistill.data.synthetic.kernels import Array, Integers, Params, band, bump, clip01, inside, mix, smooth
from facedistill.data.synthetic.randomness import Stream, normals, uniforms
from facedistill.data.synthetic.render import render_faces
from facedistill.data.synthetic.surface import pixel_centres
from facedistill.data.synthetic.variation import Variation

PRESENTATION_VERSION = 1
"""Raised whenever any pixel of any presentation changes."""

SCENE = 96  # pixels a side of what is before the camera
_AT_ONCE = 24  # images; bounds memory
_NUMBERS = 16  # of domains and of kinds that a photograph's number leaves room for
_DRAWS = (
    *("gain", "side_x", "side_y", "roll", "shift_x", "shift_y", "half", "tilt", "phase_x", "phase_y", "slant", "bend"),
    *("around_r", "around_g", "around_b", "around", "gleam_x", "gleam_y", "gleam", "frame", "strength"),
)


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
# Faces fill as much of the image as those of attacks do.
LIVE_FACE = Variation(
    scale=(0.44, 0.66), occluder_chance=0.0, noise=(0.0, 0.0), blur=(0.0, 0.0), white_red=(0.95, 1.05)
)
# What an attacker photographs: close, frontal, evenly lit.
PHOTOGRAPH = Variation(
    yaw_peaked=(-0.15, 0.15),
    pitch_peaked=(-0.08, 0.08),
    scale=(0.54, 0.62),
    light_x=(-0.4, 0.4),
    occluder_chance=0.0,
    noise=(0.0, 0.0),
    blur=(0.0, 0.0),
)


def render_presentations(
    seed: int, identities: Integers, samples: Integers, domains: Integers, kinds: Integers, size: int
) -> NDArray[np.uint8]:
    """Images uint8 [N, size, size, 3] of people, each before the camera of a domain.

    Args:
        domains: numbers of ``DOMAINS``.
        kinds: numbers of ``KINDS``; 0 is a live face.

    Each is a function of (seed, identity, sample, domain, kind, size) alone, to the last bit. Raises ``ValueError`` as
    ``render_faces``.
    """
    images = np.empty((len(identities), size, size, 3), np.uint8)
    for number, domain in enumerate(DOMAINS.values()):
        for kind, show in enumerate(KINDS.values()):
            chosen = np.flatnonzero((domains == number) & (kinds == kind))
            for start in range(0, len(chosen), _AT_ONCE):
                part = chosen[start : start + _AT_ONCE]
                shots = (samples[part] * _NUMBERS + number) * _NUMBERS + kind
                images[part] = _render(seed, identities[part], shots, domain, show, size)
    return images


def _render(
    seed: int, people: Integers, shots: Integers, domain: Domain, show: "Presentation", size: int
) -> NDArray[np.uint8]:
    raw = uniforms(seed, Stream.PRESENTATION, people, shots, len(_DRAWS)).T[:, :, None, None]
    d: Params = dict(zip(_DRAWS, raw, strict=True))
    d["strength"] = 0.4 + 0.6 * d["strength"]  # of what gives an attack away
    variation = LIVE_FACE if show is _live else PHOTOGRAPH
    face = render_faces(seed, people, shots, SCENE, variation).images.astype(np.float32) / np.float32(255)
    scene = show([face[..., c] for c in range(3)], d)
    noise = normals(seed, Stream.SENSOR, people, shots, 3 * domain.pixels * domain.pixels)
    return _photographed(scene, d, domain, noise.reshape(-1, 3, domain.pixels, domain.pixels), size)


class Scene(NamedTuple):
    """What is before a camera, linear light, red, green and blue [N, SCENE, SCENE] each: surfaces, which the light
    falls on, and screens, which shine."""

    lit: list[Array]
    shining: list[Array] | None = None


Presentation = Callable[[list[Array], Params], Scene]  # a photograph in display values, and draws


# --- the camera -------------------------------------------------------------------------------------------------------


def _photographed(scene: Scene, d: Params, domain: Domain, noise: Array, size: int) -> NDArray[np.uint8]:
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
    grey = _grey(planes)
    lift = np.float32(domain.lift)
    planes = [lift + (1.0 - lift) * mix(grey, plane, domain.saturation) for plane in planes]
    planes = [clip01(plane + noise[:, c] * np.float32(domain.noise)) for c, plane in enumerate(planes)]
    planes = [_resized(plane, size) for plane in _compressed(planes, domain.step)]
    levels = [np.floor(clip01(plane) * 255.0 + 0.5).astype(np.uint8) for plane in planes]
    return np.stack(levels, axis=-1)


def _grey(planes: Sequence[Array]) -> Array:
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
    grey = _grey(planes)
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


# --- what is shown ----------------------------------------------------------------------------------------------------


class Placed(NamedTuple):
    """Where the picture lies in the scene: its coordinates x, y (−1 … 1 inside) and the width of a pixel in them."""

    x: Array
    y: Array
    pixel: Array

    def within(self, half_x: float | Array, half_y: float | Array) -> Array:
        """Coverage of a rectangle about the picture's centre."""
        return inside(half_x - np.abs(self.x), self.pixel) * inside(half_y - np.abs(self.y), self.pixel)


def _placed(d: Params, half: tuple[float, float], bend: Array | None = None) -> Placed:
    """A picture held before the camera: half as wide and high as the scene times ``half``, a little askew.

    ``bend``: of a sheet about an upright axis.
    """
    u, v = pixel_centres(SCENE)
    t = (d["roll"] - 0.5) * 0.10
    cos, sin = (1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t)
    scale = half[0] + (half[1] - half[0]) * d["half"]
    u, v = u - (d["shift_x"] - 0.5) * 0.16, v - (d["shift_y"] - 0.5) * 0.16
    x, y = (cos * u + sin * v) / scale, (cos * v - sin * u) / scale
    x, y = x * (1.0 + (d["tilt"] - 0.5) * 0.16 * y), y * (1.0 + (d["slant"] - 0.5) * 0.16 * x)
    if bend is not None:
        turned = np.minimum(x * x, np.float32(1.4))
        x, y = x * (1.0 + 0.35 * bend * turned), y - 0.35 * bend * (turned - 0.4)
    return Placed(x, y, np.float32(2.0 / SCENE) / scale)


def _looked_up(planes: Sequence[Array], at: Placed) -> list[Array]:
    """The picture, display values [N, S, S], at the pixels of the scene, interpolated; its edge goes on outside."""
    across, down = (np.clip((c + 1.0) * 0.5 * SCENE - 0.5, 0.0, SCENE - 1.001).astype(np.float32) for c in at[:2])
    left, top = np.floor(across).astype(np.int64), np.floor(down).astype(np.int64)
    right, low = across - left.astype(np.float32), down - top.astype(np.float32)
    start = np.arange(len(left))[:, None, None] * (SCENE * SCENE) + top * SCENE + left
    found = []
    for plane in planes:
        flat = np.ascontiguousarray(plane).reshape(-1)
        upper = mix(flat.take(start), flat.take(start + 1), right)
        found.append(mix(upper, mix(flat.take(start + SCENE), flat.take(start + SCENE + 1), right), low))
    return found


def _wave(t: Array) -> Array:
    """A smooth wave of period 1, from 0 to 1 and back."""
    t = t - np.floor(t)
    return smooth(1.0 - np.abs(2.0 * t - 1.0))


def _around(d: Params) -> list[Array]:
    """What is behind a picture that is held before the camera: out of focus, one colour, darker below."""
    _, v = pixel_centres(SCENE)
    tone = (0.06 + 0.45 * d["around"] * d["around"]) * (1.0 - 0.3 * v)
    return [tone * (0.7 + 0.6 * d[f"around_{c}"]) + np.zeros((1, SCENE, SCENE), np.float32) for c in "rgb"]


def _over(below: Sequence[Array], above: Sequence[Array | float], coverage: Array) -> list[Array]:
    return [mix(one, other, coverage) for one, other in zip(below, above, strict=True)]


def _live(photo: list[Array], d: Params) -> Scene:
    return Scene([plane * plane for plane in photo])


_PAPER = (0.80, 0.79, 0.75)


def _print(photo: list[Array], d: Params, at: Placed, margin: float) -> list[Array]:
    """A sheet of paper with a picture: inks are neither black nor saturated, and paper is white."""
    found = _looked_up(photo, at)
    grey = _grey(found)
    inks = [0.26 + 0.66 * mix(grey, plane, 0.7) for plane in found]
    sheet = _over([np.zeros_like(grey) + np.float32(p) for p in _PAPER], [i * i for i in inks], at.within(1.0, 1.0))
    return _over(_around(d), sheet, at.within(1.0 + margin, 1.0 + margin))


def _print_flat(photo: list[Array], d: Params) -> Scene:
    return Scene(_print(photo, d, _placed(d, (0.74, 0.90)), 0.13))


def _print_halftone(photo: list[Array], d: Params) -> Scene:
    """Dots of three inks, their screens turned against each other, larger where the picture is darker."""
    at = _placed(d, (0.92, 1.06))
    u, v = pixel_centres(SCENE)
    inked = []
    for plane, (a, b) in zip(_looked_up(photo, at), ((6.4, 2.2), (4.8, 4.8), (2.2, 6.4)), strict=True):
        screen = _wave(a * u + b * v + d["phase_x"]) + _wave(b * u - a * v + d["phase_y"])
        dots = inside(1.05 - plane - 0.5 * screen, 0.30)
        inked.append(mix(plane, 0.95 - 0.8 * dots, 0.7 * d["strength"]))
    sheet = [np.float32(0.04) + 0.78 * plane * plane for plane in inked]
    return Scene(_over(_around(d), sheet, at.within(1.04, 1.04)))


def _print_gloss(photo: list[Array], d: Params) -> Scene:
    """A lamp in the gloss of photographic paper: a streak across the picture and a bright spot on it."""
    at = _placed(d, (0.86, 0.98))
    x, y = d["gleam_x"] * 1.2 - 0.6, d["gleam_y"] * 1.2 - 0.6
    across = (at.x - x) * 0.8 + (at.y - y) * (d["gleam"] - 0.5)
    spot = bump((at.x - x) / 0.55) * bump((at.y - y) / 0.55)
    gleam = d["strength"] * (0.55 * bump(across / 0.42) + 1.3 * spot) * at.within(1.06, 1.06)
    return Scene([plane + gleam for plane in _print(photo, d, at, 0.06)])


def _print_bent(photo: list[Array], d: Params) -> Scene:
    """A sheet rolled about an upright axis: curved edges, dark where it turns away."""
    at = _placed(d, (0.74, 0.86), d["strength"])
    side = at.x + (d["bend"] - 0.5) * 0.8
    shade = 1.08 - 0.62 * d["strength"] * np.minimum(side * side, np.float32(1.3))
    sheet = _print(photo, d, at, 0.10)
    covered = at.within(1.10, 1.10)
    return Scene([mix(plane, plane * shade, covered) for plane in sheet])


def _screen(photo: list[Array], at: Placed) -> list[Array]:
    """What a screen shines: bluish, and its black is none."""
    return [
        np.float32(0.05 * tint) + np.float32(0.95 * tint) * plane * plane
        for plane, tint in zip(_looked_up(photo, at), (0.86, 0.98, 1.16), strict=True)
    ]


def _replay(d: Params, at: Placed, screen: list[Array], half_x: float = 1.0, half_y: float = 1.0) -> Scene:
    """A screen before the camera, whose glass mirrors a little of the light."""
    on = at.within(half_x, half_y)
    return Scene(_over(_around(d), [0.02] * 3, on), [plane * on for plane in screen])


def _replay_grid(photo: list[Array], d: Params) -> Scene:
    """The dark grid between the screen's pixels."""
    at = _placed(d, (1.04, 1.16))
    u, v = pixel_centres(SCENE)
    columns, rows = (t * 6.5 + d[phase] for t, phase in ((u, "phase_x"), (v, "phase_y")))
    gaps = [band(0.5 - np.abs(t - np.floor(t) - 0.5), 0.13, 0.14) for t in (columns, rows)]
    clear = 1.0 - 0.8 * d["strength"] * np.maximum(*np.broadcast_arrays(*gaps))
    return _replay(d, at, [plane * clear for plane in _screen(photo, at)])


def _replay_moire(photo: list[Array], d: Params) -> Scene:
    """Where the grids of screen and sensor beat: bent bands of changing colour."""
    at = _placed(d, (1.04, 1.16))
    u, v = pixel_centres(SCENE)
    lean = d["slant"] * 2.0 - 1.0
    phase = 3.4 * (u * (0.5 + 0.5 * d["bend"]) + v * lean) + 1.3 * (u * u + 0.6 * v * v) + d["phase_x"]
    bands = [1.0 + d["strength"] * (_wave(phase + np.float32(shift)) - 0.55) for shift in (0.0, 0.30, 0.60)]
    return _replay(d, at, [plane * wave for plane, wave in zip(_screen(photo, at), bands, strict=True)])


def _replay_bezel(photo: list[Array], d: Params) -> Scene:
    """The frame of a telephone around its screen, with a rim that gleams."""
    at = _placed(d, (0.82, 0.96))
    scene = _replay(d, at, _screen(photo, at), 0.82, 0.86)
    body, glass = at.within(1.0, 1.10), at.within(0.82, 0.86)
    tone = 0.012 + 0.02 * d["frame"]
    rim = (body - at.within(0.95, 1.05)) * 0.25
    lit = _over(scene.lit, [tone] * 3, body * (1.0 - glass))
    return Scene([plane + rim for plane in lit], scene.shining)


def _replay_gamut(photo: list[Array], d: Params) -> Scene:
    """A display with colours of its own: saturated beyond nature, cyan lights, blue shadows, clipped highlights."""
    at = _placed(d, (1.04, 1.16))
    found = _looked_up(photo, at)
    grey = _grey(found)
    vivid = [clip01((mix(grey, plane, 1.0 + 1.2 * d["strength"]) - 0.06) * 1.22) for plane in found]
    tints = zip(vivid, (0.02, 0.05, 0.16), (0.62, 1.02, 1.30), strict=True)
    return _replay(d, at, [np.float32(black) + np.float32(white) * plane * plane for plane, black, white in tints])


KINDS: dict[str, Presentation] = {
    "live": _live,
    "print, flat": _print_flat,
    "print, halftone": _print_halftone,
    "print, gloss": _print_gloss,
    "print, bent": _print_bent,
    "replay, pixel grid": _replay_grid,
    "replay, moire": _replay_moire,
    "replay, bezel": _replay_bezel,
    "replay, gamut": _replay_gamut,
}
"""How a face may be presented: live, and attacks by their instrument and what gives it away."""
