"""What a larger batch is worth to a small student, and how much of its step does not get smaller with it.

    python benchmarks/batch.py

Training steps of the small ResNet (forward, cross-entropy, backward, SGD) on random crops of 40 pixels that lie in
memory, one thread, at every compression rate; images a second by batch. Multiply-adds are beside them: what a rate
saves in arithmetic, and what of it arrives. The sizes take turns; medians of 5 repetitions. Two minutes on two cores.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from measure import alternating, print_table

from facedistill.config.compose import compose_config
from facedistill.models.cost import multiply_adds
from facedistill.models.network import build_network

RATES, BATCHES, CROP, CLASSES = (1, 2, 4, 8), (16, 32, 64, 128, 256), 40, 36
REPETITIONS, IMAGES = 5, 512  # of a repetition


def steps(rate: int, batch: int) -> Callable[[], float]:
    """Seconds that ``IMAGES`` images take in batches of this size."""
    torch.manual_seed(0)
    network = build_network(compose_config([f"rate={rate}"]).model, rate, CLASSES)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    images = torch.randint(256, (batch, CROP, CROP, 3), dtype=torch.uint8).permute(0, 3, 1, 2)  # as views are
    labels = torch.randint(CLASSES, (batch,))

    def seconds() -> float:
        start = time.perf_counter()
        for _ in range(IMAGES // batch):
            optimizer.zero_grad()
            F.cross_entropy(network(images).logits, labels).backward()
            optimizer.step()
        return time.perf_counter() - start

    return seconds


def main() -> None:
    torch.set_num_threads(1)
    ways = {f"{rate} {batch}": steps(rate, batch) for rate in RATES for batch in BATCHES}
    for way in ways.values():
        way()
    found = {name: IMAGES / statistics.median(taken) for name, taken in alternating(ways, REPETITIONS).items()}
    costs = {
        rate: multiply_adds(build_network(compose_config([f"rate={rate}"]).model, rate).backbone, CROP, CROP)
        for rate in RATES
    }
    rows = []
    for rate in RATES:
        numbers = [f"{found[f'{rate} {batch}']:,.0f}" for batch in BATCHES]
        faster, less = found[f"{rate} 32"] / found["1 32"], costs[1] / costs[rate]
        rows.append([f"/{rate}", *numbers, f"{faster:.1f}", f"{less:.1f}"])
    print_table(["images/s in batches of", *map(str, BATCHES), "faster than /1, at 32", "fewer multiply-adds"], rows)


if __name__ == "__main__":
    main()
