"""Weights alone, as safetensors in float32: nothing is unpickled, and a dozen lines with timm build the network."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from facedistill.errors import ConfigError, WeightsError
from facedistill.export.format import Format, Images, Session
from facedistill.export.network import Deployed
from facedistill.export.sessions import torch_session
from facedistill.models.families.resnet import MULTIPLES
from facedistill.models.families.timm import stages_of
from facedistill.system.text import shown

_KEY = "network"  # of the metadata


@dataclass(frozen=True)
class Recipe:
    """What a reader needs to know beside the weights; the metadata of the file, as JSON.

    Attributes:
        kind, normalized, colour, columns: see ``Deployed``.
        pixel, height, width: of the image, see ``ImageInput``.
        name: of the architecture in timm; empty: it is a ResNet of ours, of timm's blocks.
        block: of that ResNet, timm's class; ``stem``: its kernels; ``bias``: its convolutions have one.
        layers: blocks of each stage; None: as many as timm's architecture of that name has.
        layers_key: what timm calls them.
        features: values of the linear embedding; 0: there is none.
        head: inputs and outputs of the linear layer behind it; None: there is none.
    """

    kind: Literal["embedding", "logits", "landmarks"]
    normalized: bool
    colour: Literal["rgb", "bgr"]
    columns: int | None
    pixel: Literal["float32", "uint8"]
    height: int
    width: int
    features: int
    head: list[int] | None
    name: str = ""
    block: Literal["BasicBlock", "Bottleneck"] = "BasicBlock"
    stem: int = 0
    bias: bool = False
    layers: list[int] | None = None
    layers_key: Literal["layers", "depths"] = "layers"


class Safetensors(Format):
    """The state of ``Deployed``, and a ``Recipe`` in the metadata. It is run by the very lines that a card shows."""

    file = "model.safetensors"

    def write(self, network: Deployed, path: Path, faces: Images, variant: str) -> None:
        """Raises ``ConfigError`` for a network that neither timm nor a ResNet of timm's blocks is."""
        recipe = _recipe(network)
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
        about = {"format": "pt", _KEY: json.dumps(asdict(recipe)), "input": json.dumps(asdict(network.taken))}
        save_file(state, path, metadata=about)
        try:
            _built(recipe, path)
        except RuntimeError as error:  # of a family of somebody's own, that changes what timm builds
            path.unlink()
            raise ConfigError(_FOREIGN) from error

    def load(self, path: Path, threads: int) -> Session:
        try:
            with safe_open(path, framework="pt") as file:
                recipe = _reader().validate_json((file.metadata() or {}).get(_KEY, ""), strict=True)
        except Exception as error:  # whatever is wrong with its header
            raise WeightsError(f"{path} was not exported as format=safetensors: {shown(str(error))[:200]}") from error
        return torch_session(_built(recipe, path), threads)


def loader(network: Deployed, file: str = Safetensors.file) -> str:
    """Python that has ``model(image)`` answer as the network does, from a file, by torch, timm and safetensors alone.

    Raises ``ConfigError`` as ``Safetensors.write``.
    """
    return _source(_recipe(network), file)


_FOREIGN = (
    "format=safetensors: this network is no architecture of timm nor a ResNet of ours, so weights alone would need our "
    "code to be read. format=onnx or format=torch-program hold the network too"
)


def _recipe(network: Deployed) -> Recipe:
    head, taken = network.head, network.taken
    net: Any = network.net  # as timm built it
    common: dict[str, Any] = {
        "kind": network.kind,
        "normalized": network.normalized,
        "colour": network.colour,
        "columns": network.columns,
        "pixel": taken.pixel,
        "height": taken.height,
        "width": taken.width,
        "features": int(getattr(net, "num_classes", 0)),
        "head": [head.in_features, head.out_features] if isinstance(head, nn.Linear) else None,
    }
    config = getattr(net, "pretrained_cfg", None)  # timm says so of what it builds by a name
    if isinstance(config, Mapping) and timm.is_model(name := str(config.get("architecture"))):
        return Recipe(name=name, **common, **_changed_layers(net, name))
    if type(net) is ResNet:
        layers = [len(stage) for stage in stages_of(net)]
        common |= {"block": type(net.layer1[0]).__name__, "stem": net.conv1.out_channels}
        return Recipe(bias=net.conv1.bias is not None, layers=layers, **common)
    raise ConfigError(_FOREIGN)


def _changed_layers(net: nn.Module, name: str) -> dict[str, Any]:
    """The blocks of a timm network's stages, where they are fewer than its architecture has."""
    with torch.device("meta"):
        whole = timm.create_model(name)
    layers = [len(stage) for stage in stages_of(net)]
    if layers == [len(stage) for stage in stages_of(whole)]:
        return {}
    return {"layers": layers, "layers_key": "layers" if hasattr(net, "layer1") else "depths"}


def _source(recipe: Recipe, file: str) -> str:
    """The dozen lines. All that a file says of itself is checked to be of its type, and strings are quoted."""
    lines = ["import torch", "from safetensors.torch import load_file", "from torch import nn", ""]
    if recipe.name:
        lines.insert(0, "import timm")
    else:
        lines.insert(2, f"from timm.models.resnet import {recipe.block}, ResNet")
    lines += [f"state = load_file({json.dumps(file)})", 'scale, shift = state.pop("scale"), state.pop("shift")']
    lines += _timm(recipe) if recipe.name else _resnet(recipe)
    head = "" if recipe.head is None else f', "head": nn.Linear({recipe.head[0]}, {recipe.head[1]})'
    lines += [f'parts = nn.ModuleDict({{"net": net{head}}}).eval()', "parts.load_state_dict(state)", "", ""]
    lines += ["@torch.inference_mode()", "def model(image):"]
    lines[-1] += f"  # {recipe.pixel} [N, 3, {recipe.height}, {recipe.width}], RGB"
    if recipe.colour == "bgr":
        lines.append("    image = image[:, [2, 1, 0]]")
    if recipe.columns is not None:
        left = (recipe.width - recipe.columns) // 2
        lines.append(f"    image = image[..., {left} : {left + recipe.columns}]")
    lines.append("    answer = net(image.float() * scale + shift)")
    if recipe.head is not None:
        lines.append('    answer = parts["head"](answer)')
    if recipe.kind == "embedding" and recipe.normalized:
        lines.append("    answer = nn.functional.normalize(answer)")
    lines.append("    return answer.unflatten(1, (-1, 2))" if recipe.kind == "landmarks" else "    return answer")
    return "\n".join(lines) + "\n"


def _timm(recipe: Recipe) -> list[str]:
    layers = "" if recipe.layers is None else f", {recipe.layers_key}={tuple(recipe.layers)}"
    return [f"net = timm.create_model({json.dumps(recipe.name)}, num_classes={recipe.features}{layers})"]


def _resnet(recipe: Recipe) -> list[str]:
    """As ``ResNetBackbone`` has timm's ResNet with a narrower stem."""
    stem, block = recipe.stem, recipe.block
    channels = tuple(stem * multiple for multiple in MULTIPLES)
    out = stem * {"BasicBlock": BasicBlock, "Bottleneck": Bottleneck}[block].expansion
    downsample = f", downsample=nn.Sequential(nn.Conv2d({stem}, {out}, 1, bias=False), nn.BatchNorm2d({out}))"
    lines = [
        f"net = ResNet({block}, {tuple(recipe.layers or ())}, num_classes={recipe.features}, channels={channels})",
        f"net.conv1, net.bn1 = nn.Conv2d(3, {stem}, 7, 2, 3, bias=False), nn.BatchNorm2d({stem})",
        f"net.layer1[0] = {block}({stem}, {stem}{downsample if out != stem else ''})",
    ]
    if recipe.bias:
        lines.append("for layer in (layer for layer in net.modules() if isinstance(layer, nn.Conv2d)):")
        lines.append("    layer.bias = nn.Parameter(torch.zeros(layer.out_channels))")
    return lines


def _built(recipe: Recipe, path: Path) -> Any:
    """``model`` of these lines."""
    found: dict[str, Any] = {}
    exec(compile(_source(recipe, str(path)), "<loader of a card>", "exec"), found)  # of our own text
    return found["model"]


@cache
def _reader() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Recipe)
