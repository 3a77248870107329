"""The teachers of a run: they show their score before they teach, and are addressed by role."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from facedistill.config.schema import Config
from facedistill.data.loading.datamodule import FaceData
from facedistill.distill.teacher import NetworkTeacher, Teacher, TeacherInput, TeacherOutput
from facedistill.errors import ConfigError, WeightsError
from facedistill.evaluation.scoring import Probe
from facedistill.models.network import build_network
from facedistill.models.weights import read_weights, save_weights
from facedistill.runs.ensure import ensure
from facedistill.runs.folders import find_runs
from facedistill.runs.plan import check_tree, plan
from facedistill.runs.run import Run
from facedistill.runs.verify import faults_of
from facedistill.training import fit
from facedistill.training import teachers as teachers_module
from facedistill.training.teachers import bank_contents, check_probe, load_teachers
from tiny import MODULE as TINY
from tiny import RUN

WORDS = [*RUN, "rate=8"]
Compose = Callable[..., Config]


def teacher_that_says(compose: Compose, about: dict[str, Any], identities: int = 4) -> NetworkTeacher:
    return NetworkTeacher(build_network(compose(*TINY).teacher.model, 1, identities), about)


def top1(correct: int, samples: int = 400) -> Probe:
    return Probe("top1", 100 * correct / samples, samples, higher_is_better=True)


def test_a_score_that_was_recorded_has_to_be_met(compose: Compose) -> None:
    teacher, path = teacher_that_says(compose, {"probe": top1(300)._asdict()}), Path("w.safetensors")
    for correct in (300, 301, 400, 298):  # half a percent of the samples may differ on another machine
        check_probe(teacher, top1(correct), path)
    for correct in (297, 100, 0):
        with pytest.raises(WeightsError, match=rf"w\.safetensors has top1 {correct / 4:.2f} on 400.*75\.00 on 400"):
            check_probe(teacher, top1(correct), path)
    with pytest.raises(WeightsError, match=r"on 399 .*on 400"):  # other data, even where it scores better
        check_probe(teacher, top1(399, 399), path)


def test_another_augmentation_is_another_bank(planned: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teachers_module, "sha256", lambda path: "the same weights")
    paper, other = planned(*WORDS, "target=soft"), planned(*WORDS, "target=soft", "augment=recognizer")
    contents = [bank_contents(run, paper.parents["teacher"], torch.device("cpu")) for run in (paper, other)]
    assert contents[1] == {**contents[0], "augment": "recognizer"}
    assert "augment" not in contents[0]  # the banks that are there stay


def test_an_error_that_was_recorded_must_not_grow(compose: Compose) -> None:
    def nrmse(value: float) -> Probe:
        return Probe("nrmse", value, 400, higher_is_better=False)

    teacher, path = teacher_that_says(compose, {"probe": nrmse(3.0)._asdict()}), Path("w.safetensors")
    for value in (1.0, 3.0, 3.4):
        check_probe(teacher, nrmse(value), path)
    for value in (3.6, 90.0, float("nan")):
        with pytest.raises(WeightsError, match="nrmse"):
            check_probe(teacher, nrmse(value), path)


def test_a_foreign_teacher_has_to_beat_chance(compose: Compose) -> None:
    path = Path("foreign.pt")
    for identities, chance in ((4, 100), (100, 4)):
        teacher = teacher_that_says(compose, {}, identities)
        for correct in (0, chance, 2 * chance):
            with pytest.raises(WeightsError, match=rf"foreign\.pt is right on .*chance among {identities} identities"):
                check_probe(teacher, top1(correct), path)
        check_probe(teacher, top1(2 * chance + 1), path)


def test_a_perfect_foreign_teacher_of_two_identities_is_accepted(compose: Compose) -> None:
    check_probe(teacher_that_says(compose, {}, 2), top1(400), Path("foreign.pt"))


def trained(folder: Path, *words: str) -> Run:
    run = plan([*WORDS, f"runs_dir={folder}", *words])
    ensure(run, fit.train_run)
    return run


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("teacher"), "task=teacher", "rate=1")


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished recognizer of timm's, without a classifier and under its own names."""
    torch.manual_seed(3)
    model = {"type": "timm", "architecture": "resnet18", "features": 24}
    path = tmp_path_factory.mktemp("recognizer") / "recognizer.safetensors"
    save_weights(path, build_network(model, 1).backbone.net, {})
    return path


def as_teacher(recognizer: Path) -> list[str]:
    return [
        *("model@teacher.model=timm", "teacher.model.name=resnet18", "teacher.model.features=24"),
        *("teacher.model.mean=[127.5,127.5,127.5]", "teacher.model.std=[128,128,128]", f"teacher.weights={recognizer}"),
    ]


@pytest.mark.parametrize("cell", [["init=scratch"], ["init=full"], ["init=fitnet"], ["target.views=live"]], ids=str)
def test_a_finished_recognizer_teaches_every_target_that_needs_no_logits(
    recognizer: Path, tmp_path: Path, cell: list[str]
) -> None:
    words = [word for word in WORDS if not word.startswith("teacher.model")]
    run = plan([*words, f"runs_dir={tmp_path}", "target=hidden", *cell, *as_teacher(recognizer)])
    check_tree(run)
    before = recognizer.read_bytes()
    ensure(run, fit.train_run)
    assert {"train/hidden", "train/task"} <= run.record.history[-1].keys()
    assert run.record.parents["teacher"] == str(recognizer)
    assert run.record.teacher_score is None
    assert recognizer.read_bytes() == before


@pytest.mark.parametrize("target", ["soft", "logits"])
def test_a_target_that_needs_logits_is_refused_before_anything_is_trained(
    recognizer: Path, tmp_path: Path, target: str
) -> None:
    words = [word for word in WORDS if not word.startswith("teacher.model")]
    words += [f"runs_dir={tmp_path}/runs", "init=full", f"target={target}"]
    said = rf"has no classifier.*target\.terms\.{target}.*target=hidden"
    with pytest.raises(ConfigError, match=said):
        plan([*words, *as_teacher(recognizer)])
    torch.save(read_weights(recognizer).tensors, tmp_path / "recognizer.pt")  # only torch can look into it
    run = plan([*words, *as_teacher(tmp_path / "recognizer.pt")])
    with pytest.raises(ConfigError, match=said):
        check_tree(run)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("suffix", [".safetensors", pytest.param(".pt", marks=pytest.mark.slow)])
def test_a_plain_classifier_of_timm_gives_logits_where_it_knows_these_identities(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(0)
    net, path = timm.create_model("test_resnet", num_classes=4), tmp_path / f"net{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(net.state_dict(), path)
    words = [word for word in WORDS if not word.startswith("teacher.model")]
    words += ["model@teacher.model=timm", "teacher.model.name=test_resnet", f"teacher.weights={path}", "target=soft"]
    words += ["teacher.model.mean=[127.5,127.5,127.5]", "teacher.model.std=[128,128,128]"]
    run = plan([*words, f"cache_dir={tmp_path}"])
    check_tree(run)
    with pytest.raises(WeightsError, match="no more than chance among 4 identities"):  # so its logits were asked
        load_teachers(run, FaceData.of(run.config))
    others = plan([*words, f"cache_dir={tmp_path}", "data.num_identities=5"])
    with pytest.raises(WeightsError, match=r"no classifier of this data's identities.*has 5.*teacher\.backbone="):
        load_teachers(others, FaceData.of(others.config))


@pytest.mark.slow
def test_how_a_recognizer_normalizes_is_part_of_its_identity_and_of_its_bank(recognizer: Path, tmp_path: Path) -> None:
    words = [*(word for word in WORDS if not word.startswith("teacher.model")), f"runs_dir={tmp_path}/runs"]
    words += ["target=hidden", f"cache_dir={tmp_path}/cache", *as_teacher(recognizer)]
    first, other = trained_words(words), trained_words([*words, "teacher.model.std=[255,255,255]"])
    assert first.identity != other.identity
    assert len(list((tmp_path / "cache").glob("bank-*"))) == 2
    assert first.record.history[0]["train/hidden"] != other.record.history[0]["train/hidden"]


def trained_words(words: list[str]) -> Run:
    run = plan(words)
    ensure(run, fit.train_run)
    return run


@pytest.mark.parametrize("views", ["all", pytest.param("live", marks=pytest.mark.slow)])
def test_two_teachers_of_two_widths_teach_one_student(teacher: Run, tmp_path: Path, views: str) -> None:
    wide = trained(tmp_path / "wide", "task=teacher", "rate=1", "teacher.model.width=24", "seed=5")
    words = ["target=soft", "target.beta=0.5", "target.terms.hidden.from=second", f"target.views={views}"]
    run = plan([*WORDS, f"runs_dir={tmp_path}/runs", *words, f"+teachers.second.weights={wide.weights}"])
    assert list(run.parents) == ["teacher", "second"]
    assert run.recipe["target"]["hidden"]["from"] == "second"
    ensure(run, fit.train_run)
    row = run.record.history[0]
    assert row["train/loss"] == pytest.approx(
        row["train/task"] + row["train/soft"] + 0.5 * row["train/hidden"], rel=1e-5
    )
    data = FaceData.of(run.config)
    teachers = load_teachers(run, data)
    assert {role: (found.width, found.num_identities) for role, found in teachers.items()} == {
        "teacher": (128, 4),
        "second": (192, 4),
    }
    batch = next(iter(data.train_dataloader()))
    assert batch.teacher_embeddings.keys() == (set() if views == "live" else {"teacher", "second"})
    for role, embedding in batch.teacher_embeddings.items():
        expected = teachers[role](batch.images).embedding
        torch.testing.assert_close(embedding.float(), expected, rtol=1e-2, atol=1e-2)
    alone = plan([*WORDS, f"runs_dir={tmp_path}/runs", *words[:2], f"target.views={views}"])
    assert alone.identity != run.identity


class MeanColour(Teacher):
    """A teacher that is no network."""

    input, width = TeacherInput(None, None, None), 3

    def __call__(self, images: torch.Tensor) -> TeacherOutput:
        return self.from_embedding(images.float().mean((2, 3)) / 255)

    def from_embedding(self, embedding: torch.Tensor) -> TeacherOutput:
        return TeacherOutput(embedding, None)

    def to(self, device: torch.device) -> None:
        pass


@pytest.mark.parametrize("views", ["all", pytest.param("live", marks=pytest.mark.slow)])
def test_whatever_keeps_the_protocol_teaches(
    recognizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, views: str
) -> None:
    monkeypatch.setattr(teachers_module, "load_teacher", lambda parent, identities, threads: MeanColour())
    words = ["target=hidden", f"target.views={views}", f"teacher.weights={recognizer}", f"cache_dir={tmp_path}/cache"]
    run = trained(tmp_path / "runs", *words)
    assert 0 < run.record.history[-1]["train/hidden"] < 10
    assert bool(list((tmp_path / "cache").glob("bank-*"))) == (views == "all")
    fitnet = plan([*WORDS, f"runs_dir={tmp_path}/runs", *words, "init=fitnet"])
    with pytest.raises(WeightsError, match="no middle layer to start FitNet from"):
        ensure(fitnet, fit.train_run)


def test_another_number_of_identities_is_refused_only_where_logits_are_compared(teacher: Run, tmp_path: Path) -> None:
    words = [f"runs_dir={tmp_path}", "data.num_identities=5", f"teacher.weights={teacher.weights}"]
    with pytest.raises(WeightsError, match="has a classifier of 4 identities, this data has 5"):
        trained(tmp_path, "target=soft", *words)
    assert trained(tmp_path, "target=hidden", *words).is_complete


def test_weights_that_do_not_do_what_they_did_are_refused(teacher: Run, tmp_path: Path) -> None:
    tensors, about, reference, _ = read_weights(teacher.weights)
    assert reference is not None
    network = build_network(teacher.config.network, 1, 4)
    network.load_state_dict({**tensors, "backbone.net.conv1.weight": -tensors["backbone.net.conv1.weight"]})
    save_weights(tmp_path / "other.safetensors", network, about, reference)
    with pytest.raises(WeightsError, match=r"other\.safetensors says something else of the images"):
        trained(tmp_path / "runs", "target=hidden", f"teacher.weights={tmp_path / 'other.safetensors'}")


def test_a_file_needs_its_architecture_only_where_it_does_not_say_it(recognizer: Path, tmp_path: Path) -> None:
    words = ["target=hidden", "target.terms.hidden.from=second", f"+teachers.second.weights={recognizer}"]
    with pytest.raises(WeightsError, match="does not say what network it is of"):
        trained(tmp_path, *words)
    named = ["+model@teachers.second.model=timm", "teachers.second.model.name=resnet18"]
    assert trained(tmp_path, *words, *named, "teachers.second.model.features=24").is_complete


@pytest.mark.parametrize("views", ["all", pytest.param("live", marks=pytest.mark.slow)])
def test_an_onnx_file_teaches(tmp_path: Path, views: str) -> None:
    pytest.importorskip("onnxruntime")
    from onnx_files import WIDTH, recognizer, saved

    file = saved(tmp_path / "w.onnx", recognizer(side=20))
    words = [f"cache_dir={tmp_path}/cache", f"target.views={views}", f"teacher.weights={file}", "target=hidden"]
    contract = ["contract=arcface", f"teacher.contract.size={20 if views == 'all' else 'null'}"]
    run = trained(tmp_path / "runs", *words, *contract)
    assert {"train/hidden", "train/task"} <= run.record.history[-1].keys()
    assert run.record.parents["teacher"] == str(file)
    folders = find_runs(run.directory.parent)
    assert [fault for folder in folders for fault in faults_of(folder, folders)] == []
    data = FaceData.of(run.config)
    teacher = load_teachers(run, data)["teacher"]
    assert (teacher.width, teacher.input.colour) == (WIDTH, "rgb")
    banks = [{path.name for path in (tmp_path / "cache").glob("bank-*")}]
    if views == "all":
        trained(tmp_path / "runs", *words, *contract, "teacher.contract.colour=bgr")
        banks.append({path.name for path in (tmp_path / "cache").glob("bank-*")})
    assert [len(found) for found in banks] == ([1, 2] if views == "all" else [0])
