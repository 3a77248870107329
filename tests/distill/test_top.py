"""The most likely classes of a soft prediction: what a bank keeps, and the loss, against formulas in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from facedistill.config.schema import Config
from facedistill.data.faces import FaceSet
from facedistill.data.loading.datamodule import FaceData
from facedistill.distill import chunked_loss, top
from facedistill.distill.bank import BankMaker
from facedistill.distill.targets.soft import SoftTarget
from facedistill.distill.teacher import NetworkTeacher, TeacherInput, TeacherOutput, TopPrediction
from facedistill.distill.top import KeptTop, TopTeacher
from facedistill.errors import DataError
from facedistill.models.network import NetworkOutput, build_network

Numbers = NDArray[np.float64]
SAMPLES, CLASSES = 6, 11


def logits(seed: int, classes: int = CLASSES, spread: float = 4.0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return spread * torch.randn(SAMPLES, classes, dtype=torch.float64, generator=draw)


def softened(row: Numbers, tau: float) -> Numbers:
    powers = np.exp((row - row.max()) / tau)
    softmax: Numbers = powers / powers.sum()
    return softmax


def loss_by_hand(student: Numbers, teacher: Numbers, k: int, tau: float) -> tuple[float, Numbers]:
    """The mean of H over k + 1 outcomes, and its gradient on the student's logits, one sample after the other."""
    total, gradient = 0.0, np.zeros_like(student)
    for row, (a_s, a_t) in enumerate(zip(student, teacher, strict=True)):
        p, q = softened(a_t, tau), softened(a_s, tau)
        top_classes = sorted(range(len(p)), key=lambda number: -p[number])[:k]
        others = [number for number in range(len(p)) if number not in top_classes]
        p_rest, q_rest = sum(p[number] for number in others), sum(q[number] for number in others)
        total -= sum(p[number] * np.log(q[number]) for number in top_classes) + p_rest * np.log(q_rest)
        for number in range(len(p)):
            share = p[number] if number in top_classes else p_rest * q[number] / q_rest
            gradient[row, number] = (q[number] - share) / tau / len(student)
    return total / len(student), gradient


def prediction_of(teacher: torch.Tensor, k: int, tau: float) -> TopPrediction:
    p = np.stack([softened(row, tau) for row in teacher.numpy()])
    classes = np.argsort(-p, axis=1)[:, :k]
    named = np.take_along_axis(p, classes, 1)
    return TopPrediction(
        torch.from_numpy(np.concatenate([named, 1 - named.sum(1, keepdims=True)], 1)), torch.from_numpy(classes)
    )


def soft_loss(values: torch.Tensor, taught: TeacherOutput, tau: float, tau_squared: bool = False) -> torch.Tensor:
    answer = NetworkOutput(torch.zeros(len(values), 2), values, torch.empty(0))
    loss: torch.Tensor = SoftTarget(1.0, 2, 0, tau, tau_squared)(answer, taught)
    return loss


def of_bank(kept: NDArray[np.uint8]) -> TeacherOutput:
    return TopTeacher(TeacherInput(None, None, None)).recall(torch.from_numpy(kept))


@pytest.mark.parametrize("most", [chunked_loss.MOST, 2 * CLASSES], ids=["at once", "two rows at a time"])
@pytest.mark.parametrize("tau", [0.5, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("k", [1, 4, CLASSES - 1])
def test_loss_and_gradient_are_those_of_the_outcomes(
    monkeypatch: pytest.MonkeyPatch, most: int, tau: float, k: int
) -> None:
    monkeypatch.setattr(chunked_loss, "MOST", most)
    student, teacher = logits(0), logits(1)
    expected, gradient = loss_by_hand(student.numpy(), teacher.numpy(), k, tau)
    taught = TeacherOutput(torch.empty(SAMPLES, 0), None, prediction_of(teacher, k, tau))
    for squared, scale in ((False, 1.0), (True, tau * tau)):
        values = student.clone().requires_grad_()
        loss = soft_loss(values, taught, tau, squared)
        loss.backward()
        assert loss.item() == pytest.approx(scale * expected, rel=1e-9)
        assert values.grad is not None
        np.testing.assert_allclose(values.grad, scale * gradient, atol=1e-9)


def test_a_rest_of_which_the_student_is_almost_sure_or_almost_rules_out_keeps_its_digits() -> None:
    """log(1 − x) would have none of them left in float32."""
    prediction = TopPrediction(torch.tensor([[0.25, 0.75]]), torch.tensor([[1]]))
    for logit in (-60.0, 60.0):
        values = torch.tensor([[0.0, logit, 1.0]], requires_grad=True)
        loss = soft_loss(values, TeacherOutput(torch.empty(1, 0), None, prediction), tau=1.0)
        loss.backward()
        rest = np.logaddexp(0.0, 1.0)
        whole = np.logaddexp(rest, logit)
        assert loss.item() == pytest.approx(0.25 * (whole - logit) + 0.75 * (whole - rest), rel=1e-6)
        assert values.grad is not None
        expected = np.exp(np.array([0, logit, 1]) - whole) - [0.75 / (1 + np.e), 0.25, 0.75 * np.e / (1 + np.e)]
        np.testing.assert_allclose(values.grad[0], expected, rtol=1e-5)


@pytest.mark.parametrize("k", [CLASSES - 1, CLASSES, 64])
def test_of_all_classes_but_one_it_is_the_whole_soft_target(k: int) -> None:
    student, teacher = logits(0), logits(1)
    whole = TeacherOutput(teacher, nn.Identity())
    found = []
    for taught in (whole, of_bank(KeptTop(k, 3.0, CLASSES)(whole))):
        values = student.clone().requires_grad_()
        loss = soft_loss(values, taught, 3.0, tau_squared=True)
        loss.backward()
        assert values.grad is not None
        found.append((loss.item(), values.grad))
    (exact, gradient), (kept, other) = found
    assert kept == pytest.approx(exact, rel=2e-3)  # float16
    assert (other - gradient).norm() < 2e-3 * gradient.norm()


@pytest.mark.parametrize("most", [chunked_loss.MOST, 2 * CLASSES], ids=["at once", "two rows at a time"])
def test_a_bank_keeps_the_largest_logits_and_the_mass_of_the_rest(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(top, "MOST", most)
    teacher, k, tau = logits(1), 4, 3.0
    keeps = KeptTop(k, tau, CLASSES)
    kept = keeps(TeacherOutput(teacher, nn.Identity()))
    assert (kept.shape, kept.dtype) == ((SAMPLES, 6 * k + 2), np.uint8)
    assert keeps.item.bytes == 26
    assert KeptTop(64, tau, 100_000).item.bytes == 386
    recalled = of_bank(kept)
    assert recalled.embedding.shape == (SAMPLES, 0)
    assert recalled.top is not None
    prediction, classes = recalled.top
    assert (prediction.dtype, classes.dtype) == (torch.float32, torch.int64)
    torch.testing.assert_close(prediction.sum(1), torch.ones(SAMPLES))
    for row, a_t in enumerate(teacher.numpy()):
        assert classes[row].tolist() == np.argsort(-a_t)[:k].tolist()
        p = softened(a_t, tau)
        expected = [*p[classes[row]], p.sum() - p[classes[row]].sum()]
        np.testing.assert_allclose(prediction[row], expected, rtol=3e-3)
    first = of_bank(kept[:1]).top
    assert first is not None
    assert torch.equal(first.classes, classes[:1])
    assert torch.equal(first.prediction, prediction[:1])


def test_a_class_beyond_16_bits_is_kept_as_it_is() -> None:
    teacher = torch.zeros(2, 70_000)
    teacher[0, [65_536, 69_999]] = torch.tensor([30.0, 20.0])
    teacher[1, [3, 65_535]] = torch.tensor([20.0, 30.0])
    recalled = of_bank(KeptTop(2, 1.0, 70_000)(TeacherOutput(teacher, nn.Identity()))).top
    assert recalled is not None
    assert recalled.classes.tolist() == [[65_536, 69_999], [65_535, 3]]


def test_a_class_that_is_ruled_out_is_kept_and_learnt_as_that() -> None:
    keeps = KeptTop(2, 1.0, 4)
    kept = keeps(TeacherOutput(torch.tensor([[1e6, 0.0, -1e6, -2e6]]), nn.Identity()))
    assert not keeps.differs(kept[0], kept[0])
    taught = of_bank(kept)
    assert taught.top is not None
    assert taught.top.prediction.tolist() == [[1.0, 0.0, 0.0]]
    assert soft_loss(torch.tensor([[-1e4, 1e4, 0.0, 0.0]]), taught, tau=1.0).item() == pytest.approx(2e4)


def test_what_rounding_swaps_at_the_end_of_the_list_is_no_difference() -> None:
    values = torch.tensor([[9.0, 8.0, 4.0, 4.0, 1.0, 0.0]])
    near = values + torch.tensor([[0.0, 0.0, -0.01, 0.01, 0.0, 0.0]])
    moved = values[:, [4, 1, 2, 3, 0, 5]]
    keeps = KeptTop(3, 1.0, 6)
    [one], [other], [third] = (keeps(TeacherOutput(each, nn.Identity())) for each in (values, near, moved))
    assert not np.array_equal(one, other)
    assert not keeps.differs(one, one)
    assert not keeps.differs(one, other)
    assert keeps.differs(one, third)


def test_another_probability_of_the_own_class_is_a_difference_however_many_unlikely_ones_stay() -> None:
    values = torch.full((1, 100), -30.0)
    values[0, 7] = -24.0  # P = 0.8
    other = values.clone()
    other[0, 7] = -25.0  # P = 0.6
    keeps = KeptTop(64, 1.0, 100)
    [one], [moved] = (keeps(TeacherOutput(each, nn.Identity())) for each in (values, other))
    assert keeps.differs(one, moved)


Compose = Callable[..., Config]
TINY = ["image.resize=24", "image.crop=16", "teacher.model.width=16", "task.batch_size=8", "target=soft", "rate=8"]


def teacher_of(config: Config, seed: int) -> NetworkTeacher:
    torch.manual_seed(seed)
    network = build_network(config.teacher.model, 1, 4)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
            part.running_mean.normal_()
    return NetworkTeacher(network)


def maker(config: Config, data: FaceData, folder: Path, seed: int = 0, tau: float = 3.0) -> BankMaker:
    about: dict[str, Any] = {"teacher": "w"}
    return BankMaker(
        teacher_of(config, seed), data, torch.device("cpu"), folder, KeptTop(2, tau, 4), about, data.faces.train
    )


def test_a_bank_of_them_says_what_the_teacher_says(
    compose: Compose, faces: FaceSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = compose(*TINY)
    data = FaceData(config, faces)
    made = maker(config, data, tmp_path)
    bank, count = made.open(range(2)), len(data.faces.train)
    assert f"the teacher's soft prediction: 2 views × {count} samples × 2 of 4 classes" in capsys.readouterr().err
    assert (made.folder / "view-0000.npy").stat().st_size == 128 + 14 * count
    for view in range(2):
        keys = [(int(index), view) for index in data.faces.train]
        [batch] = data.loader([keys])
        said = made.teacher(batch.images).logits
        recalled = of_bank(bank(keys)).top
        assert said is not None
        assert recalled is not None
        for row, a_t in enumerate(said.double().numpy()):
            named = recalled.classes[row].tolist()
            assert a_t[named] == pytest.approx(sorted(a_t)[:-3:-1], abs=1e-4)
            p = softened(a_t, 3.0)
            np.testing.assert_allclose(recalled.prediction[row], [*p[named], 1 - p[named].sum()], rtol=2e-3)


def test_another_temperature_or_number_of_classes_is_another_bank_and_another_teacher_is_told(
    compose: Compose, faces: FaceSet, tmp_path: Path
) -> None:
    config = compose(*TINY)
    data = FaceData(config, faces)
    made = maker(config, data, tmp_path)
    made.open(range(1))
    assert made.folder != maker(config, data, tmp_path, tau=2.0).folder
    assert made.keeps.about != KeptTop(3, 3.0, 4).about
    with pytest.raises(DataError, match=r"the teacher says something else of sample \d+, view 0"):
        maker(config, data, tmp_path, seed=1).open(range(1))
