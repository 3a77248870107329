"""Scores of an export, by other means: pairs by hand, tasks by their records, and how long an image takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import paired_cosine_distances

from facedistill.config.compose import compose_config
from facedistill.config.schema import Config
from facedistill.data.faces import Pairs
from facedistill.data.sources.source import build_source
from facedistill.errors import DataError
from facedistill.export import proof
from facedistill.export.make import _judge
from facedistill.export.network import Deployed
from facedistill.export.proof import Answer, LikenessJudge, PairJudge, Scored, TaskJudge, latency
from facedistill.export.subject import Subject
from facedistill.runs.run import Run
from made_runs import TINY

PAIRS = [*TINY, "data.pairs_per_fold=20"]


def means(pixels: torch.Tensor) -> torch.Tensor:
    """An embedding that is no network's: the means of 4 × 4 cells, less the grey of most faces."""
    return torch.nn.functional.adaptive_avg_pool2d(pixels.float(), 4).flatten(1) - 110


def by_hand(config: Config) -> tuple[np.ndarray, np.ndarray, Pairs]:
    """The cosines of pairs of an image and its mirror, those of images alone, and the pairs."""
    pairs = build_source(config.data).protocol(24, Path(config.cache_dir).expanduser(), set())
    images = torch.from_numpy(np.asarray(pairs.images[:])[:, 2:22, 2:22].transpose(0, 3, 1, 2).copy())
    plain, mirrored = means(images).double().numpy(), means(images.flip(3)).double().numpy()
    cosines = []
    for embedded in (np.hstack([plain, mirrored]), plain):
        cosines.append(1 - paired_cosine_distances(embedded[pairs.left], embedded[pairs.right]))
    return cosines[0], cosines[1], pairs


def test_pairs_are_scored_as_by_hand(tmp_path: Path) -> None:
    config = compose_config([*PAIRS, f"cache_dir={tmp_path}"])
    judge = PairJudge(config, set())
    both, alone, pairs = by_hand(config)
    right = []
    for fold in np.unique(pairs.fold):
        rest, own = pairs.fold != fold, pairs.fold == fold
        cuts = np.concatenate([both[rest], [np.inf]])
        hits = [((both[rest] >= cut) == pairs.same[rest]).mean() for cut in cuts]
        best = [cut for cut, hit in zip(cuts, hits, strict=True) if hit == max(hits)]
        right.append([((both[own] >= cut) == pairs.same[own]).mean() for cut in best])
    scored = judge.score(means)
    low, high = (100 * np.mean([pick(values) for values in right]) for pick in (min, max))
    assert low - 5 <= scored.score <= high + 5  # of equally good cuts it has one of its own, between two cosines
    assert abs(scored.score - np.clip(scored.score, low, high)) < 3

    judged, cuts_found = judge.judged(scored), judge.cuts(means, scored)
    assert judged.samples == len(pairs.same) == 200
    assert judged.low < judged.score < judged.high
    assert judge.of == cuts_found.of == "the 200 pairs of synthetic"
    others = np.sort(alone[~pairs.same])[::-1]
    assert set(cuts_found.thresholds) == set(cuts_found.tar) == {"1e-2"}, "100 pairs are of two people"
    threshold = cuts_found.thresholds["1e-2"]
    assert (others >= threshold + 1e-6).sum() <= 1
    nearest = np.sort(alone)[np.sort(alone) < threshold - 1e-6][-1]
    assert (others >= nearest).mean() > 0.01, "a lower threshold would do"
    assert cuts_found.tar["1e-2"] == pytest.approx(100 * (alone[pairs.same] >= threshold - 1e-7).mean(), abs=0.6)


def test_pairs_with_people_who_were_trained_on_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose_config([*PAIRS, f"cache_dir={tmp_path}"])
    source = build_source(config.data)
    pairs = source.protocol(24, tmp_path, set())
    known = np.arange(len(pairs.same)) % 4 == 0
    labels = np.where(known, ~pairs.same, pairs.same)  # of these, every one is wrong
    few = Pairs(pairs.images, pairs.left, pairs.right, labels, pairs.fold, known)
    monkeypatch.setattr(type(source), "protocol", lambda *_: few)
    judge = PairJudge(config, {"someone"})
    scored = judge.score(means)
    assert judge.judged(scored).samples == 150
    monkeypatch.setattr(type(source), "protocol", lambda *_: replace(few, same=np.where(known, labels, pairs.same)))
    assert PairJudge(config, set()).score(means).score == scored.score
    for marked in (np.ones_like(known), known | pairs.same, pairs.fold > 0):
        monkeypatch.setattr(type(source), "protocol", lambda *_, marked=marked: replace(few, trained_on=marked))
        with pytest.raises(DataError, match=r"synthetic: of its 200 pairs \d+ show nobody .*pairs=FOLDER"):
            PairJudge(config, {"someone"})


def judge_of(run: Run) -> tuple[TaskJudge, Answer]:
    """The judge of a run's export, and what the published network answers as its file would."""
    subject = Subject.of_run(run.directory, [f"cache_dir={run.config.cache_dir}"])
    network = Deployed.of(subject.network, subject.kind, subject.image("uint8"))
    from facedistill.export.make import Wish

    judge = _judge(subject, Wish(["onnx"], Path("x"), ""), subject.data())
    assert isinstance(judge, TaskJudge)
    return judge, network


@pytest.mark.parametrize("name", ["classify", "align", "verify", "embed"])
def test_a_run_scores_what_its_record_says(runs: dict[str, Run], name: str) -> None:
    judge, answer = judge_of(runs[name])
    metrics = runs[name].record.metrics
    scored = judge.score(answer)
    expected = metrics[judge.metric]
    assert expected is not None
    assert judge.metric == {"align": "nrmse", "embed": "cosine"}.get(name, "top1")
    assert scored.score == pytest.approx(expected, rel=1e-4)
    judged = judge.judged(scored)
    assert judged.samples == len(scored.answers) == metrics["test_samples"] == 11
    assert judged.low < scored.score < judged.high
    assert judged.of == "the test split of synthetic"
    for_others = [judge.score(lambda pixels, by=by: answer(pixels).roll(by, 0)).score for by in (1, 2, 3)]
    assert any(judged.loss(score) for score in for_others), "the answers of other images"
    assert judged.loss(scored.score + 1) == (1 if name == "align" else -1)
    assert judge.score(answer).score == scored.score, "an evaluation begins anew"


def test_a_likeness_is_that_with_the_first_that_was_scored() -> None:
    config = compose_config(TINY)
    from facedistill.data.loading.datamodule import FaceData

    data = FaceData.of(config)
    judge = LikenessJudge(list(data.val_dataloader()), "faces")
    first = judge.score(means)
    assert first.score == pytest.approx(100)
    assert judge.judged(first).samples == 11
    turned = judge.score(lambda pixels: -means(pixels))
    assert turned.score == pytest.approx(-100)
    part = judge.score(lambda pixels: means(pixels) * torch.tensor([1.0, 0.0] * 24))
    images = torch.cat([batch.images for batch in data.val_dataloader()])
    whole = means(images).double().numpy()
    half = whole * np.tile([1.0, 0.0], 24)
    assert part.score == pytest.approx(100 * (1 - paired_cosine_distances(whole, half)).mean(), abs=1e-3)


def test_cosine_of_no_answer_is_none() -> None:
    one, other = Scored(0, np.ones((2, 3), np.float32)), Scored(0, np.zeros((2, 3), np.float32))
    assert one.cosine(other) == 0
    assert one.cosine(one) == pytest.approx(1)


def test_latency_is_of_a_warm_model(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(proof.time, "perf_counter", lambda: clock[0])
    calls = []

    def answer() -> None:
        calls.append(1)
        clock[0] += 5.0 if len(calls) <= proof.WARM else 0.002 if len(calls) % 10 else 0.03

    median, p95 = latency(answer)
    assert len(calls) == proof.WARM + proof.TIMED
    assert median == pytest.approx(2)
    assert p95 == pytest.approx(30)

    def slow() -> None:
        calls.append(1)
        clock[0] += 3.0

    calls.clear()
    median, p95 = latency(slow)
    assert (median, p95) == (pytest.approx(3000), pytest.approx(3000))
    assert len(calls) == proof.WARM + 7, "no longer than 20 seconds"
