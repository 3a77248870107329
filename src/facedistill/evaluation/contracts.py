"""Which contract a recognizer fits: it answers the same pairs of faces by many of them, and its answers are compared.

A contract is told by how far apart the similarities of pairs of one person and of two lie, which few pairs show; that
one is worse than another is said of how many pairs each is right on, by pairs that did not choose it.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from facedistill.config.choices import nodes
from facedistill.data.faces import FOLDS, Pairs
from facedistill.metrics.pairs import best_threshold, ten_fold_accuracy

BATCH = 64
FEW = 40  # pairs that rank contracts before all pairs rank the best of them
CLEAR = 2.0  # of the best separation on few pairs: below it, their standard error is more than a fifth of it
FINALISTS = 8
ALIKE = 0.99  # of the best separation: as good
POINT = 0.01  # of accuracy: a contract that costs less is not refused
CHANCE = 0.01  # of a contract being refused that is as good as the best
SIZES = (56, 64, 80, 96, 112, 128, 160, 224)
USUAL_SIZE = 112
CROPS = (1.0, 0.9375, 0.875, 0.8, 0.7)
_ROUNDS = 3
Triple = tuple[float, ...]


class Contract(NamedTuple):
    """What a recognizer is shown, see ``ContractConfig``; all of it is known here."""

    colour: str
    mean: Triple
    std: Triple
    size: int
    crop: float


_RAW = ((0.0,) * 3, (1.0,) * 3)  # 0 … 255, which a network takes that normalizes itself
_ANY_COLOUR: tuple[tuple[Triple, Triple], ...] = (
    ((127.5,) * 3, (127.5,) * 3),  # −1 … 1; with 128, as some have it, answers are the same
    _RAW,
    ((0.0,) * 3, (255.0,) * 3),  # 0 … 1
    ((127.5,) * 3, (255.0,) * 3),  # −0.5 … 0.5
    ((127.5,) * 3, (1.0,) * 3),  # the mean alone
)
_IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # of RGB
NORMS = {
    "rgb": (*_ANY_COLOUR, _IMAGENET),
    "bgr": (*_ANY_COLOUR, (_IMAGENET[0][::-1], _IMAGENET[1][::-1])),
}


class Recognizer(NamedTuple):
    """A network that is shown numbers as they stand, whatever it is made of.

    Attributes:
        ask: numbers [n, 3, S, S] → embedding [n, width].
        size: side of the only images that it takes; None: any.
        normalizes: pixels are all it takes, 0 … 255.
    """

    ask: Callable[[Tensor], Tensor]
    size: int | None
    normalizes: bool


class Trials:
    """What a recognizer says of pairs of faces, by each contract once.

    Args:
        pairs: of whole aligned faces, of any size, of one person and of two in turn.
    """

    def __init__(self, recognizer: Recognizer, pairs: Pairs) -> None:
        self.recognizer, self.pairs = recognizer, pairs
        self._known: dict[Contract, NDArray[np.float64]] = {}

    def __len__(self) -> int:
        return len(self.pairs.same)

    @property
    def tried(self) -> list[Contract]:
        return list(self._known)

    def similarity(self, contract: Contract, count: int | None = None) -> NDArray[np.float64]:
        """Cosines of the first ``count`` pairs, of all by default; −1 where an embedding is no number."""
        count = len(self) if count is None else min(count, len(self))
        known = self._known.get(contract, np.empty(0))
        if len(known) < count:
            new = slice(len(known), count)
            numbers = np.concatenate([self.pairs.left[new], self.pairs.right[new]])
            used, rows = np.unique(numbers, return_inverse=True)
            embedding = self._embedding(contract, used)
            left, right = np.split(embedding[rows], 2)
            cosine = np.nan_to_num((left.astype(np.float64) * right).sum(1), nan=-1.0)
            known = self._known[contract] = np.concatenate([known, cosine])
        return known[:count]

    def asked(self, contract: Contract) -> int:
        """Of how many pairs the answer is known."""
        return len(self._known.get(contract, ()))

    @torch.no_grad()
    def _embedding(self, contract: Contract, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        parts = []
        for start in range(0, len(numbers), BATCH):
            images = np.stack([self.pairs.images[int(number)] for number in numbers[start : start + BATCH]])
            answer = self.recognizer.ask(shown_by(contract, images)).float().cpu()
            parts.append(F.normalize(answer, dim=1))
        return torch.cat(parts).numpy()

    def separation(self, contract: Contract, count: int | None = None) -> float:
        """How many standard deviations the similarities of one person lie above those of two."""
        similarity = self.similarity(contract, count)
        same = self.pairs.same[: len(similarity)]
        one, two = similarity[same], similarity[~same]
        spread = math.sqrt((one.var() + two.var()) / 2)
        return float(one.mean() - two.mean()) / spread if spread > 0 else 0.0

    def accuracy(self, contract: Contract) -> float:
        """0 … 1, of the pairs whose answer is known, in ten folds as LFW's."""
        similarity = self._known[contract]
        same = self.pairs.same[: len(similarity)]
        fold = np.arange(len(same)) // 2 % FOLDS
        return float(np.mean(ten_fold_accuracy(similarity, same, fold)))

    def right(self, contract: Contract, ranking: int) -> NDArray[np.bool_]:
        """On which pairs behind the first ``ranking`` it is right, with the threshold that is best on those."""
        similarity, same = self.similarity(contract), self.pairs.same
        cut = best_threshold(similarity[:ranking], same[:ranking])
        decided: NDArray[np.bool_] = (similarity[ranking:] >= cut) == same[ranking:]
        return decided


def shown_by(contract: Contract, images: NDArray[np.uint8]) -> Tensor:
    """RGB faces uint8 [n, S, S, 3] as numbers float32 [n, 3, size, size] that a network is shown."""
    side, size = images.shape[1], contract.size
    seen = side * contract.crop
    start = (side - seen) / 2
    if abs(seen - size) < 1:  # a centre crop of faces that are kept for this contract: no pixel is mixed
        seen, start = size, (side - size) // 2
    box = (start, start, start + seen, start + seen)
    parts = [
        np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box)) for image in images
    ]
    pixels = torch.from_numpy(np.stack(parts)).permute(0, 3, 1, 2).float()
    if contract.colour == "bgr":
        pixels = pixels.flip(1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (contract.mean, contract.std))
    return (pixels - mean) / std


class Space(NamedTuple):
    """What is tried of each thing that a contract says; ``norms``: mean and std by the order of colours."""

    norms: Mapping[str, Sequence[tuple[Triple, Triple]]]
    sizes: Sequence[int]
    crops: Sequence[float]

    @classmethod
    def of(cls, recognizer: Recognizer, given: Contract) -> "Space":
        own = (given.mean, given.std)
        norms = {colour: [_RAW] if recognizer.normalizes else [*NORMS[colour], own] for colour in NORMS}
        sizes = [recognizer.size] if recognizer.size else sorted({*SIZES, given.size})
        return cls(norms, sizes, list(dict.fromkeys([*CROPS, given.crop])))

    def numbers(self, contract: Contract) -> list[Contract]:
        """A contract with every order of colours, mean and std."""
        return [
            contract._replace(colour=colour, mean=mean, std=std)
            for colour, norms in self.norms.items()
            for mean, std in norms
        ]

    def neighbours(self, contract: Contract) -> list[Contract]:
        """Those that differ from a contract in one thing."""
        others = [
            *self.numbers(contract),
            *(contract._replace(size=size) for size in self.sizes),
            *(contract._replace(crop=crop) for crop in self.crops),
        ]
        return [other for other in dict.fromkeys(others) if differences(contract, other) == 1]


Watch = Callable[[Sequence[Contract]], Iterable[Contract]]


def ranked(
    trials: Trials,
    given: Contract,
    few: int = FEW,
    count: int | None = None,
    watch: Watch = lambda contracts: contracts,
) -> list[Contract]:
    """Contracts by how well they tell pairs apart, best first; ``given`` is among them.

    Of the best that are nearly equal, the one that differs from ``given`` in the fewest things comes first.

    Colours and normalizations are tried together, then sizes and crops, and once more what was tried before, until
    nothing is better, on the first ``few`` pairs; the best by these, and ``given``, on the first ``count``, or all. A
    recognizer that hardly tells pairs apart is asked about all of these from the start: few would tell nothing.

    Args:
        watch: is given what is tried next, as a progress bar is.
    """

    def best(contracts: Iterable[Contract]) -> Contract:
        tried = list(dict.fromkeys(contracts))
        for contract in watch([contract for contract in tried if trials.asked(contract) < few]):
            trials.similarity(contract, few)
        return max([given, *tried], key=lambda contract: trials.separation(contract, few))

    space = Space.of(trials.recognizer, given)
    sizes = space.sizes

    def by_geometry(found: Contract) -> Contract:
        found = best(
            found._replace(size=size, crop=crop) for size in sizes[::2] for crop in dict.fromkeys([1.0, found.crop])
        )
        place = sizes.index(found.size)
        found = best(found._replace(size=size) for size in sizes[max(0, place - 1) : place + 2])
        return best(found._replace(crop=crop) for crop in space.crops)

    usual = given._replace(size=USUAL_SIZE if USUAL_SIZE in sizes else given.size, crop=1.0)
    first = [*space.numbers(given), *space.numbers(usual)]
    found = best(first)
    if trials.separation(found, few) < CLEAR:
        few = len(trials) if count is None else count
        found = best(first)
    for _ in range(_ROUNDS):
        before, found = found, best(space.numbers(by_geometry(found)))
        if found == before:
            break
    order = sorted(trials.tried, key=lambda contract: -trials.separation(contract, few))
    finalists = list(dict.fromkeys([given, *order[:FINALISTS]]))
    for contract in watch(finalists):
        trials.similarity(contract, count)
    finalists.sort(key=lambda contract: -trials.separation(contract, count))
    enough = ALIKE * trials.separation(finalists[0], count)
    alike = [contract for contract in finalists if trials.separation(contract, count) >= enough]
    nearest = min(alike or finalists, key=lambda contract: differences(contract, given))
    return [nearest, *(contract for contract in finalists if contract != nearest)]


def differences(one: Contract, other: Contract) -> int:
    """In how many things two contracts differ; mean and std are one."""
    numbers = int((one.mean, one.std) != (other.mean, other.std))
    return numbers + sum(int(getattr(one, name) != getattr(other, name)) for name in ("colour", "size", "crop"))


def is_worse(given: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    """Whether one contract is worse than another by the same pairs [n], on which each is right or not.

    It is, where it is right on fewer by more than a point, and a fair coin for every pair on which the two differ would
    favour the other as much with a probability below ``CHANCE`` (McNemar's exact test, one-sided).
    """
    lost, won = int((other & ~given).sum()), int((given & ~other).sum())
    differing = lost + won
    tail = sum(math.comb(differing, k) for k in range(lost, differing + 1)) / 2**differing
    return lost - won > POINT * len(given) and tail < CHANCE


def may_be_worse(given: NDArray[np.bool_]) -> bool:
    """Whether any other contract could show this one to be worse: it has too few errors otherwise."""
    return is_worse(given, np.ones_like(given))


def interval(accuracy: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of an accuracy on ``count`` pairs; all 0 … 1."""
    z = 1.96
    middle = (accuracy + z * z / (2 * count)) / (1 + z * z / count)
    reach = z * math.sqrt(accuracy * (1 - accuracy) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return middle - reach, middle + reach


def presets(contract: Contract) -> list[str]:
    """The names in conf/contract that say the same."""
    found = []
    for name, node in nodes("contract").items():
        if node["mean"] is not None:
            own = Contract(node["colour"], tuple(node["mean"]), tuple(node["std"]), node["size"], node.get("crop", 1.0))
            found += [name] if own == contract else []
    return found
