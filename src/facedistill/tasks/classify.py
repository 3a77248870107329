"""Classification of identities: the teacher's pretraining, the student alone (W_S0), the distilled student."""

from torch import Tensor

from facedistill.config.schema import Config
from facedistill.data.loading.views import FaceBatch
from facedistill.evaluation.classify import ClassifyEvaluation
from facedistill.models.network import NetworkOutput
from facedistill.tasks.base import TaskModule, identity_loss


class Classify(TaskModule):
    """Φ = H(P, y) (eq. 1 and 2)."""

    @classmethod
    def build_evaluation(cls, config: Config, num_identities: int) -> ClassifyEvaluation:
        return ClassifyEvaluation(config, num_identities)

    def task_loss(self, student: NetworkOutput, batch: FaceBatch) -> Tensor:
        return identity_loss(student, batch)
