"""The published network of a finished run, and the recognizer that it imitates beside it."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from facedistill.config.schema import TEACHER, Config
from facedistill.data.loading.datamodule import FaceData
from facedistill.distill.axes import TeacherOnAxes
from facedistill.distill.bank import Answered
from facedistill.distill.teacher import NetworkTeacher
from facedistill.errors import RunError
from facedistill.evaluation.scoring import embeddings
from facedistill.models.weights import read_weights
from facedistill.runs.record import Record
from facedistill.runs.run import WEIGHTS, WeightsFile
from facedistill.training.teachers import load_teacher, seen_by_teacher


def network_of(directory: Path, config: Config) -> NetworkTeacher:
    """The published network of a finished run."""
    return NetworkTeacher.load(directory / WEIGHTS, config.network, config.rate)


def imitated(
    directory: Path, record: Record, config: Config, data: FaceData, device: torch.device
) -> NDArray[np.float32] | None:
    """Have the teacher of a run answer beside it on the test split of ``data``, and give what it says of its pairs.

    It is the file that the record names, or the run of that name beside this one.

    Raises:
        RunError: it is another recognizer than the run imitated.
    """
    own, beside = config.teacher, directory.resolve().parent
    if own.weights:
        file = WeightsFile.imitated(own)
        if file.identity != record.recipe["parents"][TEACHER]:
            raise RunError(f"{file.weights} is not the recognizer that it imitated: teacher.weights=FILE names that")
    else:
        file = WeightsFile(beside / Path(record.parents[TEACHER]).name / WEIGHTS)
    teacher = load_teacher(file, 0, config.trainer.threads)
    if (axes := read_weights(directory / WEIGHTS).axes) is not None:
        teacher = TeacherOnAxes(teacher, axes)
    teacher.to(device)
    seen = seen_by_teacher(file, FaceData.of(config, data))

    def embed(pixels: torch.Tensor) -> torch.Tensor:
        return teacher(pixels).embedding.float()

    answers = [embed(batch.to(device).images).cpu().numpy() for batch in seen.val_dataloader()]
    data.use_banks({}, {TEACHER: Answered(data.faces.test, np.concatenate(answers))})
    images = seen.of_pairs
    return None if images is None else embeddings(embed, images.val_dataloader(), device)
