"""Why fine-tuning at the learning rate of a classifier ruins a recognizer, and at which it does not.

    python benchmarks/finetuning.py ROOT [STEPS]

ROOT is a folder with lfw/ and teachers/edgeface_xs.safetensors. EdgeFace-XS at 112 pixels is trained for STEPS (5)
batches of 32 of the 158 people of LFW with ten images or more, under a random classifier, with Nesterov SGD at 0.01.
Before and after: the accuracy on 250 pairs of strangers with the best threshold, and the mean cosine between the 32
embeddings of a batch. Then which tensors did it: each kind moved alone, from the recognizer as it was. Then other
learning rates. About two CPU minutes.
"""

from __future__ import annotations

import re
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from measure import print_table
from torch import Tensor

from facedistill.config.compose import compose_config
from facedistill.data.loading.datamodule import FaceData
from facedistill.metrics.pairs import best_threshold
from facedistill.models.backbone import Backbone
from facedistill.models.load import load_network
from facedistill.models.network import Network

PAIRS, BATCH = 250, 32
# the first that fits
KINDS = {
    "biases of depthwise convolutions": r"conv_dw\.bias|convs\.\d\.bias",
    "their kernels": r"conv_dw\.weight|convs\.\d\.weight",
    "normalizations": r"norm|downsample\.0",
    "layer scale": r"gamma",
    "attention": r"xca|pos_embd",
    "all others": r"",
}


def words_of(root: Path) -> list[str]:
    return [
        *("task=teacher", "data=lfw", f"data.root={root}/lfw", "scale=photos", "image.resize=112", "image.crop=112"),
        *("model@teacher.model=timm", "teacher.model.name=edgenext_x_small", "teacher.model.features=512"),
        *("teacher.model.mean=[127.5,127.5,127.5]", "teacher.model.std=[128,128,128]", "logger=csv"),
    ]


class Strangers:
    """Some pairs of people who are not trained on."""

    def __init__(self, data: FaceData) -> None:
        pairs = data.faces.pairs
        assert pairs is not None
        chosen = np.random.default_rng(0).permutation(np.flatnonzero(~pairs.trained_on))[:PAIRS]
        images, places = np.unique(np.stack([pairs.left[chosen], pairs.right[chosen]]), return_inverse=True)
        self.left, self.right = places.reshape(2, -1)
        self.same = pairs.same[chosen]
        self.images = torch.from_numpy(np.stack([pairs.images[index] for index in images])).permute(0, 3, 1, 2)

    @torch.no_grad()
    def accuracy(self, backbone: Backbone) -> float:
        backbone.eval()
        found = F.normalize(torch.cat([backbone(part) for part in self.images.split(64)])).numpy().astype(np.float64)
        similarity = (found[self.left] * found[self.right]).sum(1)
        return 100 * float(np.mean((similarity >= best_threshold(similarity, self.same)) == self.same))


@torch.no_grad()
def likeness(backbone: Backbone, images: Tensor) -> float:
    """The mean cosine between the embeddings of different images."""
    found = F.normalize(backbone.eval()(images))
    return float(((found @ found.T).sum() - len(found)) / (len(found) * (len(found) - 1)))


def trained(start: Backbone, data: FaceData, steps: int, rate: float) -> tuple[Backbone, dict[str, float]]:
    """After some steps, and the length of the first gradient of every tensor over that of the tensor."""
    torch.manual_seed(0)
    network = Network(deepcopy(start), len(data.faces.identities)).train()
    optimizer = torch.optim.SGD(network.parameters(), rate, 0.9, weight_decay=5e-4, nesterov=True)
    first: dict[str, float] = {}
    for batch in data.first_batches(steps):
        loss = F.cross_entropy(network(batch.images).logits, batch.labels)
        optimizer.zero_grad()
        loss.backward()
        for name, weights in network.backbone.named_parameters():
            first.setdefault(name, float(weights.grad.norm() / weights.detach().norm()))  # type: ignore[union-attr]
        optimizer.step()
    return network.backbone, first


def main() -> None:
    root, steps = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5
    torch.set_num_threads(1)
    config = compose_config(words_of(root))
    data = FaceData.of(config)
    start = load_network(root / "teachers" / "edgeface_xs.safetensors", config.network).network.backbone
    pairs, batch = Strangers(data), data.first_batches(1)[0]
    rows = [("as it is", pairs.accuracy(start), likeness(start, batch.images))]
    moved, lengths = trained(start, data, steps, 0.01)
    rows.append(("0.01", pairs.accuracy(moved), likeness(moved, batch.images)))
    for rate in (1e-3, 1e-4, 1e-5):
        other, _ = trained(start, data, steps, rate)
        rows.append((f"{rate:g}", pairs.accuracy(other), likeness(other, batch.images)))
    table = [(name, f"{accuracy:.1f}", f"{cosine:.2f}") for name, accuracy, cosine in rows]
    print_table(("learning rate", "pairs %", "mean cosine in a batch"), table)
    kinds: list[tuple[str, float, float, float]] = []
    old, new = dict(start.named_parameters()), dict(moved.named_parameters())
    for kind in KINDS:
        names = [name for name in old if next(k for k, form in KINDS.items() if re.search(form, name)) == kind]
        mixed = deepcopy(start)
        with torch.no_grad():
            for name, weights in mixed.named_parameters():
                weights.copy_(new[name] if name in names else old[name])
            off = torch.cat([(new[name] - old[name]).flatten() for name in names]).norm()
            way = 100 * float(off / torch.cat([old[name].flatten() for name in names]).norm())
        kinds.append((kind, float(np.median([lengths[name] for name in names])), way, pairs.accuracy(mixed)))
    table = [(kind, f"{ratio:.3g}", f"{way:.2g}", f"{accuracy:.1f}") for kind, ratio, way, accuracy in kinds]
    print_table(("moved alone", "gradient / weights", "moved by %", "pairs %"), table)


if __name__ == "__main__":
    main()
