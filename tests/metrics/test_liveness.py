"""The half total error rate against a plain loop and scikit-learn, and over ranks."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from facedistill.metrics.liveness import HalfTotalError, threshold_of

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def drawn(seed: int, count: int = 120, ties: bool = False) -> tuple[Floats, Bools, Bools]:
    draw = np.random.default_rng(seed)
    live, held_out = draw.random(count) < 0.4, draw.random(count) < 0.5
    score = draw.normal(size=count) + live + 0.7 * held_out
    return (np.round(score) if ties else score), live, held_out


def metric_of(score: Floats, live: Bools, held_out: Bools, batch: int = 50) -> HalfTotalError:
    metric = HalfTotalError()
    order = np.random.default_rng(1).permutation(len(score))
    for start in range(0, len(score), batch):
        part = order[start : start + batch]
        metric.update(*(torch.from_numpy(values[part]) for values in (score, live, held_out)), torch.from_numpy(part))
    return metric


def by_hand(score: Floats, live: Bools, held_out: Bools) -> tuple[float, list[bool]]:
    """Every score of the other domains as a threshold, the highest of equally good ones."""
    best, chosen = np.inf, np.nan
    known = [(float(s), bool(alive)) for s, alive, held in zip(score, live, held_out, strict=True) if not held]
    for cut in sorted({s for s, _ in known}, reverse=True):
        accepted = sum(s >= cut for s, alive in known if not alive) / sum(not alive for _, alive in known)
        rejected = sum(s < cut for s, alive in known if alive) / sum(alive for _, alive in known)
        if abs(accepted - rejected) < best:
            best, chosen = abs(accepted - rejected), cut
    right, wrong = [], {True: [0, 0], False: [0, 0]}
    for s, alive, held in zip(score, live, held_out, strict=True):
        if held:
            right.append(bool((s >= chosen) == alive))
            wrong[bool(alive)][0] += not right[-1]
            wrong[bool(alive)][1] += 1
    return 50 * sum(errors / count for errors, count in wrong.values()), right


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_that_of_a_loop_and_of_scikit_learn(seed: int, ties: bool) -> None:
    score, live, held_out = drawn(seed, ties=ties)
    metric = metric_of(score, live, held_out)
    found = metric.compute()
    hter, right = by_hand(score, live, held_out)
    assert found["hter"] == pytest.approx(hter, abs=1e-9)
    assert metric.right().tolist() == right
    assert found["auc"] == pytest.approx(100 * roc_auc_score(live[held_out], score[held_out]), abs=1e-9)
    false, true, thresholds = roc_curve(live[~held_out], score[~held_out], drop_intermediate=False)
    assert threshold_of(score[~held_out], live[~held_out]) == thresholds[np.argmin(np.abs(false - 1 + true))]
    assert found["eer"] == pytest.approx(100 * np.interp(0, false + true - 1, false), abs=1e-9)


def test_the_threshold_is_not_taken_from_the_domain_held_out() -> None:
    score, live, held_out = drawn(0)
    shifted = np.where(held_out, score + 100, score)
    found = metric_of(shifted, live, held_out).compute()
    assert found["hter"] == 50, "everything there is taken for live"
    assert found["auc"] == metric_of(score, live, held_out).compute()["auc"]


def test_a_perfect_score_and_its_opposite() -> None:
    _, live, held_out = drawn(3)
    assert metric_of(live + 0.0, live, held_out).compute()["hter"] == 0
    assert metric_of(-1.0 * live, live, held_out).compute()["auc"] == 0


def test_what_is_missing_is_no_number() -> None:
    score, live, held_out = drawn(0)
    found = metric_of(score, live & held_out, held_out).compute()
    assert torch.isnan(found["hter"])
    assert torch.isnan(found["eer"])
    assert not torch.isnan(found["auc"])


def test_a_sample_that_is_counted_twice_is_noticed() -> None:
    metric = HalfTotalError()
    for _ in range(2):
        metric.update(torch.zeros(2), torch.tensor([True, False]), torch.tensor([True, False]), torch.arange(2))
    with pytest.raises(AssertionError, match="counted twice"):
        metric.compute()
