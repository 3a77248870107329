"""ncnn in float32: a small runtime without dependencies, for phones and boards with ARM, also by Vulkan."""

import subprocess
import warnings
from copy import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facedistill.errors import ConfigError, WeightsError
from facedistill.export.format import Format, Images, Session
from facedistill.export.network import Deployed
from facedistill.export.sessions import one_by_one
from facedistill.system.text import shown

_IN, _OUT = "in0", "out0"  # as pnnx calls them


class Ncnn(Format):
    """A graph as text, and its weights beside it. It takes one image [3, height, width], in float32 also of uint8.

    ncnn has the layers of convolutional networks. Of those with attention, as EdgeNeXt, it lacks some.
    """

    file = "model.ncnn.param"
    beside: ClassVar[tuple[str, ...]] = ("model.ncnn.bin",)
    modules: ClassVar[tuple[str, ...]] = ("ncnn", "pnnx")
    install = "pip install 'facedistill[ncnn]'"

    def write(self, network: Deployed, path: Path, faces: Images, variant: str) -> None:
        """Raises ``ConfigError`` for a network with layers that ncnn lacks."""
        import pnnx

        image = network.example(1).float()
        with TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, that tracing is old: pnnx reads nothing newer as well
            traced = torch.jit.trace(_Planes(network), image, check_trace=False)  # type: ignore[no-untyped-call]
            traced.save(f"{folder}/net.pt")
            form = ",".join(map(str, image.shape))
            command = [pnnx.EXEC_PATH, "net.pt", f"inputshape=[{form}]f32", "fp16=0"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
            param, weights = Path(folder) / "net.ncnn.param", Path(folder) / "net.ncnn.bin"
            if done.returncode or not (param.is_file() and weights.is_file()):
                raise ConfigError(f"format=ncnn: pnnx can't convert this network: {shown(done.stderr)[-200:]}")
            _opened(param, weights, threads=1)
            path.write_bytes(param.read_bytes())
            _weights(path).write_bytes(weights.read_bytes())

    def load(self, path: Path, threads: int) -> Session:
        import ncnn

        net = _opened(path, _weights(path), threads)

        def answer(images: Images) -> NDArray[np.float32]:
            image = np.ascontiguousarray(images[0], dtype=np.float32)
            run = net.create_extractor()
            run.input(_IN, ncnn.Mat(image))
            failed, found = run.extract(_OUT)
            if failed:
                raise WeightsError(f"{path}: ncnn can't run it (status {failed})")
            copied: NDArray[np.float32] = np.array(found)[None]
            return copied

        return one_by_one(answer)


class _Planes(nn.Module):
    """The same of planes that are put in another order one by one: ncnn can't index by a list."""

    def __init__(self, network: Deployed) -> None:
        super().__init__()
        self.is_bgr = network.colour == "bgr"
        self.network = copy(network)  # with the same layers
        self.network.colour = "rgb"

    def forward(self, image: Tensor) -> Tensor:
        if self.is_bgr:
            image = torch.cat([image[:, at : at + 1] for at in (2, 1, 0)], 1)
        return self.network(image)  # type: ignore[no-any-return]


def _weights(path: Path) -> Path:
    return path.with_suffix(".bin")


def _opened(param: Path, weights: Path, threads: int) -> Any:
    """A net of ncnn that computes in float32. Raises ``ConfigError`` where it has layers that ncnn lacks."""
    import ncnn

    net = ncnn.Net()
    options = net.opt
    options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
    options.use_bf16_packed = options.use_bf16_storage = options.use_vulkan_compute = False
    options.num_threads = threads
    if net.load_param(str(param)) or net.load_model(str(weights)):
        lines = param.read_text(errors="replace").splitlines()[2:]
        lacking = sorted({line.split()[0] for line in lines if "." in line.split()[0]})  # it keeps the names of torch
        raise ConfigError(f"format=ncnn: ncnn lacks layers of this network: {', '.join(lacking) or 'it names none'}")
    return net
