"""Faces before the cameras of domains, live and as presentation attacks.

A domain is a camera and its light (``camera``). An attack shows a photograph of the person, rendered as any other face,
on its medium (``attacks``), which the camera sees as it sees live faces.

All rules of the package hold: exactly defined operations in a fixed order, constants as literals, counter-based draws.
"""

import numpy as np
from numpy.typing import NDArray

from facedistill.data.synthetic.attacks import KINDS, Presentation, live
from facedistill.data.synthetic.camera import DOMAINS, SCENE, Domain, photographed
from facedistill.data.synthetic.kernels import Integers, Params
from facedistill.data.synthetic.randomness import Stream, normals, uniforms
from facedistill.data.synthetic.render import render_faces
from facedistill.data.synthetic.variation import Variation

PRESENTATION_VERSION = 1
"""Raised whenever any pixel of any presentation changes."""

_AT_ONCE = 24  # images; bounds memory
_NUMBERS = 16  # of domains and of kinds that a photograph's number leaves room for
_DRAWS = (
    *("gain", "side_x", "side_y", "roll", "shift_x", "shift_y", "half", "tilt", "phase_x", "phase_y", "slant", "bend"),
    *("around_r", "around_g", "around_b", "around", "gleam_x", "gleam_y", "gleam", "frame", "strength"),
)
# Faces fill as much of the image as those of attacks do.
LIVE_FACE = Variation(
    scale=(0.44, 0.66), occluder_chance=0.0, noise=(0.0, 0.0), blur=(0.0, 0.0), white_red=(0.95, 1.05)
)
# What an attacker photographs: close, frontal, evenly lit.
PHOTOGRAPH = Variation(
    yaw_peaked=(-0.15, 0.15),
    pitch_peaked=(-0.08, 0.08),
    scale=(0.54, 0.62),
    light_x=(-0.4, 0.4),
    occluder_chance=0.0,
    noise=(0.0, 0.0),
    blur=(0.0, 0.0),
)


def render_presentations(
    seed: int, identities: Integers, samples: Integers, domains: Integers, kinds: Integers, size: int
) -> NDArray[np.uint8]:
    """Images uint8 [N, size, size, 3] of people, each before the camera of a domain.

    Args:
        domains: numbers of ``DOMAINS``.
        kinds: numbers of ``KINDS``; 0 is a live face.

    Each is a function of (seed, identity, sample, domain, kind, size) alone, to the last bit. Raises ``ValueError`` as
    ``render_faces``.
    """
    images = np.empty((len(identities), size, size, 3), np.uint8)
    for number, domain in enumerate(DOMAINS.values()):
        for kind, show in enumerate(KINDS.values()):
            chosen = np.flatnonzero((domains == number) & (kinds == kind))
            for start in range(0, len(chosen), _AT_ONCE):
                part = chosen[start : start + _AT_ONCE]
                shots = (samples[part] * _NUMBERS + number) * _NUMBERS + kind
                images[part] = _render(seed, identities[part], shots, domain, show, size)
    return images


def _render(
    seed: int, people: Integers, shots: Integers, domain: Domain, show: Presentation, size: int
) -> NDArray[np.uint8]:
    raw = uniforms(seed, Stream.PRESENTATION, people, shots, len(_DRAWS)).T[:, :, None, None]
    d: Params = dict(zip(_DRAWS, raw, strict=True))
    d["strength"] = 0.4 + 0.6 * d["strength"]  # of what gives an attack away
    variation = LIVE_FACE if show is live else PHOTOGRAPH
    face = render_faces(seed, people, shots, SCENE, variation).images.astype(np.float32) / np.float32(255)
    scene = show([face[..., c] for c in range(3)], d)
    noise = normals(seed, Stream.SENSOR, people, shots, 3 * domain.pixels * domain.pixels)
    return photographed(scene, d, domain, noise.reshape(-1, 3, domain.pixels, domain.pixels), size)
