"""Face anti-spoofing: is this a live face or a presentation attack, under conditions that were not trained on?

After arXiv 2401.01102: a small student, a perceptual and a generative teacher, and domains that are aligned before the
teachers see them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from facedistill.config.schema import Config
from facedistill.data.faces import HELD_OUT, LIVE
from facedistill.data.loading.datamodule import FaceData
from facedistill.data.loading.views import FaceBatch
from facedistill.distill.domain_alignment import DomainDiscriminator, aligned
from facedistill.errors import ConfigError
from facedistill.evaluation.evaluation import Evaluation
from facedistill.evaluation.pictures import identified, spread
from facedistill.metrics.liveness import HalfTotalError
from facedistill.models.network import Network, NetworkOutput
from facedistill.tasks.base import TaskModule, identity_loss
from facedistill.tasks.gather import mean_over_ranks

LEVELS = 255  # of a pixel


@dataclass(frozen=True)
class SpoofOptions:
    """``alignment``: ε, by how many pixel levels of 255 teachers see images moved so that no domain shows; 0: none."""

    alignment: float

    def __post_init__(self) -> None:
        if type(self.alignment) not in (int, float) or not 0 <= self.alignment <= LEVELS:
            raise ConfigError(
                f"task.options.alignment={self.alignment} must be a number of pixel levels, 0 … {LEVELS}; 0: none"
            )


class SpoofEvaluation(Evaluation):
    """``hter``, ``auc`` and ``eer``, % (see ``HalfTotalError``), by how much more the network says live than attack."""

    metric: HalfTotalError

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.metric = HalfTotalError()

    def update(self, output: NetworkOutput, batch: FaceBatch) -> None:
        attack, live = output.logits.double().unbind(1)
        self.metric.update(live - attack, batch.labels == LIVE, batch.domains == HELD_OUT, batch.indices)

    def per_sample(self) -> NDArray[np.float32]:
        """100 where a sample of the domain held out is on its side of the threshold, 0 where it is not."""
        return 100 * self.metric.right().astype(np.float32)

    def of_samples(self, data: FaceData) -> NDArray[np.int64]:
        domains = data.faces.domains
        assert domains is not None, "its data has liveness"
        return np.intersect1d(data.faces.test, np.flatnonzero(domains == HELD_OUT))

    @torch.no_grad()
    def pictures(self, network: Network, data: FaceData) -> dict[str, Figure]:
        """Test faces of the domain held out: what they are, and what the network takes them for."""
        names = data.faces.identities
        batch = data.centre_crops(spread(self.of_samples(data)))
        said = network(batch.images).logits.argmax(1).tolist()
        return {"samples": identified(batch.pixels(), [names[i] for i in batch.labels], [names[i] for i in said])}


class Spoof(TaskModule):
    """Φ = H(P, live or attack). With ``alignment`` the teachers see images whose domain a discriminator can't tell."""

    options_type = SpoofOptions

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._strength = float(self.options(self.config).alignment)
        domains = len(self.config.data["domains"]) - 1  # without the one held out
        self.discriminator = DomainDiscriminator(domains) if self._strength else None

    @classmethod
    def options(cls, config: Config) -> Any:
        options: SpoofOptions = super().options(config)
        target, given = config.target, f"task.options.alignment={options.alignment:g}"
        if options.alignment and not target.active():
            raise ConfigError(f"{given} moves what teachers see, and target={target.name} has none. Use 0")
        if options.alignment and target.views != "live":
            raise ConfigError(f"{given} moves images in every step, which no bank can hold: target.views=live")
        return options

    @classmethod
    def build_evaluation(cls, config: Config, network: Network) -> SpoofEvaluation:
        return SpoofEvaluation(config)

    def task_loss(self, student: NetworkOutput, batch: FaceBatch) -> Tensor:
        return identity_loss(student, batch)

    def for_teachers(self, batch: FaceBatch) -> FaceBatch:
        if self.discriminator is None:
            return batch
        return batch._replace(images=aligned(self.discriminator, batch.images, batch.domains, self._strength))

    def training_step(self, batch: FaceBatch, batch_index: int) -> dict[str, Tensor]:
        """The discriminator learns in the same step, from the pixels: its loss has no gradient on anything else."""
        losses = super().training_step(batch, batch_index)
        if self.discriminator is None:
            return losses
        own = F.cross_entropy(self.discriminator(batch.images), batch.domains)
        own = mean_over_ranks(own, self.batch_sizes_per_rank(batch, batch_index))
        return {**losses, "loss": losses["loss"] + own, "domains": own.detach()}
