"""Live faces and attacks in domains: counts, who is tested where, what is refused."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facedistill.data.faces import ATTACK, HELD_OUT, LIVE, FaceSet
from facedistill.data.sources.synthetic_spoof import FIRST_PERSON, SyntheticSpoof
from facedistill.data.synthetic import rendering
from facedistill.data.synthetic.attacks import KINDS
from facedistill.data.synthetic.camera import DOMAINS
from facedistill.data.synthetic.presentation import render_presentations
from facedistill.errors import DataError

NAMES = list(DOMAINS)
SETTINGS: dict[str, Any] = {"num_people": 10, "images": 2, "domains": NAMES, "held_out": "evening", "seed": 3}


def source(**change: Any) -> SyntheticSpoof:
    return SyntheticSpoof("spoof", **{**SETTINGS, **change})


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faces")


@pytest.fixture(scope="module")
def made(cache: Path) -> FaceSet:
    return source().faces(16, cache)


def domains_of(faces: FaceSet) -> Any:
    assert faces.domains is not None
    return faces.domains


def people_of(faces: FaceSet) -> Any:
    assert faces.people is not None
    return faces.people


def test_counts_and_shares(made: FaceSet) -> None:
    train, test = made.train, made.test
    assert len(train) == 6 * 2 * 3 * 2
    assert Counter(domains_of(made)[train].tolist()) == dict.fromkeys(range(3), 24)
    assert Counter(domains_of(made)[test].tolist()) == dict.fromkeys((HELD_OUT, 0, 1, 2), 16)
    for part in (train, test):
        for domain in np.unique(domains_of(made)[part]):
            labels = made.labels[part][domains_of(made)[part] == domain]
            assert Counter(labels.tolist()) == {LIVE: len(labels) // 2, ATTACK: len(labels) // 2}
    assert made.domain_names == ("office", "window", "webcam")
    assert made.counts["images"] == len(train) + len(test)


def test_nobody_is_on_both_sides_and_nobody_trained_on_is_in_the_domain_held_out(made: FaceSet) -> None:
    people = people_of(made)
    assert not set(people[made.train]) & set(people[made.test])
    assert HELD_OUT not in domains_of(made)[made.train]
    assert set(people[made.test]) == {3, 4, 8, 9}
    assert made.clusters is people


def test_every_kind_of_attack_is_in_every_domain_and_pixels_are_those_of_the_renderer(made: FaceSet) -> None:
    _, _, domain, kind = source(num_people=40)._table
    for which in range(4):
        attacks = kind[(domain == which) & (kind > 0)]
        assert set(Counter(attacks.tolist()).values()) == {10}
        assert set(attacks.tolist()) == set(range(1, len(KINDS)))
    table = source()._table
    few = [column[[0, 5, 77]] for column in table]
    np.testing.assert_array_equal(render_presentations(3, *few, 16), made.images[np.array([0, 5, 77])])
    assert table[0].min() == FIRST_PERSON


def test_domains_held_out_share_one_store(made: FaceSet, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("rendered again")

    monkeypatch.setattr(rendering, "rendered", refuse)
    other = source(held_out="office").faces(16, cache)
    np.testing.assert_array_equal(other.images, made.images)
    assert other.domain_names == ("window", "evening", "webcam")
    assert source(held_out="office").identity() != source().identity()


def test_what_is_known_before_a_face_is_rendered_is_what_is_found_then(made: FaceSet, tmp_path: Path) -> None:
    early, late = source().samples(tmp_path), made.samples
    np.testing.assert_array_equal(early.labels, late.labels)
    np.testing.assert_array_equal(early.is_test, late.is_test)
    assert (early.has_liveness, early.has_identities) == (late.has_liveness, late.has_identities) == (True, False)
    assert not list(tmp_path.iterdir())


def test_without_attacks_everybody_is_live(made: FaceSet) -> None:
    live = made.live
    assert set(live.labels[live.train]) == set(live.labels[live.test]) == {LIVE}
    assert (len(live.train), len(live.test)) == (len(made.train) // 2, len(made.test) // 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"held_out": "mars"}, r"data\.held_out=mars is none of data\.domains\. Choices: data\.held_out=office, "),
        ({"domains": ["office", "evening"]}, r"fewer than two domains to train on: data\.domains=\[office,window,"),
        ({"domains": ["evening"]}, "fewer than two domains"),
        ({"domains": ["office", "evening", "mars"]}, r"data\.domains=\[office,evening,mars\]: choices, each once, are"),
        ({"domains": ["office", "office", "evening"]}, "each once"),
        ({"num_people": 4}, r"data\.num_people=4 must be at least 5"),
        ({"images": 0}, r"data\.images=0 at least 1"),
        ({"images": 1.5}, r"data\.images=1\.5 must be a whole number"),
        ({"num_people": 10**6}, "at most 1,000,000 images"),
        ({"num_people": 10**12}, "at most 1,000,000 images"),
        ({"seed": 2**63}, r"data\.seed=9223372036854775808 must lie in 0 … 2\^63 − 1"),
        ({"domains": "office"}, r"data\.domains=office must be a list: data\.domains=\[office,window,evening,webcam\]"),
        ({"domains": None}, r"data\.domains=None must be a list"),
    ],
    ids=str,
)
def test_what_can_not_be_trained_on_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        source(**change)
