"""What is exported: the network of a finished run, or one in a file of weights, and the faces to judge it by."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from facedistill.config.compose import with_words
from facedistill.config.schema import Config
from facedistill.data.files.alignment import ARCFACE_SIZE, ARCFACE_TEMPLATE
from facedistill.data.loading.bands import in_band
from facedistill.data.loading.datamodule import FaceData
from facedistill.data.sources.source import build_source
from facedistill.distill.teacher import NetworkTeacher
from facedistill.errors import RunError, WeightsError
from facedistill.models.weights import read_weights
from facedistill.runs.exported import Framing, ImageInput
from facedistill.runs.finished import as_recorded, finished, scored_config
from facedistill.runs.record import Record
from facedistill.runs.run import WEIGHTS, WeightsFile
from facedistill.system.files import is_file, sha256
from facedistill.training.published import network_of
from facedistill.training.teachers import load_teacher

NOWHERE = ""  # the folder of the faces of a file that came without any


@dataclass
class Subject:
    """A network, and what is known of it.

    Attributes:
        kind: what it gives, see ``Exported``.
        config: of its task, its images and its data.
        file: of its weights.
        teacher: the file that it imitates, where there is one.
    """

    network: NetworkTeacher
    kind: str
    config: Config
    file: Path
    record: Record | None = None
    teacher: WeightsFile | None = None
    model: WeightsFile | None = None

    @classmethod
    def of_run(cls, directory: Path, words: Sequence[str]) -> "Subject":
        """The published network of a run; ``words`` say anew where its data are.

        Raises:
            RunError: it is not complete, or an intermediate stage, which has no output.
        """
        record = finished(directory)
        if record.config.task.intermediate:
            stage = f"{directory} is what others stand on, task={record.config.task.name}"
            raise RunError(f"{stage}: it has no output layer to export")
        with as_recorded(directory):
            taken = scored_config(record)
        config = with_words(taken, words)
        torch.set_num_threads(config.trainer.threads)
        with as_recorded(directory):
            network = network_of(directory, config)
        task = config.task
        of_classes = task.type in ("classify", "spoof")
        kind = "landmarks" if task.needs == "landmarks" else "logits" if of_classes else "embedding"
        if task.imitates and config.teacher.weights and not is_file(config.teacher.weights):
            raise RunError(
                f"{config.teacher.weights} does not exist, which {directory} imitates: teacher.weights=FILE says where "
                "it is now"
            )
        own = WeightsFile.imitated(config.teacher) if task.imitates and config.teacher.weights else None
        return cls(network, kind, config, directory / WEIGHTS, record, own)

    @classmethod
    def of_file(cls, file: WeightsFile, config: Config) -> "Subject":
        """A recognizer from elsewhere, by its contract."""
        if file.is_onnx:
            raise WeightsError(
                f"{file.weights} is an ONNX file already. A student of it is exported by its run, run=RUN"
            )
        torch.set_num_threads(config.trainer.threads)
        network = load_teacher(file, 0, config.trainer.threads)
        assert isinstance(network, NetworkTeacher)
        return cls(network, "embedding", config, file.weights, model=file)

    @property
    def identity(self) -> str:
        if self.record is not None:
            return self.record.identity
        assert self.model is not None
        return self.model.identity

    @property
    def name(self) -> str:
        return self.record.name if self.record is not None else self.file.stem

    @property
    def ancestors(self) -> dict[str, str]:
        if self.record is None:
            return {"weights": f"{self.file.name}, sha256 {sha256(self.file)}"}
        identities = self.record.recipe["parents"]
        found = {role: f"{Path(name).name} ({identities[role]})" for role, name in self.record.parents.items()}
        return {"weights": f"{WEIGHTS}, sha256 {sha256(self.file)}", **found}

    @property
    def recognizers(self) -> list[Path]:
        """The files from elsewhere that it is, or that what it stands on learnt from; of a student alone none."""
        if self.model is not None:
            return [self.model.weights]
        if self.record is None or not self.record.parents:
            return []
        teacher = self.config.teacher
        files = [teacher.weights, teacher.backbone, *(node["weights"] for node in self.config.teachers.values())]
        return [Path(file) for file in files if file]

    @property
    def has_axes(self) -> bool:
        return self.record is not None and read_weights(self.file).axes is not None

    def framing(self) -> Framing:
        """How a face comes into its image."""
        kind, side = (
            build_source(self.config.data).framing if self.config.data.get("root") != NOWHERE else ("template", 1.0)
        )
        image = self.config.image
        scale, margin = image.resize / ARCFACE_SIZE, (image.resize - image.crop) // 2
        template = (ARCFACE_TEMPLATE + 0.5) * scale - 0.5 - margin
        if self.config.task.bands:  # from the photograph at once, by all five landmarks of a face like ArcFace's
            return Framing("template", image.crop, in_band(ARCFACE_TEMPLATE, image.crop).round(4).tolist())
        points = [[round(value, 4) for value in point] for point in template.tolist()] if kind == "template" else []
        return Framing(kind, image.resize, points, side)

    def data(self) -> FaceData:
        """Its faces. Raises ``DataError`` where they are gone."""
        return FaceData.of(self.config)

    def image(self, pixel: str, mean: float = 127.5, std: float = 127.5) -> ImageInput:
        height, width = self.config.student_size
        normalized = pixel == "float32"
        numbers = ([mean] * 3, [std] * 3) if normalized else ([0.0] * 3, [1.0] * 3)
        return ImageInput(height, width, pixel, *numbers)
