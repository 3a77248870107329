"""A recognizer from elsewhere shows that its contract is right before it teaches.

The rule: 500 pairs of the faces that it is to teach on, or fewer of few faces. The first hundred rank contracts. On the
others, with thresholds from the first, the one it was given has to be worse than the best of these by
``contracts.is_worse``: by more than a point, and by more than chance in one check of a hundred. A right contract is
thus refused in at most one check of a hundred, however many others are tried; where it makes fewer than seven errors,
nothing else is tried, as nothing could be shown to be better.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facedistill.config.groups import ImageConfig
from facedistill.config.schema import Config
from facedistill.data.faces import Pairs
from facedistill.data.loading.datamodule import FaceData
from facedistill.data.sources.verification_set import protocol_source
from facedistill.distill.onnx_teacher import OnnxTeacher
from facedistill.distill.teacher import NetworkTeacher, Teacher
from facedistill.errors import WeightsError
from facedistill.evaluation.contracts import (
    Contract,
    Recognizer,
    Trials,
    is_worse,
    may_be_worse,
    ranked,
)
from facedistill.evaluation.scoring import device_for
from facedistill.evaluation.trial_pairs import of_people, of_protocol, of_views
from facedistill.models.load import load_network
from facedistill.runs.run import WeightsFile
from facedistill.system.terminal import say
from facedistill.system.text import command_line

RANKING, MOST, LEAST = 100, 500, 160  # pairs
POOR = 0.7  # accuracy at which faces are hardly those that a recognizer knows
FACES_A_PAIR = 4  # of few faces fewer are asked for: the check costs a part of what the bank does
FEW = 24  # pairs that every contract is tried on


def open_recognizer(parent: WeightsFile, threads: int, device: torch.device) -> Recognizer:
    """The network in a file, to be shown numbers that no contract has touched.

    Raises:
        WeightsError: it can't be read, or not run safely.
    """
    normalizes = normalizes_itself(parent)
    mean, std = (None, None) if normalizes and not parent.is_onnx else ([0.0] * 3, [1.0] * 3)
    bare = replace(parent.contract, size=None, colour="rgb", mean=mean, std=std, crop=1.0)
    teacher: Teacher
    if parent.is_onnx:
        teacher = OnnxTeacher(parent.weights, bare, threads)
    else:
        model = replace(parent, contract=bare).network
        network = load_network(parent.weights, model, 1, parent.key, identities=0).network
        teacher = NetworkTeacher(network, contract=bare)
    teacher.to(device)

    def ask(numbers: Tensor) -> Tensor:
        return teacher(numbers.to(device)).embedding

    return Recognizer(ask, parent.graph.size if parent.is_onnx else None, normalizes)


def normalizes_itself(parent: WeightsFile) -> bool:
    """Whether no contract can say mean and std: the graph takes whole pixels, or the file has its own."""
    if parent.is_onnx:
        return parent.graph.pixel == "uint8"
    return "mean" not in parent.model


def given_by(parent: WeightsFile, image: ImageConfig) -> Contract:
    """What a recognizer is shown by its own contract, where students see ``image``."""
    contract, model = parent.contract, parent.model
    mean, std = contract.mean or model.get("mean") or [0.0] * 3, contract.std or model.get("std") or [1.0] * 3
    seen = contract.image or image
    crop = contract.crop if contract.image else image.crop / image.resize
    return Contract(contract.colour, tuple(mean), tuple(std), seen.crop, crop)


def words_for(contract: Contract, parent: WeightsFile, image: ImageConfig) -> list[str]:
    """Words that, behind those that are there, have a recognizer shown what ``contract`` says."""
    given, key = given_by(parent, image), parent.contract_key
    named: dict[str, Any] = {}
    if (given.size, given.crop) != (contract.size, contract.crop):
        named |= {"size": contract.size, **({"crop": contract.crop} if contract.crop != given.crop else {})}
    if given.colour != contract.colour:
        named["colour"] = contract.colour
    if (given.mean, given.std) != (contract.mean, contract.std):
        named |= {"mean": contract.mean, "std": contract.std}
    plus = "" if key == "teacher.contract" else "++"  # of one of several teachers: keys that may not be there yet
    words = []
    for name, value in named.items():
        of_model = name in ("mean", "std") and parent.model.get("mean") is not None
        number = f"[{','.join(f'{one:.6g}' for one in value)}]" if isinstance(value, tuple) else value
        words.append(f"{plus}{parent.key if of_model else key}.{name}={number}")
    return words


def check_contract(parent: WeightsFile, seen: FaceData, image: ImageConfig, threads: int, device: torch.device) -> None:
    """Have a recognizer from elsewhere show that its contract is right, by the rule above.

    What can't be told is said on stderr.

    Args:
        seen: the faces as it sees them.
        image: what its students see.

    Raises:
        WeightsError: another contract is better.
    """
    found = pairs_at_hand(seen)
    if found is None:
        say(f"{parent.weights}: whether its contract is right is not known: there are too few faces to try it on")
        return
    check_on(*found, parent, image, threads, device)


def check_on_protocol(parent: WeightsFile, config: Config, image: ImageConfig) -> None:
    """As ``check_contract``, on pairs of people: what views of one face don't tell, as the order of colours, they do.

    Args:
        config: its data are the pairs of a protocol.
        image: what the students see.

    Raises:
        DataError: the pairs, or an image of them, can't be used. WeightsError: another contract is better.
    """
    threads, size = config.trainer.threads, (parent.pixels or image).resize
    torch.set_num_threads(threads)
    protocol = protocol_source(config.data).protocol(size, Path(config.cache_dir).expanduser(), set())
    pairs = of_protocol(protocol, MOST)
    if len(pairs.same) >= LEAST:
        check_on(pairs, config.data["name"], parent, image, threads, device_for(config.trainer.accelerator))


def check_on(
    pairs: Pairs, what: str, parent: WeightsFile, image: ImageConfig, threads: int, device: torch.device
) -> None:
    """``check_contract`` on some pairs; ``what`` they are of, for people."""
    given = given_by(parent, image)
    trials = Trials(open_recognizer(parent, threads, device), pairs)
    right = trials.right(given, RANKING)
    if not may_be_worse(right):
        return
    say(f"{parent.weights} is wrong on {(~right).sum()} of {len(right)} pairs of {what}: trying other contracts")
    best = ranked(trials, given, FEW, RANKING)[0]
    better = trials.right(best, RANKING)
    if is_worse(right, better):
        words = command_line(words_for(best, parent, image))
        raise WeightsError(
            f"{parent.weights} is right on {100 * right.mean():.1f} % of {len(right)} pairs of {what} by the contract "
            f"that it was given, and on {100 * better.mean():.1f} % with {words}. Add these words, or "
            "teacher.check=false to have it teach as it is"
        )
    if right.mean() < POOR:
        say(
            f"{parent.weights} is right on {100 * right.mean():.1f} % of {len(right)} pairs of {what}, and no contract "
            "was found that is better: are these faces aligned as it expects?"
        )


def pairs_at_hand(seen: FaceData) -> tuple[Pairs, str] | None:
    """Pairs of the faces of a run, and what they are, for people; None: there are too few.

    They are those of the source, or pairs of its identities, or, where there are no labels, two views of one face
    beside views of two.
    """
    faces = seen.faces
    count = min(MOST, len(faces.train) // FACES_A_PAIR)
    if faces.pairs is not None:
        found, what = of_protocol(faces.pairs, count), "the data's own"
    elif faces.identities:
        found, what = of_people(faces, count), "people in the data"
    else:
        found, what = of_views(faces, count), "views of one face or two"
    return None if len(found.same) < LEAST else (found, what)
