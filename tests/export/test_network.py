"""The network as it is deployed answers as the published one, by formulas of its own for what it takes and gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from facedistill.config.recognizer import ContractConfig
from facedistill.distill.teacher import NetworkTeacher
from facedistill.export.network import Deployed
from facedistill.models.backbone import Standardize
from facedistill.models.network import Network, build_network
from facedistill.runs.exported import ImageInput

SIDE = 24
MEAN, STD = [120.0, 110.0, 100.0], [60.0, 50.0, 40.0]
RESNET: dict[str, Any] = {"type": "resnet", "block": "basic", "layers": [1, 1, 1, 1], "width": 4, "features": 6}
TIMM = {"type": "timm", "architecture": "resnet10t", "blocks": [1, 1, 1, 1], "mean": MEAN, "std": STD}


def published(model: dict[str, Any] = RESNET) -> Network:
    """A network whose statistics are not those of a new one; without BatchNorm's, a mistake in these shows nowhere."""
    torch.manual_seed(0)
    network = build_network(model, 1, num_identities=7, landmarks=True).eval()
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                layer.running_mean.uniform_(-1, 1)
                layer.running_var.uniform_(0.5, 2)
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.uniform_(-0.3, 0.3)
        if isinstance(norm := network.backbone.input, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.copy_(torch.tensor([130.0, 105.0, 90.0]))
            norm.running_var.copy_(torch.tensor([3000.0, 4000.0, 5000.0]))
    return network


def pixels(count: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("model", [RESNET, TIMM], ids=["BatchNorm", "Standardize"])
@pytest.mark.parametrize("pixel", ["float32", "uint8"])
def test_it_answers_the_pixels_as_the_published_network_does(model: dict[str, Any], pixel: str) -> None:
    network, images = published(model), pixels()
    expected = network(images)
    norm = isinstance(network.backbone.input, Standardize)
    assert norm == (model is TIMM)
    taken = images
    if pixel == "float32":  # numbers of another convention than those of the network itself
        taken = ((images.double() - 127.5) / torch.tensor([127.5, 100, 64]).view(3, 1, 1)).float()
    said = ImageInput(SIDE, SIDE, pixel, [127.5] * 3, [127.5, 100, 64])
    close(Deployed(network, "embedding", said)(taken), expected.embedding)
    lengths = expected.embedding.square().sum(1, keepdim=True).sqrt()
    close(Deployed(network, "embedding", said, normalized=True)(taken), expected.embedding / lengths)
    for normalized in (True, False):  # which is of embeddings
        close(Deployed(network, "logits", said, normalized)(taken), expected.logits)
        landmarks = Deployed(network, "landmarks", said, normalized)(taken)
        assert landmarks.shape == (3, 5, 2)
        close(landmarks, expected.landmarks)


@pytest.mark.parametrize("pixel", ["float32", "uint8"])
def test_as_taken_is_the_convention_that_it_is_told(pixel: str) -> None:
    network, images = published(), pixels()
    deployed = Deployed(network, "embedding", ImageInput(SIDE, SIDE, pixel, MEAN, STD))
    taken = deployed.as_taken(images)
    numbers = images.numpy().astype(np.float64)
    if pixel == "float32":
        numbers = (numbers - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    assert taken.dtype == (torch.float32 if pixel == "float32" else torch.uint8)
    np.testing.assert_allclose(taken.numpy(), numbers, rtol=1e-6, atol=1e-6)
    close(deployed(taken), network(images).embedding)


@pytest.mark.parametrize(("colour", "columns"), [("bgr", None), ("rgb", 20), ("bgr", 20)])
def test_it_makes_of_an_rgb_image_what_a_recognizer_takes(colour: str, columns: int | None) -> None:
    network, images = published(TIMM), pixels()
    contract = ContractConfig(size=SIDE, colour=colour, columns=columns)
    teacher = NetworkTeacher(network, contract=contract)
    deployed = Deployed.of(teacher, "embedding", ImageInput(SIDE, SIDE, "uint8", [0.0] * 3, [1.0] * 3))
    seen = images[:, [2, 1, 0]] if colour == "bgr" else images
    seen = seen if columns is None else seen[..., 2:22]
    close(deployed(images), network(seen).embedding)
    close(deployed(images), teacher(images).embedding)
    assert (deployed(images) - network(images).embedding).abs().max() > 1e-2


def test_an_image_may_be_wider_than_high() -> None:
    network = published()
    deployed = Deployed(network, "embedding", ImageInput(SIDE, 32, "uint8", [0.0] * 3, [1.0] * 3))
    assert deployed.example(2).shape == (2, 3, SIDE, 32)
    assert torch.equal(deployed.example(2), deployed.example(2))
    assert deployed.width == 6
    close(deployed(deployed.example(2)), network(deployed.example(2)).embedding)


def test_what_is_deployed_is_frozen_and_the_published_network_as_it_was() -> None:
    network = build_network(RESNET, 1, num_identities=7)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    pooled = [type(layer).__name__ for layer in network.modules()]
    deployed = Deployed(network, "logits", ImageInput(SIDE, SIDE, "uint8", [0.0] * 3, [1.0] * 3))
    assert not deployed.training
    assert not deployed(pixels()).requires_grad
    assert "AdaptiveAvgPool2d" not in [type(layer).__name__ for layer in deployed.modules()]
    assert [type(layer).__name__ for layer in network.modules()] == pooled
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_an_answer_without_length_is_no_nan() -> None:
    network = published()
    with torch.no_grad():
        for parameter in network.backbone.net.parameters():
            parameter.zero_()
    said = ImageInput(SIDE, SIDE, "uint8", [0.0] * 3, [1.0] * 3)
    assert torch.equal(Deployed(network, "embedding", said, normalized=True)(pixels()), torch.zeros(3, 6))
