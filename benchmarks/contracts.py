"""Sixty mutilated contracts of three recognizers: how many that cost more than a point the doctor puts right.

    python benchmarks/contracts.py ROOT [PAIRS] [RECOGNIZER]

ROOT is a folder with lfw/ and teachers/edgeface_xs.safetensors. The recognizers are EdgeFace-XS in torch, which takes
images of any size; the same network as an ONNX file that takes BGR, 0 … 255, and normalizes them itself; and a student
of it, trained here for EPOCHS epochs on LFW's 158 people, as an ONNX file that takes centre crops of 56 of 64 pixels in
RGB with ImageNet's mean and std. Twenty contracts of each are wrong in colour, scale, offset, size, crop, in two of
them, or in nothing but that faces are mirrored. The doctor tries contracts on 300 pairs of LFW; what a contract costs,
and whether the one that it names is as good as the right one, is measured on PAIRS (200) others, ten times as many for
the student, whose errors are many and whose answers are quick. A recognizer answers each question once, whatever
contract raised it. RECOGNIZER (torch, ONNX, student) is the only one that is tried.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from measure import print_table
from torch import Tensor, nn

from facedistill.config.compose import compose_config
from facedistill.data.faces import Pairs
from facedistill.data.sources.verification_set import protocol_source
from facedistill.evaluation.contracts import Contract, Trials, is_worse, ranked
from facedistill.evaluation.trial_pairs import of_protocol
from facedistill.models.load import load_network
from facedistill.runs.ensure import ensure
from facedistill.runs.plan import plan
from facedistill.runs.run import WeightsFile
from facedistill.training.contract_check import open_recognizer
from facedistill.training.contract_doctor import KEPT_AT, PAIRS, RANKING
from facedistill.training.fit import train_run

EPOCHS = 12
STUDENT = "student"
FOLDER = Path("runs/benchmark/contracts")
SYMMETRIC, RAW, UNIT = ((127.5,) * 3, (127.5,) * 3), ((0.0,) * 3, (1.0,) * 3), ((0.0,) * 3, (255.0,) * 3)
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
NUMBERS = [SYMMETRIC, RAW, UNIT, IMAGENET, ((127.5,) * 3, (1.0,) * 3), ((0.0,) * 3, (127.5,) * 3)]
EDGEFACE = ["model@teacher.model=timm", "teacher.model.name=edgenext_x_small", "teacher.model.features=512"]


class AsTaken(nn.Module):
    """A network that takes its own numbers, behind what makes them of those that an ONNX file is to take."""

    def __init__(self, backbone: nn.Module, prepare: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.backbone, self.prepare = backbone, prepare

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.backbone(self.prepare(images))
        return answer


def to_pixels(numbers: Tensor) -> Tensor:
    """RGB by ImageNet's mean and std → pixels."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in IMAGENET)
    return numbers * std + mean


def exported(network: nn.Module, size: int, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = torch.zeros(2, 3, size, size)
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(network.eval(), (image,), dynamo=True, dynamic_shapes=[{0: batch}], verbose=False)
    assert program is not None
    program.save(path, external_data=False)
    return path


def student(root: Path) -> Path:
    """The weights of one that imitates EdgeFace."""
    run = plan(
        [
            *("task=embed", "target=cosine", "scale=imitation", "augment=recognizer", "data=lfw", "rate=1"),
            *(f"data.root={root}/lfw", f"teacher.weights={root}/teachers/edgeface_xs.safetensors", *EDGEFACE),
            *("contract=edgeface", "model.features=512", "model.width=20", "trainer.score_every=0", "logger=csv"),
            *("runs_dir=runs/benchmark", f"schedule.epochs={EPOCHS}"),
        ]
    )
    ensure(run, train_run)
    return run.weights


def recognizers(root: Path) -> Iterator[tuple[str, WeightsFile, Contract]]:
    """Each with its right contract."""
    file = root / "teachers" / "edgeface_xs.safetensors"
    teacher = compose_config([f"teacher.weights={file}", *EDGEFACE, "contract=edgeface"]).teacher
    torch_file = WeightsFile(file, teacher.model, contract=teacher.contract)
    yield "EdgeFace-XS, torch", torch_file, Contract("rgb", *SYMMETRIC, 112, 1.0)
    edgeface = load_network(file, torch_file.network, identities=0).network.backbone
    bgr = exported(AsTaken(edgeface, lambda images: images.flip(1)), 112, FOLDER / "edgeface_bgr.onnx")
    yield "EdgeFace-XS, ONNX", WeightsFile(bgr), Contract("bgr", *RAW, 112, 1.0)
    small = load_network(student(root), {}, identities=0).network.backbone
    norm = exported(AsTaken(small, to_pixels), 56, FOLDER / "student_imagenet.onnx")
    yield STUDENT, WeightsFile(norm), Contract("rgb", *IMAGENET, 56, 0.875)


def mutilated(right: Contract, any_size: bool) -> list[Contract]:
    """Nineteen that are wrong, the simplest first."""
    colour = right._replace(colour="bgr" if right.colour == "rgb" else "rgb")
    numbers = [right._replace(mean=mean, std=std) for mean, std in NUMBERS if (mean, std) != (right.mean, right.std)]
    crops = [right._replace(crop=crop) for crop in (1.0, 0.9375, 0.875, 0.8, 0.7) if crop != right.crop]
    sizes = [right._replace(size=size) for size in (56, 80, 96, 128, 160)] if any_size else []
    tight = crops[-1].crop
    both = [
        wrong._replace(colour=hue, crop=crop)
        for wrong, (hue, crop) in product(numbers, [(colour.colour, right.crop), (right.colour, tight)])
    ]
    return [colour, *numbers, *crops, *sizes, *both][:19]


def alike(one: Contract, other: Contract) -> bool:
    """Whether they are one, but for the colours of grey values and a hundredth of the contrast."""
    near = np.allclose([*one.mean, *one.std], [*other.mean, *other.std], rtol=0.01)
    return near and one._replace(mean=(), std=()) == other._replace(mean=(), std=())


def main(root: Path, held_out: int, only: str) -> None:
    torch.set_num_threads(1)
    config = compose_config(["data=lfw", f"data.root={root}/lfw"], trains=False)
    whole = protocol_source(config.data).protocol(KEPT_AT, Path(config.cache_dir).expanduser(), set())
    table = []
    for name, file, right in recognizers(root):
        if only not in name:
            continue
        chosen = of_protocol(whole, PAIRS + held_out * (10 if name == STUDENT else 1))
        shown, others = part_of(chosen, slice(0, PAIRS)), part_of(chosen, slice(PAIRS, None))
        recognizer = open_recognizer(file, 1, torch.device("cpu"))
        trials, held = Trials(recognizer, shown), Trials(recognizer, others)

        def score(contract: Contract, held: Trials = held) -> float:
            held.similarity(contract)
            return 100 * held.accuracy(contract)

        costly = put_right = exact = refused = 0
        started = time.perf_counter()
        contracts = mutilated(right, recognizer.size is None)
        for given in [right, *contracts]:
            best = ranked(trials, given)[0]
            cost, rest = score(right) - score(given), score(right) - score(best)
            worse = is_worse(trials.right(given, RANKING), trials.right(best, RANKING))
            print(f"{name}: {given} costs {cost:.1f}. {best} is named and costs {rest:.1f}; {worse=}", flush=True)
            refused += worse and given == right
            if cost > 1:
                costly += 1
                put_right += rest <= 1
                exact += alike(best, right)
        pairs = mirrored(shown)
        flipped = ranked(Trials(recognizer, pairs), right)[0]
        table.append(
            [
                *(name, f"{score(right):.1f}", str(len(contracts) + 1), str(costly), str(put_right), str(exact)),
                *(str(refused), "yes" if score(right) - score(flipped) <= 1 else "no"),
                f"{time.perf_counter() - started:.0f}",
            ]
        )
    head = [
        "recognizer",
        "right, %",
        "contracts",
        "cost more than a point",
        "what is named costs less",
        "and is the same",
    ]
    print_table([*head, "right one called worse", "mirrored faces: right", "seconds"], table)


def part_of(pairs: Pairs, rows: slice) -> Pairs:
    names = ("left", "right", "same", "fold", "trained_on")
    return replace(pairs, **{name: getattr(pairs, name)[rows] for name in names})


def mirrored(pairs: Pairs) -> Pairs:
    return replace(pairs, images=np.asarray(pairs.images)[:, :, ::-1])


if __name__ == "__main__":
    given = dict(enumerate(sys.argv[1:]))
    main(Path(given[0]).resolve(), int(given.get(1, 200)), given.get(2, ""))
