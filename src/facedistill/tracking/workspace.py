"""A saved workspace in Weights & Biases with the panels that a sweep is read by, and the report's tables beside it.

Made again, it is the same one: it is found by its name, its sections are replaced, and those that people added stay.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import pandas as pd
import wandb
import wandb.errors
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb.sdk.lib.service.service_connection import WandbApiFailedError

from facedistill.errors import ConfigError, FacedistillError, RunError
from facedistill.system.files import hash_of
from facedistill.tracking.wandb_run import artifact_name, compared_as, has_key

Record = Mapping[str, Any]

VIEW = "facedistill"  # its name in the address, of the form that W&B gives: eleven of a-z and 0-9
REPORT = "report"  # the run that has the tables
FORBIDDEN = "/\\#?%:"  # in the name of a project
AXES = tuple(f"config:{axis}.value" for axis in ("task", "rate", "init", "target", "seed"))
LINES = "wandb/lineseries/v0"  # W&B's own chart of lines from a table
SHOWN = 100  # runs, or groups of them, in a panel
OURS = "facedistill: "  # how the names of our sections begin


@dataclass(frozen=True)
class Published:
    """``url``: of the workspace; ``absent``: the finished runs that the project does not have."""

    url: str
    absent: Sequence[str]


@dataclass(frozen=True)
class Target:
    """A project of W&B."""

    entity: str
    project: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """From ENTITY/PROJECT.

        Raises:
            ConfigError: it is something else.
        """
        entity, _, project = text.partition("/")
        if not entity.strip() or not project.strip() or set(project) & set(FORBIDDEN) or not text.isprintable():
            raise ConfigError(
                f"wandb={text!r} is no project of Weights & Biases: wandb=ENTITY/PROJECT, where ENTITY is a user or a "
                "team, e.g. wandb=me/facedistill"
            )
        return cls(entity.strip(), project.strip())

    @property
    def path(self) -> str:
        """As W&B writes it."""
        return f"{self.entity}/{self.project}"


def publish(target: str, records: Sequence[Record], tables: Mapping[str, pd.DataFrame]) -> Published:
    """Create or update the workspace of a project, log the tables, and record which run stands on which.

    ``target``: ENTITY/PROJECT. ``records``: of all finished runs. ``tables``: of the report, by their names.

    Raises:
        ConfigError: the target is no project, or there is no key.
        RunError: W&B can't be reached or refuses.
    """
    place = Target.parse(target)
    os.environ.setdefault("WANDB_SILENT", "true")
    if not has_key():
        raise ConfigError(
            f"wandb={target}: no key of Weights & Biases was found. `wandb login` stores one, or set WANDB_API_KEY"
        )
    shown = [record for record in records if record["config"]["task"]["name"] != "hint"]
    named = {f"table-{_key(name)}": table for name, table in tables.items()}
    with _explained(place):
        api = wandb.Api()
        url = log_tables(place, {**own_tables(shown), **named})
        absent = link(api, place, records)
        scores = [f"summary:{task}/{metric}" for task, metric in compared(shown).items()]
        save_workspace(place, sections(shown, [*named]), [*AXES, *scores])
    return Published(f"{url}?nw={VIEW}", absent)


@contextmanager
def _explained(place: Target) -> Iterator[None]:
    """What W&B raises, as an error of ours that says what to do."""
    try:
        yield
    except FacedistillError:
        raise
    except wandb.errors.AuthenticationError as error:
        raise RunError(
            f"Weights & Biases can't be reached, or refuses the key: {_said(error)}. Is there a network? Else "
            "`wandb login --relogin`"
        ) from error
    except (wandb.errors.Error, WandbApiFailedError, ValueError, OSError) as error:
        raise RunError(
            f"wandb={place.path}: {_said(error)}. Is there a network, does {place.entity} exist, may you write to it? "
            "The same command tries again"
        ) from error


def _said(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def log_tables(place: Target, tables: Mapping[str, pd.DataFrame]) -> str:
    """Log tables to the report's run, which is the same one every time; the address of its project."""
    with wandb.init(
        entity=place.entity,
        project=place.project,
        id=REPORT,
        name=REPORT,
        job_type=REPORT,
        resume="allow",
        mode="online",
        settings=wandb.Settings(console="off"),
    ) as run:
        run.log({name: as_wandb(table) for name, table in tables.items()})
        return str(run.project_url)


def as_wandb(table: pd.DataFrame) -> wandb.Table:
    """A table as W&B shows it: text as text, and nothing where a number is missing."""
    cells = table.astype(object).where(table.notna(), None)
    return wandb.Table(
        columns=[str(name) for name in table.columns], data=cells.to_numpy().tolist(), allow_mixed_types=True
    )


def own_tables(records: Sequence[Record]) -> dict[str, pd.DataFrame]:
    """``cells``: a row a cell. ``rates-TASK``: the metric of a task against the rate, a line an init and target."""
    cells = table_of_cells(records)
    found = {"cells": cells}
    for task, metric in compared(records).items():
        own = cells[cells["task"] == task]
        several = own["data"].nunique() > 1
        labels = own["init"] + ", " + own["target"] + (", " + own["data"] if several else "")
        lines = pd.DataFrame({"step": own["rate"], "lineKey": labels, "lineVal": own[metric]})
        found[f"rates-{task}"] = lines.dropna().reset_index(drop=True)
    return found


def table_of_cells(records: Sequence[Record]) -> pd.DataFrame:
    """A row a cell: its axes, how many seeds, mean and standard deviation of every metric, and what it costs.

    Runs that differ in more than their seed are no repetitions, and have rows of their own.
    """
    cells: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        cells[
            hash_of({key: value for key, value in record["recipe"].items() if key not in ("seed", "parents")})
        ].append(record)
    metrics = list(dict.fromkeys(name for record in records for name in _scores(record)))
    columns = ["task", "data", "model", "rate", "init", "target", "seeds", *_spread(metrics), *_COSTS]
    rows = [_row(runs, metrics) for runs in cells.values()]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values(columns[:6], ignore_index=True)


_COSTS = ("params", "macs", "images_per_second")


def _spread(metrics: Sequence[str]) -> list[str]:
    return [column for name in metrics for column in (name, f"{name}_sd")]


def _scores(record: Record) -> dict[str, float]:
    return {name: float(value) for name, value in record["metrics"].items() if value is not None}


def _row(runs: Sequence[Record], metrics: Sequence[str]) -> dict[str, Any]:
    first, config = runs[0], runs[0]["config"]
    row: dict[str, Any] = {
        "task": _task(first),
        "data": config["data"]["name"],
        "model": first["recipe"]["model"]["name"],
        "rate": config["rate"],
        "init": config["init"]["name"],
        "target": config["target"]["name"],
        "seeds": len(runs),
    }
    for name in metrics:
        found = [scores[name] for scores in map(_scores, runs) if name in scores]
        row[name] = mean(found) if found else None
        row[f"{name}_sd"] = stdev(found) if len(found) > 1 else None
    return row | {name: mean(float(run[name]) for run in runs) for name in _COSTS}


def compared(records: Sequence[Record]) -> dict[str, str]:
    """The tasks that there are, each with its metric; classification first."""
    found = {_task(record): str(record["config"]["task"]["metric"]) for record in records}
    return {task: found[task] for task in sorted(found, key=lambda task: (task != "classify", task))}


def _task(record: Record) -> str:
    task = record["config"]["task"]
    return compared_as(task["name"], task["softmax"])


def sections(records: Sequence[Record], tables: Sequence[str]) -> list[ws.Section]:
    """The sections of the workspace: one a task, then the tables."""
    several = len({record["config"]["data"]["name"] for record in records}) > 1
    panels = [wr.WeavePanelSummaryTable(table_name=name) for name in ("cells", *tables)]
    return [
        *(section_of(task, metric, several) for task, metric in compared(records).items()),
        _section("cells and tables", panels, columns=1),
    ]


def section_of(task: str, metric: str, several_sets: bool) -> ws.Section:
    """The panels of a task: rate × init × target, its metric against the rate, learning curves, pictures."""
    score = wr.SummaryMetric(f"{task}/{metric}")
    axes = ["rate", "init", "target", *(["data"] if several_sets else [])]
    columns = [wr.ParallelCoordinatesPlotColumn(wr.Config(axis), display_name=axis) for axis in axes]
    columns.append(wr.ParallelCoordinatesPlotColumn(score, display_name=metric))
    pictures = "landmarks" if task == "align" else "test faces"
    panels = [
        wr.ParallelCoordinatesPlot(title=f"{task}: rate × init × target", columns=columns),
        wr.CustomChart(
            query={"summaryTable": {"tableKey": f"rates-{task}"}},
            chart_name=LINES,
            chart_fields={"step": "step", "lineKey": "lineKey", "lineVal": "lineVal"},
            chart_strings={"title": f"{task}: {metric} against rate, mean over seeds", "xname": "rate"},
        ),
        wr.ScatterPlot(title=f"{task}: {metric} against rate, every run", x=wr.Config("rate"), y=score),
        wr.LinePlot(
            title=f"{task}: learning curves by cell, mean and range over seeds",
            x="epoch",
            y=[f"{task}/{metric}"],
            groupby=wr.Config("cell"),
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
            max_runs_to_show=SHOWN,
        ),
        wr.MediaBrowser(title=f"{task}: {pictures}", media_keys=[f"{task}/samples"], num_columns=2),
    ]
    return _section(task, panels, columns=2)


def _section(name: str, panels: Sequence[Any], columns: int) -> ws.Section:
    layout = ws.SectionLayoutSettings(columns=columns, rows=-(-len(panels) // columns))
    return ws.Section(name=f"{OURS}{name}", panels=list(panels), is_open=True, layout_settings=layout)


def save_workspace(place: Target, own: Sequence[ws.Section], columns: Sequence[str]) -> None:
    """Create the workspace, or replace its sections that are ours. ``columns``: of a new one's table of runs."""
    workspace = find_workspace(place)
    if workspace is None:
        workspace = ws.Workspace(
            entity=place.entity,
            project=place.project,
            name=VIEW,
            settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=SHOWN),
            runset_settings=ws.RunsetSettings(pinned_columns=list(columns)),
        )
        workspace._internal_name = f"nw-{VIEW}-v"  # else it would get a random one, and could not be found again
    kept = [section for section in workspace.sections if not section.name.startswith(OURS)]
    workspace.sections = [*own, *kept]
    workspace.save()


def find_workspace(place: Target) -> ws.Workspace | None:
    """The workspace, if it was saved before.

    Raises:
        RunError: it can't be read.
    """
    try:
        return ws.Workspace.from_url(f"https://wandb.ai/{place.path}?nw={VIEW}")  # the server is that of the session
    except (wandb.errors.Error, WandbApiFailedError):
        raise
    except Exception as error:  # wandb-workspaces raises whatever it meets in a form that it does not know
        if "not found in project" in str(error):
            return None
        raise RunError(
            f"The workspace {VIEW} of {place.path} has a form that wandb-workspaces does not know: {_said(error)}. "
            "Update wandb-workspaces, or delete this workspace on its page and try again"
        ) from error


def link(api: wandb.Api, place: Target, records: Sequence[Record]) -> list[str]:
    """Record which weights every run used, where it is not known yet; the names of runs that are not there.

    An offline run may not say so itself.
    """
    there = {run.id: run for run in api.runs(place.path, filters={"name": {"$in": [r["identity"] for r in records]}})}
    weights: dict[str, wandb.Artifact | None] = {}
    for record in records:
        run = there.get(record["identity"])
        wanted = {artifact_name(name) for name in _ancestors(record)}
        if run is None or not wanted:
            continue
        for name in wanted - {used.name.split(":")[0] for used in run.used_artifacts()}:
            if name not in weights:
                path = f"{place.path}/{name}:latest"
                weights[name] = api.artifact(path) if api.artifact_exists(path) else None
            artifact = weights[name]
            if artifact is not None:
                run.use_artifact(artifact)
    return [record["name"] for record in records if record["identity"] not in there]


def _ancestors(record: Record) -> list[str]:
    """The names of the runs that a run stands on; not the files from elsewhere."""
    identities = record["recipe"]["parents"]
    return [name for role, name in record["parents"].items() if name.endswith(f"-{identities[role]}")]


def _key(name: str) -> str:
    """A table's name as a key: it becomes an artifact's name and a step in a query."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "table"
