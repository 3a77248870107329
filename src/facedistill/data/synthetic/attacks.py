"""What is held before a camera: the live face, or a photograph of it on paper or on a screen.

Artefacts are parts of the scene, whose size is fixed, so that an attack is as easy to see at every output size.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from facedistill.data.synthetic.camera import SCENE, Scene, grey_of
from facedistill.data.synthetic.kernels import Array, Params, band, bump, clip01, inside, mix, smooth
from facedistill.data.synthetic.surface import pixel_centres

Presentation = Callable[[list[Array], Params], Scene]  # a photograph in display values, and draws


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


def live(photo: list[Array], d: Params) -> Scene:
    return Scene([plane * plane for plane in photo])


_PAPER = (0.80, 0.79, 0.75)


def _print(photo: list[Array], d: Params, at: Placed, margin: float) -> list[Array]:
    """A sheet of paper with a picture: inks are neither black nor saturated, and paper is white."""
    found = _looked_up(photo, at)
    grey = grey_of(found)
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
    grey = grey_of(found)
    vivid = [clip01((mix(grey, plane, 1.0 + 1.2 * d["strength"]) - 0.06) * 1.22) for plane in found]
    tints = zip(vivid, (0.02, 0.05, 0.16), (0.62, 1.02, 1.30), strict=True)
    return _replay(d, at, [np.float32(black) + np.float32(white) * plane * plane for plane, black, white in tints])


KINDS: dict[str, Presentation] = {
    "live": live,
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
