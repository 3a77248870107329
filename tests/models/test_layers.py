"""A network that keeps some of the layers of another."""

import pytest
import timm
import torch

from facedistill.errors import ConfigError, WeightsError
from facedistill.models.families.timm import TimmBackbone, stages_of
from facedistill.models.layers import kept_layers

EDGE = "edgenext_xx_small"  # its stages have 2, 2, 6 and 2 blocks; the last but of the first is of another kind


def test_first_last_and_blocks_between_are_kept_as_they_are() -> None:
    whole, own = TimmBackbone(EDGE, 8), TimmBackbone(EDGE, 8, blocks=[2, 1, 3, 1])
    values = whole.state_dict()
    own.load_state_dict(kept_layers(own.state_dict(), values))
    expected = {0: [0, 1], 1: [1], 2: [0, 2, 5], 3: [1]}  # 2.5 of 0 … 5 is rounded to the even, and both are as near
    for stage, blocks in expected.items():
        for place, block in enumerate(blocks):
            kept = own.net.stages[stage].blocks[place].state_dict()
            assert all(
                torch.equal(kept[name], value)
                for name, value in whole.net.stages[stage].blocks[block].state_dict().items()
            )
    assert torch.equal(own.net.head.fc.weight, whole.net.head.fc.weight)
    assert torch.equal(own.net.stages[3].downsample[1].weight, whole.net.stages[3].downsample[1].weight)


def test_with_all_blocks_it_is_the_same_network() -> None:
    whole, own = TimmBackbone("resnet18", 8), TimmBackbone("resnet18", 8, blocks=[2, 2, 2, 2])
    kept = kept_layers(own.state_dict(), whole.state_dict())
    assert kept.keys() == whole.state_dict().keys()
    assert all(torch.equal(kept[name], value) for name, value in whole.state_dict().items())


def test_a_single_block_is_one_that_fits() -> None:
    """The last of a stage of ResNet takes as many channels as it gives: only the first can stand alone."""
    whole, own = TimmBackbone("resnet18", 8), TimmBackbone("resnet18", 8, blocks=[2, 1, 1, 1])
    kept = kept_layers(own.state_dict(), whole.state_dict())
    assert torch.equal(kept["net.layer3.0.conv1.weight"], whole.net.layer3[0].conv1.weight)
    assert torch.equal(kept["net.layer1.1.conv1.weight"], whole.net.layer1[1].conv1.weight)


@pytest.mark.parametrize("other", [("resnet34", 8), ("resnet18", 16), (EDGE, 8)])
def test_layers_of_another_network_are_refused(other: tuple[str, int]) -> None:
    name, features = other
    whole = TimmBackbone(name, features, blocks=[1, 1, 1, 1])
    with pytest.raises(WeightsError, match="no network of the same family"):
        kept_layers(TimmBackbone("resnet18", 8).state_dict(), whole.state_dict())


def test_blocks_are_counted() -> None:
    def blocks(architecture: str) -> list[int]:
        return [len(stage) for stage in stages_of(timm.create_model(architecture))]

    assert blocks("edgenext_x_small") == [3, 3, 9, 3]
    assert blocks("resnet50") == [3, 4, 6, 3]
    assert blocks("mobilenetv3_small_050") == []


@pytest.mark.parametrize(
    ("architecture", "blocks", "said"),
    [
        ("mobilenetv3_small_050", [1], "has no stages"),
        ("resnet18", [1, 1], r"from 1 to \[2,2,2,2\]"),
        ("resnet18", [3, 1, 1, 1], r"from 1 to \[2,2,2,2\]"),
        ("resnet18", [0, 1, 1, 1], r"from 1 to \[2,2,2,2\]"),
        ("fastvit_t8", [1, 1, 1, 1], r"with \[2,2,4,2\] only"),
    ],
)
def test_blocks_that_a_network_can_t_have_are_refused(architecture: str, blocks: list[int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        TimmBackbone(architecture, 8, blocks=blocks)
