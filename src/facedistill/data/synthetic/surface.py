"""Rays, ellipsoids, and the solution for the point of the displaced head behind each pixel."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedistill.data.synthetic.kernels import Array, Params, choose, clip01
from facedistill.data.synthetic.shape import GRID_TOP, GRID_X, HEAD_DEPTH, Grid, half_width

ITERATIONS = 4


class Vec(NamedTuple):
    """Three components, each broadcastable to (N, H, W)."""

    x: Array
    y: Array
    z: Array

    def unit(self) -> "Vec":
        """The vector of length 1 in this direction."""
        scale = 1.0 / np.sqrt(dot(self, self) + np.float32(1e-12))
        return Vec(*(c * scale for c in self))


class Camera(NamedTuple):
    """Parallel projection: image = scale * (rotation * head point) + shift, in half image sides."""

    right: Vec  # image x axis in the head frame
    down: Vec  # image y axis in the head frame
    toward: Vec  # direction to the viewer in the head frame
    scale: Array
    shift_x: Array
    shift_y: Array


def _cos_sin(t: Array) -> tuple[Array, Array]:
    """Cosine and sine of the angle whose half has tangent t, without trigonometric functions."""
    q = 1.0 + t * t
    return (1.0 - t * t) / q, 2.0 * t / q


def make_camera(s: Params) -> Camera:
    """Camera of a scene: the head is rotated by yaw about y, then pitch about x, then roll about z."""
    (cy, sy), (cp, sp), (cr, sr) = (_cos_sin(s[angle]) for angle in ("yaw", "pitch", "roll"))
    zero = np.zeros_like(cy)
    # Rows of pitch . yaw; a positive pitch moves the front of the face downwards.
    row_x = Vec(cy, zero, sy)
    row_y = Vec(-sp * sy, cp, sp * cy)
    row_z = Vec(-cp * sy, -sp, cp * cy)
    right = Vec(*(cr * a - sr * b for a, b in zip(row_x, row_y, strict=True)))
    down = Vec(*(sr * a + cr * b for a, b in zip(row_x, row_y, strict=True)))
    return Camera(right, down, row_z, s["scale"], s["shift_x"], s["shift_y"])


def project(camera: Camera, point: Vec) -> tuple[Array, Array]:
    """Image position (u, v) in half image sides from the centre of a head-frame point."""
    u = camera.scale * dot(camera.right, point) + camera.shift_x
    v = camera.scale * dot(camera.down, point) + camera.shift_y
    return u, v


def moved_to(camera: Camera, points: Sequence[tuple[Array, Array]], places: Sequence[tuple[float, float]]) -> Camera:
    """The camera whose image is turned, scaled and shifted so that points (u, v) of it come closest to places.

    Least squares (Umeyama 1991), with every sum in a fixed order.
    """
    count = np.float32(1 / len(points))
    mean_u, mean_v = (sum(values[1:], values[0]) * count for values in zip(*points, strict=True))
    mean_x, mean_y = (np.float32(sum(values) / len(places)) for values in zip(*places, strict=True))
    along, across, spread = np.zeros_like(mean_u), np.zeros_like(mean_u), np.zeros_like(mean_u)
    for (u, v), (x, y) in zip(points, places, strict=True):
        du, dv, dx, dy = u - mean_u, v - mean_v, np.float32(x) - mean_x, np.float32(y) - mean_y
        along, across = along + (du * dx + dv * dy), across + (du * dy - dv * dx)
        spread = spread + (du * du + dv * dv)
    along, across = along / spread, across / spread
    grown = np.sqrt(along * along + across * across)
    cos, sin = along / grown, across / grown
    right = Vec(*(cos * a - sin * b for a, b in zip(camera.right, camera.down, strict=True)))
    down = Vec(*(sin * a + cos * b for a, b in zip(camera.right, camera.down, strict=True)))
    off_u, off_v = camera.shift_x - mean_u, camera.shift_y - mean_v
    shift_x, shift_y = along * off_u - across * off_v + mean_x, across * off_u + along * off_v + mean_y
    return Camera(right, down, camera.toward, camera.scale * grown, shift_x, shift_y)


def dot(a: Vec, b: Vec) -> Array:
    """Scalar product, in a fixed order of additions."""
    return a.x * b.x + a.y * b.y + a.z * b.z


class Rays(NamedTuple):
    """Points origin + l * direction of the head frame behind the pixels; larger l is nearer to the viewer."""

    origin: Vec  # (N, H, W)
    direction: Vec  # (N, 1, 1), unit
    footprint: Array  # head units per pixel

    def at(self, length: Array) -> Vec:
        return Vec(*(o + length * d for o, d in zip(self.origin, self.direction, strict=True)))

    def only(self, index: NDArray[np.intp]) -> "Rays":
        """The rays of some images of the batch."""
        origin, direction = (Vec(*(c[index] for c in vec)) for vec in (self.origin, self.direction))
        return Rays(origin, direction, self.footprint[index])


def pixel_centres(size: int) -> tuple[Array, Array]:
    """Positions of pixels in half image sides from the centre: across [1, 1, size] and down [1, size, 1]."""
    centre = (np.arange(size, dtype=np.float32) * 2.0 + 1.0 - size) / np.float32(size)
    return centre[None, None, :], centre[None, :, None]


def camera_rays(camera: Camera, size: int) -> tuple[Rays, Array, Array]:
    """Rays of all pixels, and the pixel positions (a, b) in head units in the camera frame."""
    u, v = pixel_centres(size)
    a, b = (u - camera.shift_x) / camera.scale, (v - camera.shift_y) / camera.scale
    origin = Vec(*(a * r + b * d for r, d in zip(camera.right, camera.down, strict=True)))
    return Rays(origin, camera.toward, np.float32(2.0 / size) / camera.scale), a, b


class Hit(NamedTuple):
    """Where rays meet an ellipsoid: the front point (for rays that miss, the closest), and pixel coverage."""

    point: Vec
    coverage: Array


def hit_ellipsoid(rays: Rays, centre: Vec, inverse: Vec) -> Hit:
    """Meet the ellipsoid of the given centre and inverse half axes (each broadcastable to the rays)."""
    o, d = rays.origin, rays.direction
    ox, oy, oz = (o.x - centre.x) * inverse.x, (o.y - centre.y) * inverse.y, (o.z - centre.z) * inverse.z
    dx, dy, dz = d.x * inverse.x, d.y * inverse.y, d.z * inverse.z
    aa = dx * dx + dy * dy + dz * dz
    ab = (ox * dx + oy * dy + oz * dz) / aa
    # Squared distance to the axis line in units of the ellipsoid: 1 on the silhouette.
    miss = ox * ox + oy * oy + oz * oz - ab * ab * aa
    length = np.sqrt(np.maximum(1.0 - miss, np.float32(0.0)) / aa) - ab
    # The mean half axis turns the distance to the silhouette into pixels, well enough for a soft edge.
    radius = 1.5 / (inverse.x + inverse.y)
    coverage = clip01((1.0 - miss) * radius * (0.5 / rays.footprint) + 0.5)
    return Hit(rays.at(length), coverage)


def ellipsoid_normal(point: Vec, centre: Vec, inverse: Vec) -> Vec:
    """Unit normal of an ellipsoid at a point on it."""
    return Vec(*((p - c) * i * i for p, c, i in zip(point, centre, inverse, strict=True))).unit()


class Lookup:
    """Bilinear sampling of grid maps (N, H, W) at head positions x, y."""

    def __init__(self, grid: Grid, x: Array, y: Array) -> None:
        columns, rows = grid.x.shape[2], grid.y.shape[1]
        inverse = np.float32(1.0 / grid.cell)
        cx = np.minimum(np.maximum((x + np.float32(GRID_X)) * inverse, np.float32(0.0)), np.float32(columns - 1.01))
        cy = np.minimum(np.maximum((y - np.float32(GRID_TOP)) * inverse, np.float32(0.0)), np.float32(rows - 1.01))
        ix, iy = cx.astype(np.int32), cy.astype(np.int32)
        self.fx, self.fy = cx - ix.astype(np.float32), cy - iy.astype(np.float32)
        batch = np.arange(len(x), dtype=np.int32)[:, None, None] * (rows * columns)
        self.index: NDArray[np.intp] = (batch + iy * columns + ix).astype(np.intp)
        self.columns = columns

    def __call__(self, plane: Array) -> Array:
        flat, index = plane.reshape(-1), self.index
        a = flat.take(index)
        c = flat[self.columns :].take(index)
        a += (flat[1:].take(index) - a) * self.fx
        c += (flat[self.columns + 1 :].take(index) - c) * self.fx
        a += (c - a) * self.fy
        return a


class HeadHit(NamedTuple):
    """The head surface behind each pixel."""

    point: Vec
    normal: Vec
    coverage: Array
    lookup: Lookup


def _inverse_axes(p: Params, f: Params, y: Array) -> Vec:
    vertical = choose(y < 0.0, 1.0 / f["crown"], 1.0 / f["chin"])
    return Vec(1.0 / half_width(p, f, y), vertical, np.float32(1.0 / HEAD_DEPTH) * np.ones_like(f["chin"]))


def solve_head(rays: Rays, p: Params, f: Params, grid: Grid, d: Array) -> HeadHit:
    """Fixed-point search: meet the ellipsoid moved by the displacement found at the last meeting point."""
    zero = np.zeros_like(f["chin"])
    moved = np.full_like(f["chin"], 0.12)
    y = rays.origin.y + rays.direction.y * np.float32(0.9)
    for _ in range(ITERATIONS):
        inverse = _inverse_axes(p, f, y)
        hit = hit_ellipsoid(rays, Vec(zero, zero, moved), inverse)
        y = hit.point.y
        lookup = Lookup(grid, hit.point.x, y)
        moved = lookup(d)
    slope_x, slope_y = _slopes(d, grid)
    normal = _head_normal(hit.point, inverse, moved, lookup(slope_x), lookup(slope_y))
    return HeadHit(hit.point, normal, hit.coverage, lookup)


def _slopes(d: Array, grid: Grid) -> tuple[Array, Array]:
    """Central differences of the displacement along x and y."""
    sx, sy = np.zeros_like(d), np.zeros_like(d)
    half = np.float32(0.5 / grid.cell)
    sx[:, :, 1:-1] = (d[:, :, 2:] - d[:, :, :-2]) * half
    sy[:, 1:-1, :] = (d[:, 2:, :] - d[:, :-2, :]) * half
    return sx, sy


def _head_normal(point: Vec, inverse: Vec, moved: Array, slope_x: Array, slope_y: Array) -> Vec:
    """Gradient of (x/w)^2 + (y/h)^2 + ((z - d(x, y))/c)^2."""
    # Behind the head's widest circle the map does not apply; there its slopes would flip the normal.
    nz = np.maximum((point.z - moved), np.float32(0.0)) * inverse.z * inverse.z
    nx = point.x * inverse.x * inverse.x - nz * slope_x
    ny = point.y * inverse.y * inverse.y - nz * slope_y
    return Vec(nx, ny, (point.z - moved) * inverse.z * inverse.z).unit()


def surface_depth(p: Params, f: Params, grid: Grid, d: Array, x: Array, y: Array) -> Array:
    """z (N, 1, 1) of the head's front at (x, y) of the head frame."""
    inverse = _inverse_axes(p, f, y)
    rest = 1.0 - x * x * inverse.x * inverse.x - y * y * inverse.y * inverse.y
    return HEAD_DEPTH * np.sqrt(np.maximum(rest, np.float32(0.0))) + Lookup(grid, x, y)(d)
