"""What can go wrong in a person's hands. The message names the thing and says what to do; a door prints it alone."""


class FacedistillError(ValueError):
    """Base of the errors that need no traceback."""

    def __str__(self) -> str:
        """The message; of an error in a DataLoader's worker, whose traceback comes with it, the message alone."""
        said = super().__str__()
        if said.startswith("Caught ") and "Original Traceback" in said:
            return said.rpartition(f"{type(self).__name__}: ")[2].strip()
        return said


class ConfigError(FacedistillError):
    """A configuration that can't run."""


class NotUnderstoodError(ConfigError):
    """Words that name no key or choice, or a value of another type."""


class DataError(FacedistillError):
    """Data that can't be used."""


class DiskError(FacedistillError):
    """A file that can't be written, or a disk that fails."""


class WeightsError(FacedistillError):
    """A file of weights that can't be used."""


class RunError(FacedistillError):
    """A run that could not be finished."""


class BusyError(RunError):
    """A run that another process is training."""
