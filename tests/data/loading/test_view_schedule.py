"""Which views a bank holds: one an epoch, or pairs of a view and its mirror that take turns."""

from collections.abc import Callable

import numpy as np
import pytest

from facedistill.config.schema import Config
from facedistill.data.loading.augment import NO_LANDMARKS, Augmentation
from facedistill.data.loading.view_schedule import banked_views

Compose = Callable[..., Config]
FIVE_EPOCHS = ["target=soft", "init=scratch", "schedule.epochs=5", "task.learning_rates.random=[0.1]"]


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ("all", [0, 1, 2, 3, 4]),
        ("5", [0, 1, 2, 3, 4]),
        ("9", [0, 1, 2, 3, 4]),
        ("4", [0, -2, 1, -3]),
        ("3", [0, -2, 1]),
        ("2", [0, -2]),
        ("1", [0]),
        ("live", None),
    ],
)
def test_every_epoch_has_its_view_or_pairs_take_turns(compose: Compose, views: str, expected: list[int] | None) -> None:
    assert banked_views(compose(*FIVE_EPOCHS, f"target.views={views}")) == expected


def test_without_a_target_nothing_is_banked(compose: Compose) -> None:
    assert banked_views(compose("target=none", "init=scratch", "target.views=all")) is None


def test_two_views_are_all_of_an_augmentation_that_only_flips(compose: Compose) -> None:
    views = banked_views(compose(*FIVE_EPOCHS, "target.views=2"))
    assert views is not None
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    augmentation = Augmentation(4, seed=0)
    for index in range(20):
        seen = {augmentation(image, NO_LANDMARKS, index, view)[0].tobytes() for view in views}
        assert seen == {image.tobytes(), image[:, ::-1].tobytes()}
