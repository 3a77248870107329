"""Classification of identities: the teacher's pretraining, the student alone (W_S0), the distilled student."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from facedistill.data.loading.datamodule import FaceData
from facedistill.data.loading.views import FaceBatch
from facedistill.evaluation.pictures import identified, spread
from facedistill.models.network import NetworkOutput
from facedistill.tasks.base import Scores, TaskModule, identity_loss


class Classify(TaskModule):
    """Φ = H(P, y) (eq. 1 and 2). Metric: top-1 on the test split, %."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert self.network.classifier is not None
        classes = self.network.classifier.out_features
        self.metric = MulticlassAccuracy(classes, average="micro", validate_args=False)

    def task_loss(self, student: NetworkOutput, batch: FaceBatch) -> Tensor:
        """H(P, y)."""
        return identity_loss(student, batch)

    def measure(self, batch: FaceBatch) -> None:
        """Count right answers."""
        self.metric.update(self.network(batch.images).logits, batch.labels)

    def scores(self) -> Scores:
        """``top1``, %."""
        return {"top1": 100 * float(self.metric.compute())}

    @torch.no_grad()
    def sample_scores(self, data: FaceData) -> NDArray[np.float32]:
        """100 where the network is right, 0 where it is not."""
        batches = (batch.to(self.device) for batch in data.val_dataloader())
        right = [self.network(batch.images).logits.argmax(1) == batch.labels for batch in batches]
        return 100 * torch.cat(right).float().cpu().numpy()

    @torch.no_grad()
    def pictures(self, data: FaceData) -> dict[str, Figure]:
        """Test faces: who it is, and who the network says it is."""
        names = data.faces.identities
        batch = next(iter(data.test_loader(spread(data.faces.test))))
        said = self.network(batch.images).logits.argmax(1).tolist()
        true = [names[label] for label in batch.labels.tolist()]
        return {"samples": identified(batch.pixels(), true, [names[answer] for answer in said])}
