"""Types of fixtures that tests are annotated with."""

from collections.abc import Callable

from facedistill.config.schema import Config
from facedistill.runs.run import Run

Composer = Callable[..., Config]
Planner = Callable[..., Run]
