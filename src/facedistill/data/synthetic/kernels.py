"""Elementwise functions of all parts of the renderer; steps are in place for speed only.

They use only operations that IEEE 754 defines to the last bit: see the package.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
"""A float32 array; the stubs of numpy do not know that float32 * 0.5 is float32, so any float is allowed."""
Integers = NDArray[np.int64]
Params = dict[str, Array]
"""Named values of a batch of images, each (N, 1, 1) to broadcast against maps (N, H, W)."""


def bump(t: Array) -> Array:
    """Smooth bump (1 - t^2)^3 on |t| < 1, 0 outside; close to a Gaussian of deviation 0.4."""
    q = t * t
    np.subtract(np.float32(1.0), q, out=q)
    np.maximum(q, np.float32(0.0), out=q)
    cube = q * q
    cube *= q
    return cube


def clip01(a: Array) -> Array:
    out = np.maximum(a, np.float32(0.0))
    return np.minimum(out, np.float32(1.0), out=out)


def inside(distance: Array, width: float | Array) -> Array:
    """Soft membership: 1 where distance > 0, 0 where < 0, linear over `width` (one pixel footprint)."""
    out: Array = distance / width
    out += np.float32(0.5)
    np.maximum(out, np.float32(0.0), out=out)
    return np.minimum(out, np.float32(1.0), out=out)


def band(distance: Array, half: float | Array, width: float | Array) -> Array:
    """Box-filtered coverage of a line of half thickness `half` (right also when thinner than a pixel)."""
    return inside(distance + half, width) - inside(distance - half, width)


def smooth(t: Array) -> Array:
    """Smoothstep of t clamped to [0, 1]."""
    t = clip01(t)
    out: Array = t * t
    out *= 3.0 - 2.0 * t
    return out


def choose(condition: NDArray[np.bool_], a: Array | float, b: Array) -> Array:
    """a where the condition holds, else b; several times faster than np.where."""
    return mix(b, a, condition.astype(np.float32))


def mix(a: Array, b: Array | float, t: Array | float) -> Array:
    """Linear blend from a (t = 0) to b (t = 1)."""
    out: Array = (b - a) * t
    out += a
    return out
