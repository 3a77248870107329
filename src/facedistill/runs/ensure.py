"""Having runs trained, each once and after what it stands on."""

import errno
from collections.abc import Callable

from filelock import AcquireReturnProxy, FileLock, Timeout

from facedistill.errors import BusyError, ConfigError, DataError, RunError, WeightsError
from facedistill.runs.run import Run
from facedistill.system.files import disk_of
from facedistill.system.terminal import say

REMIND_EVERY = 60.0  # seconds
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


def ensure(run: Run, train: Callable[[Run, str], None], title: str = "", wait: bool = True) -> None:
    """Train ``run`` and whatever it stands on, each unless it is complete; the one place that decides to train.

    Of two processes that need the same run one trains it, and the other waits.

    Raises:
        RunError: it could not be finished.
        DiskError: its directory can't be written.
        ConfigError, DataError, WeightsError: it was refused; then it leaves no directory.
        BusyError: another process is training it, or something that it stands on, and ``wait`` is false.
    """
    if run.is_complete:
        return
    for role, parent in run.parents.items():
        if isinstance(parent, Run):
            ensure(parent, train, f"{title}{role} ", wait)
    with disk_of("the runs", "runs_dir=FOLDER", run.directory):
        run.directory.mkdir(parents=True, exist_ok=True)
        with _acquired(run, wait):
            if not run.is_complete:
                run.claim()
                try:
                    train(run, title)
                except (ConfigError, DataError, WeightsError):
                    run.forget()
                    raise


def _acquired(run: Run, wait: bool) -> AcquireReturnProxy[FileLock]:
    """The lock of a run, once nobody else holds it; every minute a line says who does."""
    lock = FileLock(run.lock)
    timeout = 0.0
    while True:
        try:
            return lock.acquire(timeout=timeout)
        except Timeout as error:
            if not wait:
                raise BusyError(f"{run.owner} is training {run.name}") from error
            say(f"{run.owner} is training {run.name}: waiting for it")
            timeout = REMIND_EVERY
        except (NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in NO_LOCKS:
                raise
            raise RunError(
                f"{run.lock}: this disk has no file locks ({error}), so two processes would train one run. "
                "Name another with runs_dir=…, or have it mounted with locks"
            ) from error
