"""What a backbone costs: multiply-adds, and milliseconds on the processor at hand."""

import time
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from facedistill.models.backbone import Backbone

WARM, TIMED = 3, 21


@torch.no_grad()
def multiply_adds(backbone: Backbone, height: int, width: int) -> int:
    """Of one image of so many pixels."""
    with FlopCounterMode(display=False) as counter:
        backbone.eval()(torch.zeros(1, 3, height, width))
    return int(counter.get_total_flops()) // 2


@torch.no_grad()
def latency(backbone: Backbone, height: int, width: int) -> float:
    """Milliseconds for one image of so many pixels on the CPU, with torch's threads: the median of some."""
    face, seconds = torch.zeros(1, 3, height, width), []
    backbone.eval()
    for _ in range(WARM + TIMED):
        start = time.perf_counter()
        backbone(face)
        seconds.append(time.perf_counter() - start)
    return 1000 * median(seconds[WARM:])
