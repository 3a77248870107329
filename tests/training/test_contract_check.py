"""A recognizer from elsewhere shows that its contract is right before it teaches; the words it is told work."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from facedistill.config.compose import compose_config
from facedistill.config.schema import Config
from facedistill.data.faces import FaceSet, Pairs
from facedistill.data.loading.datamodule import FaceData
from facedistill.errors import WeightsError
from facedistill.evaluation.contracts import Contract, Recognizer
from facedistill.evaluation.trial_pairs import of_people
from facedistill.runs.run import WeightsFile
from facedistill.training import contract_check as module
from facedistill.training.contract_check import check_contract, check_on_protocol, given_by, words_for
from made_faces import MADE, RIGHT, ask, made_faces

CPU = torch.device("cpu")
TIMM = ["model@teacher.model=timm", "teacher.model.name=test_resnet", "teacher.model.features=64"]
FITS = ["contract=arcface", "teacher.contract.size=56", "teacher.contract.crop=0.875"]
SECOND = ["target=hidden", "target.terms.hidden.from=second", "+teachers.second.weights=net.pt"]


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    return made_faces(people=400)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """How many images the recognizer of ``made_faces`` is asked about, in the place of the network in net.pt."""
    monkeypatch.chdir(tmp_path)
    torch.save({}, "net.pt")
    counts: list[int] = []

    def counting(numbers: Tensor) -> Tensor:
        counts.append(len(numbers))
        return ask(numbers)

    monkeypatch.setattr(module, "open_recognizer", lambda *of: MADE._replace(ask=counting))
    return counts


def composed(*words: str) -> Config:
    return compose_config(["teacher.weights=net.pt", "image.resize=64", "image.crop=56", *TIMM, *words])


def file_of(config: Config) -> WeightsFile:
    return WeightsFile(Path("net.pt"), config.teacher.model, contract=config.teacher.contract)


def check(config: Config, faces: FaceSet) -> None:
    check_contract(file_of(config), FaceData(config, faces), config.image, 1, CPU)


def test_the_right_contract_passes_and_no_other_is_tried(faces: FaceSet, asked: list[int]) -> None:
    check(composed(*FITS), faces)
    assert 0 < sum(asked) <= 2 * 200


@pytest.mark.parametrize(
    "wrong",
    [
        ["teacher.contract.colour=bgr"],
        ["teacher.contract.mean=[0,0,0]", "teacher.contract.std=[1,1,1]"],
        ["teacher.contract.colour=bgr", "teacher.contract.size=128", "teacher.contract.crop=1"],
    ],
)
def test_a_wrong_one_is_refused_with_words_that_work(wrong: list[str], faces: FaceSet, asked: list[int]) -> None:
    config = composed(*FITS, *wrong)
    with pytest.raises(WeightsError, match=r"net\.pt is right on .* of 100 pairs of people in the data") as refused:
        check(config, faces)
    said = str(refused.value)
    assert "\n" not in said
    found = re.search(r"and on 100\.0 % with (.*)\. Add these words, or teacher\.check=false", said)
    assert found
    cured = composed(*FITS, *wrong, *shlex.split(found[1]))
    best = given_by(file_of(cured), cured.image)
    assert (best.colour, best.size) == (RIGHT.colour, RIGHT.size)
    assert abs(best.crop - RIGHT.crop) <= 0.0625, "a pixel to a side is as good"
    assert best.mean == RIGHT.mean, "its std may be 255, which is as good here"
    check(cured, faces)


def test_without_labels_what_ruins_it_is_refused(faces: FaceSet, asked: list[int]) -> None:
    unlabelled = replace(faces, labels=np.zeros(len(faces.labels), np.int64), identities=[])
    check(composed(*FITS), unlabelled)
    with pytest.raises(WeightsError, match="pairs of views of one face or two by the contract"):
        check(composed(*FITS, "teacher.contract.mean=[0,0,0]", "teacher.contract.std=[1,1,1]"), unlabelled)


def test_pairs_of_people_show_an_order_of_colours_that_is_wrong(
    faces: FaceSet, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those that ``compress pairs=`` is given do, whatever faces there are to teach on."""
    shown: list[tuple[int, Path]] = []

    class Protocol:
        def protocol(self, size: int, cache: Path, trained_on: set[str]) -> Pairs:
            shown.append((size, cache))
            return of_people(faces, 400)

    monkeypatch.setattr(module, "protocol_source", lambda node: Protocol())
    config = composed(*FITS, "cache_dir=kept")
    check_on_protocol(file_of(config), config, config.image)
    assert shown == [(64, Path("kept"))]
    wrong = composed(*FITS, "teacher.contract.colour=bgr")
    with pytest.raises(WeightsError, match=r"with teacher\.contract\.colour=rgb\. Add"):
        check_on_protocol(file_of(wrong), wrong, wrong.image)


def test_of_a_few_faces_nothing_is_said_to_be_right(asked: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    check(composed(*FITS, "teacher.contract.colour=bgr"), made_faces(people=20))
    assert "whether its contract is right is not known: there are too few faces" in capsys.readouterr().err
    assert not asked


def test_faces_on_which_no_contract_is_right_are_named_and_not_refused(
    monkeypatch: pytest.MonkeyPatch, faces: FaceSet, asked: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    def guess(numbers: Tensor) -> Tensor:
        return torch.rand(len(numbers), 8, generator=torch.Generator().manual_seed(len(asked))) - 0.5

    monkeypatch.setattr(module, "open_recognizer", lambda *of: Recognizer(guess, 56, True))
    check(composed(*FITS), faces)
    assert "are these faces aligned as it expects?" in capsys.readouterr().err


OTHER = Contract("bgr", (1.0, 2.5, 3.0), (127.5,) * 3, 112, 0.8)


@pytest.mark.parametrize("words", [FITS, ["teacher.model.mean=[1,1,1]", "teacher.model.std=[9,9,9]"], []])
def test_words_make_any_contract_of_any_other(words: list[str], asked: list[int]) -> None:
    config = composed(*words)
    named = words_for(OTHER, file_of(config), config.image)
    cured = composed(*words, *named)
    assert given_by(file_of(cured), cured.image) == OTHER


def test_words_are_those_of_the_teacher_with_that_name(asked: list[int]) -> None:
    named = ["+model@teachers.second.model=timm", "teachers.second.model.name=test_resnet"]
    config: Callable[..., Config] = lambda *words: compose_config([*SECOND, *named, *words])  # noqa: E731

    def second(of: Config) -> WeightsFile:
        node = of.teachers["second"]
        return WeightsFile(
            Path("net.pt"), node["model"], key="teachers.second.model", contract=of.contract_of("second")
        )

    words = words_for(OTHER, second(config()), config().image)
    cured = config(*words)
    assert given_by(second(cured), cured.image) == OTHER
