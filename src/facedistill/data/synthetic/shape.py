"""The relief of a face: displacements along z on a grid over (x, y) of the head frame, and its features.

The head is an ellipsoid of half axes (width(y), crown or chin, HEAD_DEPTH) whose front is moved along z by
the displacement map.
"""

from typing import NamedTuple

import numpy as np

from facedistill.data.synthetic.kernels import Array, Params, bump, clip01, mix, smooth

Number = Array | float
HEAD_DEPTH = 1.12  # half axis along z, head units
GRID_X = 1.30  # the grid covers |x| <= GRID_X
GRID_TOP, GRID_BOTTOM = -1.70, 1.80
GRID_CELLS_PER_PIXEL = 1.5


class Grid(NamedTuple):
    """A regular grid in the head frame; `x` is (1, 1, W), `y` is (1, H, 1), both in head units."""

    x: Array
    y: Array
    cell: float
    pixel: float  # footprint of one image pixel, head units


def make_grid(size: int) -> Grid:
    """Grid whose resolution follows the image size, so that albedo edges are about one pixel wide."""
    pixel = 4.0 / size  # 2 image half sides over `size` pixels, about half an image half side per head unit
    cell = pixel / GRID_CELLS_PER_PIXEL
    columns = int(2 * GRID_X / cell) + 2
    rows = int((GRID_BOTTOM - GRID_TOP) / cell) + 2
    x = (np.arange(columns) * cell - GRID_X).astype(np.float32)
    y = (np.arange(rows) * cell + GRID_TOP).astype(np.float32)
    return Grid(x[None, None, :], y[None, :, None], cell, pixel)


def face_features(p: Params, s: Params) -> Params:
    """Where the features of this face are in this image (expression included): head units, (N, 1, 1)."""
    f: Params = {}
    smile, opened = s["smile"], s["mouth_open"] * s["mouth_open_chance"]
    f["smile"], f["opened"] = smile, opened
    f["crown"] = p["crown_height"]
    f["chin"] = p["chin_length"] + 0.6 * opened
    f["eye_x"], f["eye_y"] = p["eye_spacing"], p["eye_height"]
    shut = 1.0 - (1.0 - s["squint"]) * (1.0 - s["blink_chance"])
    shut = shut + (1.0 - shut) * 0.15 * np.maximum(smile, np.float32(0.0))
    f["lid_open"] = p["eye_opening"] * (1.0 - shut)
    f["lid_drop"] = p["eye_opening"] * shut
    f["brow_y"] = p["eye_height"] - p["brow_height"] - s["brow_raise"]
    f["tip_y"] = p["eye_height"] + p["nose_length"]
    f["nose_base"] = f["tip_y"] + 0.13
    f["mouth_y"] = f["nose_base"] + (p["chin_length"] - f["nose_base"]) * p["mouth_height"] - 0.02 * smile
    f["mouth_half"] = p["mouth_width"] * (1.0 + 0.20 * smile) - 0.25 * opened
    f["mouth_curve"] = p["mouth_curve"] - 0.065 * smile
    f["corner_y"] = f["mouth_y"] + 0.7 * f["mouth_curve"]
    return f


def _add(d: Array, grid: Grid, amp: Number, x: Number, sx: Number, y: Number, sy: Number) -> None:
    """Add a bump centred on (x, y) with supports sx, sy, in place."""
    d += (bump((grid.x - x) / sx)) * (bump((grid.y - y) / sy) * amp)


def _add_pair(d: Array, grid: Grid, amp: Number, x: Number, sx: Number, y: Number, sy: Number) -> None:
    """Add a bump and its mirror image, in place."""
    d += (bump((grid.x - x) / sx) + bump((grid.x + x) / sx)) * (bump((grid.y - y) / sy) * amp)


def displacement(p: Params, f: Params, grid: Grid) -> Array:
    """Displacement along z [N, H, W] in head units."""
    n = len(p["head_width"])
    d = np.zeros((n, grid.y.shape[1], grid.x.shape[2]), dtype=np.float32)
    _skull(d, p, f, grid)
    _nose(d, p, f, grid)
    _mouth(d, p, f, grid)
    return d


def _skull(d: Array, p: Params, f: Params, grid: Grid) -> None:
    eye_x, eye_y = f["eye_x"], f["eye_y"]
    _add(d, grid, 0.30, 0.0, 0.95, f["chin"] - 0.15, 0.85)  # an ellipsoid alone has a receding chin
    _add(d, grid, 0.06, 0.0, 0.8, -0.65, 0.6)
    _add_pair(d, grid, p["brow_ridge"], 0.36, 0.5, f["brow_y"] + 0.03, 0.20)
    _add_pair(d, grid, -p["socket_depth"], eye_x - 0.03, 0.40, eye_y - 0.02, 0.27)
    _add_pair(d, grid, 0.06, eye_x, 0.30, eye_y, 0.20)
    _add_pair(d, grid, p["cheekbone_relief"] + 0.03 * f["smile"], 0.58, 0.45, eye_y + 0.38, 0.36)
    _add_pair(d, grid, p["cheek_fullness"], 0.55, 0.45, eye_y + 0.80, 0.45)
    _add(d, grid, p["chin_relief"], 0.0, 0.38, f["chin"] - 0.14, 0.28)


def _nose(d: Array, p: Params, f: Params, grid: Grid) -> None:
    root = f["eye_y"] - 0.10
    u = (grid.y - root) / (f["tip_y"] - root)
    ramp = clip01(u)
    height = p["nose_protrusion"] * (0.18 * smooth(u * 2.0 + 1.0) + 0.82 * ramp * (0.6 + 0.4 * ramp))
    height = height + p["nose_hump"] * bump((u - 0.5) * 2.2)
    height = height * (1.0 - smooth((grid.y - f["tip_y"]) / 0.19))
    half = mix(p["bridge_width"], p["nose_width"], smooth(u)) * 1.45
    d += bump(grid.x / half) * height
    _add(d, grid, p["nose_tip"], 0.0, 0.22, f["tip_y"], 0.16)
    _add_pair(d, grid, 0.10, p["nose_width"] * 0.85, 0.16, f["tip_y"] + 0.05, 0.16)


def _mouth(d: Array, p: Params, f: Params, grid: Grid) -> None:
    y, half, opened = f["mouth_y"], f["mouth_half"], f["opened"]
    _add(d, grid, 0.08, 0.0, half * 1.7, y, 0.40)
    _add(d, grid, 0.045, 0.0, half * 1.1, y - 0.5 * p["upper_lip"] - 0.1 * opened, p["upper_lip"] * 1.3)
    _add(d, grid, 0.055, 0.0, half * 0.9, y + 0.5 * p["lower_lip"] + 0.9 * opened, p["lower_lip"] * 1.3)
    _add(d, grid, -0.05, 0.0, half * 1.1, y + p["lower_lip"] * 1.7 + 0.9 * opened, 0.13)
    _add(d, grid, -0.03, 0.0, 0.08, y - p["upper_lip"] - 0.06, 0.12)
    _add_pair(d, grid, -0.035, half + 0.03, 0.14, f["corner_y"], 0.14)


def half_width(p: Params, f: Params, y: Array) -> Array:
    """Half axis along x at height y (head units): the outline of skull, cheekbones, jaw and chin."""
    widening: Array = (
        p["cheekbone_width"] * bump((y - 0.25) / 0.7)
        + p["jaw_width"] * bump((y - 0.72 * f["chin"]) / 0.65)
        + p["chin_width"] * bump((y - 0.98 * f["chin"]) / 0.40)
        - 0.04 * bump((y + 0.30) / 0.5)
        + 0.12 * bump((y + 0.95) / 0.7)
    )
    widening += 1.0
    widening *= p["head_width"]
    return widening
