"""Finished runs that were never trained: every cell of the tables, with random numbers."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import chdir, redirect_stdout
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facedistill.config.choices import nodes
from facedistill.config.compose import compose_config
from facedistill.config.groups import READINGS, InitConfig
from facedistill.config.schema import Config
from facedistill.config.target import TargetConfig
from facedistill.report.__main__ import main
from facedistill.report.tables import Row, Table, tables
from facedistill.runs.record import RECORD, Record
from facedistill.runs.run import Run
from facedistill.runs.sample_scores import SampleScores
from made_records import record_of

SAMPLES, PAIRS, PEOPLE = 120, 60, 12
_task = cache(compose_config)  # a third of a second for every cell would be a minute


@cache
def _target(name: str) -> TargetConfig:
    return compose_config([f"target={name}"]).target


def config_of(table: Table, row: Row, seed: int) -> Config:
    """The configuration of a cell, from the parts of composed ones."""
    base = _task((f"task={row.task}", *(["task.softmax=true"] if row.softmax else [])))
    init = InitConfig(**nodes("init")[row.init])
    data = {**base.data, "name": table.data}
    schedule = replace(base.schedule, reading=table.reading)
    return replace(base, data=data, schedule=schedule, rate=row.rate, init=init, target=_target(row.target), seed=seed)


def record_in(table: Table, row: Row, seed: int, score: float, **changes: Any) -> Record:
    """The record of a cell; ``changes`` replace some of it."""
    words = (f"rate={row.rate}", f"init={row.init}", f"target={row.target}", f"seed={seed}", "cells=7")
    words += () if table.reading == READINGS[0] else (f"schedule.reading={table.reading}",)
    data = {"name": table.data} | ({} if table.reading == READINGS[0] else {"reading": table.reading})  # as its parents
    run = Run(config_of(table, row, seed), words, data, {})
    fields: dict[str, Any] = {
        "metrics": {table.metric: score, "pairs": 90.0 + seed if row.task == "classify" else None},
        "history": [{"epoch": epoch, f"test/{table.metric}": score - 1 + epoch} for epoch in range(2)],
        "params": 1_000_000 // row.rate**2,
        "macs": 10_000_000 // row.rate**2,
        "latency_ms": 2.0 / row.rate,
        "seconds": 36.0,
        "versions": {"facedistill": "0.1.0", "torch": "2.14.1"},
        "device": {"accelerator": "auto", "name": "x86_64", "threads": 1},
    }
    return record_of(run, **{**fields, **changes})


def write_run(runs: Path, record: Record, draw: np.random.Generator | None = None) -> Path:
    """The directory of a run with its record and, with ``draw``, its scores by sample and a picture."""
    directory = runs / record.name
    directory.mkdir(parents=True)
    (directory / RECORD).write_text(json.dumps(asdict(record)))
    if draw is not None:
        score = next(iter(record.scores.values()))
        errors = draw.gamma(9, score / 9, SAMPLES) if record.cell.task == "align" else None
        scores = np.where(draw.random(SAMPLES) < score / 100, 100.0, 0.0) if errors is None else errors
        same = np.arange(PAIRS) % 2 == 0
        SampleScores(
            scores.astype(np.float32), draw.normal(same, 0.5).astype(np.float32), same, np.arange(SAMPLES) % PEOPLE
        ).save(directory)
        (directory / "samples.png").write_bytes(_picture())
    return directory


@cache
def _picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (1144, 400), (200, 180, 170)).save(file, "PNG")
    return file.getvalue()


def write_tables(
    runs: Path,
    seeds: Sequence[int],
    data: str = "synthetic",
    numbers: Sequence[int] = range(1, 6),
    readings: Sequence[str] = READINGS[:1],
) -> list[Record]:
    """Every cell of some tables at every seed; their records."""
    draw, records = np.random.default_rng(0), {}
    chosen = [table for table in tables([data, f"{data}_large"], data) if table.number in numbers]
    for table in (table for table in chosen if table.reading in readings):
        for row in table.rows:
            for seed in seeds:
                score = float(draw.uniform(3, 5) if table.lower_is_better else draw.uniform(60, 90))
                record = record_in(table, row, seed, round(score, 3))
                records.setdefault(record.name, record)
    for record in records.values():
        write_run(runs, record, draw)
    return list(records.values())


@cache
def full_report(base: Path) -> Path:
    """A report on all cells with three seeds: a folder in ``base`` with ``runs``, ``reports``, ``printed`` output."""
    folder = base / "full_report"
    write_tables(folder / "runs", [0, 1, 2])
    with chdir(folder), (folder / "printed").open("w") as printed, redirect_stdout(printed):
        assert main([]) == 0
    return folder


def damage(directory: Path, **changes: Any) -> None:
    """Change keys of the record in a run's directory."""
    path = directory / RECORD
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
