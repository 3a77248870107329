"""Finished runs of every task, trained in a second each, which the tests of one process share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from facedistill.runs.ensure import ensure
from facedistill.runs.plan import plan
from facedistill.runs.run import Run
from facedistill.training import fit, publish
from made_records import complete

DATA = ["data.num_identities=4", "data.images_per_identity=12", "data.pairs_per_fold=4"]
SIZES = ["image.resize=24", "image.crop=20", "model.width=16", "teacher.model.width=16", "schedule.epochs=1"]
ONE_EPOCH = [*SIZES, "logger=csv", "trainer.progress=false", "task.batch_size=16"]
TINY = [*DATA, *ONE_EPOCH]
ALONE = ["init=scratch", "target=none", "rate=8"]
_made: dict[str, Run] = {}


def made_runs(factory: pytest.TempPathFactory) -> dict[str, Run]:
    """``classify``, ``align`` and ``verify``; ``embed``, which imitates the first; ``hint``, of which there is a record
    alone.
    """
    if not _made:
        folder = factory.mktemp("runs")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(publish, "save_pictures", lambda *words: None)  # they take longer than the training
            for name in ("classify", "align", "verify"):
                _made[name] = trained(folder, f"task={name}", *ALONE)
            _made["embed"] = trained(folder, *imitating(_made["classify"].weights))
        _made["hint"] = plan([*TINY, f"runs_dir={folder}", f"cache_dir={folder}/cache", "task=hint", "rate=8"])
        complete(_made["hint"])
    return _made


def imitating(teacher: Path) -> list[str]:
    student = ["task=embed", "target=cosine", "init=scratch", "rate=8", "model.features=16"]
    return [*student, f"teacher.weights={teacher}"]


def trained(folder: Path, *words: str, data: Sequence[str] = DATA) -> Run:
    run = plan([*data, *ONE_EPOCH, f"runs_dir={folder}", f"cache_dir={folder}/cache", *words])
    ensure(run, fit.train_run)
    return run
