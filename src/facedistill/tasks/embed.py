"""Imitation: the student learns its teacher's embedding, and nothing else. It needs no label."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from facedistill.config.schema import TEACHER, Config
from facedistill.data.loading.datamodule import FaceData
from facedistill.data.loading.views import FaceBatch
from facedistill.evaluation.evaluation import Evaluation
from facedistill.metrics.imitation import UNIT, Imitation, cosine_units
from facedistill.models.network import Network, NetworkOutput
from facedistill.tasks.base import Answers, TaskModule


class EmbedEvaluation(Evaluation):
    """How near the student is to its teacher on the same faces, %; batches bring the teacher's embedding."""

    metric: Imitation

    def __init__(self, config: Config, width: int) -> None:
        super().__init__(config)
        self.metric = Imitation(width)
        self._cosines: list[Tensor] = []

    def update(self, output: NetworkOutput, batch: FaceBatch) -> None:
        teacher = batch.teacher_embeddings[TEACHER]
        self.metric.update(output.embedding, teacher)
        self._cosines.append(cosine_units(output.embedding, teacher))

    def per_sample(self) -> NDArray[np.float32]:
        """Its cosine with the teacher, %."""
        return (100 * torch.cat(self._cosines).double() / UNIT).float().numpy()

    def reset(self) -> None:
        super().reset()
        self._cosines = []


class Embed(TaskModule):
    """There is no Φ: the loss is that of the target."""

    @classmethod
    def build_evaluation(cls, config: Config, network: Network) -> EmbedEvaluation:
        return EmbedEvaluation(config, network.backbone.width)

    def task_loss(self, student: NetworkOutput, batch: FaceBatch) -> None:
        return None

    @torch.no_grad()
    def watch(self, answers: Answers) -> None:
        data: FaceData = self.trainer.datamodule  # type: ignore[attr-defined]
        cosines = F.cosine_similarity(answers.student.embedding, answers.teachers[TEACHER].embedding)
        data.imitated(answers.batch.indices, cosines)
