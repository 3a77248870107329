"""Hair and knitted caps: a shell around the skull with an opening for the face, and hair behind the neck."""

import numpy as np

from facedistill.data.synthetic.albedo import colour_of
from facedistill.data.synthetic.kernels import Array, Params, bump, choose, clip01, inside, mix, smooth
from facedistill.data.synthetic.layers import Layer, Light, ellipsoid_layer, illumination, vector
from facedistill.data.synthetic.surface import Camera, Hit, Rays, Vec, ellipsoid_normal, hit_ellipsoid


def back_hair(rays: Rays, light: Light, camera: Camera, p: Params, strands: Array) -> Layer:
    """Hair that falls behind head and neck, for long hair."""
    length = p["hair_length"]
    reach = 0.75 + 1.15 * length
    width = p["head_width"] * (0.80 + 0.40 * smooth(length)) + 0.9 * p["hair_volume"] * smooth(length * 1.5)
    centre = vector(length, 0.0, reach - 1.25, -0.45)
    inverse = vector(length, 1.0 / width, 1.0 / (reach + 0.05), 1.0 / 0.75)
    dark = 0.75 * (1.0 + 0.45 * strands)
    layer = ellipsoid_layer(rays, light, camera, centre, inverse, [c * dark for c in colour_of(p, "hair")])
    return Layer(layer.colour, layer.coverage * ((length > 0.25) & (p["bald"] == 0.0)))


def opening(p: Params, point: Vec, strands: Array) -> Array:
    """Like a signed distance: above 0 where hair grows on the head, below 0 on the face."""
    x, y = point.x, point.y
    part = 0.12 * p["parting"]
    recede = 0.60 * clip01(p["bald"] * 20.0)
    top = -p["hairline"] - recede + 0.55 * p["fringe"]
    # The face is an egg-shaped opening; the parting makes one side of the hair line higher.
    middle = np.float32(0.30)
    half_y = middle - top + part * x * (1.0 - 0.5 * p["fringe"])
    half_x = p["head_width"] * (0.84 - 0.06 * p["hair_length"] + 0.12 * np.maximum(y - middle, np.float32(0.0)))
    qx, qy = x / half_x, (y - middle) / half_y
    up = qy * qy * (y < middle)
    r = np.sqrt(qx * qx + up)
    ragged = (0.05 + 0.07 * p["fringe"] + 0.05 * p["hair_curl"]) * strands
    ragged = ragged * (1.0 - 0.8 * smooth((y + 0.3) / 0.6))
    return choose(point.z > 0.0, (r - 1.0) * 0.8 + ragged, np.full_like(part, 0.3))


def forehead_shade(p: Params, point: Vec) -> Array:
    """Darkness of the skin just below the hair line."""
    edge = opening(p, point, np.zeros_like(point.x))
    return 0.35 * smooth((edge + 0.16) / 0.16) * (1.0 - p["bald"])


def _shell(rays: Rays, p: Params, s: Params, f: Params, strands: Array) -> tuple[Vec, Vec]:
    """Centre and inverse half axes of the hair shell; strands ruffle its outline."""
    volume = (p["hair_volume"] + s["hair_lift"]) * (1.0 - 0.9 * p["bald"]) + 0.02
    zero = np.zeros_like(volume)
    y = rays.origin.y
    # Flatter than an ellipsoid at the top, as the skull is.
    wide = p["head_width"] + volume * (0.45 + 0.55 * p["hair_length"])
    wide = wide * (1.0 + 0.12 * bump((y + 0.95) / 0.8))
    tall = choose(y < 0.0, f["crown"] - 0.03 + volume, 1.35 + 0.4 * p["hair_length"])
    ruffled = 1.0 + (0.02 + 0.05 * p["hair_curl"]) * strands
    inverse = Vec(1.0 / (wide * ruffled), 1.0 / (tall * ruffled), 1.0 / (1.13 + 0.6 * volume))
    return Vec(zero, zero - 0.06, zero - 0.10), inverse


def _coverage(rays: Rays, p: Params, hit: Hit, gap: Array, strands: Array) -> Array:
    """Where the shell bears hair; `gap` is the distance to the opening of the face."""
    pixel = rays.footprint
    # Short hair ends above the ears in front and at the nape behind, long hair where the back hair does.
    nape = 0.65 * smooth(-3.0 * hit.point.z - 0.2)
    fall = np.maximum(1.4 * smooth((p["hair_length"] - 0.15) * 1.6), nape)
    end = p["eye_height"] + 0.05 + fall + 0.1 * strands
    cover = inside(gap, 0.06 + pixel) * inside(end - hit.point.y, 0.10 + pixel)
    # Balding: the crown is bare above a line that comes down.
    bare = np.where(p["bald"] > 0.0, 0.3 + 1.0 * (1.0 - p["bald"]), np.float32(9.0))
    return cover * inside(hit.point.y + bare + 0.2 * strands, 0.06 + pixel) * hit.coverage


def hair(rays: Rays, light: Light, camera: Camera, p: Params, s: Params, f: Params, strands: Array) -> Layer:
    """The hair shell, and sometimes a cap on it."""
    centre, inverse = _shell(rays, p, s, f, strands)
    hit = hit_ellipsoid(rays, centre, inverse)
    gap = opening(p, hit.point, strands)
    cover = _coverage(rays, p, hit, gap, strands)
    normal = ellipsoid_normal(hit.point, centre, inverse)
    lit = illumination(light, normal, light.head, camera.down)
    # The rim of the opening is in the shade of the hair above; strands modulate the brightness.
    depth = 0.62 + 0.38 * clip01(gap * 5.0)
    sheen = bump((hit.point.y + 0.75 + 0.1 * strands) / 0.40) * np.maximum(normal.z, np.float32(0.0))
    shade = depth * (1.0 + (0.45 + 0.25 * p["hair_curl"]) * strands) * (1.0 + 0.5 * sheen)
    colour = [c * shade for c in colour_of(p, "hair")]
    # A knitted cap is the same shell above a line over the brows.
    cap = inside(-0.50 - 0.15 * s["cap_line"] - hit.point.y, rays.footprint) * hit.coverage * s["cap_chance"]
    wool = [0.02 + 0.45 * s[f"cap_{k}"] * s[f"cap_{k}"] for k in "rgb"]
    colour = [mix(c, w * (1.0 + 0.15 * strands), cap) for c, w in zip(colour, wool, strict=True)]
    return Layer([c * i for c, i in zip(colour, lit, strict=True)], np.maximum(cover, cap))
