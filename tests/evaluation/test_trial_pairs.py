"""Pairs to try contracts on: of one person and of two in turn, and the same ones every time."""

from dataclasses import replace

import numpy as np

from facedistill.data.faces import FaceSet, Pairs
from facedistill.evaluation.trial_pairs import of_people, of_protocol, of_views
from made_faces import made_faces

FACES = made_faces(people=30, shots=5)


def check_turns(pairs: Pairs) -> None:
    np.testing.assert_array_equal(pairs.same, np.arange(len(pairs.same)) % 2 == 0)


def whose(images: np.ndarray, faces: FaceSet) -> np.ndarray:
    known = {image.tobytes(): int(label) for image, label in zip(faces.images, faces.labels, strict=True)}
    return np.array([known[image.tobytes()] for image in images])


def test_pairs_of_people_are_what_they_say() -> None:
    pairs = of_people(FACES, 60)
    check_turns(pairs)
    assert len(pairs.same) == 60
    label = whose(pairs.images, FACES)
    np.testing.assert_array_equal(label[pairs.left] == label[pairs.right], pairs.same)
    assert (pairs.left != pairs.right).all()
    assert len(set(label[pairs.left[pairs.same]])) == 30, "everybody once before anybody twice"


def test_test_images_and_people_with_one_image_are_in_no_pair() -> None:
    tested = replace(FACES, is_test=np.arange(150) % 5 > 0)
    assert len(of_people(tested, 60).same) == 0
    tested = replace(FACES, is_test=np.arange(150) % 5 > 1)
    pairs = of_people(tested, 600)
    train = {FACES.images[number].tobytes() for number in tested.train}
    assert len(pairs.same) == 60
    assert {image.tobytes() for image in pairs.images} <= train


def test_pairs_of_a_protocol_are_its_own() -> None:
    draw = np.random.default_rng(1)
    left, right = draw.integers(0, 150, (2, 400))
    same = FACES.labels[left] == FACES.labels[right]
    whole = Pairs(FACES.images, left, right, same, np.arange(400) // 40, np.zeros(400, bool))
    pairs = of_protocol(whole, 20)
    check_turns(pairs)
    given = {
        (FACES.images[a].tobytes(), FACES.images[b].tobytes(), bool(c))
        for a, b, c in zip(left, right, same, strict=True)
    }
    found = {
        (pairs.images[a].tobytes(), pairs.images[b].tobytes(), bool(c))
        for a, b, c in zip(pairs.left, pairs.right, pairs.same, strict=True)
    }
    assert found <= given
    assert len(of_protocol(whole, 2000).same) == 2 * same.sum(), "as many as there are of both kinds"


def test_views_of_one_face_are_two_and_need_no_label() -> None:
    faces = replace(FACES, labels=np.zeros(150, np.int64), identities=[])
    pairs = of_views(faces, 40)
    check_turns(pairs)
    assert pairs.images.shape == (40, 64, 64, 3)
    np.testing.assert_array_equal(pairs.left // 2 == pairs.right // 2, pairs.same)
    assert (pairs.images[pairs.left] != pairs.images[pairs.right]).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(of_views(faces, 40).images, pairs.images)
