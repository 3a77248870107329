"""A run in Weights & Biases: its id and name are ours, and training it again updates it."""

import os
import re
import shutil
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import wandb
import wandb.errors

from facedistill.runs.record import Record
from facedistill.runs.run import Run, read_history
from facedistill.system.decoration import decoration, reason_of
from facedistill.system.files import read_json_object
from facedistill.system.terminal import say
from facedistill.system.text import shown
from facedistill.tracking.wandb_setup import folder_of, mode_of

T = TypeVar("T")
ARTIFACT = "model"  # the type of the weights in the lineage
MEND = "`wandb login --relogin` renews the key, logger.entity=NAME names another owner"
# Seconds that W&B's server may take to answer, and to take the rest at the end; PATIENCE: W&B itself, for either.
ANSWER, FINISH, PATIENCE = 10, 10, 20
ENDING = 2  # of a training that failed or was stopped while W&B starts


class WandbRun:
    """Opens the W&B run of a cell and always finishes it, as a second cell of the process would continue it.

    Nothing that W&B does ends a training or delays it by more than seconds: what fails is said, and W&B left alone.
    A run that was interrupted and resumed, or trained again, ends with one complete offline folder: `wandb sync` would
    append the history in a second folder of the same run to that of the first.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._wandb: wandb.Run | None = None
        self._failed: list[str] = []
        self._last_synced = -1  # epoch
        self._starting: threading.Thread | None = None
        self._has_logged = self._is_complete = False

    def __enter__(self) -> Self:
        return self

    def open(self) -> None:
        """Start the W&B run beside the training, since it takes seconds; to be called when a training has begun."""
        if self._run.config.logger.wandb and self._starting is None:
            self._starting = threading.Thread(target=self._open, daemon=True)
            self._starting.start()

    def _opened(self) -> wandb.Run | None:
        """The W&B run once it has started, if it could."""
        if self._starting is not None:
            self._starting.join()
        return self._wandb

    def _open(self) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # at the end it waits for a server that does not answer
        with decoration("Weights & Biases", self._failed):
            folder = folder_of(self._run.directory)
            self._last_synced = last_synced_epoch(folder, self._run.identity)
            mode, why = mode_of(self._run.config.logger.mode)
            if mode not in ("offline", "disabled"):
                try:
                    self._start(mode, folder)
                except Exception as error:
                    mode, why = "offline", f"{reason_of(error)}. {MEND}"
                    with suppress(TimeoutError):  # its service holds the run's id still
                        within(PATIENCE, wandb.teardown)
            if mode == "offline":
                self._start(mode, folder)
            if why:
                say(
                    f"facedistill: Weights & Biases: {why}. Offline in {folder / 'wandb'}: `wandb sync` sends it, and "
                    "with logger.mode=offline no server is asked"
                )

    def _start(self, mode: Any, folder: Path) -> None:
        self._wandb = started(self._run, mode, folder)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._starting is not None:  # what ends a training does not wait for a start
            self._starting.join(ENDING)
        opened = self._opened() if kind is None else self._wandb
        if opened is None:
            return
        folder = Path(opened.dir).parent
        unsent = f"the rest of Weights & Biases, which `wandb sync {folder}` sends"
        with decoration(unsent, self._failed):
            within(PATIENCE, partial(opened.finish, exit_code=0 if kind is None else 1))
        if kind is None and self._is_complete and not self._failed:
            remove_superseded(folder, self._run.identity)

    def log(self, row: dict[str, float]) -> None:
        """A row of the history, as the step of its epoch. The first one brings those of interrupted processes along."""
        self.open()
        self._do(lambda opened: self._log(opened, row))

    def summarize(self, record: Record) -> None:
        """The final numbers, the distance to the teacher, the pictures of the run directory, and the lineage."""
        self.open()
        self._do(lambda opened: self._summarize(opened, record))
        self._do(self._use_parents)

    def _do(self, something: Callable[[wandb.Run], None]) -> None:
        """Do something with the open run, unless something failed before."""
        opened = self._opened()
        if opened is not None and not self._failed:
            with decoration("the rest of Weights & Biases", self._failed):
                within(ANSWER, partial(something, opened))

    def _log(self, opened: wandb.Run, row: dict[str, float]) -> None:
        earlier = [] if self._has_logged else read_history(self._run.directory)
        self._has_logged = True
        task = self._run.config.compared_as
        for each in (*(other for other in earlier if other["epoch"] < row["epoch"]), row):
            if int(each["epoch"]) > self._last_synced:
                tests = {name: value for name, value in each.items() if name.startswith("test/")}
                compared = {name.replace("test", task, 1): value for name, value in tests.items()}
                opened.log({**each, **compared}, step=int(each["epoch"]))

    def _summarize(self, opened: wandb.Run, record: Record) -> None:
        task, summary = record.config.compared_as, summary_of(record)
        pictures = sorted(self._run.directory.glob("*.png"))
        if pictures or self._has_logged:  # beside the last epoch, whose row would come after the summary otherwise
            opened.log({f"{task}/{picture.stem}": wandb.Image(str(picture)) for picture in pictures})
        opened.summary.update(summary)
        opened.config.update({"params": record.params, "macs": record.macs}, allow_val_change=True)
        if self._run.weights.is_file():  # uploaded without a copy
            about = {key: value for key, value in flat_config(self._run).items() if key != "recipe"}
            artifact = wandb.Artifact(artifact_name(self._run.name), ARTIFACT, metadata={**about, **_scores(record)})
            artifact.add_file(str(self._run.weights.absolute()), skip_cache=True, policy="immutable")
            opened.log_artifact(artifact)
        self._is_complete = True

    def _use_parents(self, opened: wandb.Run) -> None:
        """The weights of the parents as used by this run.

        An offline run can't use artifacts: once it is synced, ``facedistill report wandb=`` records what it used.
        """
        if opened.offline:
            return
        for parent in self._run.parents.values():
            if isinstance(parent, Run):
                name = f"{opened.entity}/{opened.project}/{artifact_name(parent.name)}:latest"
                with suppress(ValueError, wandb.errors.CommError):  # W&B does not have it
                    opened.use_artifact(name)


def within(seconds: float, call: Callable[[], T]) -> T:
    """What a call gives. Raises ``TimeoutError`` where it takes longer; it is left to itself then."""
    answer: Future[T] = Future()

    def work() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError as error:
        raise TimeoutError(str(error) or f"no answer in {seconds:g} s") from error


def started(run: Run | Record, mode: Any, folder: Path) -> wandb.Run:
    """The W&B run of a cell, opened or taken up again. Raises whatever W&B does, and ``TimeoutError``."""
    config = run.config
    sys.argv = [shown(word) for word in sys.argv]  # W&B sends it, and fails at a path that is not UTF-8
    data, model = config.data["name"], config.network["name"]
    tags = [config.task.name, config.init.name, config.target.name, f"rate-{config.rate}", data, run.role]
    start = partial(
        wandb.init,
        name=one_line(run.name, 128),
        id=run.identity,
        resume="allow",
        group=one_line(config.group or f"{data}-{model}", 128),
        job_type=f"{config.task.name}-{run.role}",
        project=config.logger.project,
        entity=config.logger.entity,
        dir=str(folder),
        mode=mode,
        config=flat_config(run),
        tags=list(dict.fromkeys(one_line(tag, 64) for tag in tags)),
        settings=wandb.Settings(init_timeout=ANSWER, finish_timeout=FINISH, finish_timeout_raises=True),
    )
    return within(PATIENCE, start)


def summary_of(record: Record) -> dict[str, float]:
    """The final numbers. Every metric has two keys: ``final/top1`` for any task, ``verify/top1`` to be compared."""
    prefixes = ("final", record.config.compared_as)
    summary = {f"{prefix}/{name}": value for prefix in prefixes for name, value in _scores(record).items()}
    costs = ("params", "macs", "weights_bytes", "seconds", "images_per_second")
    summary |= {name: getattr(record, name) for name in costs}
    return summary | {f"weight/{name}": weight for name, weight in record.target_weights.items()}


def _scores(record: Record) -> dict[str, float]:
    """With the distance to the teacher."""
    scores = record.scores
    if record.teacher_score is not None and record.score is not None:
        scores[f"{record.metric}_minus_teacher"] = record.score - record.teacher_score
    return scores


def flat_config(run: Run | Record) -> dict[str, Any]:
    """The keys that people sort and plot by, at the top level; the recipe as one value."""
    config = run.config
    parents = {role: parent if isinstance(parent, str) else parent.name for role, parent in run.parents.items()}
    return {
        "rate": config.rate,
        "init": config.init.name,
        "target": config.target.name,
        "task": config.task.name,
        "softmax": bool(config.task.softmax),
        "data": config.data["name"],
        "model": config.network["name"],
        "seed": config.seed,
        **{name: getattr(config.target, name) for name in ("alpha", "beta", "tau", "parity")},
        "batch_size": config.task.batch_size,
        "epochs": len(config.epoch_rates),
        "learning_rate": config.epoch_rates[0],
        "crop": config.image.crop,
        "role": run.role,
        "cell": f"/{config.rate} {config.init.name}, {config.target.name}",  # learning curves are grouped by it
        **{f"parent/{role}": shown(Path(name).name) for role, name in parents.items()},
        "recipe": run.recipe,
    }


def one_line(text: str, length: int) -> str:
    """Any text as a name in W&B: without control characters, not empty, at most ``length`` characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in shown(text)).split())[:length].rstrip() or "-"


def artifact_name(run_name: str, what: str = "weights") -> str:
    """The artifact of a run's weights, in characters that W&B permits; the identity at the end is kept."""
    return f"{what}-" + re.sub(r"[^A-Za-z0-9_.-]+", "-", run_name)[-100:]


def last_synced_epoch(folder: Path, identity: str) -> int:
    """The last epoch that `wandb sync` sent of a run; −1: none."""
    synced = folder.glob(f"wandb/*-{identity}*/*.wandb.synced")
    summaries = [marker.parent / "files" / "wandb-summary.json" for marker in synced]
    epochs = [(read_json_object(summary) or {}).get("epoch") for summary in summaries]
    return max((epoch for epoch in epochs if isinstance(epoch, int)), default=-1)


def remove_superseded(folder: Path, identity: str) -> None:
    """Remove offline folders of a run's earlier attempts that were never synced: ``folder`` has all their history."""
    for other in folder.parent.glob(f"offline-run-*-{identity}*"):
        if other.name != folder.name and not any(other.glob("*.synced")):
            shutil.rmtree(other, ignore_errors=True)
