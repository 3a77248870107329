"""A launcher for a Slurm cluster: every cell a job, through submitit."""

# No `from __future__ import annotations`: see sweeper.py.
import os
from collections.abc import Sequence

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

try:
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as SubmititLauncher
except ImportError:  # it is optional, and Hydra imports every plugin at every start
    SubmititLauncher = object


class SlurmLauncher(SubmititLauncher):  # type: ignore[misc, unused-ignore]
    """Has every cell trained by a job, and waits for all; see conf/hydra/launcher/slurm.yaml."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Give the jobs a task function that is pickled by its name: the command's own belongs to ``__main__``."""
        super().setup(hydra_context=hydra_context, task_function=run_in_job, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """What became of the cells; a plan takes no job."""
        from submitit.core.utils import UncompletedJobError  # late: Hydra imports every plugin at every start

        from facedistill.sweep.scheduler import failures

        if self.config.plan:
            here = BasicLauncher()
            here.setup(hydra_context=self.hydra_context, task_function=run_in_job, config=self.config)
            return here.launch(job_overrides, initial_job_idx)
        try:
            jobs: Sequence[JobReturn] = super().launch(job_overrides, initial_job_idx)
        except UncompletedJobError as error:
            failures.append(["a job was ended, others may go on; the same command makes what is missing", str(error)])
            return []
        for job in jobs:
            assert job.hydra_cfg is not None
            failures.extend([*failure, f"as job {job.hydra_cfg.hydra.job.id} says"] for failure in job.return_value)
        return jobs


def run_in_job(node: DictConfig) -> list[list[str]]:
    """The task function in a job: what failed of the cell."""
    from facedistill.sweep.scheduler import failures
    from facedistill.train import train_cell

    # Lightning then starts the ranks of a run itself, as elsewhere, and leaves queueing again to submitit
    os.environ["SLURM_JOB_NAME"] = "interactive"
    train_cell(node)
    return failures
