"""Weights of others: under whatever prefix, with whatever beside them, they are the same weights."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor

from facedistill.distill.teacher import NetworkTeacher
from facedistill.errors import WeightsError
from facedistill.models.network import build_network
from facedistill.models.weights import save_weights

State = dict[str, Tensor]
ARCHITECTURE = "test_resnet"  # timm's smallest: 96 pooled features
WIDTH, IDENTITIES = 96, 5


def state(values: int, seed: int = 0) -> State:
    torch.manual_seed(seed)
    return dict(timm.create_model(ARCHITECTURE, num_classes=values).state_dict())


def model(features: int = 0) -> dict[str, Any]:
    norm = {"mean": [127.5] * 3, "std": [128.0] * 3}
    return {"type": "timm", "name": ARCHITECTURE, "architecture": ARCHITECTURE, "features": features, **norm}


def under(prefix: str, tensors: State) -> State:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def loaded(path: Path, content: Any, features: int = 0, identities: int | None = IDENTITIES) -> NetworkTeacher:
    torch.save(content, path)
    return NetworkTeacher.load(path, model(features), key="teacher.model", identities=identities)


def assert_has(teacher: NetworkTeacher, tensors: State) -> None:
    own = teacher.network.backbone.net.state_dict()
    assert own.keys() <= tensors.keys()
    assert all(torch.equal(own[name], tensors[name]) for name in own)


def refused(path: Path, content: Any, features: int = 0) -> str:
    with pytest.raises(WeightsError, match=re.escape(str(path))) as refusal:
        loaded(path, content, features)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize(
    "prefix",
    ["module.", "model.", "net.", "backbone.", "encoder.", "module.backbone.", "model.module.encoder.", "_orig_mod."],
)
def test_a_shared_prefix_is_taken_off_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], prefix: str) -> None:
    assert_has(loaded(tmp_path / "w.pt", under(prefix, state(24)), 24), state(24))
    assert capsys.readouterr().err == f"{tmp_path / 'w.pt'}: the prefix {prefix} was taken off its names\n"


def test_names_of_a_stranger_do_not_reach_the_terminal_raw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded(tmp_path / "w.pt", under("\x1b[2J\n.", state(24)), 24)
    assert "the prefix \\x1b[2J\\n. was taken off" in capsys.readouterr().err


def test_nothing_is_said_of_names_that_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = loaded(tmp_path / "w.pt", state(24), 24)
    assert_has(teacher, state(24))
    assert (teacher.width, teacher.num_identities) == (24, 0)
    assert capsys.readouterr().err == ""


# what lies in a file beside the network, and what is said of it
BESIDE: dict[str, tuple[Callable[[State], Any], str]] = {
    "an old classifier": (lambda net: net | {"head.weight": torch.ones(99, 24)}, "left out head.weight [99, 24]"),
    "another wrapper": (
        lambda net: {"state_dict_backbone": net, "state_dict_softmax_fc": {"weight": torch.ones(99, 24)}},
        "left out state_dict_softmax_fc.weight [99, 24]",
    ),
    "a margin": (
        lambda net: under("module.backbone.", net) | {"module.margin.kernel": torch.ones(24, 99)},
        "left out module.margin.kernel [24, 99]",
    ),
    "Lightning's, of AdaFace": (
        lambda net: {
            "epoch": 3,
            "state_dict": under("model.", net) | {"head.kernel": torch.ones(24, 99), "head.batch_mean": torch.ones(1)},
            "optimizer_states": [{"state": {0: {"momentum_buffer": torch.ones(3)}}}],
            "hyper_parameters": {"head": "adaface"},
        },
        "left out head.kernel [24, 99], head.batch_mean [1]",
    ),
    "timm's, of its training": (
        lambda net: {"epoch": 1, "arch": "x", "state_dict": net, "optimizer": {}, "state_dict_ema": state(24, 1)},
        "left out state_dict_ema.",
    ),
    "the kernel of a margin alone": (lambda net: net | {"kernel": torch.ones(24, 99)}, "left out kernel [24, 99]"),
    "the weight of a margin alone": (lambda net: net | {"weight": torch.ones(99, 24)}, "left out weight [99, 24]"),
    "a metric": (
        lambda net: net | {"metric_fc.weight": torch.ones(99, 24)},
        "left out metric_fc.weight [99, 24]",
    ),
    "an average": (lambda net: {"model": net, "ema": state(24, 1)}, "left out ema."),
    "another network": (lambda net: {"student": net, "critic": {"a.b": torch.ones(2)}}, "left out critic.a.b [2]"),
}


@pytest.mark.parametrize("kind", BESIDE)
def test_what_lies_beside_it_is_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    write, said = BESIDE[kind]
    teacher = loaded(tmp_path / "w.pt", write(state(24)), 24)
    assert_has(teacher, state(24))
    assert teacher.num_identities == 0
    assert said in capsys.readouterr().err


def test_files_of_other_programs_need_no_counters(tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in state(24).items() if "num_batches_tracked" not in name}
    assert tensors.keys() < state(24).keys()
    assert_has(loaded(tmp_path / "w.pt", tensors, 24), state(24))


def test_several_networks_that_fit_are_named(tmp_path: Path) -> None:
    said = refused(tmp_path / "w.pt", {"student": state(24), "teacher": state(24, 1)}, 24)
    assert "several networks of this architecture, student, teacher" in said


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_plain_classifier_of_these_identities_has_logits(tmp_path: Path, prefix: str) -> None:
    tensors = state(IDENTITIES)
    teacher = loaded(tmp_path / "w.pt", under(prefix, tensors))
    assert (teacher.width, teacher.num_identities) == (WIDTH, IDENTITIES)
    net = timm.create_model(ARCHITECTURE, num_classes=IDENTITIES).eval()
    net.load_state_dict(tensors)
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        expected = net((images - 127.5) / 128)
    torch.testing.assert_close(teacher(images).logits, expected, rtol=1e-4, atol=1e-4)


def test_a_classifier_of_others_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = loaded(tmp_path / "w.pt", state(99))
    assert (teacher.width, teacher.num_identities) == (WIDTH, 0)
    assert f"left out fc.weight [99, {WIDTH}], fc.bias [99]" in capsys.readouterr().err


@pytest.mark.parametrize(("inside", "given"), [(512, 0), (256, 512), (0, 512), (100, 512)])
@pytest.mark.parametrize("prefix", ["", "module.backbone."])
def test_another_width_is_named_with_what_to_type(tmp_path: Path, inside: int, given: int, prefix: str) -> None:
    content = under(prefix, state(inside))
    said = refused(tmp_path / "w.pt", content, given)
    assert f"teacher.model.features={inside}" in said
    teacher = loaded(tmp_path / "w.pt", content, inside)  # typing it works
    assert teacher.width == (inside or WIDTH)
    assert_has(teacher, state(inside))


def test_a_classifier_of_these_identities_needs_no_embedding_layer(tmp_path: Path) -> None:
    assert "teacher.model.features=0" in refused(tmp_path / "w.pt", state(IDENTITIES), 512)
    assert loaded(tmp_path / "w.pt", state(IDENTITIES), 0).num_identities == IDENTITIES


def other(name: str) -> State:
    return dict(timm.create_model(name, num_classes=24).state_dict())


def wider(tensors: State) -> State:
    return tensors | {"layer1.0.conv1.weight": torch.ones(64, 32, 3, 3)}


def deeper(tensors: State) -> State:
    return tensors | {"layer1.1.conv1.weight": torch.ones(32, 32, 3, 3)}


def ruined(tensors: State) -> State:
    return tensors | {"bn1.weight": torch.full_like(tensors["bn1.weight"], torch.nan)}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda: other("test_vit"), r"It holds cls_token, pos_embed, .* …; missing are conv1\.\S+, "),
        (lambda: under("module.", wider(state(24))), r"first layer1\.0\.conv1\.weight: file \[64, .*, network \["),
        (lambda: deeper(state(24)), r"layer1\.1\.conv1\.weight is unknown, \[32, 32, 3, 3\]"),
        (lambda: ruined(state(24)), r"of the \d+ weights of backbone\.net\.bn1\.weight are NaN or infinite"),
        (lambda: dict.fromkeys(state(24), 1), "is not a state_dict"),
    ],
    ids=["another kind", "wider", "deeper", "NaN", "numbers"],
)
def test_a_network_that_does_not_fit_is_named(tmp_path: Path, content: Callable[[], Any], said: str) -> None:
    found = refused(tmp_path / "w.pt", content(), 24)
    assert re.search(said, found), found


@pytest.mark.parametrize("prefix", ["", "module.", "state_dict."])
def test_a_network_of_ours_keeps_its_output_layers_under_a_prefix(tmp_path: Path, prefix: str) -> None:
    own = {"type": "resnet", "name": "r", "block": "basic", "layers": [1, 1, 1, 1], "width": 8}
    network = build_network(own, 1, 9, landmarks=True)
    torch.save(under(prefix, dict(network.state_dict())), tmp_path / "w.pt")
    teacher = NetworkTeacher.load(tmp_path / "w.pt", own, identities=4)
    assert teacher.num_identities == 9
    for name, tensor in network.state_dict().items():
        assert torch.equal(teacher.network.state_dict()[name], tensor)


def test_another_normalization_of_ours_does_not_fit(tmp_path: Path) -> None:
    own = {"type": "resnet", "name": "r", "block": "basic", "layers": [1, 1, 1, 1], "width": 8}
    save_weights(tmp_path / "w.safetensors", build_network(own, 1), {})
    tensors = safetensors.torch.load_file(tmp_path / "w.safetensors")
    assert any(name.startswith("backbone.input.") for name in tensors)
    net = {**model(), "architecture": ARCHITECTURE}
    torch.save(under("backbone.net.", state(0)) | {"backbone.input.weight": torch.ones(3)}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"another architecture.*input\.mean"):
        NetworkTeacher.load(tmp_path / "w.pt", net)


def test_a_real_recognizer(tmp_path: Path, real_faces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = real_faces / "teachers" / "edgeface_xs.safetensors"
    edgeface = {
        "type": "timm",
        "architecture": "edgenext_x_small",
        "features": 0,
        "mean": [127.5] * 3,
        "std": [128] * 3,
    }
    with pytest.raises(WeightsError, match=r"head\.fc, .*teacher\.model\.features=512"):
        NetworkTeacher.load(path, edgeface, key="teacher.model", identities=0)
    teacher = NetworkTeacher.load(path, edgeface | {"features": 512}, key="teacher.model", identities=0)
    assert (teacher.width, teacher.num_identities) == (512, 0)
    assert capsys.readouterr().err == ""
