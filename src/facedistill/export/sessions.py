"""What sessions of several formats share: threads of torch, and runtimes that take one image at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facedistill.export.format import Images, Session
from facedistill.export.network import Deployed


def program_of(network: Deployed, count: int | None = None) -> Any:
    """The ``ExportedProgram`` of a network for batches of ``count`` images; None: of any size."""
    shapes = ({0: torch.export.Dim("batch")},) if count is None else None
    return torch.export.export(network, (network.example(count or 2),), dynamic_shapes=shapes)


def torch_session(model: Callable[[Tensor], Tensor], threads: int) -> Session:
    """A session that torch itself computes on the CPU."""

    @torch.inference_mode()
    def answer(images: Images) -> NDArray[np.float32]:
        with _threads(threads):
            found: NDArray[np.float32] = model(torch.from_numpy(np.ascontiguousarray(images))).numpy()
        return found

    return answer


def one_by_one(run: Session) -> Session:
    """A session of batches from one that takes a single image [1, 3, height, width]."""

    def answer(images: Images) -> NDArray[np.float32]:
        return np.concatenate([run(images[at : at + 1]) for at in range(len(images))])

    return answer


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads of torch; they belong to the process, which has its own back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
