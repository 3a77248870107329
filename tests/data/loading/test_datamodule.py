"""How many processes prepare batches."""

from __future__ import annotations

import os

import pytest
import torch

from facedistill.config.compose import compose_config
from facedistill.data.loading.datamodule import MOST_WORKERS, workers_for


def test_a_number_is_that_number_and_auto_is_a_gpu_s_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert [workers_for(word) for word in (0, 3, "auto")] == [0, 3, 0]
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    for cores, gpus, expected in ((16, 1, 15), (96, 8, 11), (128, 2, MOST_WORKERS), (2, 4, 1)):
        monkeypatch.setattr(torch.accelerator, "device_count", lambda gpus=gpus: gpus)
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        assert workers_for("auto") == expected
        assert workers_for(3) == 3


def test_the_paper_s_size_has_workers_and_changes_no_identity_by_them() -> None:
    assert compose_config(["scale=paper"]).trainer.num_workers == "auto"
    assert compose_config([]).trainer.num_workers == 0
