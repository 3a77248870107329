"""The cores of this machine; a module of its own, as what needs it should start at once."""

import os

MOST_THREADS = 1024
JOBS_AT_A_TIME = "FACEDISTILL_JOBS_AT_A_TIME"  # in the environment of a sweep's jobs: how many share the machine


def cores_of_process(processes: int) -> int:
    """The cores that are left for one of so many processes of this job, beside the jobs that share the machine."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = os.environ.get(JOBS_AT_A_TIME, "1")
    return max(1, allowed // (processes * max(1, int(jobs) if jobs.isdecimal() else 1)))
