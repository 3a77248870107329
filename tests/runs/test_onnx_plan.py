"""Plans with a recognizer from elsewhere and its contract: what is refused before anything is trained, and identity."""

from collections.abc import Callable
from pathlib import Path

import pytest

from facedistill.errors import ConfigError, FacedistillError, WeightsError
from facedistill.runs.plan import check_tree
from facedistill.runs.run import Run, WeightsFile
from onnx_files import SIDE, UINT8, onnx, recognizer, saved

Planner = Callable[..., Run]
HIDDEN = ("rate=8", "target=hidden")
CONTRACT = ("contract=arcface", f"teacher.contract.size={SIDE}")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return saved(tmp_path / "w.onnx", recognizer())


def test_an_onnx_file_takes_the_place_of_the_teacher(planned: Planner, file: Path) -> None:
    run = planned(*HIDDEN, "init=full", f"teacher.weights={file}", *CONTRACT)
    check_tree(run)
    teacher = run.parents["teacher"]
    assert isinstance(teacher, WeightsFile)
    assert teacher.is_onnx
    assert (teacher.graph.size, teacher.contract.size, teacher.network) == (SIDE, SIDE, {})
    assert planned("target=none", f"teacher.weights={file}", *CONTRACT).identity == planned("target=none").identity


def test_the_contract_and_every_file_of_the_weights_are_in_the_identity(planned: Planner, tmp_path: Path) -> None:
    file = saved(tmp_path / "w.onnx", recognizer(), external=True)
    words = (*HIDDEN, f"teacher.weights={file}", *CONTRACT)
    before = planned(*words).identity
    assert planned(*words, "teacher.contract.name=mine").identity == before
    for word in ("colour=bgr", "std=[128,128,128]", "mean=[0,0,0]"):
        assert planned(*words, f"teacher.contract.{word}").identity != before
    beside = tmp_path / "w.onnx.data"
    content = bytearray(beside.read_bytes())
    content[3] ^= 64
    beside.write_bytes(content)
    assert planned(*words).identity != before


def test_the_contract_of_a_file_of_torch_is_in_the_identity(planned: Planner, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"weights")
    timm = ("model@teacher.model=timm", "teacher.model.name=resnet18")
    words = (*HIDDEN, *timm, f"teacher.weights={tmp_path}/w.safetensors")
    found = [planned(*words), *(planned(*words, f"contract={name}") for name in ("arcface", "edgeface", "adaface"))]
    assert len({run.identity for run in found}) == 4
    teacher = found[2].parents["teacher"]
    assert isinstance(teacher, WeightsFile)
    assert (teacher.network["mean"], teacher.network["std"]) == ([127.5] * 3, [128.0] * 3)
    assert planned(*words, "contract=student").identity == found[0].identity


REFUSED = [
    (
        (),
        ["does not say which order of colours", "contract=arcface", "contract=adaface", "teacher.contract.colour=bgr"],
    ),
    (("teacher.contract.size=8",), ["does not say which order of colours"]),
    (("contract=arcface",), ["takes images of 8 pixels", "teacher.contract.size=112", "teacher.contract.size=8"]),
    (
        ("contract=arcface", "teacher.contract.size=null"),
        ["the student's have image.crop=20", "teacher.contract.size=8"],
    ),
    (
        ("contract=arcface", "teacher.contract.size=null", "image.crop=8", "init=fitnet"),
        ["no middle layer", "init=full"],
    ),
    ((*CONTRACT, "teacher.contract.columns=5"), ["takes images of 8 columns, not of teacher.contract.columns=5"]),
    ((*CONTRACT, "target=soft"), ["has no classifier", "target.terms.soft", "target=hidden"]),
    ((*CONTRACT, "target=logits"), ["has no classifier", "target.terms.logits", "target=hidden"]),
]


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=str)
def test_a_recognizer_that_can_not_be_asked_is_refused_with_what_to_type(
    planned: Planner, file: Path, words: tuple[str, ...], said: list[str]
) -> None:
    with pytest.raises(ConfigError) as refusal:
        planned(*HIDDEN, f"teacher.weights={file}", *words)
    line = str(refusal.value)
    assert line.startswith(str(file))
    assert not [part for part in said if part not in line], line
    assert "teacher.backbone" not in line


def test_a_graph_of_the_students_own_size_may_see_its_pixels(planned: Planner, tmp_path: Path) -> None:
    file = saved(tmp_path / "w.onnx", recognizer(side=20))
    check_tree(planned(*HIDDEN, f"teacher.weights={file}", "contract=adaface", "teacher.contract.size=null"))


def test_a_graph_of_whole_pixels_normalizes_them_itself(planned: Planner, tmp_path: Path) -> None:
    words = (*HIDDEN, f"teacher.weights={saved(tmp_path / 'w.onnx', recognizer(pixel=UINT8))}")
    with pytest.raises(ConfigError, match=r"normalizes them itself: 'teacher\.contract\.mean=\[0,0,0\]'"):
        planned(*words, *CONTRACT)
    check_tree(planned(*words, *CONTRACT, "teacher.contract.mean=[0,0,0]", "teacher.contract.std=[1,1,1]"))
    check_tree(planned(*words, "contract=opencv_sface", f"teacher.contract.size={SIDE}"))


def test_an_onnx_file_can_not_be_trained(planned: Planner, file: Path) -> None:
    with pytest.raises(WeightsError, match=r"is an ONNX file: it teaches as it is, teacher\.weights=FILE"):
        planned("target=soft", f"teacher.backbone={file}")
    with pytest.raises(ConfigError, match=r"init=teacher trains .*w\.onnx on as the teacher of task=align"):
        planned("task=align", "init=teacher", "rate=1", f"teacher.weights={file}", *CONTRACT)


def test_what_only_running_it_tells_is_told_before_anything_is_trained(planned: Planner, tmp_path: Path) -> None:
    model = recognizer()
    model.graph.initializer[0].dims[:] = [4, 1, 3, 9]
    (tmp_path / "w.onnx").write_bytes(model.SerializeToString())
    run = planned(*HIDDEN, f"teacher.weights={tmp_path}/w.onnx", *CONTRACT)
    with pytest.raises(WeightsError, match=r"w\.onnx can't be run: "):
        check_tree(run)


def test_one_more_teacher_has_a_contract_of_its_own(planned: Planner, file: Path, tmp_path: Path) -> None:
    words = (*HIDDEN, "target.terms.hidden.from=second", f"+teachers.second.weights={file}")
    with pytest.raises(ConfigError, match=r"\+contract@teachers\.second\.contract=arcface"):
        planned(*words)
    named = (*words, "+contract@teachers.second.contract=arcface")
    with pytest.raises(ConfigError, match=r"teachers\.second\.contract\.size=8"):
        planned(*named)
    check_tree(planned(*named, "teachers.second.contract.size=8"))
    (tmp_path / "w.safetensors").write_bytes(b"weights")
    other = (*words[:-1], f"+teachers.second.weights={tmp_path}/w.safetensors", named[-1])
    with pytest.raises(ConfigError, match=r"leave out teachers\.second\.contract, or name the network"):
        planned(*other)


def test_a_graph_that_is_none_is_refused_when_it_is_planned(planned: Planner, tmp_path: Path) -> None:
    model = recognizer()
    model.graph.node.append(onnx.helper.make_node("Relu", ["maps"], ["positive"]))
    (tmp_path / "w.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(FacedistillError, match="makes the value positive twice"):
        planned(*HIDDEN, f"teacher.weights={tmp_path}/w.onnx", *CONTRACT)
