"""The renderer: scene, light, compositing, camera, and the landmarks of the same geometry."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedistill.data.files.alignment import ARCFACE_SIZE, ARCFACE_TEMPLATE
from facedistill.data.synthetic import layers as parts
from facedistill.data.synthetic.albedo import face_albedo
from facedistill.data.synthetic.hair import back_hair, forehead_shade, hair
from facedistill.data.synthetic.identity import identity_draws, identity_traits, identity_vectors
from facedistill.data.synthetic.kernels import Array, Integers, Params, mix
from facedistill.data.synthetic.randomness import Stream, normals
from facedistill.data.synthetic.scene import background, glasses, occluder, strand_noise, table_noise
from facedistill.data.synthetic.shape import Grid, displacement, face_features, make_grid
from facedistill.data.synthetic.surface import (
    Camera,
    Vec,
    camera_rays,
    make_camera,
    moved_to,
    project,
    solve_head,
    surface_depth,
)
from facedistill.data.synthetic.variation import DEFAULT_VARIATION, Variation, scene_draws, scene_values

RENDERER_VERSION = 1
"""Raised whenever any pixel of any face changes."""

MINIMUM_SIZE = 16
# of landmarks in aligned images, in half image sides from the centre
_TEMPLATE = [tuple(((place + 0.5) * 2 / ARCFACE_SIZE - 1).tolist()) for place in ARCFACE_TEMPLATE]
MAXIMUM_BLUR_PASSES = 24
_PIXELS_PER_CHUNK = 12 * 64 * 64  # keeps the planes of a chunk in the CPU cache


class Faces(NamedTuple):
    """Rendered faces.

    Attributes:
        images: uint8 [N, size, size, 3], RGB.
        landmarks: float32 [N, 5, 2], (x, y) in pixels of the image, the centre of the top left one at (0, 0); left eye,
            right eye, nose tip, left and right mouth corner (left in the image of a frontal face).
    """

    images: NDArray[np.uint8]
    landmarks: NDArray[np.float32]


class Latents(NamedTuple):
    """What N faces are made of, values in [0, 1], float32.

    Attributes:
        identity: [N, len(IDENTITY_RANGES)], who it is.
        scene: [N, SCENE_DRAWS], pose, light, expression, things worn and camera.
    """

    identity: Array
    scene: Array

    def part(self, chosen: slice) -> "Latents":
        return Latents(self.identity[chosen], self.scene[chosen])


def latents_of(seed: int, identities: Integers, samples: Integers) -> Latents:
    """The latents of samples of identities."""
    return Latents(identity_draws(seed, identities), scene_draws(seed, identities, samples))


def render_faces(
    seed: int, identities: Integers, samples: Integers, size: int, variation: Variation = DEFAULT_VARIATION
) -> Faces:
    """Render a face of size x size pixels for each pair of identity and sample.

    Each image is a function of (seed, identity, sample, size, variation) alone, to the last bit. Raises ``ValueError``
    if an argument has a wrong shape, type or range.
    """
    identities, samples = _checked(seed, identities, samples, size)
    return _rendered(latents_of(seed, identities, samples), seed, identities, samples, size, variation)


def render_latents(latents: Latents, seed: int, rounds: Integers, indices: Integers, size: int, aligned: bool) -> Faces:
    """Render a face of size x size pixels for each latent.

    Each image is a function of its latent, of size and ``aligned``, and of (seed, round, index), which draw the
    surroundings and the noise of the camera, to the last bit.

    Args:
        aligned: the camera is turned, zoomed and shifted so that the landmarks come to ArcFace's template.

    Raises ``ValueError`` if an argument has a wrong shape, type or range.
    """
    rounds, indices = _checked(seed, rounds, indices, size)
    return _rendered(latents, seed, rounds, indices, size, DEFAULT_VARIATION, _TEMPLATE if aligned else None)


def _rendered(
    latents: Latents,
    seed: int,
    identities: Integers,
    samples: Integers,
    size: int,
    variation: Variation,
    places: Sequence[tuple[float, float]] | None = None,
) -> Faces:
    _keep_freed_memory()
    n = len(identities)
    images = np.empty((n, size, size, 3), dtype=np.uint8)
    landmarks = np.empty((n, 5, 2), dtype=np.float32)
    chunk = max(1, _PIXELS_PER_CHUNK // (size * size))
    for start in range(0, n, chunk):
        part = slice(start, start + chunk)
        images[part], landmarks[part] = _render_chunk(
            latents.part(part), seed, identities[part], samples[part], size, variation, places
        )
    return Faces(images, landmarks)


def _checked(seed: int, identities: Integers, samples: Integers, size: int) -> tuple[Integers, Integers]:
    identities, samples = np.asarray(identities), np.asarray(samples)
    for name, values in (("identities", identities), ("samples", samples)):
        if values.ndim != 1:
            raise ValueError(f"{name} must be one-dimensional, got shape {values.shape}")
        if values.size and not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"{name} must be integers, got {values.dtype}")
        if values.size and values.min() < 0:
            raise ValueError(f"{name} must not be negative, got {values.min()}")
    if len(identities) != len(samples):
        raise ValueError(f"identities and samples must have one length, got {len(identities)} and {len(samples)}")
    if size < MINIMUM_SIZE:
        raise ValueError(f"size must be at least {MINIMUM_SIZE} pixels, got {size}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be in [0, 2^64), got {seed}")
    return identities.astype(np.int64), samples.astype(np.int64)


@lru_cache(maxsize=1)
def _keep_freed_memory() -> None:
    """Allocate and free one large block.

    The C library then keeps blocks up to that size, instead of returning each freed plane to the system: the page
    faults would take as long as the rendering itself. Pixels are not affected.
    """
    np.empty(30 * 2**20, dtype=np.uint8)


@lru_cache(maxsize=8)
def _grid_and_mottle(size: int) -> tuple[Grid, Array]:
    """The head grid of an image size, and the fixed skin noise on it [H, W]."""
    grid = make_grid(size)
    across, along = grid.x[0] * 13.0 + 0.0 * grid.y[0], grid.y[0] * 13.0 + 0.0 * grid.x[0]
    return grid, table_noise(across + 500.0, along + 500.0)


def _render_chunk(
    latents: Latents,
    seed: int,
    identities: Integers,
    samples: Integers,
    size: int,
    variation: Variation,
    places: Sequence[tuple[float, float]] | None,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    p = identity_traits(identity_vectors(latents.identity))
    s = scene_values(latents.scene, variation)
    grid, mottle = _grid_and_mottle(size)
    camera, f = make_camera(s), face_features(p, s)
    d = displacement(p, f, grid)
    if places is not None:
        camera = moved_to(camera, _landmarks(p, f, camera, grid, d), places)
    planes = background(seed, identities, samples, s, size)
    planes = _draw_person(planes, p, s, f, camera, grid, mottle, d, size)
    _over_some(planes, s["occluder_chance"], s, lambda some, _: [occluder(some, size)])
    images = _develop(seed, identities, samples, planes, s, size, variation)
    positions = np.array(_landmarks(p, f, camera, grid, d), dtype=np.float32)  # [5, 2, N, 1, 1]
    return images, np.moveaxis((positions + 1.0) * np.float32(0.5 * size) - 0.5, 2, 0)[..., 0, 0]


def _draw_person(
    planes: list[Array], p: Params, s: Params, f: Params, camera: Camera, grid: Grid, mottle: Array, d: Array, size: int
) -> list[Array]:
    """Composite the person over the background, from back to front."""
    rays, a, b = camera_rays(camera, size)
    light = parts.make_light(s, camera)
    strands = strand_noise(rays, p)
    head = solve_head(rays, p, f, grid, d)
    albedo = [head.lookup(plane) for plane in face_albedo(p, s, f, grid, mottle)]
    clothes, neck = parts.neck_and_clothes(a, b, light, camera, p, f, s, rays.footprint)
    eye_front = surface_depth(p, f, grid, d, f["eye_x"] * 0.4, f["eye_y"]) + 0.06
    stack = [clothes, back_hair(rays, light, camera, p, strands), neck]
    stack += parts.ears(rays, light, camera, p)
    stack.append(parts.head_layer(light, camera, s, head, albedo, forehead_shade(p, head.point)))
    stack.append(hair(rays, light, camera, p, s, f, strands))
    for layer in stack:
        planes = parts.composite(planes, layer)
    worn = {**s, "eye_spacing": p["eye_spacing"], "eye_y": f["eye_y"], "glasses_z": eye_front}
    _over_some(planes, s["glasses_chance"], worn, lambda some, k: glasses(rays.only(k), some, head.coverage[k]))
    return planes


def _over_some(
    planes: list[Array], chosen: Array, values: Params, draw: Callable[[Params, NDArray[np.intp]], list[parts.Layer]]
) -> None:
    """Composite layers in place over those images of the batch that have them."""
    index = np.nonzero(chosen[:, 0, 0])[0]
    if len(index) == 0:
        return
    some = [plane[index] for plane in planes]
    for layer in draw({name: value[index] for name, value in values.items()}, index):
        parts.composite(some, layer)
    for plane, part in zip(planes, some, strict=True):
        plane[index] = part


def _blur(plane: Array, weight: Array, passes: int) -> Array:
    """Repeated [w, 1 - 2w, w] filter along both axes; the border is repeated."""
    for _ in range(passes):
        for axis in (1, 2):
            before = np.concatenate([plane.take([0], axis), plane.take(range(plane.shape[axis] - 1), axis)], axis)
            after = np.concatenate([plane.take(range(1, plane.shape[axis]), axis), plane.take([-1], axis)], axis)
            plane = plane + weight * (before + after - 2.0 * plane)
    return plane


def _develop(
    seed: int, identities: Integers, samples: Integers, planes: list[Array], s: Params, size: int, variation: Variation
) -> NDArray[np.uint8]:
    """Camera: white balance, gain, tone curve, blur, noise, 8 bits."""
    # One pass has variance 2w pixels^2; w = 1/4 is the widest well-behaved filter.
    largest = (variation.blur[1] * size) ** 2
    passes = min(MAXIMUM_BLUR_PASSES, int(2.0 * largest) + 1)
    deviation = s["blur"] * size
    weight = np.minimum(deviation * deviation / np.float32(2.0 * passes), np.float32(0.25))
    noise = normals(seed, Stream.NOISE, identities, samples, 3 * size * size).reshape(-1, 3, size, size)
    images = np.empty((len(noise), size, size, 3), dtype=np.uint8)
    for c, white in enumerate((s["white_red"], np.ones_like(s["gain"]), s["white_blue"])):
        linear = _blur(planes[c] * (s["gain"] * white), weight, passes)
        # Compress highlights, then encode with gamma 2 (a square root is exact, a power is not).
        display = np.sqrt(np.maximum(linear * 1.25 / (1.0 + 0.25 * linear), np.float32(0.0)))
        display = np.minimum(display, np.float32(1.0))
        display = mix(display, display * display * (3.0 - 2.0 * display), s["contrast"])
        display = display + noise[:, c] * s["noise"]
        levels = np.floor(np.minimum(np.maximum(display, np.float32(0.0)), np.float32(1.0)) * 255.0 + 0.5)
        images[..., c] = levels.astype(np.uint8)
    return images


def _landmarks(p: Params, f: Params, camera: Camera, grid: Grid, d: Array) -> list[tuple[Array, Array]]:
    """Image positions (u, v) of eye centres, nose tip and mouth corners of the surface."""
    eye, mouth = f["eye_x"], f["mouth_half"]
    across = [-eye, eye, np.zeros_like(eye), -mouth, mouth]
    down = [f[name] for name in ("eye_y", "eye_y", "tip_y", "corner_y", "corner_y")]
    points = [Vec(x, y, surface_depth(p, f, grid, d, x, y)) for x, y in zip(across, down, strict=True)]
    return [project(camera, point) for point in points]
