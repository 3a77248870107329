"""Imitation: no label, no loss of its own, a teacher that sees its own view of the same face."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from facedistill.config.groups import ImageConfig
from facedistill.config.schema import Config
from facedistill.data.loading.datamodule import FaceData, pair_batches
from facedistill.distill.axes import TeacherOnAxes
from facedistill.distill.teacher import NetworkTeacher
from facedistill.errors import ConfigError, RunError, WeightsError
from facedistill.evaluate import evaluate_run
from facedistill.evaluation.scoring import embeddings
from facedistill.metrics.pairs import verification_metrics
from facedistill.models.network import build_network
from facedistill.models.weights import read_weights, save_weights
from facedistill.runs.ensure import ensure
from facedistill.runs.plan import check_tree, plan
from facedistill.runs.run import Run, WeightsFile
from facedistill.runs.sample_scores import SampleScores
from facedistill.training import fit
from facedistill.training.teachers import load_teachers
from tiny import RUN

Compose = Callable[..., Config]
EMBED = [*RUN, "task=embed", "rate=4", "target=cosine", "model.features=128"]


def trained(folder: Path, *words: str) -> Run:
    run = plan([*words, f"runs_dir={folder}/runs", f"cache_dir={folder}/cache"])
    ensure(run, fit.train_run)
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embed")


@pytest.fixture(scope="module")
def student(folder: Path) -> Run:
    return trained(folder, *EMBED)


@pytest.fixture(scope="module")
def narrow(folder: Path) -> Run:
    """Its embedding has 24 values, its teacher's 128."""
    return trained(folder, *RUN, "task=embed", "rate=4", "target=cosine", "model.features=24")


@pytest.fixture(scope="module")
def recognizer(folder: Path) -> Run:
    """Of faces of 32 pixels; its students will see 20."""
    return trained(folder, *RUN, "task=teacher", "image.resize=32", "image.crop=32")


def from_file(recognizer: Run, *words: str) -> list[str]:
    return [*EMBED, f"teacher.weights={recognizer.weights}", "teacher.contract.size=32", *words]


def test_without_a_target_there_is_nothing_to_learn(compose: Compose) -> None:
    with pytest.raises(ConfigError, match="task=embed learns from its target alone, and target=none is none"):
        compose("task=embed", "target=none")


def test_its_loss_is_that_of_its_target(student: Run) -> None:
    row = student.record.history[0]
    assert row["train/loss"] == pytest.approx(row["train/cosine"], rel=1e-6)
    assert "train/task" not in row
    assert 0 < row["train/cosine"] < 1.2
    assert student.record.target_weights == {"cosine": 1.0}, "there is no task whose gradient it could equal"
    assert student.parents["teacher"].name.startswith("teacher-r1")


def test_its_scores_are_those_of_student_and_teacher_asked_beside_each_other(student: Run) -> None:
    data = FaceData.of(student.config)
    teacher = load_teachers(student, data)["teacher"]
    published = NetworkTeacher.load(student.weights, student.config.network, 4)
    own, taught = [], []
    for batch in data.val_dataloader():
        own.append(published(batch.images).embedding)
        taught.append(teacher(batch.images).embedding)
        torch.testing.assert_close(batch.teacher_embeddings["teacher"].float(), taught[-1], rtol=1e-2, atol=1e-2)
    cosines = F.cosine_similarity(torch.cat(own).double(), torch.cat(taught).double(), dim=1)
    assert student.record.metrics["cosine"] == pytest.approx(100 * float(cosines.mean()), abs=0.01)
    kept = SampleScores.read(student.directory)
    assert kept is not None
    np.testing.assert_allclose(kept.score, 100 * cosines.numpy(), atol=0.05)


def test_pairs_are_scored_for_the_student_the_teacher_and_one_in_the_gallery_of_the_other(student: Run) -> None:
    data = FaceData.of(student.config)
    pairs = data.faces.pairs
    assert pairs is not None
    teacher = load_teachers(student, data)["teacher"]
    published = NetworkTeacher.load(student.weights, student.config.network, 4)
    cpu = torch.device("cpu")
    found = {
        name: embeddings(lambda images, of=of: of(images).embedding, pair_batches(pairs, student.config), cpu)  # type: ignore[misc]
        for name, of in (("student", published), ("teacher", teacher))
    }
    metrics = student.record.metrics
    for suffix, left, right in (
        ("", "student", "student"),
        ("_teacher", "teacher", "teacher"),
        ("_gallery", "teacher", "student"),
    ):
        cosine = np.einsum("pd,pd->p", found[left][pairs.left], found[right][pairs.right], dtype=np.float64)
        expected = verification_metrics(cosine, pairs.same, pairs.fold)
        for name in ("pairs", "pairs_auc"):
            assert metrics[name + suffix] == pytest.approx(expected[name], abs=1e-6), (name, suffix)


def test_a_narrower_student_imitates_its_teacher_on_the_axes_that_its_weights_bring(narrow: Run) -> None:
    axes = read_weights(narrow.weights).axes
    assert axes is not None
    assert axes.shape == (128, 24)
    data = FaceData.of(narrow.config)
    teacher = load_teachers(narrow, data)["teacher"]
    assert isinstance(teacher, TeacherOnAxes)
    assert torch.equal(teacher.axes, axes), "a run that resumes finds the same"
    plain = FaceData.of(narrow.config)
    faces = [teacher.whole(batch.images).embedding for batch in plain.test_loader(plain.faces.train)]
    assert F.normalize(torch.cat(faces), dim=1).matmul(axes).square().sum(1).mean() > 0.9
    published = NetworkTeacher.load(narrow.weights, narrow.config.network, 4)
    batches = list(data.val_dataloader())
    own = torch.cat([published(batch.images).embedding for batch in batches])
    taught = torch.cat([teacher.whole(batch.images).embedding for batch in batches]) @ axes
    expected = 100 * float(F.cosine_similarity(own.double(), taught.double(), dim=1).mean())
    assert narrow.record.metrics["cosine"] == pytest.approx(expected, abs=0.02)

    pairs = data.faces.pairs
    assert pairs is not None
    cpu = torch.device("cpu")
    probes, gallery = (
        embeddings(ask, pair_batches(pairs, narrow.config), cpu)
        for ask in (lambda images: published(images).embedding, lambda images: teacher.whole(images).embedding @ axes)
    )
    cosine = np.einsum("pd,pd->p", gallery[pairs.left], probes[pairs.right], dtype=np.float64)
    expected_auc = verification_metrics(cosine, pairs.same, pairs.fold)["pairs_auc"]
    assert narrow.record.metrics["pairs_auc_gallery"] == pytest.approx(expected_auc, abs=0.02)


@pytest.mark.parametrize("which", ["student", "narrow"])
def test_evaluate_gives_the_recorded_numbers(which: str, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(which)
    found, recorded = evaluate_run(run.directory, []), run.record.metrics
    assert found.keys() == recorded.keys()
    for name, value in found.items():  # a bank rounds the teacher to float16
        assert value == (recorded[name] and pytest.approx(recorded[name], rel=1e-3, abs=0.02)), name


def test_a_teacher_with_a_size_of_its_own_sees_the_whole_face_and_its_mirror_image(
    recognizer: Run, folder: Path
) -> None:
    run = plan([*from_file(recognizer), f"runs_dir={folder}/runs", f"cache_dir={folder}/cache"])
    data = FaceData.of(run.config)
    teacher = load_teachers(run, data)["teacher"]
    whole = data.seen_as(ImageConfig(32, 32)).faces.images
    seen = {True: 0, False: 0}
    for batch in data.train_dataloader():
        assert batch.images.shape[2:] == (20, 20)
        faces = torch.from_numpy(np.stack([whole[int(index)] for index in batch.indices])).permute(0, 3, 1, 2)
        shown = torch.where(batch.mirrored[:, None, None, None], faces.flip(3), faces)
        expected = teacher(shown).embedding
        torch.testing.assert_close(batch.teacher_embeddings["teacher"].float(), expected, rtol=1e-2, atol=1e-2)
        for mirrored in batch.mirrored.tolist():
            seen[mirrored] += 1
    assert min(seen.values()) > 5
    for batch in data.val_dataloader():
        faces = torch.from_numpy(np.stack([whole[int(index)] for index in batch.indices])).permute(0, 3, 1, 2)
        torch.testing.assert_close(
            batch.teacher_embeddings["teacher"].float(), teacher(faces).embedding, rtol=1e-2, atol=1e-2
        )


def test_all_seeds_and_crops_share_what_it_said(recognizer: Run, folder: Path) -> None:
    def banks() -> set[Path]:
        return set((folder / "cache").glob("bank-*"))

    trained(folder, *from_file(recognizer))
    before = banks()
    for words in (["seed=1"], ["image.crop=16", "schedule.epochs=2"], ["augment=recognizer"]):
        trained(folder, *from_file(recognizer, *words))
    assert banks() == before


def test_a_recognizer_of_ours_is_asked_at_the_size_that_it_learnt_from(recognizer: Run, folder: Path) -> None:
    """It would answer at any, and be worth little."""
    words = [*from_file(recognizer), f"runs_dir={folder}/runs", f"cache_dir={folder}/cache"]
    with pytest.raises(ConfigError, match=r"was trained with image\.resize=32 image\.crop=32, and is to see"):
        plan([*words, "teacher.contract.size=48"])
    run = plan([*words, "teacher.contract.size=null"])
    data = FaceData.of(run.config)
    load_teachers(run, data)
    batch = next(iter(data.test_loader(data.faces.test[:2])))
    own = FaceData.of(recognizer.config)
    expected = NetworkTeacher.load(recognizer.weights, {})(next(iter(own.test_loader(own.faces.test[:2]))).images)
    torch.testing.assert_close(batch.teacher_embeddings["teacher"].float(), expected.embedding, rtol=1e-2, atol=1e-2)


def test_the_directory_of_a_run_says_all_of_its_recognizer(folder: Path) -> None:
    """Its network, and the crop that it saw of a larger face."""
    own = ["teacher.model.width=12", "image.resize=32", "image.crop=24"]
    made = trained(folder, *RUN, "task=teacher", *own)
    run = trained(folder, *EMBED, f"teacher.weights={made.directory}", "model.features=96")
    file = run.parents["teacher"]
    assert isinstance(file, WeightsFile)
    assert (file.weights, file.pixels) == (made.weights, ImageConfig(32, 24))
    data = FaceData.of(run.config)
    load_teachers(run, data)
    batch = data.first_batches(1)[0]
    seen = FaceData.of(made.config)
    whole = torch.from_numpy(np.stack([seen.faces.images[index][4:28, 4:28] for index in batch.indices]))
    whole = torch.where(batch.mirrored[:, None, None, None], whole.flip(2), whole).permute(0, 3, 1, 2)
    expected = NetworkTeacher.load(made.weights, {})(whole).embedding
    torch.testing.assert_close(batch.teacher_embeddings["teacher"].float(), expected, rtol=1e-2, atol=1e-2)
    assert evaluate_run(run.directory, [])


@pytest.mark.parametrize(
    "said",
    [{"resize": 32}, {"resize": 32, "crop": 64}, {"resize": 32, "crop": 1.5}, {"resize": 10**9, "crop": 9}, [], 7],
)
def test_a_file_that_says_impossible_pixels_is_refused(compose: Compose, tmp_path: Path, said: object) -> None:
    model = compose("teacher.model.width=8").teacher.model
    save_weights(tmp_path / "w.safetensors", build_network(model, 1), {"model": model, "rate": 1, "image": said})
    with pytest.raises(WeightsError, match=r"w\.safetensors says that it takes images of .*no size"):
        plan([*EMBED, f"teacher.weights={tmp_path}/w.safetensors"])


def test_a_recognizer_shows_its_score_at_its_own_size(recognizer: Run, folder: Path) -> None:
    """Students of 20 pixels learn from one that was trained, and is asked, at 32."""
    words = [word for word in from_file(recognizer) if not word.startswith(("task=", "target="))]
    run = trained(folder, *words, "target=hidden")
    assert "train/hidden" in run.record.history[0]


def test_another_recognizer_in_the_place_of_its_teacher_is_noticed(recognizer: Run, folder: Path) -> None:
    run = trained(folder, *from_file(recognizer))
    other = trained(folder, *RUN, "task=teacher", "image.resize=32", "image.crop=32", "teacher.seed=5", "seed=5")
    with pytest.raises(RunError, match=r"is not the recognizer that it imitated: teacher\.weights=FILE names that"):
        evaluate_run(run.directory, [f"teacher.weights={other.weights}"])


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("target.views=live", r"asks the teacher about the student's own pixels.* Use target\.views=all"),
        ("target=soft", r"needs identities, and task=embed has none\. Use target=cosine"),
        ("target=hidden", r"behind a map that is dropped.* Use target=cosine"),
        ("model.features=256", r"has 256 values, the teacher's 128: model\.features=128"),
    ],
)
def test_what_it_can_not_do_is_refused(recognizer: Run, folder: Path, word: str, said: str) -> None:
    words = [one for one in from_file(recognizer) if one.split("=")[0] != word.split("=")[0]]
    with pytest.raises(ConfigError, match=said):
        check_tree(plan([*words, word, f"runs_dir={folder}/runs", f"cache_dir={folder}/cache"]))
