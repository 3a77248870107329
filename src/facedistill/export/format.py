"""The interface of formats: how a network becomes a file, and how that file is run."""

import abc
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from facedistill.config.build import find_type
from facedistill.errors import ConfigError
from facedistill.export import formats

if TYPE_CHECKING:  # torch takes seconds
    from facedistill.export.network import Deployed

Images = NDArray[Any]  # [N, 3, height, width] as ``ImageInput`` says, float32 or uint8
Session = Callable[[Images], NDArray[np.float32]]


class Format(abc.ABC):
    """A kind of model file. A new one is a subclass in its own module of ``export/formats``, which imports late.

    Attributes:
        file: the name of its file in an export; ``beside``: of others that belong to it.
        modules: what has to be importable to write and to run it; ``install``: the command that brings these.
        exact: it computes in float32: answers differ by rounding.
        calibrates: it is shown training faces to be made.
        is_run: the file can be run where it is made.
        variants: ways to make it, in the order in which they are tried until one scores as the network does.
    """

    file: ClassVar[str]
    beside: ClassVar[tuple[str, ...]] = ()
    modules: ClassVar[tuple[str, ...]] = ()
    install: ClassVar[str] = ""
    exact: ClassVar[bool] = True
    calibrates: ClassVar[bool] = False
    is_run: ClassVar[bool] = True
    variants: ClassVar[Sequence[str]] = ("",)

    @abc.abstractmethod
    def write(self, network: "Deployed", path: Path, faces: Images, variant: str) -> None:
        """Write a network to ``path``; ``faces``: some that it was trained on, as it takes them, to calibrate by."""

    @abc.abstractmethod
    def load(self, path: Path, threads: int) -> Session:
        """Have the file answer batches of any size, in its own runtime."""


def named(name: str) -> Format:
    """A format by its name: ``onnx-int8``. Raises ``ConfigError`` where there is none, or it can't be made here."""
    try:
        kind: type[Format] = find_type("format", {"type": name.replace("-", "_")})
    except ConfigError as error:
        choices = ", ".join(sorted(module.name.replace("_", "-") for module in iter_modules(formats.__path__)))
        raise ConfigError(f"format={name}: choices are {choices}") from error
    if missing := [module for module in kind.modules if find_spec(module) is None]:
        raise ConfigError(f"format={name} needs {', '.join(missing)}: {kind.install}")
    return kind()
