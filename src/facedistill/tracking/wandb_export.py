"""An export in Weights & Biases: an artifact of the run that was exported, with what its files score and take."""

import os
from dataclasses import asdict
from functools import partial
from pathlib import Path

import wandb

from facedistill.runs.exported import Exported
from facedistill.runs.record import Record
from facedistill.system.decoration import decoration, reason_of
from facedistill.system.terminal import say
from facedistill.tracking.wandb_run import ANSWER, MEND, PATIENCE, artifact_name, started, summary_of, within
from facedistill.tracking.wandb_setup import folder_of, mode_of

EXPORT = "model-export"  # the type of an export in the lineage
_NUMBERS = ("score", "cosine", "median_ms", "p95_ms")


def log_export(directory: Path, record: Record, exported: Exported, folder: Path, asked: str = "auto") -> None:
    """Add an export to the W&B run of what was exported; to none where W&B knows nothing of that run.

    Nothing that W&B does ends an export: what fails is said. A run that was never sent stays offline, and one `wandb
    sync` sends both.

    Args:
        directory: of the run.
        folder: of the export.
        asked: for the mode, as ``logger.mode``; ``auto``: as the run was logged.
    """
    failed: list[str] = []
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # see ``WandbRun``
    with decoration("the export in Weights & Biases", failed):
        place = folder_of(directory)
        earlier = sorted(place.glob(f"wandb/*run-*-{record.identity}*"))
        mode, why = mode_of(asked if asked != "auto" else record.config.logger.mode)
        if not earlier or mode == "disabled":
            return
        if not any(_is_sent(one) for one in earlier):
            mode = "offline"
        opened = None
        if mode != "offline":
            try:
                opened = started(record, mode, place)
            except Exception as error:
                why = f"{reason_of(error)}. {MEND}"
                within(PATIENCE, wandb.teardown)  # its service holds the run's id still
        opened = opened or started(record, "offline", place)
        try:
            if opened.id != record.identity:  # another one was left open
                raise RuntimeError(f"it goes on in the run {opened.id}")
            within(ANSWER, partial(_add, opened, record, exported, folder))
        finally:
            within(PATIENCE, partial(opened.finish, exit_code=0))  # the next of this process would continue it
        if why:
            say(f"facedistill: Weights & Biases: {why}. The export is offline in {place}/wandb: `wandb sync` sends it")


def _is_sent(folder: Path) -> bool:
    return not folder.name.startswith("offline-") or any(folder.glob("*.synced"))


def _add(opened: wandb.Run, record: Record, exported: Exported, folder: Path) -> None:
    """The files, and their numbers beside the run's own: `wandb sync` sends a summary and a config as a whole."""
    judged = exported.judged
    about = {
        **{key: getattr(exported, key) for key in ("kind", "processor", "threads", "command")},
        **{key: getattr(judged, key) for key in ("metric", "of", "samples", "score")},
        "files": {model.format: asdict(model) for model in exported.files},
    }
    artifact = wandb.Artifact(artifact_name(record.name, "export"), EXPORT, metadata=about)
    for path in sorted(folder.iterdir()):
        if path.is_file():
            artifact.add_file(str(path.absolute()), name=path.name, skip_cache=True)  # a copy: it may be made again
    opened.config.update({"params": record.params, "macs": record.macs}, allow_val_change=True)
    opened.summary.update({**summary_of(record), **numbers_of(exported)})
    opened.log_artifact(artifact)


def numbers_of(exported: Exported) -> dict[str, float]:
    """What people plot: ``export/onnx-int8/megabytes``, ``score``, ``loss``, ``cosine``, ``median_ms``, ``p95_ms``."""
    found: dict[str, float] = {}
    for model in exported.files:
        key = f"export/{model.format}"
        found[f"{key}/megabytes"] = model.bytes / 1e6
        found |= {f"{key}/{name}": getattr(model, name) for name in _NUMBERS if getattr(model, name) is not None}
        if model.score is not None:
            found[f"{key}/loss"] = exported.judged.loss(model.score)
    return found
