"""A saved workspace in Weights & Biases with the panels that show a sweep, and the report's tables.

Publishing again updates it: it is found by its name, its own sections are replaced, and those that people added stay.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any, Self

import pandas as pd
import wandb
import wandb.errors
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb.sdk.lib.service.service_connection import WandbApiFailedError

from facedistill.errors import ConfigError, FacedistillError, RunError
from facedistill.runs.record import Record, by_cell
from facedistill.system.text import shown
from facedistill.tracking.wandb_run import artifact_name
from facedistill.tracking.wandb_setup import has_key

VIEW = "facedistill"  # its name in the address, of the form that W&B gives: eleven of a-z and 0-9
REPORT = "report"  # the run that has the tables
FORBIDDEN = "/\\#?%:"  # in the name of a project
AXES = tuple(f"config:{axis}.value" for axis in ("task", "rate", "init", "target", "seed"))
LINE_CHART = "wandb/lineseries/v0"  # W&B's own chart of lines from a table
MAX_RUNS = 100  # runs, or groups of them, in a panel
SECTION = "facedistill: "  # how the names of our sections begin
_COSTS = ("params", "macs", "images_per_second")


@dataclass(frozen=True)
class Published:
    """``url``: of the workspace; ``missing``: the finished runs that the project does not have."""

    url: str
    missing: Sequence[str]


@dataclass(frozen=True)
class Project:
    """A project of W&B, and the user or team that owns it."""

    entity: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ENTITY/PROJECT.

        Raises:
            ConfigError: the text does not have this form.
        """
        entity, _, name = text.partition("/")
        if not entity.strip() or not name.strip() or set(name) & set(FORBIDDEN) or not text.isprintable():
            raise ConfigError(
                f"wandb={text!r} does not name a project of Weights & Biases: wandb=ENTITY/PROJECT, where ENTITY is a "
                "user or a team, e.g. wandb=me/facedistill"
            )
        return cls(entity.strip(), name.strip())

    @property
    def path(self) -> str:
        return f"{self.entity}/{self.name}"


def publish(target: str, records: Sequence[Record], tables: Mapping[str, pd.DataFrame]) -> Published:
    """Create or update the workspace of a project, log the tables, and record which weights every run used.

    ``target``: ENTITY/PROJECT. ``records``: of all finished runs. ``tables``: of the report, by their names.

    Raises:
        ConfigError: the target does not name a project, or there is no key.
        RunError: W&B can't be reached or refuses.
    """
    project = Project.parse(target)
    os.environ.setdefault("WANDB_SILENT", "true")
    if not has_key():
        raise ConfigError(
            f"wandb={target}: no key of Weights & Biases was found. `wandb login` stores one, or set WANDB_API_KEY"
        )
    scored = [record for record in records if not record.config.task.intermediate]
    named = {f"table-{_key(name)}": table for name, table in tables.items()}
    with _explained_errors(project):
        api = wandb.Api()
        url = log_tables(project, {**tables_of(scored), **named})
        missing = record_lineage(api, project, records)
        scores = [f"summary:{task}/{metric}" for task, metric in metrics_by_task(scored).items()]
        save_workspace(project, sections(scored, [*named]), [*AXES, *scores])
    return Published(f"{url}?nw={VIEW}", missing)


@contextmanager
def _explained_errors(project: Project) -> Iterator[None]:
    """Turns errors of W&B into errors that name what to do."""
    try:
        yield
    except FacedistillError:
        raise
    except wandb.errors.AuthenticationError as error:
        raise RunError(
            f"Weights & Biases can't be reached, or refuses the key: {_one_line(error)}. Is there a network? Else "
            "`wandb login --relogin`"
        ) from error
    except Exception as error:  # of wandb, wandb-workspaces and what they call
        raise RunError(
            f"wandb={project.path}: {_one_line(error)}. Is there a network, does {project.entity} exist, may you write "
            "to it? The same command tries again"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def log_tables(project: Project, tables: Mapping[str, pd.DataFrame]) -> str:
    """Log tables to the report's run, which is always the same one; the address of its project."""
    with wandb.init(
        entity=project.entity,
        project=project.name,
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
    """A table for W&B: text stays text, and a missing number is empty."""
    rows = table.astype(object).where(table.notna(), None).to_numpy().tolist()
    cells = [[shown(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    return wandb.Table(columns=[*map(shown, table.columns)], data=cells, allow_mixed_types=True)


def tables_of(records: Sequence[Record]) -> dict[str, pd.DataFrame]:
    """``cells``: a row for each cell. ``rates-TASK``: its metric against the rate, a line an init and target."""
    cells = table_of_cells(records)
    found = {"cells": cells}
    for task, metric in metrics_by_task(records).items():
        own = cells[cells["task"] == task]
        labels = own["init"] + ", " + own["target"] + (", " + own["data"] if own["data"].nunique() > 1 else "")
        lines = pd.DataFrame({"step": own["rate"], "lineKey": labels, "lineVal": own[metric]})
        found[f"rates-{task}"] = lines.dropna().reset_index(drop=True)
    return found


def table_of_cells(records: Sequence[Record]) -> pd.DataFrame:
    """A row for each cell: axes, number of seeds, mean and standard deviation of every metric, and costs.

    Runs that differ in more than their seed are no repetitions, and have rows of their own.
    """
    metrics = list(dict.fromkeys(name for record in records for name in record.scores))
    spreads = [column for name in metrics for column in (name, f"{name}_sd")]
    columns = ["task", "data", "model", "rate", "init", "target", "seeds", *spreads, *_COSTS]
    table = pd.DataFrame([_row(runs, metrics) for runs in by_cell(records).values()], columns=columns)
    return table.sort_values(columns[:6], ignore_index=True)


def _row(runs: Sequence[Record], metrics: Sequence[str]) -> dict[str, Any]:
    first, cell = runs[0], runs[0].cell
    row: dict[str, Any] = {"task": first.config.compared_as, "data": first.data_name, "model": first.model_name}
    row |= {"rate": cell.rate, "init": cell.init, "target": cell.target, "seeds": len(runs)}
    for name in metrics:
        found = [float(run.scores[name]) for run in runs if name in run.scores]
        row[name] = mean(found) if found else None
        row[f"{name}_sd"] = stdev(found) if len(found) > 1 else None
    return row | {name: mean(float(getattr(run, name)) for run in runs) for name in _COSTS}


def metrics_by_task(records: Sequence[Record]) -> dict[str, str]:
    """The metric of every task whose runs are compared; classification first."""
    found = {record.config.compared_as: record.metric for record in records}
    return {task: found[task] for task in sorted(found, key=lambda task: (task != "classify", task))}


def sections(records: Sequence[Record], tables: Sequence[str]) -> list[ws.Section]:
    """The sections of the workspace: one for each task, then the tables."""
    several = len({record.data_name for record in records}) > 1
    panels = [wr.WeavePanelSummaryTable(table_name=name) for name in ("cells", *tables)]
    own = [section_of(task, metric, several) for task, metric in metrics_by_task(records).items()]
    return [*own, _section("cells and tables", panels, columns=1)]


def section_of(task: str, metric: str, several_sets: bool) -> ws.Section:
    """The panels of a task: rate × init × target, metric against rate, learning curves, pictures."""
    score = wr.SummaryMetric(f"{task}/{metric}")
    axes = ["rate", "init", "target", *(["data"] if several_sets else [])]
    shown = {**{axis: wr.Config(axis) for axis in axes}, metric: score}
    columns = [wr.ParallelCoordinatesPlotColumn(value, display_name=name) for name, value in shown.items()]
    pictures = "landmarks" if task == "align" else "test faces"
    panels = [
        wr.ParallelCoordinatesPlot(title=f"{task}: rate × init × target", columns=columns),
        wr.CustomChart(
            query={"summaryTable": {"tableKey": f"rates-{task}"}},
            chart_name=LINE_CHART,
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
            max_runs_to_show=MAX_RUNS,
        ),
        wr.MediaBrowser(title=f"{task}: {pictures}", media_keys=[f"{task}/samples"], num_columns=2),
    ]
    return _section(task, panels, columns=2)


def _section(name: str, panels: Sequence[Any], columns: int) -> ws.Section:
    layout = ws.SectionLayoutSettings(columns=columns, rows=-(-len(panels) // columns))
    return ws.Section(name=f"{SECTION}{name}", panels=list(panels), is_open=True, layout_settings=layout)


def save_workspace(project: Project, own: Sequence[ws.Section], columns: Sequence[str]) -> None:
    """Create the workspace, or replace our sections in it. ``columns``: of the table of runs in a new one."""
    workspace = find_workspace(project)
    if workspace is None:
        workspace = ws.Workspace(
            entity=project.entity,
            project=project.name,
            name=VIEW,
            settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=MAX_RUNS),
            runset_settings=ws.RunsetSettings(pinned_columns=list(columns)),
        )
        workspace._internal_name = f"nw-{VIEW}-v"  # else it would get a random one, and could not be found again
    kept = [section for section in workspace.sections if not section.name.startswith(SECTION)]
    workspace.sections = [*own, *kept]
    workspace.save()


def find_workspace(project: Project) -> ws.Workspace | None:
    """The workspace, if it was saved before.

    Raises:
        RunError: it can't be read.
    """
    try:
        return ws.Workspace.from_url(f"https://wandb.ai/{project.path}?nw={VIEW}")  # the server is that of the session
    except (wandb.errors.Error, WandbApiFailedError):
        raise
    except Exception as error:  # wandb-workspaces raises anything if it does not know a workspace's format
        if "not found in project" in str(error):
            return None
        raise RunError(
            f"The workspace {VIEW} of {project.path} has a format that wandb-workspaces does not know: "
            f"{_one_line(error)}. Update wandb-workspaces, or delete this workspace on its page and try again"
        ) from error


def record_lineage(api: wandb.Api, project: Project, records: Sequence[Record]) -> list[str]:
    """Record which weights every run used, where W&B does not know it yet; the names of runs that it does not have.

    An offline run can't record it itself.
    """
    identities = [record.identity for record in records]
    known = {run.id: run for run in api.runs(project.path, filters={"name": {"$in": identities}})}
    weights: dict[str, wandb.Artifact | None] = {}
    for record in records:
        run = known.get(record.identity)
        wanted = {artifact_name(name) for name in record.run_parents}
        if run is None or not wanted:
            continue
        for name in wanted - {used.name.split(":")[0] for used in run.used_artifacts()}:
            if name not in weights:
                path = f"{project.path}/{name}:latest"
                weights[name] = api.artifact(path) if api.artifact_exists(path) else None
            artifact = weights[name]
            if artifact is not None:
                run.use_artifact(artifact)
    return [record.name for record in records if record.identity not in known]


def _key(name: str) -> str:
    """A table's name as a key: it becomes an artifact's name and a step in a query."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "table"
