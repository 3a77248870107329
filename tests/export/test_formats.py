"""Every format that can be made here: its file answers as the network does, in its own runtime."""

import json
import os
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import nn

from facedistill.config.build import find_type
from facedistill.errors import ConfigError, WeightsError
from facedistill.export import format as formats_of
from facedistill.export import formats
from facedistill.export.format import Format, named
from facedistill.export.formats.safetensors import Safetensors, loader
from facedistill.export.network import Deployed
from facedistill.export.sessions import torch_session
from facedistill.models.network import Network, build_network
from facedistill.runs.exported import ImageInput

SIZE = (32, 30)  # rows, columns
MEAN, STD = [120.0, 110.0, 100.0], [60.0, 50.0, 40.0]
NO_FACES = np.empty((0, 3, *SIZE), np.float32)
ROUNDING, RUNTIME = 1e-5, 1e-4
NAMES = [module.name for module in iter_modules(formats.__path__)]
KINDS: dict[str, type[Format]] = {name: find_type("format", {"type": name}) for name in NAMES}
SLOW = ("executorch", "litert")  # a minute a network
EXACT = [
    pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
    for name, kind in KINDS.items()
    if kind.exact and kind.is_run
]
RESNET = {"type": "resnet", "block": "basic", "layers": [1, 1, 1, 1], "width": 8}


@dataclass(frozen=True)
class Case:
    """One of the networks: what it gives, of what."""

    kind: str
    pixel: str
    model: dict[str, Any]
    rate: int = 1
    normalized: bool = True
    colour: str = "rgb"
    columns: int | None = None
    size: tuple[int, int] = SIZE

    def network(self) -> Deployed:
        torch.manual_seed(0)
        network = build_network(self.model, self.rate, num_identities=7, landmarks=True)
        _lived(network)
        taken = ImageInput(*self.size, self.pixel, MEAN, STD)
        return Deployed(network, self.kind, taken, self.normalized, self.colour, self.columns)


CASES = [
    Case("embedding", "float32", {**RESNET, "features": 6, "bias": True}, rate=2),
    Case("logits", "uint8", {**RESNET, "block": "bottleneck", "width": 4}),
    Case("landmarks", "uint8", {**RESNET, "features": 5}, colour="bgr", columns=25),
]
EDGENEXT = {"type": "timm", "architecture": "edgenext_xx_small", "features": 8, "mean": MEAN, "std": STD}
OF_TIMM = [
    Case("embedding", "uint8", EDGENEXT, size=(64, 64)),
    Case("logits", "float32", {"type": "timm", "architecture": "resnet10t", "blocks": [1, 1, 1, 1]}, colour="bgr"),
    Case(
        "embedding", "float32", {"type": "timm", "architecture": "resnet14t", "blocks": [1, 1, 1, 1]}, normalized=False
    ),
]


def _lived(network: Network) -> None:
    """Give it what training gives: statistics and scales in BatchNorm, and biases, which are not 0 and 1 any more."""
    network.eval().requires_grad_(False)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values, low, high in (
                (layer.running_mean, -1, 1),
                (layer.running_var, 0.5, 2),
                (layer.weight, 0.5, 1.5),
                (layer.bias, -0.2, 0.2),
            ):
                assert values is not None
                values.uniform_(low, high)
        elif isinstance(layer, nn.Conv2d) and layer.bias is not None:
            layer.bias.normal_(std=0.1)
    if isinstance(norm := network.backbone.input, nn.BatchNorm2d):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.uniform_(90, 130)
        norm.running_var.uniform_(3000, 5000)


def made(name: str, network: Deployed, folder: Path) -> Path:
    kind = KINDS[name]
    if missing := [module for module in kind.modules if find_spec(module) is None]:
        pytest.skip(f"{', '.join(missing)} not installed: {kind.install}")
    path = folder / kind.file
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind().write(network, path, NO_FACES, kind.variants[0])
    assert {file.name for file in folder.iterdir()} == {kind.file, *getattr(kind, "beside", ())}
    return path


@pytest.mark.parametrize("case", CASES, ids=[case.kind for case in CASES])
@pytest.mark.parametrize("name", EXACT)
def test_a_file_answers_as_the_network(name: str, case: Case, tmp_path: Path) -> None:
    network = case.network()
    session = KINDS[name]().load(made(name, network, tmp_path), threads=1)
    for count in (1, 3):
        images = network.example(count)
        answer, expected = session(images.numpy()), network(images).numpy()
        assert answer.dtype == np.float32
        assert answer.shape == expected.shape
        assert np.abs(expected).max() > 0.01
        np.testing.assert_allclose(answer, expected, atol=RUNTIME)
    other = session(network.example(1).numpy()[..., ::-1].copy())  # its answers are of its images
    assert np.abs(other - expected[:1]).max() > 10 * RUNTIME


@pytest.mark.parametrize("name", NAMES)
def test_what_is_missing_is_refused_with_what_to_type(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = KINDS[name]
    monkeypatch.setattr(formats_of, "find_spec", lambda module: None)
    if not kind.modules:
        assert isinstance(named(name), kind)
        return
    with pytest.raises(ConfigError, match=rf"format={name.replace('_', '-')} needs {kind.modules[0]}.*pip install"):
        named(name.replace("_", "-"))


def test_no_two_formats_write_the_same_file() -> None:
    files = [file for kind in KINDS.values() for file in (kind.file, *getattr(kind, "beside", ()))]
    assert len(files) == len(set(files))


@pytest.mark.slow
def test_the_printed_lines_answer_as_the_network_without_us(tmp_path: Path) -> None:
    """In a process of their own, where facedistill can't be imported."""
    cases, expected = [*CASES, *OF_TIMM], []
    for at, case in enumerate(cases):
        network = case.network()
        Safetensors().write(network, tmp_path / f"{at}.safetensors", NO_FACES, "")
        text = loader(network, f"{at}.safetensors")
        compile(text, "loader", "exec")
        assert len(text.splitlines()) <= 22
        assert "facedistill" not in text
        (tmp_path / f"{at}.py").write_text(text)
        images = network.example(3)
        np.save(tmp_path / f"{at}.npy", images.numpy())
        expected.append(network(images).numpy())
    program = (
        "import sys\n"
        "sys.modules['facedistill'] = None\n"
        "import numpy, runpy, torch\n"
        "torch.set_num_threads(1)\n"
        f"for at in range({len(cases)}):\n"
        "    model = runpy.run_path(f'{at}.py')['model']\n"
        "    numpy.save(f'answer{at}.npy', model(torch.from_numpy(numpy.load(f'{at}.npy'))).numpy())\n"
        "try:\n"
        "    import facedistill.export\n"
        "except ImportError:\n"
        "    print('alone')\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "alone", done.stderr
    for at, answer in enumerate(expected):
        np.testing.assert_allclose(np.load(tmp_path / f"answer{at}.npy"), answer, atol=ROUNDING, err_msg=str(cases[at]))


@pytest.mark.parametrize("case", [CASES[1], OF_TIMM[2]], ids=["ours", "timm"])
def test_safetensors_hold_the_weights_and_what_they_are_of(case: Case, tmp_path: Path) -> None:
    network = case.network()
    path = made("safetensors", network, tmp_path)
    tensors = safetensors.torch.load_file(path)
    assert tensors.keys() == network.state_dict().keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in network.state_dict().items())
    with safe_open(path, framework="pt") as file:
        about = {name: json.loads(text) for name, text in file.metadata().items() if name != "format"}
    assert about["input"] == asdict(network.taken)
    assert about["network"]["head"] == ([128, 7] if case.kind == "logits" else None)
    assert about["network"]["name"] == case.model.get("architecture", "")
    session = Safetensors().load(path, threads=1)
    images = network.example(2)
    np.testing.assert_allclose(session(images.numpy()), network(images).numpy(), atol=ROUNDING)


@pytest.mark.parametrize(
    ("key", "value"),
    [("stem", "8) or print("), ("layers", [1, "exit()"]), ("block", "Neck"), ("features", 5.5), ("colour", "cmyk")],
)
def test_safetensors_whose_description_is_no_description_are_refused(key: str, value: object, tmp_path: Path) -> None:
    path = made("safetensors", CASES[0].network(), tmp_path)
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["network"])
    about[key] = value
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, {"network": json.dumps(about)})
    with pytest.raises(WeightsError, match=r"model\.safetensors was not exported as format=safetensors"):
        Safetensors().load(path, threads=1)


@pytest.mark.parametrize("content", [b"", b"not a header", b"\x08\0\0\0\0\0\0\0{}      "])
def test_other_files_are_no_safetensors_of_ours(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=r"w\.safetensors was not exported as format=safetensors"):
        Safetensors().load(tmp_path / "w.safetensors", threads=1)


def test_weights_alone_of_somebodys_own_network_are_refused(tmp_path: Path) -> None:
    network = CASES[0].network()
    network.net.layer2.append(nn.Conv2d(8, 8, 1))  # timm's ResNet has none there
    with pytest.raises(ConfigError, match="no architecture of timm nor a ResNet of ours"):
        Safetensors().write(network, tmp_path / "w.safetensors", NO_FACES, "")
    network.net = nn.Sequential(network.net)
    with pytest.raises(ConfigError, match="format=onnx"):
        loader(network)
    assert not any(tmp_path.iterdir())


def test_a_session_of_torch_leaves_the_threads_of_the_process_alone() -> None:
    network, seen = CASES[0].network(), []
    session = torch_session(network, threads=3)
    before, images = torch.get_num_threads(), network.example(1).numpy()

    class Seen(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
            seen.append(torch.get_num_threads())
            return func(*args, **(kwargs or {}))

    with Seen():
        session(images)
    assert set(seen) == {3}
    assert torch.get_num_threads() == before


def test_a_program_of_torch_without_pickles_of_code(tmp_path: Path) -> None:
    """Of what its file holds only the example image is a pickle, of a tensor alone."""
    path = made("torch_program", CASES[0].network(), tmp_path)
    with zipfile.ZipFile(path) as archive:
        names = {name.partition("/")[2] for name in archive.namelist()}
        pickles = [name for name in names if name.endswith((".pt", ".pkl"))]
        content = archive.read(next(name for name in archive.namelist() if name.endswith("sample_inputs/model.pt")))
    assert pickles == ["data/sample_inputs/model.pt"]
    (tmp_path / "sample.pt").write_bytes(content)
    assert torch.load(tmp_path / "sample.pt", weights_only=True)


def test_a_layer_that_ncnn_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"format=ncnn: ncnn lacks layers of this network: .*torch\."):
        made("ncnn", OF_TIMM[0].network(), tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("case", CASES, ids=[case.kind for case in CASES])
def test_a_core_ml_package_is_whole_in_its_zip(case: Case, tmp_path: Path) -> None:
    network = case.network()
    path = made("coreml", network, tmp_path)
    import coremltools

    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unpacked")
    (package,) = (tmp_path / "unpacked").iterdir()
    assert package.name == "model.mlpackage"
    spec = coremltools.models.MLModel(str(package), skip_model_load=True).get_spec().description
    assert [spec.input[0].name, spec.output[0].name] == ["image", case.kind]
    if case.pixel == "uint8":
        assert (spec.input[0].type.imageType.height, spec.input[0].type.imageType.width) == SIZE
    else:
        assert [*spec.input[0].type.multiArrayType.shape] == [1, 3, *SIZE]
    with pytest.raises(ConfigError, match="iOS and macOS"):
        KINDS["coreml"]().load(path, threads=1)


@pytest.mark.slow
def test_openvino_is_not_told_on(tmp_path: Path) -> None:
    """Its telemetry would be sent at the first import: in a process of its own, it is not there."""
    if find_spec("openvino") is None:
        pytest.skip("openvino not installed")
    program = (
        "import sys\n"
        "from facedistill.export.formats.openvino import _openvino\n"
        "_openvino()\n"
        "import openvino.tools.ovc.telemetry_utils as used\n"
        "print(used.tm.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout.strip() == "openvino.tools.ovc.telemetry_stub", done.stderr
