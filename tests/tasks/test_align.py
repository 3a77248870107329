"""Alignment: the regression loss, and errors in pixels of the original image."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from facedistill.config.schema import Config
from facedistill.data.faces import FaceSet
from facedistill.data.loading.datamodule import FaceData
from facedistill.distill.teacher import NetworkTeacher
from facedistill.errors import DataError
from facedistill.models.network import build_network
from facedistill.tasks.align import Align, in_original
from facedistill.tasks.assemble import build_module, build_targets, training_network
from tiny import MODULE

TINY = ["task=align", "init=scratch", *MODULE]
Compose = Callable[..., Config]


@pytest.fixture(scope="module")
def marked(faces_of_module: FaceSet) -> FaceSet:
    draw = np.random.default_rng(1)
    points = np.array([[8, 9], [15, 8], [12, 12], [9, 16], [14, 15]]) + draw.normal(0, 0.7, (32, 5, 2))
    crop_boxes = np.stack([draw.uniform(-5, 30, 32), draw.uniform(-5, 30, 32), draw.uniform(20, 90, 32)], 1)
    return dataclasses.replace(
        faces_of_module, landmarks=points.astype(np.float32), crop_boxes=crop_boxes.astype(np.float32)
    )


@pytest.fixture(scope="module")
def faces_of_module() -> FaceSet:
    images = np.random.default_rng(0).integers(0, 256, (32, 24, 24, 3), dtype=np.uint8)
    index = np.arange(32)
    return FaceSet(images, index // 8, index % 4 == 3, ["ann", "bob", "cid", "dee"])


@pytest.mark.parametrize(("task", "needs"), [("align", "landmarks"), ("classify", "identities")])
def test_faces_without_what_a_task_needs_are_refused(
    compose: Compose, faces_of_module: FaceSet, monkeypatch: pytest.MonkeyPatch, task: str, needs: str
) -> None:
    faces = dataclasses.replace(faces_of_module, identities=[])
    monkeypatch.setattr("facedistill.data.loading.datamodule.read_faces", lambda config, data: faces)
    with pytest.raises(DataError, match=f"data=synthetic: task={task} needs {needs}, and there are none"):
        FaceData.of(compose(f"task={task}"))


def module_of(config: Config) -> Align:
    torch.manual_seed(0)
    network = training_network(config, 4)
    roles = {config.role_of(term) for term in config.target.active()}
    heads = {"teacher": (0, True), "recognizer": (4, False)}
    teachers = {role: NetworkTeacher(build_network(config.teacher.model, 1, *heads[role]), {}) for role in roles}
    module = build_module(config, network, teachers, build_targets(config, network, teachers))
    assert isinstance(module, Align)
    return module


def first(config: Config, marked: FaceSet) -> Any:
    return next(iter(FaceData(config, marked).train_dataloader()))


def test_the_loss_is_the_squared_distance_of_the_landmarks(compose: Compose, marked: FaceSet) -> None:
    config = compose(*TINY, "target=none")
    module, batch = module_of(config), first(config, marked)
    with torch.no_grad():
        found = copy.deepcopy(module.network).train()(batch.images).landmarks.double().numpy()
    expected = np.mean([np.sum((found[i] - batch.landmarks[i].double().numpy()) ** 2) for i in range(len(found))])
    loss = module.train().training_step(batch, 0)
    assert loss["loss"].item() == pytest.approx(expected, rel=2e-5)
    assert loss["task"].item() == loss["loss"].item()
    assert module.network.classifier is None


def test_the_terms_come_from_two_teachers(compose: Compose, marked: FaceSet) -> None:
    config = compose(*TINY, "target=soft", "target.alpha=0.3", "target.beta=0.2")
    module, batch = module_of(config), first(config, marked)
    assert module.teachers.keys() == {"teacher", "recognizer"}
    with torch.no_grad():
        student = copy.deepcopy(module.network).train()(batch.images)
        hidden = module.teachers["teacher"](batch.images).embedding.double()
        said = module.teachers["recognizer"](batch.images).logits.double()
        linear = module.targets["hidden"].map
        mapped = student.embedding.double() @ linear.weight.double().T + linear.bias.double()  # type: ignore[operator, union-attr]
    soft = -9 * (torch.softmax(said / 3, 1) * torch.log_softmax(student.logits.double() / 3, 1)).sum(1).mean()
    found = module.train().training_step(batch, 0)
    assert found["soft"].item() == pytest.approx(soft.item(), rel=2e-5)
    assert found["hidden"].item() == pytest.approx((mapped - hidden).square().mean().item(), rel=2e-5)
    total = found["task"].item() + 0.3 * found["soft"].item() + 0.2 * found["hidden"].item()
    assert found["loss"].item() == pytest.approx(total, rel=2e-5)


def test_landmarks_of_a_centre_crop_come_back_to_the_original(compose: Compose, marked: FaceSet) -> None:
    config = compose(*TINY, "target=none")
    data = FaceData(config, marked)
    batch = next(iter(data.test_loader(marked.test)))
    assert marked.landmarks is not None
    assert marked.crop_boxes is not None
    left, top, side = marked.crop_boxes[marked.test].astype(np.float64).T
    stored = marked.landmarks[marked.test].astype(np.float64)
    expected = np.stack([left, top], 1)[:, None] + (stored + 0.5) * (side / 24)[:, None, None] - 0.5
    np.testing.assert_allclose(in_original(batch.landmarks, batch, config).numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("normalizer", ["eyes", "box"])
def test_nrmse_is_the_mean_over_the_faces_of_the_test_split(compose: Compose, marked: FaceSet, normalizer: str) -> None:
    config = compose(*TINY, "target=none", f"task.options.normalizer={normalizer}")
    module, data = module_of(config).eval(), FaceData(config, marked)
    for batch in data.val_dataloader():
        module.measure(batch)
    errors = []
    assert marked.landmarks is not None
    assert marked.crop_boxes is not None
    for index in marked.test:
        (left, top, side), true = marked.crop_boxes[index].astype(float), marked.landmarks[index].astype(float)
        pixels = torch.from_numpy(np.ascontiguousarray(marked.images[index, 4:20, 4:20].transpose(2, 0, 1)))
        with torch.no_grad():
            unit = module.network(pixels[None]).landmarks[0].double().numpy()
        scale = side / 24
        found = (unit + 1) * 8 * scale + [left + 4 * scale, top + 4 * scale]
        place = (true + 0.5) * scale + [left, top]
        size = np.hypot(*(place[1] - place[0])) if normalizer == "eyes" else side * np.sqrt(2)
        errors.append(np.sqrt(np.mean(np.sum((found - place) ** 2, axis=1))) / size)
    assert module.evaluation.scores()["nrmse"] == pytest.approx(100 * np.mean(errors), rel=1e-4)


def test_pictures_show_landmarks_and_the_error_curve(compose: Compose, marked: FaceSet) -> None:
    config = compose(*TINY, "target=none")
    module, data = module_of(config).eval(), FaceData(config, marked)
    for batch in data.val_dataloader():
        module.measure(batch)
    assert module.evaluation.pictures(module.network, data).keys() == {"samples", "errors"}
