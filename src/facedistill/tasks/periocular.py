"""Periocular recognition, learnt beside the face (consistent knowledge distillation, arXiv 2012.06746)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from facedistill.config.build import find_type
from facedistill.config.schema import Config
from facedistill.data.loading.datamodule import EVAL_BATCH, FaceData
from facedistill.data.loading.views import FaceBatch
from facedistill.distill.chunked_loss import chunked_mean
from facedistill.errors import ConfigError
from facedistill.evaluation.evaluation import Evaluation
from facedistill.evaluation.pictures import COLUMNS, nearest, spread
from facedistill.metrics.identification import Identification
from facedistill.models.families.resnet import ResNetBackbone
from facedistill.models.network import Network, NetworkOutput, build_network
from facedistill.models.two_branch import share, side_by_side
from facedistill.tasks.base import TaskModule, identity_loss
from facedistill.tasks.gather import gather_batch

CONSISTENCY = {
    "both": ("to_periocular", "to_face"),
    "to_periocular": ("to_periocular",),
    "to_face": ("to_face",),
    "none": (),
}
BATCH_NORMS = ("shared", "separate")
LEAST_TAU, MOST_TAU = 0.01, 1000.0


@dataclass(frozen=True)
class PeriocularOptions:
    """Of the two branches.

    Attributes:
        face: a branch of faces is trained beside that of the bands; else the bands alone.
        consistency: which branch learns the soft prediction of the other: ``both``, the one ``to_periocular``, that
            ``to_face``, or ``none``.
        batchnorm: of the stem and stages 1 to 3: ``shared``, over the pixels of faces and bands together, or
            ``separate``; convolutions are shared.
        tau: τ.
    """

    face: bool
    consistency: str
    batchnorm: str
    tau: float

    def __post_init__(self) -> None:
        for key, choices in {"consistency": tuple(CONSISTENCY), "batchnorm": BATCH_NORMS}.items():
            if getattr(self, key) not in choices:
                raise ConfigError(f"task.options.{key}={getattr(self, key)}: choices are {', '.join(choices)}")
        if not isinstance(self.face, bool):
            raise ConfigError(f"task.options.face={self.face}: choices are true, false")
        if type(self.tau) not in (int, float) or not LEAST_TAU <= self.tau <= MOST_TAU:
            raise ConfigError(f"task.options.tau={self.tau} must be a number from {LEAST_TAU:g} to {MOST_TAU:g}")
        if not self.face and self.consistency != "none":
            raise ConfigError(
                f"task.options.consistency={self.consistency} is with a branch of faces, and task.options.face=false "
                "has none. Add task.options.consistency=none"
            )


class PeriocularEvaluation(Evaluation):
    """``rank1`` and ``eer``, %, of the test bands, all against all.

    The similarity of two images is the mean of the cosine of both as they are and that of both mirrored: half the
    cosines of the two embeddings, one after the other.
    """

    metric: Identification

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.metric = Identification()

    def measure(self, network: Callable[[Tensor], NetworkOutput], batch: FaceBatch) -> None:
        self.metric.update(_both_sides(network, batch), batch.labels, batch.indices)

    def update(self, output: NetworkOutput, batch: FaceBatch) -> None:
        raise TypeError("an output is of the bands as they are: measure has them mirrored, too")

    def per_sample(self) -> NDArray[np.float32]:
        """100 where the most similar other image is of the same person, 0 where it is not."""
        return np.where(self.metric.first == 1, np.float32(100), np.float32(0))

    @torch.no_grad()
    def pictures(self, network: Network, data: FaceData) -> dict[str, Figure]:
        """Test bands, each beside the most similar among a sample of the others."""
        batch = data.centre_crops(spread(data.faces.test, EVAL_BATCH))
        embedding = _both_sides(network, batch)
        neighbour = (embedding @ embedding.T).fill_diagonal_(-torch.inf).argmax(1)
        shown = torch.from_numpy(spread(np.arange(len(neighbour)), COLUMNS * 2))
        pixels, right = batch.pixels(), batch.labels[neighbour] == batch.labels
        return {"samples": nearest(pixels[shown], pixels[neighbour[shown]], right[shown].tolist())}


def _both_sides(network: Callable[[Tensor], NetworkOutput], batch: FaceBatch) -> Tensor:
    """The embeddings of bands as they are and mirrored, [B, 2 · width], of length 1."""
    sides = [F.normalize(network(bands).embedding.float(), dim=1) for bands in (batch.bands, batch.bands.flip(3))]
    return torch.cat(sides, dim=1) / math.sqrt(2)


class Periocular(TaskModule):
    """Φ = H(P_p, y) + H(P_f, y) + τ² KL(P_f^τ ‖ P_p^τ) + τ² KL(P_p^τ ‖ P_f^τ), of periocular p and face f.

    The first distribution of a divergence gets no gradient. The network is that of the bands. The branch of faces has
    stage 4 and a classifier of its own, is trained with it and dropped afterwards. Without it, Φ = H(P_p, y), and the
    terms of a target may have a recognizer of faces teach the bands.
    """

    options_type = PeriocularOptions

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._options: PeriocularOptions = self.options(self.config)
        self.face: Network | None = None
        if self._options.face:
            self.face = build_network(self.config.network, self.config.rate, self.network.num_identities)
            share(self.network, self.face, batch_norm=self._options.batchnorm == "shared")
            self._face_forward = self.compiled(self.face.forward)
            self._side_by_side = self.compiled(partial(side_by_side, self.network, self.face))

    @classmethod
    def options(cls, config: Config) -> PeriocularOptions:
        options: PeriocularOptions = super().options(config)
        if options.face and not issubclass(find_type("model", config.network), ResNetBackbone):
            raise ConfigError(
                f"model={config.network['name']} has no stages that two branches could share: use model=resnet_small, "
                "or task.options.face=false task.options.consistency=none"
            )
        if options.face and config.trainer.splits_classes:
            raise ConfigError(
                "trainer.split_classes=true splits one output layer, and the branch of faces has another: "
                "trainer.split_classes=false, or task.options.face=false task.options.consistency=none"
            )
        if options.face and config.target.active():
            raise ConfigError(
                f"target={config.target.name} has a teacher in the place of the branch of faces: add "
                "task.options.face=false task.options.consistency=none, or use target=none"
            )
        return options

    @classmethod
    def build_evaluation(cls, config: Config, network: Network) -> PeriocularEvaluation:
        return PeriocularEvaluation(config)

    def task_loss(self, student: NetworkOutput, batch: FaceBatch) -> Tensor:
        return identity_loss(student, batch)

    def training_step(self, batch: FaceBatch, batch_index: int) -> dict[str, Tensor]:
        """Every term is its own in the record: ``task``, ``face``, and those of consistency by their direction."""
        if self.face is None:
            return super().training_step(batch, batch_index)
        sizes = self.batch_sizes_per_rank(batch, batch_index)
        with self.batch_norm_over(sizes):
            if self._options.batchnorm == "shared":
                outputs = self._side_by_side(batch.bands, batch.images)
            else:
                outputs = self._forward(batch.bands), self._face_forward(batch.images)
        periocular, face = (gather_batch(output, sizes) for output in outputs)
        whole = gather_batch(batch.without_images(), sizes)
        losses = {"task": identity_loss(periocular, whole), "face": identity_loss(face, whole)}
        learners = {"to_periocular": (periocular, face), "to_face": (face, periocular)}
        for direction in CONSISTENCY[self._options.consistency]:
            own, other = learners[direction]
            losses[direction] = consistency(own, other, self._options.tau)
        first, *others = losses.values()
        return {"loss": sum(others, first), **{name: value.detach() for name, value in losses.items()}}


def consistency(learner: NetworkOutput, other: NetworkOutput, tau: float) -> Tensor:
    """τ² KL(P ‖ Q) of Q = softmax(a / τ) of the learner's logits and P of the other's, averaged over the batch.

    P gets no gradient.
    """

    def divergence(own: Tensor, other: Tensor) -> Tensor:
        log_q, log_p = (F.log_softmax(one / tau, dim=1) for one in (own, other))
        return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)

    return tau**2 * chunked_mean(divergence, learner, other.logits.detach())
