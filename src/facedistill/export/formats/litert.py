"""LiteRT in float32, formerly TensorFlow Lite: for Android and small devices."""

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from facedistill.export.format import Format, Images, Session
from facedistill.export.network import Deployed
from facedistill.export.sessions import one_by_one


class LiteRt(Format):
    """A .tflite for one image, whose channels come first as in every format."""

    file = "model.tflite"
    modules: ClassVar[tuple[str, ...]] = ("litert_torch", "ai_edge_litert")
    install = "pip install 'facedistill[litert]'"

    def write(self, network: Deployed, path: Path, faces: Images, variant: str) -> None:
        with redirect_stdout(io.StringIO()):  # it tells its progress, a line a step
            import litert_torch

            model = litert_torch.convert(network, sample_kwargs={network.taken.name: network.example(1)})
            model.export(str(path))

    def load(self, path: Path, threads: int) -> Session:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(path), num_threads=threads)
        interpreter.allocate_tensors()
        taken, given = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

        def answer(image: Images) -> NDArray[np.float32]:
            interpreter.set_tensor(taken, np.ascontiguousarray(image))
            interpreter.invoke()
            found: NDArray[np.float32] = interpreter.get_tensor(given)
            return found

        return one_by_one(answer)
