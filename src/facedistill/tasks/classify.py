"""Classification of identities: the teacher's pretraining, the student alone (W_S0), the distilled student."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from facedistill.data.views import FaceBatch
from facedistill.models.network import Answer
from facedistill.tasks.base import TaskModule


class Classify(TaskModule):
    """Φ = H(P, y) (eq. 1 and 2). Metric: top-1 on the test split, %."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        classes = self.network.classifier.out_features
        self.top1 = MulticlassAccuracy(classes, average="micro", validate_args=False)

    def task_loss(self, student: Answer, batch: FaceBatch) -> Tensor:
        """H(P, y)."""
        return F.cross_entropy(student.logits, batch.labels)

    def validation_step(self, batch: FaceBatch, batch_index: int) -> None:
        """Count right answers."""
        self.top1.update(self.network(batch.images).logits, batch.labels)

    def on_validation_epoch_end(self) -> None:
        """Log the percentage."""
        self.log("test/top1", 100 * self.top1.compute())
        self.top1.reset()
