"""Contracts are told apart by pairs; that one is worse is a rule that chance breaks once in a hundred times at most."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics.pairwise import cosine_similarity

from facedistill.evaluation import contracts as module
from facedistill.evaluation.contracts import (
    Contract,
    Recognizer,
    Trials,
    interval,
    is_worse,
    may_be_worse,
    presets,
    ranked,
    shown_by,
)
from facedistill.evaluation.trial_pairs import of_people
from made_faces import MADE, RIGHT, ask, made_faces

RAW = ((0.0,) * 3, (1.0,) * 3)


@pytest.fixture(scope="module")
def trials() -> Trials:
    return Trials(MADE, of_people(made_faces(), 200))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"colour": "bgr"},
        {"mean": RAW[0], "std": RAW[1]},
        {"size": 112},
        {"crop": 0.7},
        {"colour": "bgr", "size": 128, "crop": 1.0, "mean": (127.5,) * 3, "std": (1.0,) * 3},
    ],
)
def test_from_any_contract_the_right_one_is_found(trials: Trials, changes: dict[str, object]) -> None:
    given = RIGHT._replace(**changes)  # type: ignore[arg-type]
    best = ranked(trials, given)[0]
    assert best._replace(mean=RIGHT.mean, std=RIGHT.std) == RIGHT
    assert trials.separation(best) >= trials.separation(RIGHT) > 2
    if changes:
        assert trials.separation(given) < trials.separation(RIGHT)


def test_one_that_hardly_tells_pairs_apart_is_asked_about_all_of_them() -> None:
    def noisy(numbers: torch.Tensor) -> torch.Tensor:
        answer = F.normalize(ask(numbers), dim=1)
        drawn = [torch.Generator().manual_seed(int(1e3 * one.double().sum()) % 2**31) for one in numbers]
        noise = torch.stack([torch.randn(answer.shape[1], generator=draw) for draw in drawn])
        return answer + 2.2 * F.normalize(noise, dim=1)

    trials, clear = (Trials(Recognizer(ask, 56, False), of_people(made_faces(), 200)) for ask in (noisy, ask))
    given = RIGHT._replace(colour="bgr", crop=0.7)
    best = ranked(trials, given)[0]
    assert 0.5 < trials.separation(best) < module.CLEAR
    assert best.colour == RIGHT.colour
    assert {trials.asked(contract) for contract in trials.tried} == {len(trials)}
    ranked(clear, given)
    assert min(clear.asked(contract) for contract in clear.tried) == module.FEW


def test_the_same_numbers_every_time() -> None:
    found = [ranked(Trials(MADE, of_people(made_faces(), 200)), RIGHT._replace(colour="bgr")) for _ in range(2)]
    assert found[0] == found[1]


def test_no_pair_is_answered_twice() -> None:
    asked = []

    def counting(numbers: torch.Tensor) -> torch.Tensor:
        asked.append(len(numbers))
        return ask(numbers)

    pairs = of_people(made_faces(), 40)
    trials = Trials(Recognizer(counting, None, False), pairs)
    few = trials.similarity(RIGHT, 20)
    assert sum(asked) == len(np.unique([pairs.left[:20], pairs.right[:20]]))
    whole = trials.similarity(RIGHT)
    np.testing.assert_array_equal(whole[:20], few)
    before = sum(asked)
    trials.accuracy(RIGHT), trials.separation(RIGHT), trials.right(RIGHT, 20)
    assert sum(asked) == before


def test_similarities_are_cosines_and_no_number_is_minus_one() -> None:
    faces = made_faces()
    pairs = of_people(faces, 40)
    found = Trials(MADE, pairs).similarity(RIGHT)
    answers = ask(shown_by(RIGHT, pairs.images)).double().numpy()
    expected = cosine_similarity(answers[pairs.left], answers[pairs.right]).diagonal()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    broken = Trials(Recognizer(lambda numbers: ask(numbers) * math.nan, None, False), pairs)
    assert (broken.similarity(RIGHT) == -1).all()
    assert broken.separation(RIGHT) == 0


def test_a_recognizer_is_shown_what_its_contract_says() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    shown = shown_by(Contract("bgr", (1.0, 2.0, 3.0), (2.0, 4.0, 8.0), 56, 0.875), images)
    centre = images[:, 4:60, 4:60, ::-1].astype(np.float64)
    np.testing.assert_allclose(shown.permute(0, 2, 3, 1), (centre - [1, 2, 3]) / [2, 4, 8], atol=1e-5)
    halved = shown_by(Contract("rgb", (0.0,) * 3, (1.0,) * 3, 32, 1.0), images)
    expected = np.asarray(Image.fromarray(images[0]).resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(halved[0].permute(1, 2, 0), expected)
    cut = shown_by(Contract("rgb", (0.0,) * 3, (1.0,) * 3, 32, 0.5), images)
    np.testing.assert_array_equal(cut[0].permute(1, 2, 0), images[0, 16:48, 16:48])


def test_what_a_graph_fixes_is_not_tried() -> None:
    trials = Trials(Recognizer(ask, 56, normalizes=True), of_people(made_faces(), 100))
    ranked(trials, Contract("rgb", *RAW, 56, 1.0))
    assert {contract.size for contract in trials.tried} == {56}
    assert {(contract.mean, contract.std) for contract in trials.tried} == {RAW}
    assert {contract.colour for contract in trials.tried} == {"rgb", "bgr"}
    assert len({contract.crop for contract in trials.tried}) == len(module.CROPS)


@pytest.mark.parametrize(("lost", "won", "both_wrong"), [(7, 0, 0), (6, 0, 0), (20, 8, 3), (20, 7, 3), (9, 1, 50)])
def test_worse_is_what_the_exact_test_says(lost: int, won: int, both_wrong: int) -> None:
    given, other = np.ones(200, bool), np.ones(200, bool)
    given[: lost + both_wrong] = False
    other[lost : lost + both_wrong] = False
    other[lost + both_wrong : lost + both_wrong + won] = False
    expected = binomtest(lost, lost + won, 0.5, "greater").pvalue < 0.01 and lost - won > 2
    assert is_worse(given, other) == expected
    assert not is_worse(other, given)
    assert may_be_worse(given) == (lost + both_wrong >= 7)


def test_less_than_a_point_is_never_worse() -> None:
    given, other = np.ones(1000, bool), np.ones(1000, bool)
    given[:10] = False
    assert not is_worse(given, other)
    given[:11] = False
    assert is_worse(given, other)


def test_a_right_contract_is_refused_once_in_a_hundred_times_at_most() -> None:
    """Simulated: 60 contracts as good as the given one, of which the luckiest on ranking pairs is compared with it."""
    draw, refused, times = np.random.default_rng(0), 0, 1000
    for _ in range(times):
        skill = draw.uniform(0.7, 0.95)
        given = draw.random(500) < skill
        others = draw.random((60, 500)) < skill
        best = others[others[:, :100].sum(1).argmax()]
        refused += is_worse(given[100:], best[100:])
    assert refused <= 0.01 * times + 3 * math.sqrt(0.01 * times)


@pytest.mark.parametrize(("accuracy", "count"), [(0.99, 300), (0.5, 40), (1.0, 60), (0.0, 60)])
def test_the_interval_is_wilsons(accuracy: float, count: int) -> None:
    right = round(accuracy * count)
    expected = binomtest(right, count).proportion_ci(0.95, "wilson")
    assert interval(right / count, count) == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_presets_are_named() -> None:
    assert presets(Contract("rgb", (127.5,) * 3, (127.5,) * 3, 112, 1.0)) == ["arcface"]
    assert presets(Contract("bgr", (127.5,) * 3, (127.5,) * 3, 112, 1.0)) == ["adaface"]
    assert presets(Contract("rgb", (127.5,) * 3, (127.5,) * 3, 112, 0.8)) == []


def test_of_contracts_that_are_as_good_the_one_like_the_given_comes_first(trials: Trials) -> None:
    """A hundredth of contrast is no difference that anybody should type."""
    given = RIGHT._replace(std=(128.0,) * 3)
    assert ranked(trials, given)[0] == given
    best = ranked(trials, given._replace(colour="bgr"))[0]
    assert best == given
