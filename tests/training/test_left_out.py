"""Faces of people in the pairs: some that are among them as other files, and a teacher that sees coarse colours."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from facedistill.config.compose import compose_config
from facedistill.data.faces import Pairs
from facedistill.data.sources.photos import Photos
from facedistill.distill.teacher import TeacherOutput
from facedistill.models.network import build_network
from facedistill.models.weights import save_weights
from facedistill.runs.plan import plan
from facedistill.runs.run import Run
from facedistill.training import left_out
from facedistill.training.left_out import write_left_out

SIZE, PEOPLE = 32, 60


class Colours:
    """K_T: the mean colours of 4 × 4 blocks."""

    width = 48

    def __init__(self) -> None:
        self.asked = 0

    def to(self, device: torch.device) -> None:
        pass

    def __call__(self, images: Tensor) -> TeacherOutput:
        self.asked += len(images)
        return TeacherOutput(F.adaptive_avg_pool2d(images.float(), 4).flatten(1) - 127.5, None)


def faces(seed: int, count: int) -> NDArray[np.uint8]:
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, (count, 4, 4, 3), np.uint8).repeat(SIZE // 4, 1).repeat(SIZE // 4, 2)


class OfPairs:
    """Pairs of one person, images 2i and 2i + 1, and of two, images 2i and 2i + 3."""

    images = faces(0, PEOPLE).repeat(2, 0)
    left = np.concatenate([np.arange(PEOPLE) * 2, np.arange(PEOPLE - 1) * 2])
    right = np.concatenate([np.arange(PEOPLE) * 2 + 1, np.arange(PEOPLE - 1) * 2 + 3])
    same = np.arange(2 * PEOPLE - 1) < PEOPLE

    def protocol(self, size: int, cache: Path, trained_on: set[str]) -> Pairs:
        assert size == SIZE
        zeros = np.zeros(len(self.same), np.int64)
        return Pairs(self.images, self.left, self.right, self.same, zeros, zeros > 0)


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Colours:
    """In a folder with its file, and with two folders of faces: b/3.jpg, a/7.jpg and a/8.jpg are in the pairs."""
    monkeypatch.chdir(tmp_path)
    model = compose_config(["teacher.model.width=16"]).teacher.model
    save_weights(tmp_path / "recognizer.safetensors", build_network(model, 1), {"model": model, "rate": 1})
    for name, seed in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        for number, image in enumerate(faces(seed, 20)):
            Image.fromarray(image).save(tmp_path / name / f"{number:02d}.png")
    for name, person in (("a/07.jpg", 5), ("a/08.jpg", 9), ("b/03.jpg", 30)):
        Image.fromarray(OfPairs.images[2 * person]).resize((90, 90)).save(tmp_path / name, quality=50)
    (tmp_path / "b" / "broken.png").write_bytes(b"none")
    found = Colours()
    monkeypatch.setattr(left_out, "load_teacher", lambda *arguments: found)
    monkeypatch.setattr(left_out, "protocol_source", lambda data: OfPairs())
    return found


def run_on(root: str) -> Run:
    own = ["task=embed", "target=cosine", "rate=1", "data=photos", f"data.root={root}", "data.alignment=none"]
    weights = ["teacher.weights=recognizer.safetensors", "teacher.model.width=16", f"teacher.contract.size={SIZE}"]
    return plan([*own, *weights, "data.on_error=skip", "cache_dir=cache", "model.features=128", "data.test_share=0.2"])


def written(root: str) -> tuple[list[list[str] | None], int, float]:
    run = run_on(root)
    source = Photos(**{key: value for key, value in run.config.data.items() if key not in ("type", "gives")})
    config = compose_config(["data=lfw", "data.root=.", "cache_dir=cache"], trains=False)
    files, count, cosine = write_left_out(run, source, config)
    return [file.read_text().splitlines() if file else None for file in files], count, cosine


def test_who_is_in_the_pairs_is_found_in_other_files_too(teacher: Colours) -> None:
    names, count, cosine = written("[a,b]")
    assert names == [["07.jpg", "08.jpg"], ["03.jpg"]]
    assert count == 3
    flat = (
        OfPairs.images.reshape(-1, 4, SIZE // 4, 4, SIZE // 4, 3).mean((2, 4)).reshape(len(OfPairs.images), -1) - 127.5
    )
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    two = (flat[OfPairs.left] * flat[OfPairs.right]).sum(1)[~OfPairs.same]
    assert cosine == pytest.approx(two.mean() + 5 * two.std(), abs=1e-4)


def test_the_teacher_is_asked_once_about_each_face(teacher: Colours) -> None:
    written("[a,b]")
    assert teacher.asked == 43 + len(OfPairs.images)
    assert written("[a,b]")[1] == 3
    assert teacher.asked == 43 + 2 * len(OfPairs.images)


def test_where_nobody_is_in_the_pairs_there_is_no_list(teacher: Colours) -> None:
    for file in Path("a").glob("*.jpg"):
        file.unlink()
    names, count, _ = written("a")
    assert (names, count) == ([None], 0)
