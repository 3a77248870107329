"""Views that are cut out on a device are those of the CPU; a CPU stands in for the device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facedistill.config.compose import compose_config
from facedistill.data.faces import FaceSet
from facedistill.data.files.photo_store import Decoded
from facedistill.data.files.store import image_of, open_or_make
from facedistill.data.loading import datamodule, on_device
from facedistill.data.loading.augment import Augmentation, Upright
from facedistill.data.loading.datamodule import FaceData
from facedistill.data.loading.on_device import UncutBatch, UncutViews, copied, images_on
from facedistill.data.loading.samplers import Keys
from facedistill.data.loading.view_schedule import EVAL_VIEW, mirror_of
from facedistill.data.loading.views import FaceBatch, Views
from facedistill.models.weights import read_weights
from facedistill.runs.ensure import ensure
from facedistill.runs.plan import plan
from facedistill.training import fit
from tiny import RUN

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
DEVICES = [CPU, *([GPU] if torch.cuda.is_available() else [])]  # CUDA_VISIBLE_DEVICES=0 has it tried on a GPU
CROP = 16


def equal(one: FaceBatch, other: FaceBatch) -> None:
    for name, mine, others in zip(FaceBatch._fields, one, other, strict=True):
        if name == "teacher_embeddings":
            assert mine.keys() == others.keys()
            assert all(torch.equal(mine[role], others[role]) for role in mine)
        else:
            assert (mine.dtype, mine.stride()) == (others.dtype, others.stride()), name
            assert torch.equal(mine, others), name


def keys_of(view: int) -> Keys:
    return [(index, view) for index in (9, 2, 9, 31, *range(12))]


@pytest.mark.parametrize("view", [0, 5, 299, EVAL_VIEW, mirror_of(0), mirror_of(5)])
@pytest.mark.parametrize("crop", [CROP, 17, 24])  # of images of 24 pixels
@pytest.mark.parametrize("mirrors", [True, False])
@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_views_are_those_of_the_cpu(marked: FaceSet, view: int, crop: int, mirrors: bool, device: torch.device) -> None:
    def bank(keys: Keys, mirrored: np.ndarray) -> np.ndarray:
        return np.stack([np.array([index, view, flag]) for (index, view), flag in zip(keys, mirrored, strict=True)])

    banks = {"teacher": bank}
    views = Views(marked, Augmentation(crop, 3, mirrors=mirrors), banks, banks)
    expected = views[keys_of(view)]
    uncut = UncutViews(views)[keys_of(view)]
    assert isinstance(uncut, UncutBatch)
    assert uncut.batch.images.shape == (16, 3, 24, 24)
    equal(uncut.to(device).to(CPU), expected)
    if view != EVAL_VIEW and mirrors:
        assert set(expected.mirrored.tolist()) == {True, False}


@pytest.mark.parametrize("side", [0, 1])
def test_upright_views_are_those_of_the_cpu(marked: FaceSet, side: int) -> None:
    views = Views(marked, Upright(CROP))
    equal(UncutViews(views)[keys_of(side)].to(CPU), views[keys_of(side)])


def test_a_view_of_one_image_keeps_its_memory_format(faces: FaceSet) -> None:
    images = UncutViews(Views(faces, Augmentation(CROP, 3)))[[(4, 2)]].to(CPU).images
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_images_that_are_kept_give_the_same_views(faces: FaceSet, tmp_path: Path) -> None:
    stored = open_or_make(tmp_path / "faces", 32, image_of(24), lambda start: [(32, faces.images, {})], "faces").items
    kept = copied(replace(faces, images=stored), CPU)
    np.testing.assert_array_equal(kept.permute(0, 2, 3, 1).numpy(), faces.images)
    views = Views(faces, Augmentation(CROP, 3))
    uncut = UncutViews(views, brings_images=False)[keys_of(7)]
    assert uncut.batch.images.numel() == 0
    equal(uncut.with_images(kept).to(CPU), views[keys_of(7)])


def test_what_is_kept_is_decided_by_the_room(
    faces: FaceSet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(on_device, "copied", lambda faces, device: "kept")
    needed = 32 * 24 * 24 * 3
    for free, kept, said in [(2 * needed, "kept", "kept there"), (2 * needed - 1, None, "every batch is copied")]:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10 * free))
        assert images_on(GPU, faces, "lfw") == kept
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("lfw: 32 images of 24 pixels take")
        assert said in line
    decoded = Decoded("photos", lambda number: (faces.images[number], {}), np.arange(32), np.zeros(32, np.uint32), 24)
    assert images_on(GPU, replace(faces, images=decoded), "photos") is None
    assert images_on(CPU, faces, "lfw") is None
    assert capsys.readouterr().err == ""


@pytest.fixture
def beside_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are made as for a GPU."""
    monkeypatch.setattr(datamodule, "beside_gpu", lambda trainer: True)


@pytest.mark.usefixtures("beside_gpu")
@pytest.mark.parametrize("word", ["task=periocular", "augment=recognizer"])
def test_bands_and_what_is_more_than_a_crop_stay_on_the_cpu(faces: FaceSet, word: str) -> None:
    config = compose_config(["image.resize=24", f"image.crop={CROP}", "trainer.num_workers=0", word])
    batch = next(iter(FaceData(config, replace(faces, aligned_by=points(faces))).train_dataloader()))
    assert isinstance(batch, FaceBatch)
    plain = compose_config(["image.resize=24", f"image.crop={CROP}", "trainer.num_workers=0"])
    assert isinstance(next(iter(FaceData(plain, faces).train_dataloader())), UncutBatch)


def points(faces: FaceSet) -> np.ndarray:
    eyes = np.array([[8, 10], [16, 10], [12, 14], [9, 18], [15, 18]], np.float32)
    return np.tile(eyes, (len(faces.images), 1, 1))


CELLS = [
    ["rate=8", "init=full", "target=soft", "trainer.num_workers=2"],
    ["task=align", "init=scratch", "target=hidden", "target.views=live"],
]


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS, ids=["classify", "align"])
@pytest.mark.parametrize("kept", [False, True], ids=["copied", "kept"])
def test_a_run_is_the_same_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: list[str], kept: bool
) -> None:
    def trained(name: str) -> tuple[dict[str, torch.Tensor], dict[str, float | None]]:
        run = plan([*RUN, *cell, f"runs_dir={tmp_path}/{name}", f"cache_dir={tmp_path}/{name}"])
        ensure(run, fit.train_run)
        return read_weights(run.weights).tensors, run.record.metrics

    weights, metrics = trained("cpu")
    monkeypatch.setattr(datamodule, "beside_gpu", lambda trainer: True)
    cut = []
    monkeypatch.setattr(
        UncutBatch, "to", lambda self, device, to=UncutBatch.to: cut.append(len(self.batch.images)) or to(self, device)
    )
    if kept:
        monkeypatch.setattr(datamodule, "images_on", lambda device, faces, name: copied(faces, device))
    again, metrics_again = trained("device")
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert metrics == metrics_again
    assert cut
    assert (48 in cut) is kept  # 4 identities of 12 images: kept ones come whole
