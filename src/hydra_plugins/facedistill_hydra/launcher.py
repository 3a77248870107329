"""A launcher for one machine: every run in a process of its own, several at a time."""

# No `from __future__ import annotations`: see sweeper.py.
from collections.abc import Sequence
from dataclasses import dataclass

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, configure_log


@dataclass
class LocalLauncherConf:
    """``n_jobs`` at a time: null is one a GPU, or one a core. ``gpus_per_job``: of the machine's GPUs."""

    _target_: str = "hydra_plugins.facedistill_hydra.launcher.LocalLauncher"
    n_jobs: int | None = None
    gpus_per_job: int = 1


class LocalLauncher(BasicLauncher):  # type: ignore[misc, unused-ignore]
    """Has every cell planned, then all of them trained, with what they stand on, each run once."""

    def __init__(self, n_jobs: int | None, gpus_per_job: int) -> None:
        super().__init__()
        self.n_jobs, self.gpus_per_job = n_jobs, gpus_per_job

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Nothing is returned: no task function of Hydra runs here, for which it would compose every cell anew."""
        from facedistill.sweep.scheduler import run_sweep  # late: Hydra imports every plugin at every start
        from facedistill.train import plan_cell

        assert self.config is not None
        configure_log(self.config.hydra.job_logging, self.config.hydra.verbose)
        planned = [plan_cell(words, number=number) for number, words in enumerate(job_overrides, initial_job_idx)]
        run_sweep([run for run in planned if run], self.n_jobs, self.gpus_per_job)
        return []


ConfigStore.instance().store(group="hydra/launcher", name="local", node=LocalLauncherConf, provider="facedistill")
