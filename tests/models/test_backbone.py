"""Backbones: the paper's sizes, torchvision's numbers, the middle layer, foreign networks, normalization."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from facedistill.config.build import build
from facedistill.config.compose import compose_config
from facedistill.errors import ConfigError
from facedistill.models.backbone import Backbone, Standardize
from facedistill.models.families.resnet import ResNetBackbone
from facedistill.models.families.timm import TimmBackbone
from facedistill.models.network import Network, build_network

RATES = (1, 2, 4, 8)


@pytest.fixture(scope="module")
def resnet50() -> dict[str, Any]:
    return compose_config(["scale=paper"]).model


@pytest.fixture(scope="module")
def backbones(resnet50: dict[str, Any]) -> dict[int, Backbone]:
    return {rate: build("model", resnet50, rate=rate) for rate in RATES}


def pixels(size: int = 32, count: int = 2) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def size_of(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("rate", "millions", "width"), [(1, 23.5, 2048), (2, 5.9, 1024), (4, 1.49, 512), (8, 0.38, 256)]
)
def test_resnet50_has_the_sizes_of_the_paper(
    backbones: dict[int, Backbone], rate: int, millions: float, width: int
) -> None:
    decimals = len(str(millions).split(".")[1])
    assert round(size_of(backbones[rate]) / 1e6, decimals) == millions
    assert backbones[rate].width == width
    with torch.no_grad():
        assert backbones[rate].eval()(pixels(64)).shape == (2, width)


@pytest.mark.parametrize("rate", RATES)
def test_the_kernels_of_every_layer_are_divided_by_the_rate(backbones: dict[int, Backbone], rate: int) -> None:
    kinds = (nn.Conv2d, nn.BatchNorm2d)
    own, full = (
        {name: layer for name, layer in backbones[r].net.named_modules() if isinstance(layer, kinds)} for r in (rate, 1)
    )
    assert own.keys() == full.keys()
    assert sum(isinstance(layer, nn.Conv2d) for layer in own.values()) == 53
    for name, layer in own.items():
        if isinstance(layer, nn.Conv2d):
            assert layer.out_channels * rate == full[name].out_channels
            assert layer.in_channels * (1 if name == "conv1" else rate) == full[name].in_channels
            assert (layer.kernel_size, layer.stride) == (full[name].kernel_size, full[name].stride)
        else:
            assert layer.num_features * rate == full[name].num_features


def test_resnet50_computes_what_torchvision_computes() -> None:
    torch.manual_seed(0)
    ours, theirs = ResNetBackbone("bottleneck", [3, 4, 6, 3], 64).eval(), torchvision.models.resnet50().eval()
    theirs.fc = nn.Identity()
    assert size_of(ours.net) == size_of(theirs)
    theirs.load_state_dict(ours.net.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(ours.net(pixels(64).float()), theirs(pixels(64).float()))


def by_hand(net: Any, images: Tensor) -> Tensor:
    stem = net.maxpool(torch.relu(net.bn1(net.conv1(images))))
    return net.layer2(net.layer1(stem))  # type: ignore[no-any-return]


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("rate", [1, 4])
def test_the_middle_is_what_layer2_gives_and_nothing_behind_it_is_computed(block: str, rate: int) -> None:
    backbone = ResNetBackbone(block, [1, 2, 1, 1], 16, rate).eval()
    computed: list[str] = []
    for name in ("layer2", "layer3", "layer4"):
        getattr(backbone.net, name).register_forward_hook(lambda *_, name=name: computed.append(name))
    with torch.no_grad():
        middle = backbone.middle(pixels())
        assert computed == ["layer2"]
        expected = by_hand(backbone.net, backbone.input(pixels().float()))
    torch.testing.assert_close(middle, expected, rtol=0, atol=0)
    assert middle.shape[1] == 16 * 2 // rate * (4 if block == "bottleneck" else 1)
    assert middle.abs().sum() > 0


def test_the_gradient_of_the_middle_reaches_shallow_layers_only() -> None:
    backbone = ResNetBackbone("basic", [1, 1, 1, 1], 8)
    backbone.middle(pixels()).square().sum().backward()
    touched = {name.split(".")[1] for name, p in backbone.named_parameters() if p.grad is not None}
    assert {"conv1", "layer1", "layer2"} <= touched
    assert not {"layer3", "layer4"} & touched


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "ghostnet_050"])
@pytest.mark.parametrize("features", [0, 512])
def test_a_timm_network_has_the_width_it_says_and_can_be_classified_upon(name: str, features: int) -> None:
    backbone = TimmBackbone(name, features).eval()
    with torch.no_grad():
        found = backbone(pixels(64))
        assert found.shape == (2, backbone.width)
        assert backbone.width == (features or found.shape[1])
        assert Network(backbone, 5)(pixels(64)).logits.shape == (2, 5)
        assert backbone.middle(pixels(64)).ndim == 4


@pytest.mark.parametrize(
    ("name", "near"), [("resnet19", "resnet18"), ("mobilenetv3_smal_050", "mobilenetv3_small_050"), ("vgg61", "vgg16")]
)
def test_an_unknown_timm_name_says_which_are_near(name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"model.name={name}.*{near}"):
        TimmBackbone(name)


def test_a_name_that_is_near_nothing_is_refused_too() -> None:
    with pytest.raises(ConfigError, match=r"model\.name=qqqqqq"):
        TimmBackbone("qqqqqq")


def test_a_timm_network_has_no_rate() -> None:
    with pytest.raises(ConfigError, match="rate=2"):
        TimmBackbone("resnet18", rate=2)


def test_raw_pixels_meet_a_batch_norm_first() -> None:
    backbone = ResNetBackbone("basic", [1, 1, 1, 1], 8).train()
    assert isinstance(backbone.input, nn.BatchNorm2d)
    seen: list[Tensor] = []
    backbone.input.register_forward_hook(lambda _, inputs, output: seen.extend([inputs[0], output.detach()]))
    images = pixels(16, 8)
    backbone(images)
    raw, normalized = (tensor.double().numpy() for tensor in seen)
    np.testing.assert_array_equal(raw, images.numpy())
    deviation = np.sqrt(raw.var((0, 2, 3), keepdims=True) + backbone.input.eps)
    expected = (raw - raw.mean((0, 2, 3), keepdims=True)) / deviation
    np.testing.assert_allclose(normalized, expected, atol=1e-4)


def test_mean_and_std_standardize_like_numpy_and_are_in_the_weights() -> None:
    mean, std = [123.7, 116.3, 103.5], [58.4, 57.1, 57.4]
    backbone = TimmBackbone("resnet18", mean=mean, std=std).eval()
    assert isinstance(backbone.input, Standardize)
    images = pixels()
    expected = (images.numpy() - np.array(mean)[:, None, None]) / np.array(std)[:, None, None]
    np.testing.assert_allclose(backbone.input(images.float()).numpy(), expected, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(
            backbone(images), backbone.net(torch.tensor(expected, dtype=torch.float32)), rtol=1e-3, atol=1e-3
        )
    assert {"input.mean", "input.std"} <= backbone.state_dict().keys()
    assert not list(backbone.input.parameters())


@pytest.mark.parametrize("given", [{"mean": [1.0, 1.0, 1.0]}, {"std": [1.0, 1.0, 1.0]}])
def test_half_of_a_normalization_is_refused(given: dict[str, list[float]]) -> None:
    with pytest.raises(ConfigError, match="mean"):
        TimmBackbone("resnet18", **given)  # type: ignore[arg-type]


def test_a_network_gives_the_feature_and_a_linear_answer_on_it() -> None:
    model = compose_config(["model.width=16"]).model
    network = build_network(model, rate=2, num_identities=7).eval()
    with torch.no_grad():
        features, logits, landmarks, _ = network(pixels())
    assert landmarks.shape == (2, 0, 2)
    assert network.classifier is not None
    torch.testing.assert_close(features, network.backbone(pixels()), rtol=0, atol=0)
    weight, bias = network.classifier.weight.detach().double(), network.classifier.bias.detach().double()
    np.testing.assert_allclose(logits.numpy(), features.double().numpy() @ weight.numpy().T + bias.numpy(), atol=1e-5)
    assert logits.shape == (2, 7)


def test_a_network_gives_landmarks_that_are_linear_in_the_feature() -> None:
    network = build_network(compose_config(["model.width=16"]).model, rate=2, landmarks=True).eval()
    assert network.classifier is None
    assert network.regressor is not None
    with torch.no_grad():
        features, logits, landmarks, _ = network(pixels())
    assert (logits.shape, landmarks.shape) == ((2, 0), (2, 5, 2))
    weight, bias = network.regressor.weight.detach().double(), network.regressor.bias.detach().double()
    expected = features.double().numpy() @ weight.numpy().T + bias.numpy()
    np.testing.assert_allclose(landmarks.numpy(), expected.reshape(2, 5, 2), atol=1e-5)


FIT = """
import hashlib, torch
from facedistill.models.families.resnet import ResNetBackbone
torch.manual_seed(0)
torch.set_num_threads(THREADS)
net = ResNetBackbone("basic", [1, 1, 1, 1], WIDTH, rate=4)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(12):
    images = torch.randint(0, 256, (31, 40, 40, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    optimizer.zero_grad()
    net(images).square().mean().backward()
    optimizer.step()
print(hashlib.sha256(b"".join(p.detach().contiguous().numpy().tobytes() for p in net.parameters())).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize(("width", "threads"), [(16, 1), (32, 2)])
def test_a_narrow_network_trains_the_same_in_every_process(width: int, threads: int) -> None:
    # in channels_last the gradients of its strided 1 × 1 convolutions overran their memory
    program = FIT.replace("WIDTH", f"{width}").replace("THREADS", f"{threads}")
    done = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True) for _ in range(3)]
    assert [process.returncode for process in done] == [0, 0, 0], done[0].stderr
    assert len({process.stdout for process in done}) == 1


def test_the_memory_layout_is_channels_last_unless_a_strided_projection_is_narrow() -> None:
    assert ResNetBackbone("basic", [1, 1, 1, 1], 32, rate=2).memory_format == torch.channels_last
    assert ResNetBackbone("basic", [1, 1, 1, 1], 32, rate=4).memory_format == torch.contiguous_format
    assert ResNetBackbone("basic", [1, 1, 1, 1], 32, rate=8).memory_format == torch.contiguous_format
    assert ResNetBackbone("bottleneck", [3, 4, 6, 3], 64, rate=8).memory_format == torch.channels_last
