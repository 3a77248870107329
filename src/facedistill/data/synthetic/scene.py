"""Things that have nothing to do with the person: background, glasses, occluders."""

import numpy as np

from facedistill.data.synthetic.kernels import Array, Integers, Params, band, bump, choose, inside, mix
from facedistill.data.synthetic.layers import Layer
from facedistill.data.synthetic.randomness import Stream, uniforms
from facedistill.data.synthetic.surface import Rays, pixel_centres

LATTICE = 5  # background colour lattice nodes per side
STRAND_ROWS, STRAND_COLUMNS = 16, 128


def _upsample(lattice: Array, size: int) -> Array:
    """Smooth interpolation of (N, L, L) lattices to (N, size, size)."""
    nodes = lattice.shape[1]
    position = (np.arange(size, dtype=np.float32) + 0.5) * np.float32((nodes - 1) / size)
    index = np.minimum(np.floor(position), nodes - 2).astype(np.intp)
    t = position - index.astype(np.float32)
    t = t * t * (3.0 - 2.0 * t)
    rows = mix(lattice[:, index], lattice[:, index + 1], t[None, :, None])
    return mix(rows[:, :, index], rows[:, :, index + 1], t[None, None, :])


def background(seed: int, identities: Integers, samples: Integers, s: Params, size: int) -> list[Array]:
    """Out-of-focus surroundings: a random colour lattice and one or two soft-edged bars and discs."""
    count = LATTICE * LATTICE * 3 + 15
    raw = uniforms(seed, Stream.BACKGROUND, identities, samples, count)
    lattice, extra = raw[:, 15:].reshape(-1, 3, LATTICE, LATTICE), raw[:, :15, None, None]
    brightness = 0.03 + 0.75 * s["background_brightness"] * s["background_brightness"]
    planes: list[Array] = []
    for c in range(3):
        tint = 0.7 + 0.6 * extra[:, c]
        grey = lattice[:, 0] * 0.7 + lattice[:, c] * 0.3
        planes.append(brightness * tint * (1.0 + s["background_contrast"] * 1.6 * (_upsample(grey, size) - 0.5)))
    u, v = pixel_centres(size)
    for k in (3, 9):
        x, y, r = extra[:, k] * 2.4 - 1.2, extra[:, k + 1] * 2.4 - 1.2, 0.1 + 0.6 * extra[:, k + 2]
        slant = extra[:, k + 3] - 0.5
        bar = inside(r - np.abs(u - x + slant * v), 0.08 + 4.0 / size)
        disc = bump((u - x) / r) * bump((v - y) / r)
        shape = choose(extra[:, k + 4] < 0.5, bar, disc) * s["background_contrast"] * 0.8
        tone = brightness * (0.3 + 1.6 * extra[:, k + 5])
        planes = [mix(plane, tone + 0.0 * plane, shape) for plane in planes]
    return [np.maximum(plane, np.float32(0.0)) for plane in planes]


_ZERO = np.zeros(1, np.int64)
# fixed noise, the same for all faces; mean 0
_STRANDS = uniforms(0, Stream.STRANDS, _ZERO, _ZERO, STRAND_ROWS * STRAND_COLUMNS).reshape(-1) * 2.0 - 1.0


def table_noise(across: Array, along: Array) -> Array:
    """Noise in [-1, 1] at table positions; smooth in both directions, periodic."""
    fx, fy = np.floor(across), np.floor(along)
    tx, ty = across - fx, along - fy
    ix, iy = fx.astype(np.intp), fy.astype(np.intp)
    x0, x1 = ix & (STRAND_COLUMNS - 1), (ix + 1) & (STRAND_COLUMNS - 1)
    y0, y1 = (iy & (STRAND_ROWS - 1)) * STRAND_COLUMNS, ((iy + 1) & (STRAND_ROWS - 1)) * STRAND_COLUMNS
    top = mix(_STRANDS.take(y0 + x0), _STRANDS.take(y0 + x1), tx)
    return mix(top, mix(_STRANDS.take(y1 + x0), _STRANDS.take(y1 + x1), tx), ty)


def strand_noise(rays: Rays, p: Params) -> Array:
    """Hair strands: noise stretched along the direction in which hair falls."""
    x, y = rays.origin.x, rays.origin.y
    # Strands fan out from the crown and fall at the sides; curls wave them and shorten them.
    spread = x / (1.0 + 0.30 * np.maximum(-y, np.float32(0.0)))
    across = (spread + 0.15 * p["parting"] * y) * (14.0 - 5.0 * p["hair_curl"])
    along = y * (1.3 + 5.5 * p["hair_curl"] * p["hair_curl"])
    return table_noise(across, along + 7.0 * p["parting"])


def glasses(rays: Rays, s: Params, head: Array) -> list[Layer]:
    """Lenses and frame in a plane before the eyes; `head` is the coverage of the head."""
    length = (s["glasses_z"] - rays.origin.z) / rays.direction.z
    x, y = rays.origin.x + length * rays.direction.x, rays.origin.y + length * rays.direction.y
    pixel = rays.footprint
    half_x, half_y = 0.30 + 0.06 * s["lens_width"], 0.19 + 0.10 * s["lens_height"]
    t = (np.abs(x) - s["eye_spacing"] - 0.02) / half_x
    u = (y - s["eye_y"] - 0.04) / half_y
    tt, uu = t * t, u * u
    # Between an ellipse and a rounded rectangle.
    square = s["lens_square"]
    r = tt + uu - square * 0.75 * np.minimum(tt, np.float32(1.5)) * np.minimum(uu, np.float32(1.5))
    distance = (1.0 - r) * half_y * 0.5
    thickness = 0.014 + 0.025 * s["frame_thickness"]
    rim = band(distance, thickness, pixel)
    ax, level = np.abs(x), y - s["eye_y"]
    bridge = band(level + 0.02, thickness, pixel) * inside(s["eye_spacing"] - half_x + 0.03 - ax, pixel)
    # The arms start at the outer rim and vanish behind the hair.
    reach = np.minimum(ax - s["eye_spacing"] - half_x, 0.92 - ax)
    arm = band(level, thickness, pixel) * inside(reach, pixel) * head
    frame = np.maximum(rim, np.maximum(bridge, arm))
    tone = 0.01 + 0.25 * s["frame_tone"] * s["frame_tone"]
    metal: list[Array] = [tone * w for w in (1.2, 1.0, 0.8)]
    lens = inside(distance, pixel)
    dark = s["glasses_dark_chance"]
    glare = 0.25 * bump((t + u * 0.6 + 1.6 * s["glare_place"] - 0.8) * 2.5)
    lens_alpha = lens * (dark * 0.88 + (1.0 - dark) * (0.05 + 0.5 * glare))
    bright: list[Array] = [mix(np.full_like(glare, 0.8), 0.02 + 0.25 * glare, dark)] * 3
    return [Layer(bright, lens_alpha), Layer(metal, frame)]


def occluder(s: Params, size: int) -> Layer:
    """A smooth object (hand, scarf, phone) that enters from a side and hides part of the face."""
    u, v = pixel_centres(size)
    side = s["occluder_side"] * 2.0 - 1.0
    x = side * 0.85
    y = 0.35 + 0.35 * s["occluder_height"] + 0.0 * u
    r = s["occluder_size"]
    tilt = s["occluder_tilt"] - 0.5
    dx = (u - x + tilt * (v - y)) / (r * 1.2)
    dy = (v - y - tilt * (u - x)) / (r * (0.7 + 0.8 * s["occluder_length"]))
    boxy = s["occluder_boxy"]
    rr = dx * dx + dy * dy - boxy * 0.7 * np.minimum(dx * dx, np.float32(1.4)) * np.minimum(dy * dy, np.float32(1.4))
    shade = 0.55 + 0.45 * np.sqrt(np.maximum(1.0 - 0.8 * rr, np.float32(0.0)))
    tone = 0.03 + 0.5 * s["occluder_tone"]
    colour = [tone * (0.6 + 0.8 * s[f"occluder_{c}"]) * shade for c in "rgb"]
    return Layer(colour, inside((1.0 - rr) * r * 0.5, 2.0 / size))
