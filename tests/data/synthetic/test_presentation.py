"""Rendered presentation attacks: purity, pinned pixels, and that every kind and every camera shows."""

import hashlib
from itertools import pairwise, product

import numpy as np
import pytest
from numpy.typing import NDArray

from facedistill.data.synthetic import camera, presentation
from facedistill.data.synthetic.attacks import KINDS
from facedistill.data.synthetic.camera import DOMAINS
from facedistill.data.synthetic.presentation import PRESENTATION_VERSION, render_presentations

EVERY = list(product(range(len(DOMAINS)), range(len(KINDS))))
SEED = 11


def rendered(size: int, number: int = 0, person: int = 7) -> NDArray[np.uint8]:
    """A person in every domain and kind."""
    domains, kinds = np.array(EVERY).T
    people, samples = np.full(len(EVERY), person), np.full(len(EVERY), number)
    return render_presentations(SEED, people, samples, domains, kinds, size)


@pytest.fixture(scope="module")
def every() -> NDArray[np.uint8]:
    return rendered(40)


def test_the_same_pixels_alone_and_shuffled(every: NDArray[np.uint8]) -> None:
    chosen = np.random.default_rng(0).permutation(len(EVERY))[:7]
    domains, kinds = np.array(EVERY)[chosen].T
    people, samples = np.full(7, 7), np.zeros(7, np.int64)
    np.testing.assert_array_equal(render_presentations(SEED, people, samples, domains, kinds, 40), every[chosen])
    alone = [column[:1] for column in (people, samples, domains, kinds)]
    np.testing.assert_array_equal(render_presentations(SEED, *alone, 40)[0], every[chosen[0]])


GOLDEN = {
    (40, 1): "5a02aa0cef7b5a8846bbfdb2e0d5c6e19505be85c08ae4d73f028b51561d362d",
    (61, 1): "a33ce6210d2e92ab5da559f247434763ca7067ad92f02cc1c74363995c58ffa9",
}
"""SHA-256 of the pixels per (size, PRESENTATION_VERSION)."""


@pytest.mark.parametrize("size", [40, 61])
def test_pixels_are_pinned(size: int) -> None:
    digest = hashlib.sha256(rendered(size).tobytes()).hexdigest()
    assert digest == GOLDEN[size, PRESENTATION_VERSION], "pixels changed: raise PRESENTATION_VERSION and pin anew"


def test_every_image_differs_from_every_other(every: NDArray[np.uint8]) -> None:
    assert len({image.tobytes() for image in every}) == len(EVERY)
    for other in (rendered(40, number=1), rendered(40, person=8)):
        assert ((other != every).mean((1, 2, 3)) > 0.5).all()
    assert (every.std((1, 2, 3)) > 8).all()


def test_an_attack_is_no_more_like_the_live_face_than_its_kind_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before one camera and of one photograph, what an instrument does to it is seen."""
    monkeypatch.setattr(presentation, "PHOTOGRAPH", presentation.LIVE_FACE)
    plain = {"noise": 0.0, "step": 0.01}
    monkeypatch.setattr(presentation, "DOMAINS", {"one": DOMAINS["office"]._replace(**plain)})
    draws, show = np.zeros(1, np.int64), KINDS["live"]
    face = np.array([3])
    live, *attacks = (
        presentation._render(SEED, face, draws, presentation.DOMAINS["one"], one, 96).astype(float)
        for one in (show, *list(KINDS.values())[1:])
    )
    for name, attack in zip(list(KINDS)[1:], attacks, strict=True):
        assert np.abs(attack - live).mean() > 12, name
    assert min(np.abs(a - b).mean() for a, b in pairwise(attacks)) > 4


def test_the_transform_is_the_discrete_cosine_transform_and_has_an_inverse() -> None:
    k, n = np.mgrid[:8, :8]
    expected = np.cos((2 * n + 1) * k * np.pi / 16) / 2
    expected[0] = np.sqrt(1 / 8)
    np.testing.assert_allclose(camera._DCT, expected, atol=1e-7)
    plane = np.random.default_rng(0).random((2, 16, 16), np.float32)
    np.testing.assert_allclose(camera._quantized(plane, 1e-3), plane, atol=1e-4)
    coarse = camera._quantized(plane, 60)
    assert 0.02 < np.abs(coarse - plane).mean() < 0.3
    block = coarse[0, :8, :8].astype(np.float64)
    values = expected @ block @ expected.T
    steps = 60 / 255 * (1 + 0.5 * (k + n))
    np.testing.assert_allclose(values / steps, np.round(values / steps), atol=1e-4)


@pytest.mark.parametrize("size", [16, 48, 61, 96, 130])
def test_resizing_keeps_what_is_even_and_the_mean(size: int) -> None:
    even = np.full((1, 96, 96), 0.37, np.float32)
    np.testing.assert_allclose(camera._resized(even, size), 0.37, atol=1e-6)
    ramp = np.broadcast_to(np.linspace(0, 1, 96, dtype=np.float32), (1, 96, 96))
    small = camera._resized(ramp, size)
    assert small.shape == (1, size, size)
    assert small.mean() == pytest.approx(0.5, abs=1e-4)
    assert (np.diff(small[0, 0]) > 0).all()
