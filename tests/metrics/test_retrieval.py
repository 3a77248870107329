"""Retrieval against scikit-learn, and where samples are equally far, against a count over sorted lists."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestNeighbors

from facedistill.errors import DataError
from facedistill.metrics import retrieval
from facedistill.metrics.retrieval import NearestNeighbour

Floats, Ints = NDArray[np.float32], NDArray[np.int64]


def drawn(seed: int, count: int, identities: int, steps: int | None = None) -> tuple[Floats, Ints]:
    """Embeddings of 6 numbers, loosely by identity; whole multiples of 1 / steps, if given: many are equally far."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, identities, count)
    points = draw.normal(size=(identities, 6))[labels] + draw.normal(size=(count, 6))
    return np.float32(points if steps is None else np.round(points * steps) / steps), labels


def found(embeddings: Floats, labels: Ints, sizes: list[int] | None = None) -> dict[str, float]:
    metric, samples = NearestNeighbour(), torch.arange(len(labels))
    for part in samples.split(sizes or [len(labels)]):
        metric.update(torch.from_numpy(embeddings)[part], torch.from_numpy(labels)[part], part)
    return {name: float(value) for name, value in metric.compute().items()}


def slow(embeddings: Floats, labels: Ints) -> dict[str, float]:
    """Sort the gallery of each query by distance, equal ones with other identities first, and walk along it."""
    firsts, precisions = [], []
    squared = np.square(embeddings[:, None].astype(float) - embeddings[None]).sum(2).tolist()
    for query, distances in enumerate(squared):
        gallery = sorted((d, labels[i] == labels[query]) for i, d in enumerate(distances) if i != query)
        hits = [place for place, (_, match) in enumerate(gallery, 1) if match]
        firsts.append(hits[0] if hits else 10**9)
        precisions.append(sum(k / place for k, place in enumerate(hits, 1)) / len(hits) if hits else 0)
    shares = {name: 100 * sum(f <= k for f in firsts) / len(firsts) for name, k in KINDS.items()}
    return {**shares, "map": 100 * sum(precisions) / len(precisions), "unmatched": firsts.count(10**9)}


KINDS = {"top1": 1, "rank5": 5, "rank10": 10}


@pytest.mark.parametrize(("count", "identities"), [(12, 3), (60, 8), (120, 100)])
def test_scores_are_those_of_scikit_learn(count: int, identities: int) -> None:
    for seed in range(3):
        embeddings, labels = drawn(seed, count, identities)
        near = NearestNeighbors(n_neighbors=11, algorithm="brute").fit(embeddings.astype(float))
        hits = labels[near.kneighbors(return_distance=False)] == labels[:, None]
        expected = {name: 100 * hits[:, :k].any(1).mean() for name, k in KINDS.items()}
        distances, precision = cdist(embeddings.astype(float), embeddings.astype(float)), []
        for query in range(count):
            others = np.arange(count) != query
            match = labels[others] == labels[query]
            precision.append(average_precision_score(match, -distances[query, others]) if match.any() else 0.0)
        expected |= {"map": 100 * np.mean(precision), "unmatched": np.sum(np.bincount(labels)[labels] == 1)}
        assert found(embeddings, labels) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 64])
@pytest.mark.parametrize("count", [2, 5, 40, 150])
def test_of_equally_far_samples_other_identities_come_first(count: int, steps: int) -> None:
    for seed in range(3):
        embeddings, labels = drawn(seed, count, 1 + count // 4, steps)
        assert found(embeddings, labels) == pytest.approx(slow(embeddings, labels), abs=1e-9)


def test_a_network_that_tells_nothing_apart_scores_its_worst() -> None:
    for value in (0.0, 0.3):
        scores = found(np.full((12, 8), value, np.float32), np.arange(12) % 6)
        assert scores == pytest.approx({"top1": 0, "rank5": 0, "rank10": 0, "map": 100 / 11, "unmatched": 0})


def test_clusters_apart_score_100() -> None:
    labels = np.arange(40) % 4
    embeddings = np.float32(np.eye(4)[labels] + 0.01 * np.random.default_rng(0).normal(size=(40, 4)))
    expected = {"top1": 100, "rank5": 100, "rank10": 100, "map": 100, "unmatched": 0}
    assert found(embeddings, labels) == expected


def test_an_identity_with_one_sample_is_missed_and_counted() -> None:
    embeddings, labels = np.float32([[0], [1], [10]]), np.array([5, 5, 7])
    share = pytest.approx(200 / 3)
    assert found(embeddings, labels) == {"top1": share, "rank5": share, "rank10": share, "map": share, "unmatched": 1}
    assert found(embeddings, np.arange(3)) == {"top1": 0, "rank5": 0, "rank10": 0, "map": 0, "unmatched": 3}


@pytest.mark.parametrize("width", [3, 64, 512])
def test_chunks_and_batches_change_no_bit(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    draw = np.random.default_rng(width)
    labels = draw.integers(0, 20, 150)
    whole = np.float32(draw.normal(size=(20, width))[labels] + 3 * draw.normal(size=(150, width)))
    whole[100:] = whole[:50]  # the same vector in other chunks is equally far
    once = found(whole, labels)
    assert once == found(whole, labels, [1, 80, 69])
    for chunk in (1, 7, 149, 1000):
        monkeypatch.setattr(retrieval, "CHUNK", chunk)
        assert found(whole, labels) == once


@pytest.mark.parametrize("scale", [2.0**-20, 2.0**20])
def test_the_length_of_the_embeddings_does_not_matter(scale: float) -> None:
    embeddings, labels = drawn(0, 80, 10)
    assert found(embeddings * np.float32(scale), labels) == found(embeddings, labels)


def test_distances_between_near_samples_are_exact() -> None:
    # far from the origin, where |a|² + |b|² - 2ab in float32 has lost all of the distance
    embeddings, labels = np.float32([[1, 0], [1, 2e-5], [1, -3e-5], [1, 1]]), np.array([0, 1, 0, 1])
    first, _ = retrieval.score_queries(torch.from_numpy(embeddings), torch.from_numpy(labels))
    assert first.tolist() == [2, 3, 1, 1]


def test_fewer_than_two_samples_are_refused() -> None:
    with pytest.raises(DataError, match="the split has 1"):
        found(np.zeros((1, 4), np.float32), np.zeros(1, np.int64))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_refused(bad: float) -> None:
    embeddings, labels = drawn(0, 10, 2)
    embeddings[3, 1] = bad
    with pytest.raises(DataError, match="not finite"):
        found(embeddings, labels)
