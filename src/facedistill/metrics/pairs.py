"""Pair verification: LFW's protocol of ten folds, each with the threshold best on the other nine, and the ROC."""

import numpy as np
from numpy.typing import NDArray

FALSE_ACCEPTS = ("1e-1", "1e-2", "1e-3", "1e-4")  # rates at which the true accept rate is reported
QUANTILES = (1, 5, 25, 50, 75, 95, 99)  # of similarities, in %


def verification_metrics(
    similarity: NDArray[np.float64], same: NDArray[np.bool_], fold: NDArray[np.int64]
) -> dict[str, float | None]:
    """All metrics, in % except for thresholds; None where there are too few pairs for one, or pairs of one kind only.

    Returns:
        pairs: mean ten-fold accuracy; pairs_se: its standard error, from the spread of the folds. None: < 2 folds.
        pairs_auc, pairs_eer: area under the ROC, equal error rate.
        tar_at_far_RATE: of the pairs of one person, those accepted when at most RATE of the others are.
        threshold_at_far_RATE: the similarity from which on pairs are accepted there.
    """
    metrics: dict[str, float | None] = dict.fromkeys(("pairs", "pairs_se", "pairs_auc", "pairs_eer"))
    thresholds: dict[str, float | None] = {}
    both_kinds = same.any() and not same.all()
    if both_kinds and len(np.unique(fold)) > 1:
        accuracies = ten_fold_accuracy(similarity, same, fold)
        metrics["pairs"] = float(accuracies.mean())
        metrics["pairs_se"] = float(accuracies.std(ddof=1)) / len(accuracies) ** 0.5
    if both_kinds:
        metrics["pairs_auc"] = auc(similarity, same)
        metrics["pairs_eer"] = equal_error_rate(similarity, same)
    for rate in FALSE_ACCEPTS:
        metrics[f"tar_at_far_{rate}"] = tar_at_far(similarity, same, float(rate))
        thresholds[f"threshold_at_far_{rate}"] = threshold_at_far(similarity, same, float(rate))
    return {name: None if value is None else 100 * value for name, value in metrics.items()} | thresholds


def similarity_metrics(similarity: NDArray[np.float64]) -> dict[str, float]:
    """Mean and quantiles of similarities [P], P > 0: what there is to say of pairs of one kind only."""
    quantiles = {f"similarity_{level}%": float(np.quantile(similarity, level / 100)) for level in QUANTILES}
    return {"similarity_mean": float(similarity.mean()), **quantiles}


def errors_at(similarity: NDArray[np.float64], same: NDArray[np.bool_], threshold: float) -> dict[str, float]:
    """How often similarity ≥ threshold is wrong, in %, of either kind of which there are pairs.

    Returns:
        frr_at_THRESHOLD: of the pairs of one person, those rejected.
        far_at_THRESHOLD: of the pairs of two, those accepted.
    """
    accepted = similarity >= threshold
    wrong = {"frr": ~accepted[same], "far": accepted[~same]}
    return {f"{name}_at_{threshold:g}": 100 * float(part.mean()) for name, part in wrong.items() if len(part)}


def ten_fold_accuracy(
    similarity: NDArray[np.float64], same: NDArray[np.bool_], fold: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Accuracy of each fold with the threshold that is best on all other folds; similarity ≥ threshold means "same".

    Args:
        similarity: [P], larger for the same person.
        same: [P], whether it is of one person.
        fold: [P], number of each pair's fold.

    Returns:
        The accuracies [folds], 0 … 1 (Huang et al. 2007; the score is their mean).
    """
    held = [fold == k for k in np.unique(fold)]
    cuts = [best_threshold(similarity[~part], same[~part]) for part in held]
    return np.array([np.mean((similarity >= cut)[part] == same[part]) for part, cut in zip(held, cuts, strict=True)])


def best_threshold(similarity: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    """The threshold with the most correct decisions, between two similarities; the lowest of equally good ones."""
    values, counts = np.unique(similarity, return_counts=True)
    order = np.argsort(similarity, kind="stable")
    below = np.concatenate([[0], np.cumsum(same[order])])  # pairs of one person among the k least similar
    # a cut below the i-th value decides that everything below it is different, and the rest the same
    cuts = np.concatenate([[0], np.cumsum(counts)])
    right = (cuts - below[cuts]) + (below[-1] - below[cuts])
    middles = (values[:-1] + values[1:]) / 2
    middles = np.where(middles > values[:-1], middles, values[1:])  # two adjacent floats have no middle
    edges = np.concatenate([[values[0]], middles, [values[-1] + 1]])
    return float(edges[int(np.argmax(right))])


def roc(
    similarity: NDArray[np.float64], same: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """False and true accept rates, 0 … 1, and the thresholds (similarity ≥ threshold means "same"); each [T].

    From a threshold that accepts nothing (inf) to the lowest similarity; equally similar pairs are accepted together.

    Raises:
        AssertionError: pairs of one kind only.
    """
    assert 0 < same.sum() < len(same), "a ROC needs pairs of one person and of two"
    order = np.argsort(-similarity, kind="stable")
    values, accepted = similarity[order], np.cumsum(same[order])
    last = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)  # of each group of equal similarities
    true, total = accepted[last], last + 1
    far, tar = (total - true) / (len(same) - accepted[-1]), true / accepted[-1]
    return np.append(0.0, far), np.append(0.0, tar), np.append(np.inf, values[last])


def auc(similarity: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    """Area under the ROC, 0 … 1: how often a pair of one person is more similar than one of two; ties count half."""
    far, tar, _ = roc(similarity, same)
    return float(np.trapezoid(tar, far))


def equal_error_rate(similarity: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    """The rate at which false accepts equal false rejects, 0 … 1, with linear interpolation of the ROC."""
    far, tar, _ = roc(similarity, same)
    return equal_rate(far, tar)


def equal_rate(far: NDArray[np.float64], tar: NDArray[np.float64]) -> float:
    """Where a ROC, as ``roc`` gives it, has as many false accepts as false rejects."""
    return float(np.interp(0.0, far - (1 - tar), far))


def tar_at_far(similarity: NDArray[np.float64], same: NDArray[np.bool_], far: float) -> float | None:
    """Highest true accept rate with a false accept rate of at most ``far``, 0 … 1; None: it allows no pair."""
    threshold = threshold_at_far(similarity, same, far)
    return None if threshold is None else float(np.mean(similarity[same] >= threshold))


def threshold_at_far(similarity: NDArray[np.float64], same: NDArray[np.bool_], far: float) -> float | None:
    """The lowest similarity of a pair such that, of the pairs of two persons, at most ``far`` are as similar or more.

    Similarity ≥ threshold means "same". Where even the most similar pairs are too many, it is the next larger number.
    None: ``far`` allows no pair.
    """
    others = int((~same).sum())
    if others in (0, len(same)) or far < 1 / others:
        return None
    accepts, _, thresholds = roc(similarity, same)
    threshold = thresholds[accepts <= far][-1]
    return float(threshold if np.isfinite(threshold) else np.nextafter(similarity.max(), np.inf))
