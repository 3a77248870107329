"""Whole runs of periocular recognition: the same bits again, cut and resumed, scored again, exported, and refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from facedistill.config.groups import band_size
from facedistill.errors import WeightsError
from facedistill.evaluate import evaluate_run
from facedistill.evaluate import main as evaluate
from facedistill.export.make import Wish, export
from facedistill.export.subject import Subject
from facedistill.models.weights import read_weights
from facedistill.runs.ensure import ensure
from facedistill.runs.plan import check_tree, plan
from facedistill.runs.run import Run
from facedistill.training import fit
from tiny import RUN
from trained_runs import cut_after_first_epoch

PERIOCULAR = [*RUN, "image.resize=32", "image.crop=28", "task=periocular", "rate=2", "data.images_per_identity=16"]
FROZEN = ["task.options.face=false", "task.options.consistency=none", "target=soft"]
CASES = pytest.mark.parametrize(
    "more",
    [[], pytest.param(["task.options.batchnorm=separate"], marks=pytest.mark.slow), FROZEN],
    ids=["shared", "separate", "frozen"],
)


def make(folder: Path, *more: str) -> Run:
    run = plan([*PERIOCULAR, f"runs_dir={folder}/runs", f"cache_dir={folder.parent}/cache", *more])
    ensure(run, fit.train_run)
    return run


def tensors(run: Run) -> dict[str, torch.Tensor]:
    return read_weights(run.weights).tensors


def same(one: Run, other: Run) -> bool:
    own, others = tensors(one), tensors(other)
    return own.keys() == others.keys() and all(torch.equal(own[name], others[name]) for name in own)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make(tmp_path_factory.mktemp("made"))


@pytest.mark.slow
@CASES
def test_trained_again_and_cut_and_resumed_it_has_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    whole = make(tmp_path / "a", *more)
    assert same(whole, make(tmp_path / "b", *more))
    cut = plan([*PERIOCULAR, f"runs_dir={tmp_path}/c/runs", f"cache_dir={tmp_path}/cache", *more])
    for parent in cut.parents.values():
        assert isinstance(parent, Run)
        ensure(parent, fit.train_run)
    cut_after_first_epoch(cut, monkeypatch)
    ensure(cut, fit.train_run)
    assert same(whole, cut)
    assert cut.record.metrics == whole.record.metrics


def test_the_record_is_of_the_band(made: Run) -> None:
    record = made.record
    assert {"train/loss", "train/task", "train/face", "train/to_periocular", "train/to_face"} <= record.history[
        0
    ].keys()
    assert {"rank1", "eer", "unmatched", "test_samples"} == record.metrics.keys()
    assert record.score == record.metrics["rank1"]
    weights = read_weights(made.weights)
    assert weights.reference is not None
    assert weights.reference.images.shape[2:] == band_size(28) == (11, 28)
    assert not any(name.startswith("face") for name in weights.tensors)
    assert {"curves.png", "samples.png"} <= {path.name for path in made.directory.iterdir()}


def test_evaluate_gives_the_recorded_numbers(made: Run) -> None:
    found = evaluate_run(made.directory, [])
    assert found == pytest.approx(made.record.metrics)


def test_pairs_of_whole_faces_are_refused(made: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate([f"run={made.directory}", "protocol=lfw", "root=/nowhere"]) != 0
    assert "sees bands about the eyes, and pairs are of whole faces: leave out protocol=" in capsys.readouterr().err


def test_it_is_no_teacher_of_faces(made: Run, tmp_path: Path) -> None:
    words = [*RUN, f"cache_dir={tmp_path}", f"teacher.weights={made.weights}", "teacher.model.width=8", "rate=2"]
    for student in (["task=embed", "target=cosine", "model.features=16"], ["target=soft"]):
        with pytest.raises(WeightsError, match="is of task=periocular: it sees the band about the eyes alone"):
            check_tree(plan([*words, *student]))


def test_its_export_takes_bands(made: Run, tmp_path: Path) -> None:
    exported = export(Subject.of_run(made.directory, []), Wish(["onnx"], tmp_path / "band", "facedistill export run=x"))
    assert (exported.input.height, exported.input.width) == band_size(28)
    assert exported.judged.metric == "rank1"
    assert exported.files[0].score == pytest.approx(made.record.metrics["rank1"], abs=5)
    assert exported.framing.kind == "template"
    (left, y), (right, other) = exported.framing.template[:2]
    assert (left, right) == pytest.approx((6.5, 20.5), abs=0.01)
    assert y == pytest.approx(other, abs=0.01) == pytest.approx(0.6 * 11 - 0.5, abs=0.01)
