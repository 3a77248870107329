"""Which views a bank holds: one per epoch, or a few views and their mirror images in turn."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from facedistill.config.schema import Config
from facedistill.data.loading.augment import NO_LANDMARKS, Augmentation
from facedistill.data.loading.view_schedule import banked_views

Compose = Callable[..., Config]
FIVE_EPOCHS = ["target=soft", "init=scratch", "schedule.epochs=5", "task.learning_rates.random=[0.1]"]


def test_every_epoch_has_its_own_view_or_they_cycle_through_pairs(compose: Compose) -> None:
    config = compose(*FIVE_EPOCHS, "target.views=4")
    assert banked_views(config) == [0, -2, 1, -3]
    for views, expected in {
        "all": [0, 1, 2, 3, 4],
        5: [0, 1, 2, 3, 4],
        9: [0, 1, 2, 3, 4],
        3: [0, -2, 1],
        2: [0, -2],
        1: [0],
        "live": None,
    }.items():
        assert banked_views(replace(config, target=replace(config.target, views=views))) == expected


def test_without_a_target_there_is_no_bank(compose: Compose) -> None:
    assert banked_views(compose("target=none", "init=scratch", "target.views=all")) is None


def test_two_views_cover_an_augmentation_that_only_flips(compose: Compose) -> None:
    views = banked_views(compose(*FIVE_EPOCHS, "target.views=2"))
    assert views is not None
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    augmentation = Augmentation(4, seed=0)
    for index in range(20):
        seen = {augmentation(image, NO_LANDMARKS, index, view).image.tobytes() for view in views}
        assert seen == {image.tobytes(), image[:, ::-1].tobytes()}
