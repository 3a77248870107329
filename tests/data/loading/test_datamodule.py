"""How many processes prepare batches."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch

from facedistill.config.compose import compose_config
from facedistill.data.loading.datamodule import MOST_WORKERS, workers_for
from facedistill.runs.plan import plan
from facedistill.system.cores import JOBS_AT_A_TIME

AUTO = replace(compose_config([]).trainer, num_workers="auto", accelerator="auto")


@pytest.mark.parametrize(
    ("cores", "jobs", "devices", "expected"),
    [(16, "1", 1, 15), (64, "8", 1, 7), (96, "1", 8, 11), (128, "2", 1, MOST_WORKERS), (2, "4", 1, 1), (8, "x", 1, 7)],
)
def test_auto_is_a_training_process_share_of_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, jobs: str, devices: int, expected: int
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    monkeypatch.setenv(JOBS_AT_A_TIME, jobs)
    assert workers_for(replace(AUTO, devices=devices)) == expected
    assert workers_for(replace(AUTO, devices=devices, num_workers=3)) == 3
    assert workers_for(replace(AUTO, accelerator="cpu")) == 0


def test_without_a_gpu_auto_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert workers_for(AUTO) == 0


def test_the_paper_s_size_has_workers_and_they_change_no_identity() -> None:
    words = ["scale=paper", "logger=csv"]
    assert compose_config(words).trainer.num_workers == "auto"
    assert plan(words).identity == plan([*words, "trainer.num_workers=0", "trainer.score_every=1"]).identity
