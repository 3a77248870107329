"""One run of ours is one run in Weights & Biases: same id, same name, updated when it is made again."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any

import wandb

from facedistill.runs import Run


class WandbRun:
    """Opens the W&B run of a cell and always finishes it: a second cell of the process would go on in it."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._wandb: wandb.Run | None = None

    def __enter__(self) -> WandbRun:
        return self

    def open(self) -> None:
        """Show the run; called once its first step is made, since this takes seconds and there is nothing to show."""
        config = self._run.config
        if config.logger.wandb and self._wandb is None:
            os.environ.setdefault("WANDB_SILENT", "true")
            offline = config.logger.mode == "offline" or (config.logger.mode == "auto" and not has_key())
            self._wandb = wandb.init(
                name=self._run.name,
                id=self._run.identity,
                resume="allow",
                group=config.group or f"{config.data['name']}-{config.network['name']}",
                job_type=f"{config.task.name}-{self._run.role}",
                project=config.logger.project,
                entity=config.logger.entity,
                dir=str(self._run.directory),
                mode="offline" if offline else "online",
                config=flat(self._run),
                tags=[config.task.name, config.init.name, config.target.name],
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._wandb is not None:
            wandb.finish(exit_code=0 if kind is None else 1)

    def log(self, row: dict[str, float]) -> None:
        """A row of the history: one step an epoch."""
        self.open()
        if self._wandb is not None:
            self._wandb.log(row, step=int(row["epoch"]))

    def summarize(self, record: dict[str, Any]) -> None:
        """The final numbers, the distance to the teacher, and the pictures of the run directory."""
        self.open()
        if self._wandb is None:
            return
        summary = {f"final/{name}": value for name, value in record["metrics"].items()}
        summary |= {name: record[name] for name in ("params", "macs", "weights_bytes", "seconds")}
        summary["images_per_second"] = record["images_per_second"]
        metric = self._run.config.task.metric
        if record["teacher_score"] is not None and metric in record["metrics"]:
            summary[f"final/{metric}_minus_teacher"] = record["metrics"][metric] - record["teacher_score"]
        self._wandb.summary.update(summary)
        self._wandb.config.update({"params": record["params"], "macs": record["macs"]}, allow_val_change=True)
        for picture in sorted(self._run.directory.glob("*.png")):
            self._wandb.log({picture.stem: wandb.Image(str(picture))})


def flat(run: Run) -> dict[str, Any]:
    """What people sort and plot by, at the top level; the rest of the recipe as one plain value."""
    config = run.config
    return {
        "rate": config.rate,
        "init": config.init.name,
        "target": config.target.name,
        "task": config.task.name,
        "data": config.data["name"],
        "model": config.network["name"],
        "seed": config.seed,
        "alpha": config.target.alpha,
        "beta": config.target.beta,
        "tau": config.target.tau,
        "batch_size": config.task.batch_size,
        "recipe": run.recipe,
    }


def has_key() -> bool:
    """Whether a W&B key is configured, in the environment or by ``wandb login``."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].strip("/")
    return netrc.is_file() and host in netrc.read_text(errors="replace")
