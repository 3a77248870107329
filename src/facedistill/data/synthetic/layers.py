"""Layers of the picture: face, ears, neck, clothes. Each is a lit colour with a coverage."""

from typing import NamedTuple

import numpy as np

from facedistill.data.synthetic.albedo import colour_of
from facedistill.data.synthetic.kernels import Array, Params, bump, clip01, inside, smooth
from facedistill.data.synthetic.surface import Camera, HeadHit, Rays, Vec, dot, ellipsoid_normal, hit_ellipsoid


class Light(NamedTuple):
    """Directional and ambient light; colours are per channel, each (N, 1, 1)."""

    head: Vec  # direction to the light in the head frame, unit
    camera: Vec  # the same in the camera frame
    power: list[Array]
    ambient: Array


def make_light(s: Params, camera: Camera) -> Light:
    """The light of a scene."""
    one = np.ones_like(s["light_x"])
    direction = Vec(s["light_x"], s["light_y"], one).unit()
    rows = (camera.right, camera.down, camera.toward)
    head = Vec(*(dot(direction, Vec(*axis)) for axis in zip(*rows, strict=True)))
    warm = s["light_warmth"]
    power = [s["light_power"] * w for w in (1.0 + warm, one, 1.0 - warm)]
    return Light(head, direction, power, s["ambient"])


class Layer(NamedTuple):
    """Linear-light colour planes and coverage, (N, H, W) each."""

    colour: list[Array]
    coverage: Array


def illumination(light: Light, normal: Vec, direction: Vec, down: Vec) -> list[Array]:
    """Light per channel on a surface: a slightly wrapped Lambert term, and ambient light from above."""
    lambert = np.maximum(dot(normal, direction) * 0.92 + 0.08, np.float32(0.0))
    sky = light.ambient * (0.85 - 0.25 * dot(normal, down))
    return [power * lambert + sky for power in light.power]


def ellipsoid_layer(rays: Rays, light: Light, camera: Camera, centre: Vec, inverse: Vec, colour: list[Array]) -> Layer:
    """A lit ellipsoid of the head frame."""
    hit = hit_ellipsoid(rays, centre, inverse)
    normal = ellipsoid_normal(hit.point, centre, inverse)
    lit = illumination(light, normal, light.head, camera.down)
    return Layer([c * i for c, i in zip(colour, lit, strict=True)], hit.coverage)


def vector(like: Array, x: Array | float, y: Array | float, z: Array | float) -> Vec:
    """A vector whose components have the shape of `like`."""
    return Vec(*(np.zeros_like(like) + np.float32(1.0) * v for v in (x, y, z)))


def ears(rays: Rays, light: Light, camera: Camera, p: Params) -> list[Layer]:
    """Both ears, as flat ellipsoids behind the cheeks."""
    size = p["ear_size"]
    inverse = vector(size, 1.0 / (0.13 * size), 1.0 / (0.29 * size), 1.0 / (0.17 * size))
    layers = []
    for side in (-1.0, 1.0):
        centre = vector(size, side * (p["head_width"] * 0.99 + 0.02), p["eye_height"] + 0.22, -0.02)
        colour = [c * g for c, g in zip(colour_of(p, "skin"), (0.95, 0.82, 0.80), strict=True)]
        ear = ellipsoid_layer(rays, light, camera, centre, inverse, colour)
        layers.append(Layer(ear.colour, ear.coverage * (1.0 - clip01((p["hair_length"] - 0.40) * 6.0))))
    return layers


def neck_and_clothes(
    a: Array, b: Array, light: Light, camera: Camera, p: Params, f: Params, s: Params, pixel: Array
) -> list[Layer]:
    """Neck and shoulders in the camera frame (a, b: pixel positions in head units); they turn little."""
    # The neck follows a rolling head.
    half = p["head_width"] * (0.52 + 0.12 * p["male"])
    flare = 1.0 + 0.5 * smooth((b - 1.25) / 0.9)
    t = (a - camera.right.y * 1.2) / (half * flare)
    nx = np.minimum(np.maximum(t, np.float32(-1.0)), np.float32(1.0)) + 0.0 * b
    normal = Vec(nx, np.zeros_like(nx) + np.float32(0.1), np.sqrt(np.maximum(1.0 - nx * nx, np.float32(0.02))))
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
    top = 1.62 + 0.55 * x * x + 0.25 * bump(a / 0.75) + 0.30 * s["neck_line"] * bump(a / 0.5)
    nx = np.minimum(np.maximum(x * 0.8, np.float32(-1.0)), np.float32(1.0)) + 0.0 * b
    rise = -0.8 * bump((b - top) / 0.6)
    nz = np.sqrt(np.maximum(1.0 - nx * nx - rise * rise, np.float32(0.05)))
    lit = illumination(light, Vec(nx, rise, nz), light.camera, down)
    base = [0.02 + 0.6 * v * v for v in (s["clothes_r"], s["clothes_g"], s["clothes_b"])]
    stripe = 1.0 - 0.3 * clip01(s["stripes"] * 4.0 - 3.0) * (np.floor(b * 9.0) - 2.0 * np.floor(b * 4.5))
    coverage = inside(b - top, pixel) * inside(half - np.abs(a), pixel)
    return Layer([c * i * stripe for c, i in zip(base, lit, strict=True)], coverage)


def head_layer(light: Light, camera: Camera, s: Params, head: HeadHit, albedo: list[Array], hair_shade: Array) -> Layer:
    """The face itself: sampled albedo, light, gloss; `hair_shade` is the darkness under the hair."""
    lit = illumination(light, head.normal, light.head, camera.down)
    half = Vec(*(a + b for a, b in zip(light.head, camera.toward, strict=True)))
    shine = np.maximum(dot(head.normal, half) / np.sqrt(dot(half, half)), np.float32(0.0))
    for _ in range(4):
        shine = shine * shine
    shine = shine * s["gloss"] * light.power[1]
    # Creases and the outline get less ambient light than a convex face.
    facing = np.maximum(dot(head.normal, camera.toward), np.float32(0.0))
    occlusion = (1.0 - hair_shade) * (0.72 + 0.28 * smooth(facing * 1.6))
    return Layer([a * i * occlusion + shine for a, i in zip(albedo, lit, strict=True)], head.coverage)


def composite(image: list[Array], layer: Layer) -> list[Array]:
    """Put a layer over an image, in place."""
    for below, above in zip(image, layer.colour, strict=True):
        part = above - below
        part *= layer.coverage
        below += part
    return image
