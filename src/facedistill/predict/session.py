"""A model file in onnxruntime: images in, answers out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedistill.errors import ConfigError, WeightsError
from facedistill.model_files.onnx_file import INSTALL
from facedistill.runs.exported import Exported, ModelFile
from facedistill.system.text import shown

BEST, ONNX = "onnx", "onnx"  # the format that is taken where there is a choice; with what the others begin
LANDMARKS = 10  # values of five points
TOLERANCE = 1e-3  # of the largest value, by which an image may be answered otherwise in a batch: sums round
_TYPES = {"float32": "tensor(float)", "uint8": "tensor(uint8)"}
_FEW = 5  # images, that are asked one by one as soon as in a batch
_SAID = 200  # characters of onnxruntime's own words


class Session:
    """Answers images as ``Exported.input`` says; made by ``open``."""

    def __init__(self, path: Path, exported: Exported, model: ModelFile, session: Any) -> None:
        self.path, self.exported, self.model = path, exported, model
        self._session = session
        inputs, outputs = session.get_inputs(), [value.name for value in session.get_outputs()]
        taken = exported.input
        if [(one.name, one.type) for one in inputs] != [(taken.name, _TYPES[taken.pixel])]:
            raise WeightsError(f"{path} does not take one {taken.pixel} {shown(taken.name)[:60]}: export it again")
        self._output = exported.output or outputs[0]
        if self._output not in outputs:
            raise WeightsError(f"{path} has no output {shown(self._output)[:60]}: export it again")
        self._one_by_one: bool | None = None  # it is not known yet

    @classmethod
    def open(cls, folder: Path, exported: Exported, wanted: str | None, threads: int) -> Session:
        """The model of a format, by its bytes the one that was proven; None: ``BEST``, or the first that is ONNX.

        Raises:
            WeightsError: there is none, it was changed since, or onnxruntime can't run it.
            ConfigError: onnxruntime is not installed, or runs no such format.
        """
        formats = [model.format for model in exported.files]
        able = [name for name in formats if name.startswith(ONNX)]
        if not able:
            raise WeightsError(
                f"{folder} holds {', '.join(formats) or 'no model'}, and onnxruntime runs none of that: facedistill "
                "export run=RUN format=onnx"
            )
        name = wanted or (BEST if BEST in able else able[0])
        if name not in able:
            raise ConfigError(f"format={name}: choices are {', '.join(able)}")
        model = exported.checked(folder, name)
        try:
            import onnxruntime
        except ImportError as error:
            raise ConfigError(f"onnxruntime is not installed: {INSTALL}") from error
        onnxruntime.set_default_logger_severity(4)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        path = folder / model.file
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # a stranger's graph: whatever onnxruntime says of it
            raise WeightsError(f"{path} can't be run: {_said(error)}") from error
        return cls(path, exported, model, session)

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Of [N, 3, height, width]: the embeddings or logits [N, width], or the landmarks [N, 5, 2].

        A graph that answers a batch otherwise than its images is asked one by one.

        Raises:
            WeightsError: it gives something else than its export says, or no numbers.
        """
        if len(images) < _FEW or self._answers_one_by_one(images):
            return np.concatenate([self._run(images[i : i + 1]) for i in range(len(images))])
        return self._run(images)

    def _answers_one_by_one(self, images: NDArray[Any]) -> bool:
        if self._one_by_one is None:
            alone = np.concatenate([self._run(images[i : i + 1]) for i in range(2)])
            try:
                off = np.abs(self._run(images[:2]) - alone).max()
            except WeightsError:
                off = np.inf
            self._one_by_one = bool(off > TOLERANCE * np.abs(alone).max())
        return self._one_by_one

    def _run(self, images: NDArray[Any]) -> NDArray[np.float32]:
        try:
            (answer,) = self._session.run([self._output], {self.exported.input.name: images})
        except Exception as error:
            raise WeightsError(f"{self.path} answers no image: {_said(error)}") from error
        landmarks = self.exported.kind == "landmarks"
        width = LANDMARKS if landmarks else self.exported.width
        shape, kind = (list(answer.shape), answer.dtype) if isinstance(answer, np.ndarray) else ([], type(answer))
        if kind != np.float32 or not shape or shape[0] != len(images) or answer.size != len(images) * width:
            raise WeightsError(
                f"{self.path} gives {shape} of {kind} for {len(images)} images, not {width:,} values each: export it "
                "again"
            )
        if not np.isfinite(answer).all():
            raise WeightsError(f"{self.path} answers with values that are no numbers (NaN, or infinite)")
        values: NDArray[np.float32] = answer.reshape(len(images), *((5, 2) if landmarks else (width,)))
        return values


def _said(error: Exception) -> str:
    return " ".join(shown(error).split())[:_SAID]
