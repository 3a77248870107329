"""Rendered synthetic faces: a data set for users who have none yet.

A face is a relief (an ellipsoid with bumps for nose, lips, brows, ...) with an albedo map, rotated, lit by its surface
normals and photographed. `identity.py` defines who a face is, `variation.py` what differs between photographs of one
person (and so the difficulty); everything else renders.

Each image must be a pure function of (seed, identity, sample), bit for bit the same on every machine. So pixels are
computed only by operations that IEEE 754 defines exactly (+, -, *, /, sqrt, comparisons, floor, gathers) in a fixed
order. Functions of the C library (exp, sin, pow), matrix products and long sums are avoided, because their last bits
depend on CPU and library: bumps are polynomials, rotations use the rational parametrization of the circle, gamma is a
square root, and random numbers are raw words of the counter-based Philox generator.
"""

from facedistill.data.synthetic.render import RENDERER_VERSION, Faces, Latents, latents_of, render_faces, render_latents
from facedistill.data.synthetic.variation import Variation

__all__ = ["RENDERER_VERSION", "Faces", "Latents", "Variation", "latents_of", "render_faces", "render_latents"]
