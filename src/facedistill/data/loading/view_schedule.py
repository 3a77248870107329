"""How views are numbered, and which view each epoch sees. Free of torch, because plans import it."""

from facedistill.config.schema import Config

EVAL_VIEW = -1  # the centre crop, not flipped; 0, 1, … are random draws


def mirror_of(view: int) -> int:
    """The number of the mirror image of a view: −2 for 0, −3 for 1, …, and 0 for −2."""
    return 2 * EVAL_VIEW - view


def banked_views(config: Config) -> list[int] | None:
    """The views of every training image that banks hold, in the order in which epochs use them; None without a bank.

    Every epoch has its own view. If ``target.views`` allows fewer, epochs cycle through them, and each view is followed
    by its mirror image: where flipping is the only augmentation (the paper's with ``image.crop=image.resize``), two
    views are all of it. Two are enough for a classifier on a frozen backbone.
    """
    views, epochs = config.target.views, len(config.epoch_rates)
    is_frozen = config.starts_from_recognizer and not config.finetunes
    if views == "live" or not (config.target.active() or is_frozen):
        return None
    if is_frozen and views == "all":
        views = 2
    if isinstance(views, str) or views >= epochs:
        return list(range(epochs))
    return [mirror_of(number // 2) if number % 2 else number // 2 for number in range(views)]
