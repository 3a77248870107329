"""Rank-1 and equal error rate over all pairs, against scikit-learn and a loop over pairs."""

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from facedistill.errors import DataError
from facedistill.metrics import identification
from facedistill.metrics.identification import Identification, count_similarities

Floats, Ints = NDArray[np.float32], NDArray[np.int64]


def drawn(seed: int, count: int, people: int, noise: float = 1.0) -> tuple[Floats, Ints]:
    """Embeddings of length 1, loosely by person."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, people, count)
    points = draw.normal(size=(people, 6))[labels] + noise * draw.normal(size=(count, 6))
    return np.float32(points / np.linalg.norm(points, axis=1, keepdims=True)), labels


def found(embeddings: Floats, labels: Ints, sizes: list[int] | None = None) -> dict[str, float]:
    metric, samples = Identification(), torch.arange(len(labels))
    for part in samples.split(sizes or [len(labels)]):
        metric.update(torch.from_numpy(embeddings)[part], torch.from_numpy(labels)[part], part)
    return {name: float(value) for name, value in metric.compute().items()}


def pairs(embeddings: Floats, labels: Ints) -> tuple[list[float], list[bool]]:
    points = embeddings.astype(float)
    both = list(itertools.combinations(range(len(labels)), 2))
    return [float(points[i] @ points[j]) for i, j in both], [bool(labels[i] == labels[j]) for i, j in both]


@pytest.mark.parametrize(("count", "people", "noise"), [(12, 3, 1.0), (60, 8, 0.6), (120, 40, 0.4), (200, 5, 3.0)])
def test_the_equal_error_rate_is_that_of_scikit_learn(count: int, people: int, noise: float) -> None:
    for seed in range(3):
        embeddings, labels = drawn(seed, count, people, noise)
        similarity, same = pairs(embeddings, labels)
        far, tar, _ = roc_curve(same, similarity, drop_intermediate=False)
        expected = 100 * np.interp(0, far + tar - 1, far)
        assert found(embeddings, labels)["eer"] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(("count", "people"), [(12, 3), (60, 8), (120, 100)])
def test_rank_1_is_counted_over_the_others(count: int, people: int) -> None:
    for seed in range(3):
        embeddings, labels = drawn(seed, count, people)
        right, alone = 0, 0
        for query in range(count):
            others = [i for i in range(count) if i != query]
            best = max(others, key=lambda i: float(embeddings[i].astype(float) @ embeddings[query].astype(float)))
            right += labels[best] == labels[query]
            alone += all(labels[i] != labels[query] for i in others)
        scores = found(embeddings, labels)
        assert scores["rank1"] == pytest.approx(100 * right / count)
        assert scores["unmatched"] == alone


def test_every_pair_is_counted_once_at_its_similarity_and_no_image_with_itself() -> None:
    embeddings, labels = drawn(0, 40, 5)
    similarity, same = pairs(embeddings, labels)
    one, other = count_similarities(torch.from_numpy(embeddings), torch.from_numpy(labels))
    assert (one.sum(), other.sum()) == (sum(same), len(same) - sum(same))
    assert one.sum() + other.sum() == 40 * 39 / 2
    steps = identification.STEPS
    for counts, kind in ((one, True), (other, False)):
        expected = sorted(value for value, of_one in zip(similarity, same, strict=True) if of_one is kind)
        places = np.repeat(np.arange(steps), counts) * (2 / steps) - 1
        np.testing.assert_allclose(places + 1 / steps, expected, atol=2 / steps)


def test_the_order_the_batches_and_the_chunks_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, labels = drawn(1, 90, 7)
    once = found(embeddings, labels)
    assert found(embeddings, labels, [1, 50, 39]) == once
    order = np.random.default_rng(0).permutation(90)
    assert found(embeddings[order], labels[order]) == once
    for chunk in (1, 7, 89, 1000):
        monkeypatch.setattr(identification, "CHUNK", chunk)
        assert found(embeddings, labels) == once


def test_a_network_that_tells_nothing_apart_is_at_chance() -> None:
    same = np.float32(np.tile([0.6, 0.8], (12, 1)))
    scores = found(same, np.arange(12) % 3)
    assert scores == {"rank1": 0, "eer": 50, "unmatched": 0}


def test_people_apart_are_told_without_an_error() -> None:
    labels = np.arange(40) % 4
    assert found(np.eye(4, dtype=np.float32)[labels], labels) == {"rank1": 100, "eer": 0, "unmatched": 0}


def test_of_pairs_of_one_kind_there_is_no_equal_error_rate() -> None:
    embeddings, _ = drawn(0, 6, 2)
    for labels in (np.zeros(6, np.int64), np.arange(6)):
        assert np.isnan(found(embeddings, labels)["eer"])


def test_one_sample_and_embeddings_that_are_not_finite_are_refused() -> None:
    embeddings, labels = drawn(0, 6, 2)
    with pytest.raises(DataError, match="the split has 1"):
        found(embeddings[:1], labels[:1])
    with pytest.raises(DataError, match="not finite"):
        found(embeddings * np.float32(np.nan), labels)
