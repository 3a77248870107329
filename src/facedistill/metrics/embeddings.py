"""Base of metrics over all pairs of samples: it collects every embedding of the split, once and in order."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from facedistill.errors import DataError


class EmbeddingMetric(Metric):
    """Collects all embeddings until ``compute``, which a subclass implements with ``in_order``."""

    is_differentiable = False
    full_state_update = False
    embeddings: list[Tensor]
    labels: list[Tensor]
    indices: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("embeddings", "labels", "indices"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, embeddings: Tensor, labels: Tensor, indices: Tensor) -> None:
        """Add a batch: embeddings [B, D], identities [B], and the indices of the samples in the split [B]."""
        self.embeddings.append(embeddings.detach().float())
        self.labels.append(labels)
        self.indices.append(indices)

    def in_order(self) -> tuple[Tensor, Tensor, Tensor]:
        """The samples of all ranks, by index: embeddings float32 [N, D], labels [N], indices [N].

        They stay on their device, unless it knows no float64, which exact distances need, or has no room for it.

        Only inside ``compute``, where torchmetrics has synchronized the ranks.

        Raises:
            DataError: the split is empty.
            AssertionError: a sample was counted twice, e.g. by a sampler that pads the shares of the ranks.
        """
        if len(self.indices) == 0:
            raise DataError("no sample to score: the split is empty")
        states = (dim_zero_cat(state) for state in (self.embeddings, self.labels, self.indices))
        embeddings, labels, indices = states
        if not _has_room(embeddings):
            embeddings, labels, indices = embeddings.cpu(), labels.cpu(), indices.cpu()
        indices, order = indices.sort()
        assert (indices.diff() > 0).all(), "a sample was counted twice"
        return embeddings[order], labels[order], indices


def _has_room(embeddings: Tensor) -> bool:
    """Whether their device can compare all of them with all others in float64: two copies, and blocks of distances."""
    if embeddings.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(embeddings.device)
        return embeddings.numel() * 12 + len(embeddings) * 2**13 < 0.8 * free
    return embeddings.device.type != "mps"
