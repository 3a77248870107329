"""Rounds: new faces while a student trains, the same bits however often it was cut, and no question asked twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from facedistill.config.schema import Config
from facedistill.data.loading.datamodule import FaceData
from facedistill.data.loading.views import FaceBatch
from facedistill.data.sources.source import Round
from facedistill.distill.teacher import NetworkTeacher, TeacherOutput
from facedistill.errors import ConfigError, DataError
from facedistill.models.weights import read_weights
from facedistill.runs.ensure import ensure
from facedistill.runs.plan import check_tree, plan
from facedistill.runs.run import Run
from facedistill.tasks.base import ScheduledModule
from facedistill.training import fit
from facedistill.training.rounds import TaughtRounds
from made_records import all_records
from tiny import RUN

Compose = Callable[..., Config]
SOURCE = ["data=latent", "data.faces_per_round=12", "data.test_faces=4", "data.aligned=false"]
PEOPLE = ["data@recognition=synthetic", *(word.replace("data.", "recognition.") for word in RUN[:3])]
STUDENT = [*RUN[3:], "task=embed", "target=raw", "rate=4", "model.features=128", *SOURCE, *PEOPLE, "schedule.epochs=3"]
STUDENT += ["task.learning_rates.random=[0.01]", "schedule.epochs=6", "trainer.score_every=0"]


def planned(folder: Path, *words: str, runs: str = "runs") -> Run:
    return plan([*STUDENT, *words, f"runs_dir={folder}/{runs}", f"cache_dir={folder}/cache"])


def trained(folder: Path, *words: str, runs: str = "runs") -> Run:
    run = planned(folder, *words, runs=runs)
    ensure(run, fit.train_run)
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rounds")


@pytest.fixture(scope="module")
def student(folder: Path) -> Run:
    return trained(folder)


def weights(run: Run) -> dict[str, torch.Tensor]:
    return read_weights(run.weights).tensors


def assert_same(one: Run, other: Run) -> None:
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, weights(other)[name]), name
    keys = ("epoch", "train/loss")
    first, second = ([[row[key] for key in keys] for row in run.record.history] for run in (one, other))
    assert first == second
    assert one.record.metrics == other.record.metrics


class Cut(Exception):
    """Stands for a power cut."""


def cut_after(run: Run, epochs: int, batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train a run, and end it within an epoch, or right at its beginning."""

    def step(self: ScheduledModule, batch: FaceBatch, index: int) -> Any:
        if self.trainer.current_epoch == epochs and index == batches:
            raise Cut
        return of_embed(self, batch, index)

    from facedistill.tasks.embed import Embed

    of_embed = Embed.training_step
    with monkeypatch.context() as patched:
        patched.setattr(Embed, "training_step", step)
        with pytest.raises(Cut):
            ensure(run, fit.train_run)
    assert not run.is_complete


@pytest.mark.parametrize(("epochs", "batches"), [(1, 0), (1, 1), (2, 0), (3, 1)])
def test_a_run_that_was_cut_and_goes_on_ends_as_one_that_was_not(
    student: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, epochs: int, batches: int
) -> None:
    """Also in a round whose faces depend on what the student said before the cut."""
    name = f"cut-{epochs}-{batches}"
    cut_after(planned(folder, runs=name), epochs, batches, monkeypatch)
    assert_same(trained(folder, runs=name), student)


def test_a_run_that_is_trained_again_elsewhere_is_the_same(student: Run, tmp_path: Path) -> None:
    assert_same(trained(tmp_path), student)


def test_rounds_of_several_epochs_are_cut_and_go_on_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(folder, "data.epochs_a_round=2")
    cut_after(planned(folder, "data.epochs_a_round=2", runs="cut-3"), 3, 1, monkeypatch)
    assert_same(trained(folder, "data.epochs_a_round=2", runs="cut-3"), whole)


def rounds_of(run: Run, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Round, int]]:
    """The rounds that a run is trained on, and the views it has of them."""
    found = []

    def prepare(self: TaughtRounds, of: Round, view: int) -> Any:
        found.append((of, view))
        return really(self, of, view)

    really = TaughtRounds.__call__
    with monkeypatch.context() as patched:
        patched.setattr(TaughtRounds, "__call__", prepare)
        ensure(run, fit.train_run)
    return found


def test_dynamic_moves_every_second_round_by_what_the_student_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: dict[int, dict[int, float]] = {}

    def watch(self: Any, answers: Any) -> None:
        cosines = F.cosine_similarity(answers.student.embedding, answers.teachers["teacher"].embedding).tolist()
        said.setdefault(self.trainer.current_epoch, {}).update(
            zip(answers.batch.indices.tolist(), cosines, strict=True)
        )
        really(self, answers)

    from facedistill.tasks.embed import Embed

    really = Embed.watch
    monkeypatch.setattr(Embed, "watch", watch)
    run = planned(folder, "data.epochs_a_round=2", "seed=5")
    rounds = rounds_of(run, monkeypatch)
    assert [(of.number, view) for of, view in rounds] == [(0, 0), (0, 1), (1, 2), (1, 3), (2, 4), (2, 5)]
    source = FaceData.of(run.config).source
    imitated = np.array([said[1][index] for index in range(12)], np.float32)  # when it last saw them
    assert rounds[2][0].key == source.in_round(1, imitated).key == rounds[3][0].key
    assert rounds[4][0].key == source.in_round(2, None).key


def test_what_no_student_had_a_part_in_is_rendered_and_asked_once(
    student: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def answer(self: NetworkTeacher, images: torch.Tensor) -> TeacherOutput:
        asked.append(len(images))
        return really(self, images)

    words = [f"teacher.weights={student.parents['teacher'].weights}", "data.sampling=static"]  # it sees its own pixels
    trained(folder, *words)
    really = NetworkTeacher.__call__
    monkeypatch.setattr(NetworkTeacher, "__call__", answer)
    trained(folder, *words, "seed=1")
    without_rounds = sum(asked)  # its reference images, and some test faces to compare its bank with
    trained(folder, *words, "seed=1", "data.sampling=dynamic")
    left = sorted(path.name for path in (folder / "cache").glob("latent-round-*"))
    asked.clear()
    trained(folder, *words, "seed=2", "data.sampling=dynamic")
    assert sum(asked) == without_rounds + 3 * 12, "of six rounds three are moved"
    assert sorted(path.name for path in (folder / "cache").glob("latent-round-*")) == left, (
        "those go with their student"
    )


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_answers_are_those_of_a_teacher_that_is_asked_now(
    folder: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    found: list[tuple[torch.Tensor, torch.Tensor]] = []

    def step(self: Any, batch: FaceBatch, index: int) -> Any:
        found.append((batch.teacher_embeddings["teacher"].float(), self.teachers["teacher"](batch.images).embedding))
        return of_embed(self, batch, index)

    from facedistill.tasks.embed import Embed

    of_embed = Embed.training_step
    monkeypatch.setattr(Embed, "training_step", step)
    trained(folder, "seed=7", f"trainer.precision={precision}")
    assert len(found) == 6 * 2
    for banked, live in found:
        assert live.dtype == (torch.float32 if precision == "32-true" else torch.bfloat16)
        assert (banked - live).norm() < 5e-4 * live.float().norm(), "what float16 rounds"


def test_a_fixed_set_is_a_data_set_as_any_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = planned(folder, "data.sampling=fixed")
    assert rounds_of(run, monkeypatch) == []
    assert run.record.data["train"] == 12


def test_a_narrower_student_of_rounds_is_refused_before_it_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the student's embedding has 24 values.*128.*model.features=128"):
        check_tree(planned(tmp_path, "model.features=24"))


def test_pairs_may_be_those_of_another_set(folder: Path, student: Run) -> None:
    protocol = ["data@protocol=synthetic", "protocol.num_identities=4", "protocol.images_per_identity=12"]
    run = trained(folder, *protocol, "protocol.pairs_per_fold=2")
    assert run.identity != student.identity
    assert "pairs" not in student.record.metrics
    assert run.record.metrics["pairs"] is not None
    assert {"pairs_teacher", "pairs_gallery"} <= run.record.metrics.keys()
    for name, tensor in weights(student).items():
        assert torch.equal(tensor, weights(run)[name]), "they are scored, and nothing is learnt of them"
    other = planned(folder, *protocol, "protocol.pairs_per_fold=4")
    assert other.identity != run.identity


def test_a_protocol_without_pairs_is_refused_before_it_runs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data@protocol=latent has no pairs to verify. Use data@protocol=lfw"):
        planned(tmp_path, "data@protocol=latent")


def test_other_tasks_need_people(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="task=classify needs identities, which data=latent does not give"):
        plan([*RUN[3:], *SOURCE, "task=classify", f"runs_dir={tmp_path}"])


@pytest.mark.slow
def test_two_ranks_learn_from_the_rounds_that_one_process_has(tmp_path: Path) -> None:
    losses = []
    for ranks in ([], ["trainer=ddp", "trainer.accelerator=cpu"]):
        folder = tmp_path / f"{len(ranks)}"
        line = [sys.executable, "-m", "facedistill.train", *STUDENT, *ranks, f"runs_dir={folder}"]
        done = subprocess.run([*line, f"cache_dir={tmp_path}/cache"], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        [record] = [record for record in all_records(folder) if record.name.startswith("embed")]
        losses.append([row["train/loss"] for row in record.history])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
