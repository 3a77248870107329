"""Any network of timm."""

from collections.abc import Sequence
from difflib import get_close_matches

import timm

from facedistill.errors import ConfigError
from facedistill.models.backbone import Backbone


class TimmBackbone(Backbone):
    """A timm network by its name; ``features``: values of its linear embedding, 0 for the pooled feature map.

    Raises:
        ConfigError: a network that timm does not know, or a rate other than 1: only our own family is divided.
    """

    def __init__(
        self,
        architecture: str,
        features: int = 0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        rate: int = 1,
    ) -> None:
        if not timm.is_model(architecture):
            near = ", ".join(get_close_matches(architecture, timm.list_models(), n=5)) or "see timm.list_models()"
            raise ConfigError(f"model.name={architecture} is not known to timm. Near it: {near}")
        if rate != 1:
            raise ConfigError(f"rate={rate}: a timm network has no compression rate; name a smaller one")
        super().__init__(timm.create_model(architecture, pretrained=False, num_classes=features), mean, std)
