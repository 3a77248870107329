"""Alignment: five landmarks by regression on K."""

from dataclasses import dataclass

from torch import Tensor

from facedistill.config.schema import Config
from facedistill.data.loading.views import FaceBatch
from facedistill.errors import ConfigError
from facedistill.evaluation.align import AlignEvaluation
from facedistill.models.network import NetworkOutput
from facedistill.tasks.base import TaskModule

NORMALIZERS = ("eyes", "box")


@dataclass(frozen=True)
class AlignOptions:
    """``normalizer`` of the NRMSE: the distance of the ``eyes``, or the diagonal of the face ``box``.

    The face box is the square that the source cut out of the original.
    """

    normalizer: str

    def __post_init__(self) -> None:
        if self.normalizer not in NORMALIZERS:
            raise ConfigError(f"task.options.normalizer={self.normalizer}: choices are {', '.join(NORMALIZERS)}")


class Align(TaskModule):
    """Φ = ‖R − y‖² (eq. 6 and 7), R and y from −1 to 1 in the crop."""

    options_type = AlignOptions

    @classmethod
    def build_evaluation(cls, config: Config, num_identities: int) -> AlignEvaluation:
        return AlignEvaluation(config, cls.options(config).normalizer)

    def task_loss(self, student: NetworkOutput, batch: FaceBatch) -> Tensor:
        return (student.landmarks - batch.landmarks).square().sum((1, 2)).mean()
