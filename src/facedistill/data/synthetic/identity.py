"""Who a face is: a vector of independent values, and the traits of geometry and colour made from it.

Lengths are in head units: half the width of an average head is 1. The head frame has its origin between
the eyes inside the head, x to image right, y down, z towards the viewer of a frontal face.
"""

from itertools import pairwise

import numpy as np

from facedistill.data.synthetic.kernels import Array, Integers, Params, clip01, mix
from facedistill.data.synthetic.randomness import Stream, uniforms

_MOLE = {"x": (-0.75, 0.75), "y": (-0.75, 1.15), "size": (-0.03, 0.06)}


def _from_0_to_1(*names: str) -> dict[str, tuple[float, float]]:
    return dict.fromkeys(names, (0.0, 1.0))


# name: (low, high), uniform in between.
IDENTITY_RANGES: dict[str, tuple[float, float]] = {
    # head and face outline
    "head_width": (0.90, 1.07),
    "crown_height": (1.20, 1.38),
    "chin_length": (1.28, 1.52),
    "jaw_width": (-0.12, 0.12),
    "cheekbone_width": (-0.02, 0.08),
    "chin_width": (-0.12, 0.12),
    "cheek_fullness": (-0.08, 0.06),
    "cheekbone_relief": (0.02, 0.10),
    "chin_relief": (0.02, 0.16),
    "brow_ridge": (0.00, 0.08),
    "ear_size": (0.8, 1.25),
    # eyes
    "eye_spacing": (0.36, 0.49),
    "eye_height": (-0.06, 0.08),
    "eye_width": (0.185, 0.250),
    "eye_opening": (0.068, 0.125),
    "eye_slant": (-0.035, 0.05),
    "socket_depth": (0.04, 0.14),
    "lid_crease": (0.0, 1.0),
    # brows
    "brow_height": (0.19, 0.31),
    "brow_thickness": (0.028, 0.055),
    "brow_arch": (0.00, 0.10),
    "brow_tilt": (-0.04, 0.05),
    "brow_length": (0.22, 0.31),
    "brow_density": (0.60, 1.00),
    # nose
    "nose_length": (0.40, 0.60),
    "nose_width": (0.13, 0.23),
    "bridge_width": (0.14, 0.24),
    "nose_protrusion": (0.18, 0.34),
    "nose_hump": (-0.05, 0.05),
    "nose_tip": (0.01, 0.08),
    # mouth
    "mouth_height": (0.29, 0.40),  # of the way from nose base to chin
    "mouth_width": (0.25, 0.40),
    "upper_lip": (0.035, 0.100),
    "lower_lip": (0.050, 0.125),
    "lip_bow": (0.0, 0.5),
    "mouth_curve": (-0.04, 0.03),
    # colour
    "skin_tone": (0.0, 1.0),
    "skin_warmth": (-1.0, 1.0),
    **_from_0_to_1("skin_redness", "hair_tone", "hair_redness", "iris_tone", "lip_colour"),
    # sex and age are latent: they only shift the traits below and above
    **_from_0_to_1("masculinity", "age"),
    # hair style and marks
    "hairline": (0.76, 0.98),
    "hair_volume": (0.05, 0.22),
    **_from_0_to_1("hair_length", "fringe"),
    "parting": (-1.0, 1.0),
    **_from_0_to_1("baldness", "hair_curl", "beard", "moustache", "freckles"),
    **{f"mole_a_{value}": limits for value, limits in _MOLE.items()},
    **{f"mole_b_{value}": limits for value, limits in _MOLE.items()},
}
"""The identity vector, in the order in which its values are drawn."""


def identity_draws(seed: int, identities: Integers) -> Array:
    """What identities are made of, uniform in [0, 1), [N, len(IDENTITY_RANGES)]; no sample is involved."""
    return uniforms(seed, Stream.IDENTITY, identities, np.zeros_like(identities), len(IDENTITY_RANGES))


def identity_vectors(draws: Array) -> Array:
    """Identity vectors in the units of IDENTITY_RANGES, from values in [0, 1], both [N, len(IDENTITY_RANGES)]."""
    limits = np.array([*IDENTITY_RANGES.values()], dtype=np.float32)
    low, high = limits[:, 0], limits[:, 1]
    return low + (high - low) * draws


def identity_traits(vectors: Array) -> Params:
    """Named traits (N, 1, 1) of identity vectors [N, P], with the correlations that make people plausible."""
    p: Params = {name: vectors[:, k, None, None] for k, name in enumerate(IDENTITY_RANGES)}
    # Push the latent sex towards its two ends; most people read as one or the other.
    male = clip01((p["masculinity"] - 0.5) * 2.2 + 0.5)
    female = 1.0 - male
    p["male"] = male
    p["jaw_width"] = p["jaw_width"] + 0.07 * male - 0.04
    p["chin_width"] = p["chin_width"] + 0.07 * male - 0.04
    p["brow_ridge"] = p["brow_ridge"] + 0.03 * male
    p["brow_thickness"] = p["brow_thickness"] * (0.85 + 0.45 * male)
    p["brow_height"] = p["brow_height"] - 0.03 * male
    p["eye_opening"] = p["eye_opening"] + 0.012 * female
    p["nose_width"] = p["nose_width"] + 0.012 * male
    p["upper_lip"] = p["upper_lip"] * (1.05 - 0.20 * male)
    p["lash"] = 0.35 + 0.5 * female
    _hair_style(p, male, female)
    _colours(p, male)
    return p


def _hair_style(p: Params, male: Array, female: Array) -> None:
    """Hair length, receding hair line and beard follow sex and age."""
    p["hair_length"] = clip01(p["hair_length"] * 0.45 + 0.65 * female - 0.08)
    bald = clip01((p["baldness"] * (0.4 + 0.6 * p["age"]) - 0.46) * 4.0) * clip01(3.0 * male - 2.0)
    p["bald"] = bald
    p["fringe"] = clip01((p["fringe"] - 0.62) * 4.0) * (1.0 - bald)
    p["beard"] = clip01((p["beard"] - 0.45) * 2.2) * clip01((male - 0.5) * 3.0)
    p["moustache"] = np.maximum(clip01((p["moustache"] - 0.6) * 2.5), p["beard"] * 0.9) * clip01((male - 0.5) * 3.0)
    p["freckles"] = clip01((p["freckles"] - 0.6) * 2.5)
    p["wrinkles"] = clip01((p["age"] - 0.35) * 1.6)
    p["grey"] = clip01((p["age"] - 0.75) * 5.0)


def _ramp(t: Array, stops: list[tuple[float, float, float]]) -> list[Array]:
    """Piecewise linear colour ramp over t in [0, 1]; stops are display values, the result is linear light."""
    out: list[Array] = []
    for levels in zip(*stops, strict=True):  # of a channel
        value = np.full_like(t, levels[0])
        for k, (low, high) in enumerate(pairwise(levels)):
            value = value + (high - low) * clip01(t * (len(stops) - 1) - k)
        out.append(value * value)
    return out


SKIN_STOPS = [(0.88, 0.71, 0.62), (0.85, 0.66, 0.55), (0.80, 0.60, 0.47), (0.64, 0.44, 0.33), (0.45, 0.29, 0.22)]
HAIR_STOPS = [(0.86, 0.72, 0.48), (0.58, 0.42, 0.26), (0.36, 0.25, 0.17), (0.20, 0.15, 0.12), (0.11, 0.10, 0.10)]
IRIS_STOPS = [(0.42, 0.58, 0.70), (0.40, 0.52, 0.42), (0.48, 0.36, 0.20), (0.32, 0.20, 0.12), (0.20, 0.12, 0.08)]
LIP_STOPS = [(0.93, 0.66, 0.62), (0.80, 0.40, 0.40)]


def _store(p: Params, name: str, rgb: list[Array]) -> None:
    for channel, value in zip("rgb", rgb, strict=True):
        p[f"{name}_{channel}"] = value


def _colours(p: Params, male: Array) -> None:
    """Linear-light colours of skin, hair, iris and lips as `<part>_r`, `_g`, `_b`."""
    tone = p["skin_tone"]
    r, g, b = _ramp(tone, SKIN_STOPS)
    skin = [r, g * (1.0 - 0.05 * p["skin_warmth"]), b * (1.0 - 0.14 * p["skin_warmth"])]
    _store(p, "skin", skin)
    # Dark skin comes with dark hair and eyes, fair skin with any.
    dark = clip01(tone * 1.5 - 0.25)
    r, g, b = _ramp(np.maximum(p["hair_tone"], dark), HAIR_STOPS)
    red = clip01((p["hair_redness"] - 0.7) * 3.0) * (1.0 - dark)
    hair: list[Array] = [r * (1.0 + 0.5 * red), g * (1.0 - 0.1 * red), b * (1.0 - 0.4 * red)]
    silver = (0.42, 0.41, 0.40)
    hair = [mix(h, np.full_like(h, s), p["grey"] * 0.85) for h, s in zip(hair, silver, strict=True)]
    _store(p, "hair", hair)
    _store(p, "brow", [mix(h, s * 0.12, np.full_like(h, 0.55)) for h, s in zip(hair, skin, strict=True)])
    _store(p, "iris", _ramp(np.maximum(p["iris_tone"], dark), IRIS_STOPS))
    tint = _ramp(clip01(p["lip_colour"] * (1.0 - 0.5 * male)), LIP_STOPS)
    _store(p, "lip", [t * (0.25 + 0.75 * s) * g for t, s, g in zip(tint, skin, (1.0, 0.9, 0.95), strict=True)])
