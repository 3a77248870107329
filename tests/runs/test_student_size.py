"""The student that fits into a size is the largest that does."""

import pytest

from facedistill.config.compose import compose_config
from facedistill.errors import ConfigError
from facedistill.runs.student_size import int8_bytes, size_of, width_for


@pytest.mark.parametrize(
    ("text", "size"), [("1MB", 1_000_000), ("500kB", 500_000), ("0.5mb", 500_000), ("64KB", 64_000)]
)
def test_sizes(text: str, size: int) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize("size", [20_000, 100_000, 1_000_000])
def test_the_widest_network_that_fits(size: int) -> None:
    config = compose_config(["rate=1", "model.features=64"])
    width = width_for(size, config)
    fits, too_large = (int8_bytes({**config.model, "width": wide}) for wide in (width, width + 1))
    assert fits <= size < too_large


def test_a_size_below_the_narrowest_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="size= is too small"):
        width_for(100, compose_config(["rate=1"]))
