"""Finished runs that were never trained: every cell of the tables, with numbers drawn by seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facedistill.report.tables import Row, Table, tables
from facedistill.runs.sample_scores import SampleScores
from facedistill.system.files import hash_of

SAMPLES, PAIRS = 120, 60


def record_of(table: Table, row: Row, seed: int, score: float, **changed: Any) -> dict[str, Any]:
    """A record as a run writes it; ``changed``: keys of its configuration."""
    config: dict[str, Any] = {
        "task": {"name": row.task, "softmax": row.softmax or None, "metric": table.metric},
        "init": {"name": row.init},
        "target": {"name": row.target, "views": "all", "bank": "float16"},
        "data": {"name": table.data},
        "model": {"name": "resnet_small"},
        "teacher": {"model": {"name": "resnet_small"}},
        "rate": row.rate,
        "seed": seed,
        "schedule": {"epochs": 2},
        "learning_rates": {},
        "batch_sizes": {},
        "image": {"resize": 48, "crop": 40},
    } | changed
    recipe = {
        "version": 2,
        "threads": 1,
        "precision": "32-true",
        "target": {"name": row.target},
        "task": {"name": row.task, "softmax": row.softmax},
        "rate": row.rate,
        "init": row.init,
        "data": {"name": config["data"]["name"]},
        "image": config["image"],
        "optimizer": {},
        "learning_rates": [0.1, 0.01],
        "seed": config["seed"],
        "parents": {},
    }
    identity = hash_of(recipe)
    axes = [row.task + ("-softmax" if row.softmax else ""), f"r{row.rate}", row.init, row.target, table.data]
    key = f"test/{table.metric}"
    return {
        "identity": identity,
        "name": "-".join([*axes, f"s{seed}", identity]),
        "role": "teacher" if row.rate == 1 else "student",
        "group": None,
        "overrides": [f"rate={row.rate}", f"init={row.init}", f"target={row.target}", f"seed={seed}", "cells=7"],
        "recipe": recipe,
        "config": config,
        "parents": {},
        "metrics": {table.metric: score, "pairs": 90.0 + seed if row.task == "classify" else None},
        "teacher_score": None,
        "history": [{"epoch": epoch, key: score - 1 + epoch, "train/loss": 1.0, "seconds": 1.0} for epoch in range(2)],
        "data": {"identities": 3, "train": 10, "test": SAMPLES},
        "params": 1_000_000 // row.rate**2,
        "params_with_classifier": 1_000_100 // row.rate**2,
        "macs": 10_000_000 // row.rate**2,
        "latency_ms": 2.0 / row.rate,
        "weights_bytes": 1,
        "seconds": 36.0,
        "images_per_second": 100.0,
        "versions": {"facedistill": "0.1.0", "torch": "2.14.1"},
        "device": {"accelerator": "auto", "name": "x86_64", "threads": 1},
    }


def write_run(runs: Path, record: dict[str, Any], draw: np.random.Generator | None = None) -> Path:
    """The directory of a run with its record and, with ``draw``, its sample_scores and a picture."""
    directory = runs / record["name"]
    directory.mkdir(parents=True)
    (directory / "record.json").write_text(json.dumps(record))
    if draw is not None:
        score = next(value for value in record["metrics"].values() if value is not None)
        said = draw.gamma(9, score / 9, SAMPLES) if record["config"]["task"]["name"] == "align" else None
        right = np.where(draw.random(SAMPLES) < score / 100, 100.0, 0.0) if said is None else said
        same = np.arange(PAIRS) % 2 == 0
        SampleScores(right.astype(np.float32), draw.normal(same, 0.5).astype(np.float32), same).save(directory)
        Image.new("RGB", (1144, 400), (200, 180, 170)).save(directory / "samples.png")
    return directory


def write_tables(runs: Path, seeds: Sequence[int], data: str = "synthetic") -> list[dict[str, Any]]:
    """Every cell of every table once a seed; their records."""
    draw, records = np.random.default_rng(0), {}
    for table in tables([data, f"{data}_large"], data):
        for row in table.rows:
            for seed in seeds:
                score = float(draw.uniform(3, 5) if table.errors else draw.uniform(60, 90))
                record = record_of(table, row, seed, round(score, 3))
                records.setdefault(record["name"], record)
    for record in records.values():
        write_run(runs, record, draw)
    return list(records.values())
