"""A run in Weights & Biases: its id and name are ours, and training it again updates it."""

import netrc
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import wandb
import wandb.errors

from facedistill.runs.record import Record
from facedistill.runs.run import Run, read_history
from facedistill.system.files import read_json_object

CLOUD = "api.wandb.ai"  # under which `wandb login` of older versions kept the key of W&B's own server
ARTIFACT = "model"  # the type of the weights in the lineage


class WandbRun:
    """Opens the W&B run of a cell and always finishes it, as a second cell of the process would continue it.

    A run that was interrupted and resumed, or trained again, ends with one complete offline folder: `wandb sync` would
    append the history in a second folder of the same run to that of the first.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._wandb: wandb.Run | None = None
        self._last_synced = -1  # epoch
        self._has_logged = False
        self._is_complete = False

    def __enter__(self) -> Self:
        return self

    def open(self) -> None:
        """Start the W&B run; only once there is something to log, since it takes seconds."""
        config = self._run.config
        if config.logger.wandb and self._wandb is None:
            os.environ.setdefault("WANDB_SILENT", "true")
            offline = config.logger.mode == "offline" or (config.logger.mode == "auto" and not has_key())
            self._last_synced = last_synced_epoch(self._run.directory)
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
                config=flat_config(self._run),
                tags=list(dict.fromkeys(one_line(tag, 64) for tag in tags)),
            )

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._wandb is not None:
            folder = Path(self._wandb.dir).parent
            wandb.finish(exit_code=0 if kind is None else 1)
            if kind is None and self._is_complete:
                remove_superseded(folder)

    def log(self, row: dict[str, float]) -> None:
        """A row of the history, as the step of its epoch. The first one brings those of interrupted processes along."""
        self.open()
        if self._wandb is None:
            return
        earlier = [] if self._has_logged else read_history(self._run.directory)
        self._has_logged = True
        task = self._run.config.compared_as
        for each in (*(other for other in earlier if other["epoch"] < row["epoch"]), row):
            if int(each["epoch"]) > self._last_synced:
                tests = {name: value for name, value in each.items() if name.startswith("test/")}
                compared = {name.replace("test", task, 1): value for name, value in tests.items()}
                self._wandb.log({**each, **compared}, step=int(each["epoch"]))

    def summarize(self, record: Record) -> None:
        """The final numbers, the distance to the teacher, the pictures of the run directory, and the lineage.

        Every metric has two keys: ``final/top1`` for any task, and ``verify/top1`` for tasks that can be compared.
        """
        self.open()
        if self._wandb is None:
            return
        task, metrics = record.config.compared_as, record.scores
        if record.teacher_score is not None and record.score is not None:
            metrics[f"{record.metric}_minus_teacher"] = record.score - record.teacher_score
        summary = {f"{prefix}/{name}": value for prefix in ("final", task) for name, value in metrics.items()}
        costs = ("params", "macs", "weights_bytes", "seconds", "images_per_second")
        summary |= {name: getattr(record, name) for name in costs}
        pictures = sorted(self._run.directory.glob("*.png"))
        if pictures or self._has_logged:  # beside the last epoch, whose row would come after the summary otherwise
            self._wandb.log({f"{task}/{picture.stem}": wandb.Image(str(picture)) for picture in pictures})
        self._wandb.summary.update(summary)
        self._wandb.config.update({"params": record.params, "macs": record.macs}, allow_val_change=True)
        self._trace(metrics)
        self._is_complete = True

    def _trace(self, metrics: dict[str, float]) -> None:
        """The weights as an artifact, and the artifacts of the parents as used by this run.

        The file is uploaded without a copy. An offline run can't use artifacts: once it is synced,
        ``facedistill report wandb=`` records what it used.
        """
        assert self._wandb is not None
        if self._run.weights.is_file():
            about = {key: value for key, value in flat_config(self._run).items() if key != "recipe"}
            artifact = wandb.Artifact(artifact_name(self._run.name), ARTIFACT, metadata={**about, **metrics})
            artifact.add_file(str(self._run.weights.absolute()), skip_cache=True, policy="immutable")
            self._wandb.log_artifact(artifact)
        if self._wandb.offline:
            return
        for parent in self._run.parents.values():
            if isinstance(parent, Run):
                name = f"{self._wandb.entity}/{self._wandb.project}/{artifact_name(parent.name)}:latest"
                with suppress(ValueError, wandb.errors.CommError):  # W&B does not have it
                    self._wandb.use_artifact(name)


def flat_config(run: Run) -> dict[str, Any]:
    """The keys that people sort and plot by, at the top level; the recipe as one value."""
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
        **{name: getattr(config.target, name) for name in ("alpha", "beta", "tau")},
        "batch_size": config.task.batch_size,
        "epochs": len(config.epoch_rates),
        "learning_rate": config.epoch_rates[0],
        "crop": config.image.crop,
        "role": run.role,
        "cell": f"/{config.rate} {config.init.name}, {config.target.name}",  # learning curves are grouped by it
        **{f"parent/{role}": Path(parent.name).name for role, parent in run.parents.items()},
        "recipe": run.recipe,
    }


def one_line(text: str, length: int) -> str:
    """Any text as a name in W&B: without control characters, not empty, at most ``length`` characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:length].rstrip() or "-"


def artifact_name(run_name: str) -> str:
    """The artifact of a run's weights, in characters that W&B permits; the identity at the end is kept."""
    return "weights-" + re.sub(r"[^A-Za-z0-9_.-]+", "-", run_name)[-100:]


def last_synced_epoch(directory: Path) -> int:
    """The last epoch that `wandb sync` sent from a run's folders; −1: none."""
    summaries = [marker.parent / "files" / "wandb-summary.json" for marker in directory.glob("wandb/*/*.wandb.synced")]
    return max((int((read_json_object(summary) or {}).get("epoch", -1)) for summary in summaries), default=-1)


def remove_superseded(folder: Path) -> None:
    """Remove the offline folders of earlier attempts that were never synced: ``folder`` has all of their history."""
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
