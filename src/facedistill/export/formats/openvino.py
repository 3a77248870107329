"""OpenVINO's IR in float32: for processors, graphics and NPUs of Intel."""

import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from facedistill.export.format import Format, Images, Session
from facedistill.export.network import Deployed
from facedistill.export.sessions import program_of


class OpenVino(Format):
    """A graph in XML, and its weights beside it under the same stem, where OpenVINO looks for them."""

    file = "model.xml"
    beside: ClassVar[tuple[str, ...]] = ("model.bin",)
    modules: ClassVar[tuple[str, ...]] = ("openvino",)
    install = "pip install 'facedistill[openvino]'"

    def write(self, network: Deployed, path: Path, faces: Images, variant: str) -> None:
        openvino, taken = _openvino(), network.taken
        model = openvino.convert_model(program_of(network))
        model.inputs[0].get_tensor().set_names({taken.name})
        model.outputs[0].get_tensor().set_names({network.kind})
        model.reshape(openvino.PartialShape([-1, 3, taken.height, taken.width]))
        openvino.serialize(model, path, path.with_suffix(".bin"))

    def load(self, path: Path, threads: int) -> Session:
        """On the CPU, in float32 also where a processor has halves."""
        openvino = _openvino()
        hints = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        core = openvino.Core()
        model = core.compile_model(core.read_model(path, path.with_suffix(".bin")), "CPU", hints)

        def answer(images: Images) -> NDArray[np.float32]:
            found: NDArray[np.float32] = np.array(model(np.ascontiguousarray(images))[0])
            return found

        return answer


def _openvino() -> Any:
    """The package; without the one that reports its imports and conversions to its makers, unasked."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # so, its import fails, as OpenVINO allows
    import openvino

    return openvino
