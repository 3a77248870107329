"""A recognizer in an ONNX file as a teacher, run by onnxruntime on the CPU."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facedistill.config.recognizer import ContractConfig
from facedistill.distill.teacher import Teacher, TeacherInput, TeacherOutput, as_taken
from facedistill.model_files.onnx_trial import check_runs

BATCH = 32  # images that are answered at once: their values in between take memory


class OnnxTeacher(Teacher):
    """An embedding without a classifier, by its contract. The same batch has the same answer, bit for bit.

    Args:
        threads: of its sums.

    Raises:
        WeightsError: it can't be read, or not run safely.
    """

    def __init__(self, path: Path, contract: ContractConfig, threads: int) -> None:
        self.graph = check_runs(path)
        import onnxruntime  # an extra, which is there

        self.width = self.graph.width
        self.input = TeacherInput(self.graph.size, contract.mean, contract.std, contract.colour, self.graph.columns)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.use_deterministic_compute = True
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # who waits leaves the cores to others
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    @torch.no_grad()
    def __call__(self, images: Tensor) -> TeacherOutput:
        batch = self._taken(images)
        step = 1 if self.graph.one_by_one else BATCH
        parts = [np.empty((0, self.width), np.float32)]
        for start in range(0, len(batch), step):
            parts += self._session.run([self.graph.output], {self.graph.input: batch[start : start + step]})
        return self.from_embedding(torch.from_numpy(np.concatenate(parts)).to(images.device))

    def _taken(self, images: Tensor) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32 | np.uint8]]":
        """RGB pixels [B, 3, S, S] as the graph takes them."""
        pixels = as_taken(images.cpu().float(), self.input)
        if self.input.mean is not None and self.input.std is not None:
            mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.input.mean, self.input.std))
            pixels = (pixels - mean) / std
        if self.graph.channels_last:
            pixels = pixels.permute(0, 2, 3, 1)
        if self.graph.pixel == "uint8":
            pixels = pixels.round().clamp(0, 255).to(torch.uint8)
        return pixels.contiguous().numpy()

    def from_embedding(self, embedding: Tensor) -> TeacherOutput:
        return TeacherOutput(embedding, None)

    def to(self, device: torch.device) -> None:
        """It stays on the CPU, and its answers come to where the images are."""
