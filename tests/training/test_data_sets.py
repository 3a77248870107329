"""Every data set of the paper trains an epoch from each of its forms, and the form does not change a bit of it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facedistill.config.compose import compose_config
from facedistill.data.__main__ import main as doctor
from facedistill.evaluate import main as evaluate
from facedistill.models.weights import read_weights
from facedistill.runs.ensure import ensure
from facedistill.runs.plan import plan
from facedistill.runs.run import Run
from facedistill.training import fit
from trained_runs import curve
from writers import Face, encoded_faces, write_celeba, write_folders, write_lfw, write_records, write_tsv

TINY = [
    *("image.resize=24", "image.crop=20", "model.width=16", "teacher.model.width=16"),
    *("task.batch_size=8", "schedule.epochs=1", "task.learning_rates.random=[0.1]"),
    *("logger=csv", "trainer.progress=false", "task=classify", "rate=8", "init=scratch", "target=none"),
]


@pytest.fixture(scope="module")
def faces() -> list[Face]:
    """Named as Microsoft's images are once unpacked, in the order of the names."""
    named = [face._replace(file=f"{number:02d}-FaceId-0.jpg") for number, face in enumerate(encoded_faces())]
    return sorted(named, key=lambda face: (face.identity, face.file))


def made(folder: Path, *words: str) -> Run:
    run = plan([*TINY, f"runs_dir={folder}/runs", f"cache_dir={folder}/cache", *words])
    ensure(run, fit.train_run)
    return run


def said(run: Run) -> tuple[Any, ...]:
    """Everything that a run found, but the clock."""
    return run.record.metrics, curve(run.record)


FORMS: dict[str, tuple[str, Callable[[Path, list[Face]], Path]]] = {
    "CASIA-WebFace, folders": ("casia_webface", write_folders),
    "CASIA-WebFace, RecordIO": ("casia_webface", write_records),
    "MS-Celeb-1M, folders": ("ms_celeb_1m", write_folders),
    "MS-Celeb-1M, RecordIO": ("ms_celeb_1m", lambda path, faces: write_records(path, faces, index=False, flag=0)),
    "MS-Celeb-1M, TSV": ("ms_celeb_1m", lambda path, faces: write_tsv(path / "FaceImageCropped.tsv", faces)),
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, faces: list[Face]) -> Run:
    """One's own folders, trained on."""
    folder = tmp_path_factory.mktemp("reference")
    return made(folder, "data=identity_folders", f"data.root={write_folders(folder / 'faces', faces)}")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_trains_to_the_same_bits(tmp_path: Path, faces: list[Face], reference: Run, form: str) -> None:
    name, write = FORMS[form]
    run = made(tmp_path, f"data={name}", f"data.root={write(tmp_path / 'faces', faces)}")
    assert said(run) == said(reference)
    ours, theirs = (read_weights(one.weights).tensors for one in (run, reference))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert run.record.data["images"] == len(faces)
    assert run.record.recipe["data"]["alignment"] == ["centre"]


@pytest.mark.parametrize(("form", "workers"), [("CASIA-WebFace, folders", 0), ("CASIA-WebFace, RecordIO", 2)])
def test_images_that_are_decoded_whenever_they_are_read_train_to_the_same_bits(
    tmp_path: Path, faces: list[Face], reference: Run, form: str, workers: int
) -> None:
    name, write = FORMS[form]
    words = [f"data={name}", f"data.root={write(tmp_path / 'faces', faces)}", f"trainer.num_workers={workers}"]
    run = made(tmp_path, *words, "data.decode=always")
    assert [path.name[-12:] for path in (tmp_path / "cache").glob("*.npy")] == ["-checked.npy"]
    assert run.identity == plan([*TINY, *words, f"runs_dir={tmp_path}/runs"]).identity
    assert said(run) == said(reference)
    ours, theirs = (read_weights(one.weights).tensors for one in (run, reference))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_the_packed_form_trains_to_the_same_bits(
    tmp_path: Path, faces: list[Face], reference: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_records(tmp_path / "faces", faces)
    words = [f"data.root={root}", "image.resize=24", "image.crop=20", f"cache_dir={tmp_path}/here", "pack=true"]
    assert doctor(["data=casia_webface", *words, f"sheet={tmp_path}/sheet.png"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "data=packed" in line)
    packed = next(word for word in line.split() if word.startswith("data.root="))
    for file in root.iterdir():
        file.unlink()
    run = made(tmp_path, "data=packed", packed)
    assert said(run) == said(reference)
    assert run.identity != reference.identity


CELEBA: dict[str, dict[str, str]] = {
    "aligned": {"images": "img_align_celeba", "points": "list_landmarks_align_celeba.txt", "where": ""},
    "as published": {"images": "Img/img_align_celeba", "points": "list_landmarks_align_celeba.txt", "where": "Anno/"},
    "in the wild": {"images": "img_celeba", "points": "list_landmarks_celeba.txt", "where": ""},
    "csv": {"images": "img_align_celeba", "points": "list_landmarks_align_celeba.csv", "where": ""},
}


@pytest.mark.parametrize("form", CELEBA)
@pytest.mark.parametrize("task", ["classify", "align"])
def test_celeba_trains_from_each_of_its_forms(tmp_path: Path, form: str, task: str) -> None:
    rendered = encoded_faces()
    root = write_celeba(tmp_path / "celeba", rendered, **CELEBA[form])
    run = made(tmp_path, "data=celeba", f"data.root={root}", f"task={task}")
    assert run.record.data["images"] == len(rendered)
    assert np.isfinite(run.record.metrics[run.config.task.metric])


def test_lfw_trains_from_its_tree_and_scores_on_its_bin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], faces: list[Face]
) -> None:
    root = write_lfw(tmp_path / "lfw", faces)
    run = made(tmp_path, "data=lfw", f"data.root={root}", "data.alignment=centre")
    assert run.record.data["pairs"] == 20
    content = {(face.identity, i): face.content for i, face in enumerate(faces)}
    images = list(content.values())[:40]
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps((images, [True, False] * 10)))
    capsys.readouterr()
    words = ["protocol=lfw", f"root={tmp_path / 'lfw.bin'}", f"run={run.directory}", f"cache_dir={tmp_path}/cache"]
    assert evaluate(words) == 0
    assert "20 pairs" in capsys.readouterr().out


def test_the_yaml_of_every_form_names_what_is_published() -> None:
    for name in ("casia_webface", "ms_celeb_1m", "celeba", "lfw"):
        published = compose_config([f"data={name}", "data.root=x"]).data["published"]
        assert all(images > identities > 1000 for images, identities in published.values())
