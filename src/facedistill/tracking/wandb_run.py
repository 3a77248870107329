"""One run of ours is one run in Weights & Biases: same id, same name, updated when it is made again."""

from __future__ import annotations

import netrc
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import wandb
import wandb.errors

from facedistill.runs.history import read_history
from facedistill.runs.record import Record
from facedistill.runs.run import Run
from facedistill.system.files import read_json_object

CLOUD = "api.wandb.ai"  # where `wandb login` of older versions kept the key of W&B's own server
ARTIFACT = "model"  # the type of the weights in the lineage


class WandbRun:
    """Opens the W&B run of a cell and always finishes it: a second cell of the process would go on in it.

    A run that was cut and goes on, or is made again, has one offline folder in the end, and it is whole: `wandb sync`
    appends what a second folder of the same run says to what the first one said.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._wandb: wandb.Run | None = None
        self._sent = -1  # the last epoch that W&B has already
        self._followed = False  # whether a row was logged by this process
        self._whole = False

    def __enter__(self) -> WandbRun:
        return self

    def open(self) -> None:
        """Show the run; called once its first step is made, since this takes seconds and there is nothing to show."""
        config = self._run.config
        if config.logger.wandb and self._wandb is None:
            os.environ.setdefault("WANDB_SILENT", "true")
            offline = config.logger.mode == "offline" or (config.logger.mode == "auto" and not has_key())
            self._sent = last_epoch_sent(self._run.directory)
            data, model = config.data["name"], config.network["name"]
            tags = [config.task.name, config.init.name, config.target.name, f"rate-{config.rate}", data, self._run.role]
            self._wandb = wandb.init(
                name=one_line(self._run.name, 128),
                id=self._run.identity,
                resume="allow",
                group=one_line(config.group or f"{data}-{model}", 128),
                job_type=f"{config.task.name}-{self._run.role}",
                project=config.logger.project,
                entity=config.logger.entity,
                dir=str(self._run.directory),
                mode="offline" if offline else "online",
                config=flat(self._run),
                tags=list(dict.fromkeys(one_line(tag, 64) for tag in tags)),
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._wandb is not None:
            folder = Path(self._wandb.dir).parent
            wandb.finish(exit_code=0 if kind is None else 1)
            if kind is None and self._whole:
                remove_superseded(folder)

    def log(self, row: dict[str, float]) -> None:
        """A row of the history: one step an epoch. The first brings the epochs of the processes that were cut."""
        self.open()
        if self._wandb is None:
            return
        logged = [] if self._followed else read_history(self._run.directory)
        earlier = [other for other in logged if other["epoch"] < row["epoch"]]
        self._followed = True
        compared = self._run.config.compared_as
        for shown in (*earlier, row):
            if int(shown["epoch"]) > self._sent:
                tests = {f"{compared}/{name[5:]}": value for name, value in shown.items() if name.startswith("test/")}
                self._wandb.log({**shown, **tests}, step=int(shown["epoch"]))

    def summarize(self, record: Record) -> None:
        """The final numbers, the distance to the teacher, the pictures of the run directory, and the lineage.

        Numbers are there twice: ``final/top1`` of whatever task, and ``verify/top1`` of those that can be compared.
        """
        self.open()
        if self._wandb is None:
            return
        compared = record.config.compared_as
        metrics = {name: value for name, value in record.metrics.items() if value is not None}
        if record.teacher_score is not None and record.score is not None:
            metrics[f"{record.metric}_minus_teacher"] = record.score - record.teacher_score
        summary = {f"{prefix}/{name}": value for prefix in ("final", compared) for name, value in metrics.items()}
        costs = ("params", "macs", "weights_bytes", "seconds", "images_per_second")
        summary |= {name: getattr(record, name) for name in costs}
        pictures = sorted(self._run.directory.glob("*.png"))
        if pictures or self._followed:  # beside the last epoch, whose row would come after the summary otherwise
            self._wandb.log({f"{compared}/{picture.stem}": wandb.Image(str(picture)) for picture in pictures})
        self._wandb.summary.update(summary)
        self._wandb.config.update({"params": record.params, "macs": record.macs}, allow_val_change=True)
        self._trace(metrics)
        self._whole = True

    def _trace(self, metrics: dict[str, float]) -> None:
        """The weights as an artifact, and those of the runs that this one stands on as used by it.

        The file is uploaded from where it is, without a copy. An offline run may not use artifacts: once it is synced,
        ``facedistill report wandb=`` adds what it used.
        """
        assert self._wandb is not None
        if self._run.weights.is_file():
            about = {key: value for key, value in flat(self._run).items() if key != "recipe"}
            artifact = wandb.Artifact(artifact_name(self._run.name), ARTIFACT, metadata={**about, **metrics})
            artifact.add_file(str(self._run.weights.absolute()), skip_cache=True, policy="immutable")
            self._wandb.log_artifact(artifact)
        if self._wandb.offline:
            return
        for parent in self._run.parents.values():
            if isinstance(parent, Run):
                name = f"{self._wandb.entity}/{self._wandb.project}/{artifact_name(parent.name)}:latest"
                with suppress(ValueError, wandb.errors.CommError):  # an ancestor that W&B does not know
                    self._wandb.use_artifact(name)


def flat(run: Run) -> dict[str, Any]:
    """What people sort and plot by, at the top level; the rest of the recipe as one plain value."""
    config = run.config
    return {
        "rate": config.rate,
        "init": config.init.name,
        "target": config.target.name,
        "task": config.task.name,
        "softmax": bool(config.task.softmax),
        "data": config.data["name"],
        "model": config.network["name"],
        "seed": config.seed,
        "alpha": config.target.alpha,
        "beta": config.target.beta,
        "tau": config.target.tau,
        "batch_size": config.task.batch_size,
        "epochs": len(config.epoch_rates),
        "learning_rate": config.epoch_rates[0],
        "crop": config.image.crop,
        "role": run.role,
        "cell": cell_name(config.rate, config.init.name, config.target.name),
        **{f"parent/{role}": Path(parent.name).name for role, parent in run.parents.items()},
        "recipe": run.recipe,
    }


def cell_name(rate: int, init: str, target: str) -> str:
    """What runs of one cell have in common, whatever their seed; learning curves are grouped by it."""
    return f"/{rate} {init}, {target}"


def one_line(text: str, length: int) -> str:
    """A person's text as a name in W&B: without control characters, not empty, at most so many characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:length].rstrip() or "-"


def artifact_name(run_name: str) -> str:
    """The artifact of a run's weights, in the characters that W&B permits; the identity comes last, and is kept."""
    return "weights-" + re.sub(r"[^A-Za-z0-9_.-]+", "-", run_name)[-100:]


def last_epoch_sent(directory: Path) -> int:
    """The last epoch that `wandb sync` has sent from a run's folders; −1: none."""
    summaries = [marker.parent / "files" / "wandb-summary.json" for marker in directory.glob("wandb/*/*.wandb.synced")]
    return max((int((read_json_object(summary) or {}).get("epoch", -1)) for summary in summaries), default=-1)


def remove_superseded(folder: Path) -> None:
    """Remove the offline folders of earlier attempts that were never synced: ``folder`` has all that they say."""
    for other in folder.parent.glob("offline-run-*"):
        if other.name != folder.name and not any(other.glob("*.synced")):
            shutil.rmtree(other, ignore_errors=True)


def has_key() -> bool:
    """Whether a W&B key is configured, in the environment or by ``wandb login``."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    server = os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url
    hosts = {urlsplit(server).netloc} | ({CLOUD} if server == wandb.Settings().base_url else set())
    try:
        known = netrc.netrc(Path(os.environ.get("NETRC", "~/.netrc")).expanduser())
    except (OSError, netrc.NetrcParseError):
        return False
    return any(known.authenticators(host) for host in hosts)
