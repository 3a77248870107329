"""A launcher for one machine: every run in a process of its own, several at a time."""

# No `from __future__ import annotations`: see sweeper.py.
from collections.abc import Sequence
from dataclasses import dataclass

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


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

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Have the cells planned here, instead of trained by the command's own task function."""
        from facedistill.train import plan_cell  # late: Hydra imports every plugin at every start

        super().setup(hydra_context=hydra_context, task_function=plan_cell, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """The cells as they were planned."""
        planned = super().launch(job_overrides, initial_job_idx)
        from facedistill.sweep.scheduler import run_sweep

        run_sweep([job.return_value for job in planned if job.return_value], self.n_jobs, self.gpus_per_job)
        return planned


ConfigStore.instance().store(group="hydra/launcher", name="local", node=LocalLauncherConf, provider="facedistill")
