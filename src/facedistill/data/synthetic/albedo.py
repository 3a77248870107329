"""The colours of a face: linear-light albedo maps on the head grid (skin, eyes, brows, lips, beard)."""

from typing import NamedTuple

import numpy as np

from facedistill.data.synthetic.kernels import Array, Params, band, bump, choose, clip01, inside, mix, smooth
from facedistill.data.synthetic.shape import GRID_TOP, GRID_X, Grid


class Window(NamedTuple):
    """A rectangle of the grid, the same for all faces of a batch, that contains one feature."""

    rows: slice
    columns: slice
    x: Array
    y: Array


def _window(grid: Grid, x0: float, x1: float, y0: float, y1: float) -> Window:
    rows = slice(int((y0 - GRID_TOP) / grid.cell), int((y1 - GRID_TOP) / grid.cell) + 2)
    columns = slice(int((x0 + GRID_X) / grid.cell), int((x1 + GRID_X) / grid.cell) + 2)
    return Window(rows, columns, grid.x[:, :, columns], grid.y[:, rows])


class Paint:
    """Albedo planes of a batch, painted over window by window."""

    def __init__(self, colour: list[Array], shape: tuple[int, int, int]) -> None:
        self.planes = [np.ascontiguousarray(np.broadcast_to(c, shape)) for c in colour]

    def over(self, window: Window, colour: list[Array], alpha: Array) -> None:
        """Cover with a colour; alpha is (N, rows, columns) of the window."""
        for plane, value in zip(self.planes, colour, strict=True):
            part = plane[:, window.rows, window.columns]
            part += (value - part) * alpha

    def scale(self, window: Window, red: Array, green: Array, blue: Array) -> None:
        for plane, factor in zip(self.planes, (red, green, blue), strict=True):
            plane[:, window.rows, window.columns] *= factor


def colour_of(p: Params, part: str) -> list[Array]:
    """The three planes of a named colour."""
    return [p[f"{part}_{c}"] for c in "rgb"]


def _plain(p: Params, red: float, green: float, blue: float) -> list[Array]:
    return [np.full_like(p["male"], value) for value in (red, green, blue)]


def face_albedo(p: Params, s: Params, f: Params, grid: Grid, mottle: Array) -> list[Array]:
    """Albedo planes r, g, b [N, H, W]; `mottle` is a fixed noise map [H, W] of mean 0 for skin and hair."""
    n = len(p["male"])
    paint = Paint(colour_of(p, "skin"), (n, grid.y.shape[1], grid.x.shape[2]))
    everything = _window(grid, -GRID_X, GRID_X, GRID_TOP, GRID_TOP + grid.cell * grid.y.shape[1])
    shade = 1.0 + 0.05 * mottle[None]
    paint.scale(everything, shade, shade, shade)
    _skin(paint, p, f, grid, mottle)
    _beard(paint, p, f, grid, mottle)
    _nostrils(paint, p, f, grid)
    _mouth(paint, p, f, grid)
    _eyes(paint, p, s, f, grid)
    _brows(paint, p, f, grid)
    _moles(paint, p, grid)
    return paint.planes


def _skin(paint: Paint, p: Params, f: Params, grid: Grid, mottle: Array) -> None:
    """Blush, shaded hollows, wrinkles and freckles."""
    w = _window(grid, -1.05, 1.05, -0.5, 1.3)
    ax = np.abs(w.x)
    blush = bump((ax - 0.55) / 0.42) * bump((w.y - f["eye_y"] - 0.48) / 0.40)
    nose = bump(w.x / 0.26) * bump((w.y - f["tip_y"]) / 0.25)
    red = (blush + 0.7 * nose) * (0.06 + 0.17 * p["skin_redness"])
    hollow = 0.30 * bump((ax - f["eye_x"] + 0.12) / 0.26) * bump((w.y - f["eye_y"] + 0.02) / 0.22)
    hollow = hollow + 0.28 * bump(w.x / 0.30) * bump((w.y - f["nose_base"] - 0.03) / 0.10)
    bags = (0.08 + 0.14 * p["wrinkles"]) * bump((ax - f["eye_x"]) / 0.26) * bump((w.y - f["eye_y"] - 0.17) / 0.10)
    shade = 1.0 - hollow - bags - _folds(p, f, grid, w)
    rows, columns = w.rows, w.columns
    spots = clip01(mottle[None, rows, columns] * 1.5 - 0.6) * p["freckles"] * 0.35
    spots = spots * bump(w.x / 0.85) * bump((w.y - f["eye_y"] - 0.35) / 0.45)
    paint.scale(w, shade * (1.0 - 0.5 * spots), shade * (1.0 - red - spots), shade * (1.0 - red - spots))


def _folds(p: Params, f: Params, grid: Grid, w: Window) -> Array:
    """Darkness of the folds from nose wing to mouth corner, deeper with age and smile, and of frown lines."""
    ax = np.abs(w.x)
    top, bottom = f["tip_y"] + 0.04, f["corner_y"] + 0.04
    t = clip01((w.y - top) / (bottom - top))
    line_x = mix(p["nose_width"] + 0.06, f["mouth_half"] + 0.10, t) + 0.06 * t * (1.0 - t)
    strength = 0.06 + 0.16 * p["wrinkles"] + 0.12 * np.maximum(f["smile"], np.float32(0.0))
    ends = bump((w.y - 0.5 * (top + bottom)) / (0.62 * (bottom - top) + 0.05))
    return strength * ends * bump((ax - line_x) / (0.05 + grid.pixel))


def _beard(paint: Paint, p: Params, f: Params, grid: Grid, mottle: Array) -> None:
    """Beard and moustache shade."""
    w = _window(grid, -1.15, 1.15, 0.1, 1.8)
    ax = np.abs(w.x)
    # The beard's upper edge falls from the ears to the mouth corners.
    edge = f["mouth_y"] - 0.10 - 0.75 * smooth((ax - 0.45) / 0.5)
    # Not on the side of the head, where the map is stretched.
    outline = p["head_width"] * np.sqrt(np.maximum(1.0 - w.y * w.y / (f["chin"] * f["chin"]), np.float32(0.0)))
    beard = smooth((w.y - edge) / 0.22) * smooth((outline + 0.03 - ax) / 0.14) * p["beard"]
    bare = bump(ax / (f["mouth_half"] * 1.05)) * bump((w.y - f["mouth_y"] - 0.05) / 0.25)
    beard = beard * (1.0 - 0.9 * clip01(bare * 1.6))
    y = f["mouth_y"] - p["upper_lip"] - 0.07
    droop = 0.25 * ax * ax / f["mouth_half"]
    moustache = bump(ax / (f["mouth_half"] * 1.25)) * bump((w.y - y - droop) / 0.13) * p["moustache"] * 1.3
    grain = 1.0 + 0.35 * mottle[None, w.rows, w.columns]
    alpha = clip01(np.maximum(beard, moustache) * 0.85 * grain)
    paint.over(w, colour_of(p, "brow"), alpha)


def _nostrils(paint: Paint, p: Params, f: Params, grid: Grid) -> None:
    w = _window(grid, -0.45, 0.45, 0.35, 1.0)
    t = (np.abs(w.x) - p["nose_width"] * 0.55) / (p["nose_width"] * 0.40 + 0.4 * grid.pixel)
    u = (w.y - f["tip_y"] - 0.105) / (0.035 + 0.5 * grid.pixel)
    dark = [c * 0.10 for c in colour_of(p, "skin")]
    paint.over(w, dark, 0.75 * bump(t) * bump(u))
    # The crease around the wing.
    r = (np.abs(w.x) - p["nose_width"] * 1.08) / (0.03 + grid.pixel)
    crease = 0.35 * bump(r) * bump((w.y - f["tip_y"] - 0.05) / 0.13)
    paint.over(w, dark, crease)


def _mouth(paint: Paint, p: Params, f: Params, grid: Grid) -> None:
    w = _window(grid, -0.65, 0.65, 0.5, 1.65)
    t = w.x / f["mouth_half"]
    tt = np.minimum(t * t, np.float32(1.5))
    arc = 1.0 - tt
    full = np.maximum(arc, np.float32(0.0))
    line = f["mouth_y"] + f["mouth_curve"] * (tt - 0.3)
    # The edges of the gap between the lips.
    upper = line - 0.15 * f["opened"] * full
    lower = line + 0.85 * f["opened"] * full
    bow = 1.0 - p["lip_bow"] * bump(t * 4.0) + 0.25 * p["lip_bow"] * bump((np.abs(t) - 0.30) * 4.0)
    top = upper - p["upper_lip"] * arc * bow
    bottom = lower + p["lower_lip"] * arc * (0.65 + 0.35 * full)
    soft = 1.3 * grid.pixel
    lip = colour_of(p, "lip")
    paint.over(w, lip, inside(np.minimum(w.y - top, bottom - w.y), soft) * 0.9)
    # The upper lip faces down and is darker.
    shade = 1.0 - 0.22 * inside(np.minimum(w.y - top, line - w.y), soft)
    paint.scale(w, shade, shade, shade)
    # Dark mouth with the upper teeth in it.
    at, open_wide = np.abs(t), clip01(f["opened"] * 30.0)
    ends = inside(1.0 - at, grid.pixel / f["mouth_half"])
    gap = inside(np.minimum(w.y - upper, lower - w.y), grid.pixel) * open_wide * ends
    paint.over(w, _plain(p, 0.06, 0.02, 0.02), gap)
    teeth = inside(upper + 0.075 - w.y, 1.5 * grid.pixel) * bump(w.x / (f["mouth_half"] * 1.1))
    paint.over(w, _plain(p, 0.55, 0.55, 0.55), gap * clip01(teeth * 1.6))
    # The dark line between closed lips, and the dark corners.
    ends = inside(1.06 - at, grid.pixel / f["mouth_half"])
    seam = band(w.y - 0.5 * (upper + lower), 0.016, grid.pixel) * ends * (1.0 - open_wide) * 0.85
    paint.over(w, [c * 0.15 for c in lip], seam)
    corner = bump((at - 1.0) / 0.22) * bump((w.y - f["corner_y"]) / (0.05 + 0.5 * grid.pixel)) * 0.45
    paint.over(w, [c * 0.2 for c in lip], corner)


def _eyes(paint: Paint, p: Params, s: Params, f: Params, grid: Grid) -> None:
    w, px = _window(grid, -0.80, 0.80, -0.35, 0.35), grid.pixel
    t = (np.abs(w.x) - f["eye_x"]) / p["eye_width"]  # -1 at the inner corner, 1 at the outer
    arc = 1.0 - np.minimum(t * t, np.float32(1.6))
    # Outer corners higher or lower; the opening is fuller on the nose side.
    axis = f["eye_y"] - p["eye_slant"] * t
    upper = axis - (f["lid_open"] - 0.35 * f["lid_drop"]) * 1.10 * arc * (1.0 - 0.12 * t)
    lower = axis + (0.75 * f["lid_open"] + 0.35 * f["lid_drop"]) * arc
    # Sclera, iris with a dark ring, pupil, the lid's shadow and a glint.
    white = inside(np.minimum(w.y - upper, lower - w.y), px)
    paint.over(w, _plain(p, 0.66, 0.62, 0.60), white)
    gaze_x = choose(w.x < 0.0, -f["eye_x"], f["eye_x"]) + s["gaze_x"]
    dx, dy = w.x - gaze_x, w.y - (f["eye_y"] - 0.012 + s["gaze_y"])
    r = np.sqrt(dx * dx + dy * dy)
    iris = colour_of(p, "iris")
    paint.over(w, [c * 0.25 for c in iris], inside(0.098 - r, px) * white)
    paint.over(w, iris, inside(0.080 - r, px) * white)
    paint.over(w, _plain(p, 0.006, 0.006, 0.006), inside(0.042 - r, 0.9 * px) * white)
    lid_shadow = 1.0 - 0.45 * white * clip01(1.0 - (w.y - upper) / (0.06 + 0.3 * px))
    paint.scale(w, lid_shadow, lid_shadow, lid_shadow)
    glint = bump((dx + 0.03) / (0.035 + 0.4 * px)) * bump((dy + 0.035) / (0.035 + 0.4 * px))
    paint.over(w, _plain(p, 0.9, 0.9, 0.9), 0.75 * glint * white)
    # Lash lines on both lids and the crease above the upper one.
    full = np.maximum(1.0 - t * t, np.float32(0.0))
    dark = [c * 0.07 for c in colour_of(p, "skin")]
    near = inside(1.08 - np.abs(t), px / p["eye_width"])
    upper_lashes = band(w.y - upper, 0.012 + 0.014 * p["lash"], px) * (0.6 + 0.4 * p["lash"])
    lower_lashes = band(w.y - lower, 0.008, px) * 0.35
    crease = band(w.y - upper + 0.055 + 0.02 * full, 0.012, px) * p["lid_crease"] * 0.35
    for line in (upper_lashes, lower_lashes, crease):
        paint.over(w, dark, near * line)


def _brows(paint: Paint, p: Params, f: Params, grid: Grid) -> None:
    w = _window(grid, -0.95, 0.95, -0.75, 0.0)
    t = (np.abs(w.x) - f["eye_x"] - 0.03) / p["brow_length"]
    tt = np.minimum(t * t, np.float32(1.6))
    line = f["brow_y"] - p["brow_arch"] * (1.0 - tt) + 0.05 - p["brow_tilt"] * t
    # Full near the nose, thin at the temple.
    half = p["brow_thickness"] * (1.0 - 0.45 * smooth((t + 0.2) * 0.8))
    ends = inside(1.0 - np.abs(t), 1.6 * grid.pixel / p["brow_length"])
    paint.over(w, colour_of(p, "brow"), band(w.y - line, half, 1.2 * grid.pixel) * ends * p["brow_density"])


def _moles(paint: Paint, p: Params, grid: Grid) -> None:
    w = _window(grid, -0.9, 0.9, -0.9, 1.3)
    dark = [c * 0.22 for c in colour_of(p, "skin")]
    for name in ("mole_a", "mole_b"):
        size = p[f"{name}_size"]
        reach = np.maximum(size, np.float32(0.0)) + 0.5 * grid.pixel
        spot = bump((w.x - p[f"{name}_x"]) / reach) * bump((w.y - p[f"{name}_y"]) / reach)
        paint.over(w, dark, 0.8 * spot * clip01(size * 60.0))
