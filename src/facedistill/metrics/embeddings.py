"""Base of metrics over all pairs of samples: it collects every embedding of the split, once and in order."""

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

        They stay on their device, unless it knows no float64, which exact distances need.

        Only inside ``compute``, where torchmetrics has synchronized the ranks.

        Raises:
            DataError: the split is empty.
            AssertionError: a sample was counted twice, e.g. by a sampler that pads the shares of the ranks.
        """
        if len(self.indices) == 0:
            raise DataError("no sample to score: the split is empty")
        states = (dim_zero_cat(state) for state in (self.embeddings, self.labels, self.indices))
        embeddings, labels, indices = (state.cpu() if state.device.type == "mps" else state for state in states)
        indices, order = indices.sort()
        assert (indices.diff() > 0).all(), "a sample was counted twice"
        return embeddings[order], labels[order], indices
