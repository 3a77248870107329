"""Everything around the face: hair, ears, neck, clothes. Each layer is a shaded colour with a coverage."""

from typing import NamedTuple

import numpy as np

from facedistill.data.synthetic.albedo import colour_of
from facedistill.data.synthetic.kernels import Array, Params, bump, choose, clip01, inside, mix, smooth
from facedistill.data.synthetic.surface import (
    Camera,
    HeadHit,
    Rays,
    Vec,
    dot,
    ellipsoid_normal,
    hit_ellipsoid,
)


class Light(NamedTuple):
    """Directional and ambient light; colours are per channel, each (N, 1, 1)."""

    head: Vec  # direction to the light in the head frame, unit
    camera: Vec  # the same in the camera frame
    power: list[Array]
    ambient: Array


class Layer(NamedTuple):
    """Linear-light colour planes and coverage, (N, H, W) each."""

    colour: list[Array]
    coverage: Array


def illumination(light: Light, normal: Vec, direction: Vec, down: Vec) -> list[Array]:
    """Light per channel on a surface: a slightly wrapped Lambert term, and ambient light from above."""
    lambert = np.maximum(dot(normal, direction) * 0.92 + 0.08, np.float32(0.0))
    sky = light.ambient * (0.85 - 0.25 * dot(normal, down))
    return [power * lambert + sky for power in light.power]


def _ellipsoid(
    rays: Rays, light: Light, camera: Camera, centre: Vec, inverse: Vec, colour: list[Array]
) -> Layer:
    hit = hit_ellipsoid(rays, centre, inverse)
    normal = ellipsoid_normal(hit.point, centre, inverse)
    lit = illumination(light, normal, light.head, camera.down)
    return Layer([c * i for c, i in zip(colour, lit, strict=True)], hit.coverage)


def _vec(like: Array, x: Array | float, y: Array | float, z: Array | float) -> Vec:
    return Vec(*(np.zeros_like(like) + np.float32(1.0) * v for v in (x, y, z)))


def ears(rays: Rays, light: Light, camera: Camera, p: Params) -> list[Layer]:
    """Both ears, as flat ellipsoids behind the cheeks."""
    size = p["ear_size"]
    inverse = _vec(size, 1.0 / (0.13 * size), 1.0 / (0.29 * size), 1.0 / (0.17 * size))
    layers = []
    for side in (-1.0, 1.0):
        centre = _vec(size, side * (p["head_width"] * 0.99 + 0.02), p["eye_height"] + 0.22, -0.02)
        colour = [c * g for c, g in zip(colour_of(p, "skin"), (0.95, 0.82, 0.80), strict=True)]
        ear = _ellipsoid(rays, light, camera, centre, inverse, colour)
        layers.append(Layer(ear.colour, ear.coverage * (1.0 - clip01((p["hair_length"] - 0.40) * 6.0))))
    return layers


def back_hair(rays: Rays, light: Light, camera: Camera, p: Params, strands: Array) -> Layer:
    """Hair that falls behind head and neck, for long hair."""
    length = p["hair_length"]
    reach = 0.75 + 1.15 * length
    width = p["head_width"] * (0.80 + 0.40 * smooth(length)) + 0.9 * p["hair_volume"] * smooth(length * 1.5)
    centre = _vec(length, 0.0, reach - 1.25, -0.45)
    inverse = _vec(length, 1.0 / width, 1.0 / (reach + 0.05), 1.0 / 0.75)
    dark = 0.75 * (1.0 + 0.45 * strands)
    layer = _ellipsoid(rays, light, camera, centre, inverse, [c * dark for c in colour_of(p, "hair")])
    return Layer(layer.colour, layer.coverage * ((length > 0.25) & (p["bald"] == 0.0)))


def neck_and_clothes(
    a: Array, b: Array, light: Light, camera: Camera, p: Params, f: Params, s: Params, pixel: Array
) -> list[Layer]:
    """Neck and shoulders in the camera frame (a, b: pixel positions in head units); they turn little."""
    # The neck follows a rolling head.
    half = p["head_width"] * (0.52 + 0.12 * p["male"])
    flare = 1.0 + 0.5 * smooth((b - 1.25) / 0.9)
    t = (a - camera.right.y * 1.2) / (half * flare)
    nx = np.minimum(np.maximum(t, np.float32(-1.0)), np.float32(1.0)) + 0.0 * b
    normal = Vec(
        nx, np.zeros_like(nx) + np.float32(0.1), np.sqrt(np.maximum(1.0 - nx * nx, np.float32(0.02)))
    )
    down = Vec(np.zeros_like(half), np.ones_like(half), np.zeros_like(half))
    # The chin's shadow on the neck.
    shadow = 0.85 - 0.55 * bump((b - f["chin"] * 0.95) / 0.65)
    lit = illumination(light, normal, light.camera, down)
    colour = [c * i * shadow for c, i in zip(colour_of(p, "skin"), lit, strict=True)]
    neck = Layer(colour, inside((1.0 - np.abs(t)) * half, pixel) * inside(b - 0.5, pixel))
    return [_clothes(a, b, light, down, p, s, pixel), neck]


def _clothes(a: Array, b: Array, light: Light, down: Vec, p: Params, s: Params, pixel: Array) -> Layer:
    """Shoulders with a round or V neck line."""
    half = 1.75 + 0.35 * p["male"]
    x = a / half
    top = 1.62 + 0.55 * x * x + 0.25 * bump(a / 0.75) + 0.30 * s["spare_03"] * bump(a / 0.5)
    nx = np.minimum(np.maximum(x * 0.8, np.float32(-1.0)), np.float32(1.0)) + 0.0 * b
    rise = -0.8 * bump((b - top) / 0.6)
    nz = np.sqrt(np.maximum(1.0 - nx * nx - rise * rise, np.float32(0.05)))
    lit = illumination(light, Vec(nx, rise, nz), light.camera, down)
    base = [0.02 + 0.6 * v * v for v in (s["spare_00"], s["spare_01"], s["spare_02"])]
    stripe = 1.0 - 0.3 * clip01(s["spare_04"] * 4.0 - 3.0) * (np.floor(b * 9.0) - 2.0 * np.floor(b * 4.5))
    coverage = inside(b - top, pixel) * inside(half - np.abs(a), pixel)
    return Layer([c * i * stripe for c, i in zip(base, lit, strict=True)], coverage)


def opening(p: Params, point: Vec, strands: Array) -> Array:
    """Like a signed distance: above 0 where hair grows on the head, below 0 on the face."""
    x, y = point.x, point.y
    part = 0.12 * p["parting"]
    recede = 0.40 * p["bald"]
    top = -p["hairline"] - recede + 0.55 * p["fringe"]
    # The face is an egg-shaped opening; the parting makes one side of the hair line higher.
    middle = np.float32(0.30)
    half_y = middle - top + part * x * (1.0 - 0.5 * p["fringe"])
    half_x = p["head_width"] * (
        0.84 - 0.06 * p["hair_length"] + 0.12 * np.maximum(y - middle, np.float32(0.0))
    )
    qx, qy = x / half_x, (y - middle) / half_y
    up = qy * qy * (y < middle)
    r = np.sqrt(qx * qx + up)
    ragged = (0.05 + 0.07 * p["fringe"] + 0.05 * p["hair_curl"]) * strands
    ragged = ragged * (1.0 - 0.8 * smooth((y + 0.3) / 0.6))
    return choose(point.z > 0.0, (r - 1.0) * 0.8 + ragged, np.full_like(part, 0.3))


def hair(rays: Rays, light: Light, camera: Camera, p: Params, s: Params, f: Params, strands: Array) -> Layer:
    """The hair shell: an ellipsoid around the skull with an opening for the face."""
    volume = (p["hair_volume"] + s["hair_lift"]) * (1.0 - 0.9 * p["bald"]) + 0.02
    zero = np.zeros_like(volume)
    centre = Vec(zero, zero - 0.06, zero - 0.10)
    wide = p["head_width"] + volume * (0.45 + 0.55 * p["hair_length"])
    # Flatter than an ellipsoid at the top, as the skull is.
    wide = wide * (1.0 + 0.12 * bump((rays.origin.y + 0.95) / 0.8))
    ruffled = 1.0 + (0.02 + 0.05 * p["hair_curl"]) * strands
    tall = choose(rays.origin.y < 0.0, f["crown"] - 0.03 + volume, 1.35 + 0.4 * p["hair_length"])
    inverse = Vec(1.0 / (wide * ruffled), 1.0 / (tall * ruffled), 1.0 / (1.13 + 0.6 * volume))
    hit = hit_ellipsoid(rays, centre, inverse)
    gap = opening(p, hit.point, strands)
    pixel = rays.footprint
    # Short hair ends above the ears in front and at the nape behind, long hair where the back hair does.
    nape = 0.65 * smooth(-3.0 * hit.point.z - 0.2)
    end = (
        p["eye_height"]
        + 0.05
        + np.maximum(1.4 * smooth((p["hair_length"] - 0.15) * 1.6), nape)
        + 0.1 * strands
    )
    # Side burns reach down in front of the ears.
    cover = inside(gap, 0.06 + pixel) * inside(end - hit.point.y, 0.10 + pixel)
    # Balding: the crown is bare above a line that comes down.
    bare = np.where(p["bald"] > 0.0, 0.3 + 1.3 * (1.0 - p["bald"]), np.float32(9.0))
    cover = cover * inside(hit.point.y + bare + 0.2 * strands, 0.06 + pixel) * hit.coverage
    normal = ellipsoid_normal(hit.point, centre, inverse)
    lit = illumination(light, normal, light.head, camera.down)
    # The rim of the opening is in the shade of the hair above; strands modulate the brightness.
    depth = 0.62 + 0.38 * clip01(gap * 5.0)
    sheen = bump((hit.point.y + 0.75 + 0.1 * strands) / 0.40) * np.maximum(normal.z, np.float32(0.0))
    shade = depth * (1.0 + (0.45 + 0.25 * p["hair_curl"]) * strands) * (1.0 + 0.5 * sheen)
    colour = [c * shade for c in colour_of(p, "hair")]
    # A knitted cap is the same shell above a line over the brows.
    cap = inside(-0.50 - 0.15 * s["spare_21"] - hit.point.y, pixel) * hit.coverage * s["cap_chance"]
    wool = [0.02 + 0.45 * s[f"spare_{k}"] * s[f"spare_{k}"] for k in ("22", "23", "18")]
    colour = [mix(c, w * (1.0 + 0.15 * strands), cap) for c, w in zip(colour, wool, strict=True)]
    return Layer([c * i for c, i in zip(colour, lit, strict=True)], np.maximum(cover, cap))


def head_layer(
    rays: Rays, light: Light, camera: Camera, p: Params, s: Params, head: HeadHit, albedo: list[Array]
) -> Layer:
    """The face itself: sampled albedo, light, gloss, and the shade of the hair above the forehead."""
    lit = illumination(light, head.normal, light.head, camera.down)
    half = Vec(*(a + b for a, b in zip(light.head, camera.toward, strict=True)))
    shine = np.maximum(dot(head.normal, half) / np.sqrt(dot(half, half)), np.float32(0.0))
    for _ in range(4):
        shine = shine * shine
    shine = shine * s["gloss"] * light.power[1]
    near_hair = 1.0 - 0.35 * smooth((opening(p, head.point, np.zeros_like(shine)) + 0.16) / 0.16) * (
        1.0 - p["bald"]
    )
    # Creases and the outline get less ambient light than a convex face.
    facing = np.maximum(dot(head.normal, camera.toward), np.float32(0.0))
    occlusion = near_hair * (0.72 + 0.28 * smooth(facing * 1.6))
    return Layer([a * i * occlusion + shine for a, i in zip(albedo, lit, strict=True)], head.coverage)


def composite(image: list[Array], layer: Layer) -> list[Array]:
    """Put a layer over an image, in place."""
    for below, above in zip(image, layer.colour, strict=True):
        part = above - below
        part *= layer.coverage
        below += part
    return image
