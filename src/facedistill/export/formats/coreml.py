"""Core ML in float32: for iPhones and Macs. It is made anywhere, and run by Apple's systems alone."""

import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
import torch

from facedistill.errors import ConfigError
from facedistill.export.format import Format, Images, Session
from facedistill.export.network import Deployed

_WHEN = (1980, 1, 1, 0, 0, 0)  # the first that a ZIP knows: two exports differ by their content alone


class CoreMl(Format):
    """A package, which is a folder, in a ZIP: one file with one checksum, which a Mac unpacks by a double click.

    It takes one image: an array in float32, or, where the network takes uint8, a picture (a ``CVPixelBuffer``).
    """

    file = "model.mlpackage.zip"
    modules: ClassVar[tuple[str, ...]] = ("coremltools",)
    install = "pip install 'facedistill[coreml]'"
    is_run = False

    def write(self, network: Deployed, path: Path, faces: Images, variant: str) -> None:
        import coremltools

        taken, shape = network.taken, (1, 3, network.taken.height, network.taken.width)
        if taken.pixel == "uint8":
            kind = coremltools.ImageType(taken.name, shape=shape, color_layout=coremltools.colorlayout.RGB)
        else:
            kind = coremltools.TensorType(taken.name, shape=shape, dtype=np.float32)
        model = coremltools.convert(
            torch.export.export(network, (network.example(1).float(),)).run_decompositions({}),
            inputs=[kind],
            outputs=[coremltools.TensorType(network.kind, dtype=np.float32)],
            convert_to="mlprogram",
            compute_precision=coremltools.precision.FLOAT32,
            minimum_deployment_target=coremltools.target.iOS15,
            skip_model_load=True,
        )
        with TemporaryDirectory() as folder:
            package = Path(folder) / Path(self.file).stem
            model.save(str(package))
            _zip(package, path)

    def load(self, path: Path, threads: int) -> Session:
        raise ConfigError(f"{path}: a Core ML package is run by iOS and macOS alone")


def _zip(package: Path, path: Path) -> None:
    """A folder as a ZIP, not compressed: its size is that of the model.

    Of what lies at the top of the folder only the manifest belongs to it, the rest is for debuggers.
    """
    files = [part for part in sorted(package.rglob("*")) if part.is_file()]
    with zipfile.ZipFile(path, "w") as archive:
        for part in files:
            if part.parent != package or part.name == "Manifest.json":
                name = part.relative_to(package.parent).as_posix()
                archive.writestr(zipfile.ZipInfo(name, _WHEN), part.read_bytes())
