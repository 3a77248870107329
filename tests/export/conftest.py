"""A network as it is deployed, its graph, and finished runs, which several tests read: they take seconds to make."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from facedistill.export.network import Deployed
from facedistill.models.network import build_network
from facedistill.runs.exported import ImageInput
from facedistill.runs.run import Run
from made_runs import made_runs

SIDE = 24


@pytest.fixture(scope="session")
def deployed() -> Deployed:
    """A small ResNet of faces of 24 pixels, as InsightFace takes them, whose weights are mostly in its last stage."""
    torch.manual_seed(0)
    model = {"type": "resnet", "block": "basic", "layers": [1, 1, 1, 1], "width": 16, "features": 32}
    network = build_network(model, 1).eval().requires_grad_(False)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_var is not None
            layer.running_var.uniform_(0.5, 2)
            layer.weight.uniform_(0.5, 1.5)  # blocks begin with zeros in their last, and would do nothing
            layer.bias.uniform_(-0.2, 0.2)
    norm = network.backbone.input
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.fill_(120)
    norm.running_var.fill_(4000)
    return Deployed(network, "embedding", ImageInput(SIDE, SIDE, "float32", [127.5] * 3, [127.5] * 3))


@pytest.fixture(scope="session")
def graph(deployed: Deployed) -> Any:
    """Its ``ModelProto``."""
    pytest.importorskip("onnx")
    from facedistill.export.formats.onnx import graph_of

    return graph_of(deployed)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    return made_runs(tmp_path_factory)
