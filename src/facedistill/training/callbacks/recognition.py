"""Fine-tuning that ruins a recognizer stops the run."""

from typing import Any

import numpy as np
import pytorch_lightning as pl

from facedistill.data.loading.datamodule import FaceData
from facedistill.errors import RunError
from facedistill.evaluation.scoring import embeddings, pair_similarity, probe
from facedistill.metrics.pairs import verification_metrics
from facedistill.models.backbone import Backbone
from facedistill.tasks.base import ScheduledModule

TOLERANCE = 1.0  # points of its accuracy on pairs that a recognizer may lose; where pairs are few, two standard errors


class Recognition(pl.Callback):
    """Scores a recognizer that is fine-tuned before, after the first epoch and in the end, on pairs of strangers.

    It raises ``RunError`` where it has lost more than a point. Where no pairs are of people who are not trained on, it
    does in the end if hardly more test samples are right than if the answer were always the largest identity.
    """

    def __init__(self) -> None:
        self._before: tuple[float, float] | None = None

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.global_step == 0:  # a run that resumes has it in its checkpoint
            self._before = self._on_pairs(trainer, module)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Check before the checkpoint of this epoch is written."""
        is_last = trainer.current_epoch == (trainer.max_epochs or 0) - 1
        if self._before is None:
            if is_last:
                self._check_probe(trainer, module)
        elif is_last or trainer.current_epoch == 0:
            after = self._on_pairs(trainer, module)
            before, error = self._before
            assert after is not None, "they were scored before"
            if after[0] < before - max(TOLERANCE, 2 * error):
                raise _ruined(f"from {before:.2f} to {after[0]:.2f} % on pairs of people who are not trained on")

    def _on_pairs(self, trainer: pl.Trainer, module: pl.LightningModule) -> tuple[float, float] | None:
        """Its accuracy and the standard error of that, %; None: there are too few pairs."""
        data: FaceData = trainer.datamodule  # type: ignore[attr-defined]
        images, pairs = data.of_pairs, data.faces.pairs
        if images is None or pairs is None:
            return None
        backbone: Backbone = module.network.backbone  # type: ignore[assignment, union-attr]
        was_training = backbone.training
        similarity = pair_similarity(embeddings(backbone.eval(), images.val_dataloader(), module.device), pairs)
        backbone.train(was_training)
        new = ~pairs.trained_on
        metrics = verification_metrics(similarity[new], pairs.same[new], pairs.fold[new])
        accuracy, error = metrics["pairs"], metrics["pairs_se"]
        return None if accuracy is None or error is None else (accuracy, error)

    def _check_probe(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, ScheduledModule)
        data: FaceData = trainer.datamodule  # type: ignore[attr-defined]
        was_training = module.network.training
        module.network.eval()
        with module.assembled():
            found = probe(module.evaluation, module.measure, data, module.device)
        module.evaluation.reset()
        module.network.train(was_training)
        labels = data.faces.labels[data.faces.test[: found.samples]]
        share = float(np.bincount(labels).max() / len(labels))
        if found.value <= 100 * min(2 * share, (1 + share) / 2):
            raise _ruined(f"to {found.value:.1f} % right, and always the largest identity is {100 * share:.1f} % right")

    def state_dict(self) -> dict[str, Any]:
        return {"before": self._before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._before = state_dict["before"]


def _ruined(what: str) -> RunError:
    return RunError(
        f"fine-tuning has taken the recognizer {what}. The run is not complete. teacher.finetune=0 leaves the "
        "recognizer as it is; or a tenth of that teacher.finetune"
    )
