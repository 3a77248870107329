"""ExecuTorch in float32, by XNNPACK: PyTorch's own runtime for phones."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from facedistill.export.format import Format, Images, Session
from facedistill.export.network import Deployed
from facedistill.export.sessions import one_by_one, program_of


class ExecuTorch(Format):
    """A .pte for one image; what XNNPACK does not know, as bytes that become numbers, the portable kernels compute."""

    file = "model.pte"
    modules: ClassVar[tuple[str, ...]] = ("executorch",)
    install = "pip install 'facedistill[executorch]'"

    def write(self, network: Deployed, path: Path, faces: Images, variant: str) -> None:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        edge = to_edge_transform_and_lower(program_of(network, 1), partitioner=[XnnpackPartitioner()])
        path.write_bytes(edge.to_executorch().buffer)

    def load(self, path: Path, threads: int) -> Session:
        """The number of threads becomes that of all ExecuTorch in this process."""
        from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
        from executorch.runtime import Runtime

        _unsafe_reset_threadpool(threads)  # unsafe while a method runs: none does
        program = Runtime.get().load_program(path)
        method = program.load_method("forward")
        assert method is not None

        def answer(image: Images) -> NDArray[np.float32]:
            (found,) = method.execute([torch.from_numpy(np.ascontiguousarray(image))])
            copied: NDArray[np.float32] = found.numpy().copy()  # the next image is answered in the same memory
            return copied

        return one_by_one(answer)
