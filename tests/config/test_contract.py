"""What a recognizer from elsewhere takes: the presets, single keys of them, and what is refused."""

import numpy as np
import pytest

from facedistill.config.choices import nodes
from facedistill.config.compose import compose_config
from facedistill.config.recognizer import ContractConfig
from facedistill.data.files.alignment import ARCFACE_TEMPLATE
from facedistill.errors import ConfigError

FILE = "teacher.weights=x.safetensors"
SECOND = ("target=hidden", "target.terms.hidden.from=second", "+teachers.second.weights=x.safetensors")
# size, order of the channels, and what black (0) and white (255) become
CONVENTIONS = {
    "arcface": (112, "rgb", -1.0, 1.0),
    "edgeface": (112, "rgb", -127.5 / 128, 127.5 / 128),
    "opencv_sface": (112, "bgr", 0.0, 255.0),
    "facenet": (160, "rgb", -127.5 / 128, 127.5 / 128),
    "adaface": (112, "bgr", -1.0, 1.0),
    "sphereface": (112, "bgr", -127.5 / 128, 127.5 / 128),
}


def test_every_preset_is_tested() -> None:
    assert nodes("contract").keys() == {"student", *CONVENTIONS}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_preset_is_the_convention_of_its_recognizers(name: str) -> None:
    size, colour, black, white = CONVENTIONS[name]
    for words, role in (
        ([FILE, f"contract={name}"], "teacher"),
        ([*SECOND, f"+contract@teachers.second.contract={name}"], "second"),
    ):
        contract = compose_config(words).contract_of(role)
        assert (contract.name, contract.size, contract.colour) == (name, size, colour)
        assert contract.mean is not None
        assert contract.std is not None
        for mean, std in zip(contract.mean, contract.std, strict=True):
            assert ((0 - mean) / std, (255 - mean) / std) == (black, white)


def test_spherefaces_columns_are_those_it_was_trained_on() -> None:
    """Its template, for 96 columns (Liu et al. 2017, as their code aligns), and ArcFace's."""
    contract = compose_config([FILE, "contract=sphereface"]).teacher.contract
    assert contract.size is not None
    assert contract.columns is not None
    published = [[30.2946, 51.6963], [65.5318, 51.5014], [48.0252, 71.7366], [33.5493, 92.3655], [62.7299, 92.2041]]
    left = (contract.size - contract.columns) / 2
    np.testing.assert_allclose(ARCFACE_TEMPLATE - [left, 0], published, atol=1e-4)


def test_by_default_the_teacher_sees_the_students_own_pixels() -> None:
    assert compose_config([]).teacher.contract == ContractConfig()
    assert compose_config([*SECOND]).contract_of("second") == ContractConfig()
    assert ContractConfig().numbers == {}
    assert ContractConfig(name="mine", size=96).numbers == {"size": 96}


def test_a_single_key_of_a_preset_can_be_another() -> None:
    contract = compose_config([FILE, "contract=arcface", "teacher.contract.size=96"]).teacher.contract
    assert (contract.size, contract.colour, contract.std) == (96, "rgb", [127.5] * 3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["contract=arcface"], ["contract=arcface", "teacher.weights=FILE", "contract=student"]),
        (["contract=arcface", "teacher.backbone=x.pt"], ["contract=arcface", "teacher.weights=FILE"]),
        ([FILE, "contract=arcfase"], ["Did you mean contract=arcface?", "contract=adaface"]),
        ([FILE, "contract=arcface", "teacher.contract.size=0"], ["teacher.contract.size=0", "1 … 2048"]),
        ([FILE, "contract=arcface", "teacher.contract.size=4096"], ["teacher.contract.size=4096", "1 … 2048"]),
        ([FILE, "contract=arcface", "teacher.contract.columns=113"], ["teacher.contract.columns=113", "1 … teacher"]),
        ([FILE, "contract=arcface", "teacher.contract.columns=0"], ["teacher.contract.columns=0"]),
        ([FILE, "teacher.contract.columns=96"], ["teacher.contract.columns=96 must lie in"]),
        ([FILE, "teacher.contract.colour=gbr"], ["teacher.contract.colour=gbr", "rgb, bgr"]),
        ([FILE, "contract=arcface", "teacher.contract.mean=null"], ["teacher.contract.std belong together"]),
        ([FILE, "contract=arcface", "teacher.contract.mean=[1,2]"], ["teacher.contract.mean", "three numbers"]),
        ([FILE, "contract=arcface", "teacher.contract.std=[1,0,1]"], ["teacher.contract.std", "above 0"]),
        ([FILE, "contract=arcface", "teacher.contract.std=[1,nan,1]"], ["teacher.contract.std", "three numbers"]),
        ([FILE, "contract=arcface", "teacher.contract.siz=96"], ["Did you mean teacher.contract.size=96?"]),
        (
            [FILE, "contract=arcface", "+teacher.model.mean=[1,2,3]", "+teacher.model.std=[127.5,127.5,127.5]"],
            ["teacher.model.mean=[1, 2, 3]", "not the same", "leave out teacher.model.mean"],
        ),
        ([*SECOND, "+teachers.second.contract.sizes=3"], ["teachers.second.contract", "sizes"]),
        ([*SECOND, "+teachers.second.contract.size=b"], ["teachers.second.contract", "'b'"]),
        ([*SECOND, "+teachers.second.contract=3"], ["teachers.second.contract"]),
        ([*SECOND, "+teachers.second.contract=[1]"], ["teachers.second.contract"]),
        ([*SECOND, "+teachers.second.contract.size=-1"], ["teachers.second.contract.size=-1"]),
    ],
    ids=str,
)
def test_what_no_recognizer_can_take_is_refused_with_what_to_type(words: list[str], said: list[str]) -> None:
    with pytest.raises(ConfigError) as refusal:
        compose_config(words)
    missing = [part for part in said if part not in str(refusal.value)]
    assert not missing, refusal.value


def test_a_mean_that_is_said_twice_alike_is_no_contradiction() -> None:
    again = ["+teacher.model.mean=[127.5,127.5,127.5]", "+teacher.model.std=[127.5,127.5,127.5]"]
    assert compose_config([FILE, "contract=arcface", *again]).teacher.contract.name == "arcface"


def test_the_middle_layer_of_a_teacher_with_a_size_of_its_own_is_of_no_use() -> None:
    with pytest.raises(
        ConfigError, match=r"init=fitnet asks the teacher about the student's own pixels.* Use init=full"
    ):
        compose_config(["task=hint", FILE, "contract=arcface"])
