"""Faces by their latents: the same renderer, and a camera that brings landmarks to a template."""

import numpy as np
import pytest

from facedistill.data.files.alignment import ARCFACE_TEMPLATE, similarity
from facedistill.data.synthetic import latents_of, render_faces, render_latents
from facedistill.data.synthetic.render import Latents

PEOPLE, SHOTS = np.arange(6), np.array([0, 1, 0, 1, 2, 3])


def test_a_face_by_its_latent_is_that_by_its_number() -> None:
    by_number = render_faces(3, PEOPLE, SHOTS, 32)
    by_latent = render_latents(latents_of(3, PEOPLE, SHOTS), 3, PEOPLE, SHOTS, 32, aligned=False)
    np.testing.assert_array_equal(by_latent.images, by_number.images)
    np.testing.assert_array_equal(by_latent.landmarks, by_number.landmarks)


@pytest.mark.parametrize("size", [32, 112])
def test_aligned_landmarks_are_those_of_the_similarity_that_aligns_photographs(size: int) -> None:
    latents = latents_of(3, PEOPLE, SHOTS)
    plain, aligned = (render_latents(latents, 3, PEOPLE, SHOTS, size, aligned=one) for one in (False, True))
    template = (ARCFACE_TEMPLATE + 0.5) * (size / 112) - 0.5
    for before, after in zip(plain.landmarks, aligned.landmarks, strict=True):
        m = similarity(before.astype(np.float64), template)
        np.testing.assert_allclose(after, before @ m[:, :2].T + m[:, 2], atol=2e-4 * size)
    off = np.abs(aligned.landmarks.mean(1) - template.mean(0))
    assert off.max() < 1e-3 * size, "a similarity brings centre to centre"


def test_a_latent_decides_the_person_whatever_its_surroundings() -> None:
    latents = latents_of(3, PEOPLE[:1].repeat(2), SHOTS[:1].repeat(2))
    faces = render_latents(latents, 3, np.array([0, 7]), np.array([0, 1]), 32, aligned=True)
    np.testing.assert_array_equal(faces.landmarks[0], faces.landmarks[1])
    assert (faces.images[0] != faces.images[1]).any()
    other = Latents(1 - latents.identity, latents.scene)
    moved = render_latents(other, 3, np.array([0, 7]), np.array([0, 1]), 32, aligned=True)
    assert np.abs(moved.landmarks - faces.landmarks).max() > 0.2
