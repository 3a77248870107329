"""The bank says what the teacher says, is made once, also by several, and is believed only as far as it is checked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import nn

from facedistill.config.schema import Config
from facedistill.data.faces import FaceSet
from facedistill.data.loading.datamodule import FaceData
from facedistill.data.loading.view_schedule import EVAL_VIEW, mirror_of
from facedistill.distill import bank as bank_module
from facedistill.distill.bank import Bank, BankMaker, KeptEmbedding
from facedistill.distill.targets.soft import SoftTarget
from facedistill.distill.teacher import NetworkTeacher, TeacherOutput
from facedistill.errors import DataError, DiskError
from facedistill.models.network import NetworkOutput, build_network

Compose = Callable[..., Config]
TINY = ["image.resize=24", "image.crop=16", "teacher.model.width=16", "task.batch_size=8", "target=soft", "rate=8"]


class Counted(NetworkTeacher):
    """Remembers how many images it has answered for."""

    answered = 0

    def __call__(self, images: torch.Tensor) -> TeacherOutput:
        self.answered += len(images)
        return super().__call__(images)


def counted(config: Config, seed: int = 0) -> Counted:
    torch.manual_seed(seed)
    network = build_network(config.teacher.model, 1, 4)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
            part.running_mean.normal_()
    return Counted(network, {})


@pytest.fixture
def config(compose: Compose) -> Config:
    return compose(*TINY)


@pytest.fixture
def data(config: Config, faces: FaceSet) -> FaceData:
    return FaceData(config, faces)


def maker(
    config: Config, data: FaceData, tmp_path: Path, kind: str = "float16", teacher: NetworkTeacher | None = None
) -> BankMaker:
    taught = teacher or counted(config)
    keeps = KeptEmbedding(taught.width, kind)
    return BankMaker(taught, data, torch.device("cpu"), tmp_path, keeps, {"teacher": "w", "seed": 0}, data.faces.train)


def keys_of(data: FaceData, view: int) -> list[tuple[int, int]]:
    return [(int(index), view) for index in data.faces.train]


def live(made: BankMaker, keys: list[tuple[int, int]]) -> torch.Tensor:
    [batch] = made.data.loader([keys])
    return made.teacher(batch.images).embedding


def test_it_says_what_the_teacher_says_of_every_sample_and_view(config: Config, data: FaceData, tmp_path: Path) -> None:
    whole, half = (maker(config, data, tmp_path, kind) for kind in ("float32", "float16"))
    exact, rounded = whole.open(range(3)), half.open(range(3))
    for view in range(3):
        keys = keys_of(data, view)
        said = live(whole, keys).numpy()
        np.testing.assert_allclose(exact(keys), said, rtol=1e-6, atol=1e-6)
        assert rounded(keys).dtype == np.float16
        np.testing.assert_array_equal(rounded(keys), said.astype(np.float16))
    mixed = [(int(data.faces.train[5]), 2), (int(data.faces.train[0]), 0), (int(data.faces.train[5]), 1)]
    np.testing.assert_allclose(exact(mixed), live(whole, mixed).numpy(), rtol=1e-5, atol=1e-5)
    assert not np.array_equal(exact(keys_of(data, 0)), exact(keys_of(data, 1)))


@pytest.mark.parametrize(("kind", "off", "cosine"), [("float16", 1e-3, 0.9999), ("float32", 1e-6, 1 - 1e-6)])
def test_a_soft_loss_and_its_gradient_are_those_of_a_live_teacher(
    config: Config, data: FaceData, tmp_path: Path, kind: str, off: float, cosine: float
) -> None:
    made, keys = maker(config, data, tmp_path, kind), keys_of(data, 0)
    recalled = torch.from_numpy(made.open(range(1))(keys)).float()
    student = torch.randn(len(keys), 4, generator=torch.Generator().manual_seed(1))
    found = []
    for features in (recalled, live(made, keys)):
        logits = student.clone().requires_grad_()
        answer = NetworkOutput(torch.zeros(len(keys), 2), logits, torch.empty(0))
        loss = SoftTarget(1.0, 2, 2, tau=3.0, tau_squared=True)(answer, made.teacher.from_embedding(features))
        loss.backward()
        assert logits.grad is not None
        found.append((loss.item(), logits.grad.ravel()))
    (banked, gradient), (answered, expected) = found
    assert banked == pytest.approx(answered, rel=off)
    assert F.cosine_similarity(gradient, expected, 0) >= cosine


def test_a_view_and_its_mirror_are_two_files_of_one_bank(config: Config, data: FaceData, tmp_path: Path) -> None:
    made = maker(config, data, tmp_path)
    bank, plain = made.open([0, mirror_of(0)]), made.open([0])
    assert {path.stem for path in made.folder.glob("*.npz")} == {"view-0000", "view-0000-mirrored"}
    np.testing.assert_array_equal(bank(keys_of(data, 0)), plain(keys_of(data, 0)))
    keys = keys_of(data, mirror_of(0))
    np.testing.assert_array_equal(bank(keys), live(made, keys).numpy().astype(np.float16))


def test_each_sample_and_view_is_answered_once_and_a_longer_schedule_adds(
    config: Config, data: FaceData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher, train, spots = counted(config), len(data.faces.train), bank_module.SPOTS
    made = maker(config, data, tmp_path, teacher=teacher)
    assert not made.is_there(range(1))
    made.open(range(2))
    assert f"2 views × {train} samples × 128 values" in capsys.readouterr().err
    assert teacher.answered == 2 * train + 2 * spots
    assert made.is_there(range(2))
    assert not made.is_there(range(3))
    made.open(range(2))
    assert capsys.readouterr().err == ""
    assert teacher.answered == 2 * train + 4 * spots
    made.open(range(3))
    assert teacher.answered == 3 * train + 7 * spots


def test_another_teacher_seed_or_kind_is_another_bank(config: Config, data: FaceData, tmp_path: Path) -> None:
    one = maker(config, data, tmp_path)
    others = [
        maker(config, data, tmp_path, "float32"),
        BankMaker(one.teacher, data, one.device, tmp_path, one.keeps, {"teacher": "w", "seed": 1}, data.faces.train),
        BankMaker(one.teacher, data, one.device, tmp_path, one.keeps, {"teacher": "v", "seed": 0}, data.faces.train),
    ]
    assert len({one.folder, *(other.folder for other in others)}) == 4


def test_who_finds_a_view_being_made_makes_another_meanwhile(config: Config, data: FaceData, tmp_path: Path) -> None:
    made, expected = maker(config, data, tmp_path / "one"), maker(config, data, tmp_path / "other").open(range(3))
    made.folder.mkdir(parents=True)
    begun, order = threading.Event(), []

    def makes_the_first() -> None:
        with FileLock(made.folder / "view-0000.lock"):
            begun.set()
            while not all((made.folder / f"view-000{view}.npz").exists() for view in (1, 2)):
                time.sleep(0.01)
            order.append((made.folder / "view-0000.npz").exists())

    other = threading.Thread(target=makes_the_first)
    other.start()
    begun.wait()
    bank = made.open(range(3))
    other.join()
    assert order == [False]
    for view in range(3):
        np.testing.assert_array_equal(bank(keys_of(data, view)), expected(keys_of(data, view)))


def test_it_goes_on_where_it_was_killed(
    config: Config, data: FaceData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bank_module, "EVAL_BATCH", 8)
    whole = maker(config, data, tmp_path / "whole").open(range(1))

    class Killed(Counted):
        def __call__(self, images: torch.Tensor) -> TeacherOutput:
            if self.answered >= 16:
                raise KeyboardInterrupt
            return super().__call__(images)

    with pytest.raises(KeyboardInterrupt):
        maker(config, data, tmp_path, teacher=Killed(counted(config).network, {})).open(range(1))
    teacher = counted(config)
    bank = maker(config, data, tmp_path, teacher=teacher).open(range(1))
    assert teacher.answered == len(data.faces.train) - 16 + bank_module.SPOTS
    np.testing.assert_array_equal(bank(keys_of(data, 0)), whole(keys_of(data, 0)))


def test_what_is_not_what_the_teacher_says_is_refused(config: Config, data: FaceData, tmp_path: Path) -> None:
    maker(config, data, tmp_path).open(range(2))
    impostor = maker(config, data, tmp_path, teacher=counted(config, seed=1))  # of the same name
    with pytest.raises(DataError, match=r"the teacher says something else of sample \d+, view 0") as refusal:
        impostor.open(range(2))
    assert f"{impostor.folder}" in str(refusal.value)
    assert "Delete" in str(refusal.value)


def test_a_bank_of_something_else_under_its_name_is_refused(config: Config, data: FaceData, tmp_path: Path) -> None:
    made = maker(config, data, tmp_path)
    made.open(range(1))
    about = made.folder / "about.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "seed": 7}))
    with pytest.raises(DataError, match=r"of something else\. Delete"):
        made.open(range(1))


def test_a_view_that_was_cut_is_made_again(config: Config, data: FaceData, tmp_path: Path) -> None:
    made = maker(config, data, tmp_path)
    expected = made.open(range(1))(keys_of(data, 0)).copy()
    path = made.folder / "view-0000.npy"
    path.write_bytes(path.read_bytes()[:-1])
    np.testing.assert_array_equal(made.open(range(1))(keys_of(data, 0)), expected)


def test_samples_that_are_not_what_the_teacher_said_are_made_again(
    config: Config, data: FaceData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also those that the teacher isn't asked again."""
    made = maker(config, data, tmp_path)
    expected = made.open(range(1))(keys_of(data, 0)).copy()
    spots = np.linspace(0, len(expected) - 1, bank_module.SPOTS).astype(int)
    [wrong, *_] = sorted(set(range(len(expected))) - set(spots.tolist()))
    with (made.folder / "view-0000.npy").open("r+b") as file:
        file.seek(128 + wrong * expected[0].nbytes)
        file.write(bytes(expected[0].nbytes))
    capsys.readouterr()
    np.testing.assert_array_equal(made.open(range(1))(keys_of(data, 0)), expected)
    assert f"view-0000.npy: embedding {wrong} " in capsys.readouterr().err


def test_a_bank_that_can_not_be_written_names_the_cache(
    config: Config, data: FaceData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    made = maker(config, data, tmp_path)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DiskError, match=rf"{made.folder}.*No space left on device.*cache_dir="):
        made.open(range(1))


def test_a_value_beyond_float16_says_what_to_type(config: Config, data: FaceData, tmp_path: Path) -> None:
    teacher = counted(config)
    teacher.network.backbone.net.layer4[0].bn2.bias.fill_(1e6)
    with pytest.raises(DataError, match=r"target\.bank=float32"):
        maker(config, data, tmp_path, teacher=teacher).open(range(1))
    maker(config, data, tmp_path, "float32", teacher).open(range(1))


@pytest.mark.parametrize("workers", [0, 2])
def test_training_batches_bring_what_the_banks_hold(
    compose: Compose, faces: FaceSet, tmp_path: Path, workers: int
) -> None:
    config = compose(*TINY, "target.views=2", f"trainer.num_workers={workers}")
    data = FaceData(config, faces)
    views = [0, mirror_of(0)]
    wide = compose(*TINY, "teacher.model.width=24")
    one = maker(config, data, tmp_path / "one").open(views)
    other = maker(config, data, tmp_path / "other", teacher=counted(wide, seed=1)).open(views)
    data.use_banks({"teacher": one, "second": other})
    for epoch in range(3):
        data.train_batches.set_epoch(epoch)
        for batch in data.train_dataloader():
            keys = [(index, views[epoch % 2]) for index in batch.indices.tolist()]
            assert batch.teacher_embeddings.keys() == {"teacher", "second"}
            for role, bank, width in (("teacher", one, 128), ("second", other, 192)):
                embedding = batch.teacher_embeddings[role]
                assert (embedding.shape, embedding.dtype) == ((len(keys), width), torch.float16)
                np.testing.assert_array_equal(embedding.numpy(), bank(keys))
    assert next(iter(data.val_dataloader())).teacher_embeddings == {}


def test_it_is_the_same_for_faces_with_landmarks_and_without(compose: Compose, faces: FaceSet, tmp_path: Path) -> None:
    """So that alignment and classification on the same faces share the recognizer's."""
    draw = np.random.default_rng(0)
    marked = FaceSet(
        faces.images,
        faces.labels,
        faces.is_test,
        faces.identities,
        landmarks=draw.uniform(0, 24, (len(faces.labels), 5, 2)).astype(np.float32),
        crop_boxes=np.tile(np.float32([0, 0, 24]), (len(faces.labels), 1)),
    )
    small = ["image.resize=24", "image.crop=16", "teacher.model.width=16", "rate=8"]
    found: list[Any] = []
    for task in ("classify", "align"):
        config = compose(*small, f"task={task}", f"init={'scratch' if task == 'classify' else 'pretrain'}")
        data = FaceData(config, marked)
        found.append(maker(config, data, tmp_path / task).open(range(3))(keys_of(data, 2)))
    np.testing.assert_array_equal(*found)


def test_no_sample_is_evaluated_from_it() -> None:
    with pytest.raises(KeyError):
        Bank(np.arange(3), {})([(0, EVAL_VIEW)])
