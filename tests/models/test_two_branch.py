"""Two networks side by side: what they share, and BatchNorm over the pixels of both, against numbers of its own."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facedistill.models.network import Network, build_network
from facedistill.models.two_branch import share, side_by_side

BASIC = {"type": "resnet", "block": "basic", "layers": [1, 2, 1, 1], "width": 16}
BOTTLENECK = {"type": "resnet", "block": "bottleneck", "layers": [1, 2, 1, 1], "width": 16, "features": 12}
NARROW = {"type": "resnet", "block": "basic", "layers": [1, 1, 1, 1], "width": 8}
MODELS = pytest.mark.parametrize("model", [BASIC, BOTTLENECK, NARROW], ids=["basic", "bottleneck", "narrow"])


def networks(model: dict[str, object], batch_norm: bool) -> tuple[Network, Network]:
    torch.manual_seed(0)
    one, other = build_network(model, 1, 5), build_network(model, 1, 5)
    share(one, other, batch_norm)
    with torch.no_grad():  # the last scale of a residual branch starts at zero
        for parameter in [*one.parameters(), *other.parameters()]:
            parameter += 0.1 * torch.randn_like(parameter)
    return one, other


def images(count: int = 6) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    shapes = ((count, 3, 15, 40), (count, 3, 40, 40))
    bands, faces = (torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw) for shape in shapes)
    return bands.to(memory_format=torch.channels_last), faces.to(memory_format=torch.channels_last)


@MODELS
@pytest.mark.parametrize("batch_norm", [True, False])
def test_they_share_all_but_stage_4_and_what_follows(model: dict[str, object], batch_norm: bool) -> None:
    one, other = networks(model, batch_norm)
    shared = {id(part) for part in one.parameters()} & {id(part) for part in other.parameters()}
    layers = dict(one.named_modules())
    for name, part in one.named_parameters():
        is_norm = isinstance(layers[name.rpartition(".")[0]], nn.BatchNorm2d)
        is_own = name.startswith(("backbone.net.layer4", "backbone.net.fc", "classifier")) or (
            is_norm and not batch_norm
        )
        assert (id(part) not in shared) == is_own, name
    buffers = {id(part) for part in one.buffers()} & {id(part) for part in other.buffers()}
    assert bool(buffers) == batch_norm


class Recorded:
    """Of every BatchNorm what goes in, by hooks."""

    def __init__(self, network: Network) -> None:
        self.seen: dict[str, Tensor] = {}
        for name, layer in network.named_modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> object:
        def keep(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            assert name not in self.seen, "called twice"
            self.seen[name] = inputs[0].detach().double()

        return keep


@MODELS
def test_a_shared_batch_norm_has_the_statistics_of_both_together(model: dict[str, object]) -> None:
    one, other = networks(model, batch_norm=True)
    bands, faces = images()
    side_by_side(one.train(), other.train(), bands, faces)
    norm = one.backbone.input  # the one whose input is known: raw pixels, from running statistics of 0 and 1
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.num_batches_tracked == 1
    assert norm.running_mean is not None
    assert norm.running_var is not None
    pixels = np.concatenate([part.permute(1, 0, 2, 3).reshape(3, -1).double().numpy() for part in (bands, faces)], 1)
    np.testing.assert_allclose(norm.running_mean.numpy(), 0.1 * pixels.mean(1), rtol=1e-5)
    np.testing.assert_allclose(norm.running_var.numpy(), 0.9 + 0.1 * pixels.var(1, ddof=1), rtol=1e-5)


def reference(one: Network, other: Network, bands: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64, twice: first to find the statistics of both, layer by layer, then normalized by them.

    A shared BatchNorm in eval mode normalizes by its running statistics: put those of both kinds there, one layer after
    the other in the order of the forward.
    """
    one, other = copy.deepcopy((one, other))
    one.double()
    other.double()
    for network in (one, other):
        network.backbone.forward = lambda images, of=network.backbone: of.net(of.input(images.double()))  # type: ignore[method-assign]
        network.eval()
    norms = [(name, layer) for name, layer in one.backbone.named_modules() if isinstance(layer, nn.BatchNorm2d)]
    order: list[str] = []
    for name, layer in norms:
        layer.register_forward_hook(lambda *_, name=name: order.append(name))
    one(bands)
    names = list(dict.fromkeys(order))
    for name in names:
        for networks in ([one, other],) if not name.startswith("net.layer4") else ([one], [other]):
            inputs: list[Tensor] = []
            for network, part in ((one, bands), (other, faces)):
                if network not in networks:
                    continue
                layer = network.backbone.get_submodule(name)
                hook = layer.register_forward_hook(lambda _, given, __, inputs=inputs: inputs.append(given[0].detach()))
                network(part)
                hook.remove()
            values = torch.cat([part.transpose(0, 1).flatten(1) for part in inputs], 1)
            layer = networks[0].backbone.get_submodule(name)
            layer.running_mean, layer.running_var = values.mean(1), values.var(1, correction=0)
    return one(bands).logits, other(faces).logits


@MODELS
def test_in_training_it_is_what_float64_finds_with_these_statistics(model: dict[str, object]) -> None:
    one, other = networks(model, batch_norm=True)
    bands, faces = images()
    expected = reference(one, other, bands, faces)
    found = side_by_side(one.train(), other.train(), bands, faces)
    for own, others in zip(found, expected, strict=True):
        torch.testing.assert_close(own.logits.double(), others, rtol=2e-3, atol=2e-3)
    alone = copy.deepcopy(one).train()(bands).logits
    assert (alone - found[0].logits).abs().max() > 0.1, "statistics of the bands alone are others"


@MODELS
def test_when_it_does_not_train_each_answers_as_it_does_alone(model: dict[str, object]) -> None:
    one, other = networks(model, batch_norm=True)
    bands, faces = images()
    side_by_side(one.train(), other.train(), bands, faces)
    with torch.no_grad():
        found = side_by_side(one.eval(), other.eval(), bands, faces)
        expected = one(bands), other(faces)
    for own, others in zip(found, expected, strict=True):
        torch.testing.assert_close(own.logits, others.logits, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(own.embedding, others.embedding, rtol=1e-5, atol=1e-5)


@MODELS
def test_every_parameter_of_both_gets_a_gradient_and_maps_keep_their_memory_format(model: dict[str, object]) -> None:
    one, other = networks(model, batch_norm=True)
    formats: list[bool] = []
    for layer in one.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(
                lambda _, given, __: formats.append(given[0].is_contiguous(memory_format=one.backbone.memory_format))
            )
    outputs = side_by_side(one.train(), other.train(), *images())
    sum(output.logits.square().sum() for output in outputs).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is not None for network in (one, other) for parameter in network.parameters())
    assert formats
    assert all(formats)
