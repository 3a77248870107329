"""What changes between two photographs of the same person: here the difficulty is tuned."""

from dataclasses import dataclass, fields

import numpy as np

from facedistill.data.synthetic.kernels import Array, Integers, Params
from facedistill.data.synthetic.randomness import Stream, uniforms

Range = tuple[float, float]


@dataclass(frozen=True)
class Variation:
    """Ranges (low, high) of values that are drawn uniformly per image; `*_chance` are probabilities.

    Rotations are tangents of half the angle (0.09 = 10 degrees, 0.18 = 20, 0.27 = 30).
    `*_peaked` values are averages of two uniform numbers, so that extremes are rarer.
    """

    # pose
    yaw_peaked: Range = (-0.25, 0.25)  # tan(angle / 2); positive: the face turns to image right
    pitch_peaked: Range = (-0.12, 0.12)  # positive: the face looks down
    roll_peaked: Range = (-0.09, 0.09)  # positive: clockwise in the image
    scale: Range = (0.51, 0.57)  # half image sides per head unit (half a head width)
    shift_x: Range = (-0.05, 0.05)  # half image sides
    shift_y: Range = (-0.03, 0.05)  # half image sides
    # light
    light_x: Range = (-0.7, 0.7)  # direction to the light before normalization; z (to the viewer) is 1
    light_y: Range = (-0.9, 0.3)  # negative: from above
    light_power: Range = (0.50, 1.00)  # of the directional light
    ambient: Range = (0.30, 0.60)
    light_warmth: Range = (-0.12, 0.12)  # red against blue of the directional light only
    gloss: Range = (0.02, 0.16)  # specular strength of skin
    # expression
    mouth_open_chance: float = 0.35
    mouth_open: Range = (0.02, 0.16)  # head units
    smile: Range = (-0.25, 1.0)  # 1 = full smile
    brow_raise: Range = (-0.03, 0.07)  # head units
    gaze_x: Range = (-0.07, 0.07)  # head units
    gaze_y: Range = (-0.02, 0.025)
    squint: Range = (0.0, 0.35)  # part of the eye opening that is closed
    blink_chance: float = 0.05
    # things worn or in front of the face
    glasses_chance: float = 0.12
    glasses_dark_chance: float = 0.2  # of the glasses: sun glasses
    cap_chance: float = 0.05
    hair_lift: Range = (-0.04, 0.06)  # head units added to the hair volume
    occluder_chance: float = 0.06
    occluder_size: Range = (0.18, 0.38)  # half image sides
    # camera
    gain: Range = (0.78, 1.25)
    contrast: Range = (0.0, 0.5)  # strength of the tone curve
    white_red: Range = (0.85, 1.15)  # white balance gains, linear light
    white_blue: Range = (0.82, 1.18)
    blur: Range = (0.0, 0.008)  # standard deviation, image sides (0.5 pixels at 64)
    noise: Range = (0.0, 0.025)  # standard deviation, display values in [0, 1]
    background_contrast: Range = (0.1, 1.0)


DEFAULT_VARIATION = Variation()
DETAILS = (
    *("clothes_r", "clothes_g", "clothes_b", "neck_line", "stripes", "background_brightness"),
    *("lens_width", "lens_height", "lens_square", "frame_thickness", "frame_tone", "glare_place"),
    *("occluder_side", "occluder_height", "occluder_tilt", "occluder_length", "occluder_boxy"),
    *("occluder_r", "occluder_g", "occluder_b", "occluder_tone", "cap_line", "cap_r", "cap_g", "cap_b"),
)
"""Colours and shapes of everything but the face: one uniform number in [0, 1) each, per image."""


_NAMES = [field.name for field in fields(Variation)]  # in drawing order
SCENE_DRAWS = 2 * len(_NAMES) + len(DETAILS)


def scene_draws(seed: int, identities: Integers, samples: Integers) -> Array:
    """What scenes are made of, uniform in [0, 1), [N, SCENE_DRAWS]."""
    return uniforms(seed, Stream.SCENE, identities, samples, SCENE_DRAWS)


def scene_values(draws: Array, variation: Variation = DEFAULT_VARIATION) -> Params:
    """Named scene values (N, 1, 1) of values in [0, 1], [N, SCENE_DRAWS]; a `*_chance` becomes 1 or 0."""
    names, raw = _NAMES, draws.T[:, :, None, None]
    values: Params = {}
    for name, first, second in zip(names, raw[::2], raw[1::2], strict=False):
        values[name.removesuffix("_peaked")] = _draw(name, getattr(variation, name), first, second)
    return values | dict(zip(DETAILS, raw[2 * len(names) :], strict=True))


def _draw(name: str, setting: float | Range, first: Array, second: Array) -> Array:
    if isinstance(setting, tuple):
        low, high = np.float32(setting[0]), np.float32(setting[1])
        u = (first + second) * np.float32(0.5) if name.endswith("_peaked") else first
        return low + (high - low) * u
    return (first < np.float32(setting)).astype(np.float32)
