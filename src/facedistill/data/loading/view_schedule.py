"""The numbers of views, and which of them epochs see. Without torch: a plan asks too."""

from __future__ import annotations

from facedistill.config.schema import Config

EVAL_VIEW = -1  # the centre crop, not flipped; 0, 1, … are draws


def mirror_of(view: int) -> int:
    """The number of the view that mirrors a view: −2 of 0, −3 of 1, …, and 0 of −2."""
    return 2 * EVAL_VIEW - view


def banked_views(config: Config) -> list[int] | None:
    """The views of every training image that banks hold, in the order of the epochs; None: there is no bank.

    Every epoch has its own. If there are to be fewer, they take turns, each followed by its mirror: where a flip is
    all the augmentation there is (``image.crop=image.resize``), two are all of it.
    """
    views, epochs = config.target.views, len(config.epoch_rates)
    if views == "live" or not config.target.active():
        return None
    if isinstance(views, str) or views >= epochs:
        return list(range(epochs))
    return [mirror_of(turn // 2) if turn % 2 else turn // 2 for turn in range(views)]
