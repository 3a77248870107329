"""A program of ``torch.export`` in float32: for torch alone, in Python or compiled, without the code of the network."""

from pathlib import Path

import torch

from facedistill.export.format import Format, Images, Session
from facedistill.export.network import Deployed
from facedistill.export.sessions import program_of, torch_session


class TorchProgram(Format):
    """A .pt2, as ``torch.export.save`` writes it, for batches of any size.

    Its graph is JSON and its weights are plain bytes, but ``torch.export.load`` unpickles what else such a file may
    hold: load none that somebody else could have changed. Where no pickle may be, ``format=safetensors`` has none. It
    is read by the torch that wrote it and by later ones, as long as these promise that.
    """

    file = "model.pt2"

    def write(self, network: Deployed, path: Path, faces: Images, variant: str) -> None:
        with path.open("wb") as file:  # by its name, torch would refuse or warn of another suffix
            torch.export.save(program_of(network), file)

    def load(self, path: Path, threads: int) -> Session:
        with path.open("rb") as file:
            program = torch.export.load(file)
        return torch_session(program.module(), threads)
