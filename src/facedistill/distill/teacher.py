"""Teachers: frozen, in eval mode, in no checkpoint, and checked before they teach."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from facedistill.config.recognizer import ContractConfig
from facedistill.errors import FacedistillError, WeightsError
from facedistill.models.backbone import Standardize
from facedistill.models.classes import ClassShare
from facedistill.models.load import load_network
from facedistill.models.network import Network, NetworkOutput
from facedistill.models.weights import Reference
from facedistill.system.terminal import say

REFERENCE_IMAGES = 4  # kept with published weights
TOLERANCE = 0.02  # of the length of K_T, by which answers may differ: another device, or number of threads, rounds


class TeacherInput(NamedTuple):
    """What a teacher takes: RGB pixels, 0 … 255, of square images.

    Attributes:
        size: side in pixels; None: any.
        mean, std: by which the teacher itself normalizes them, per channel; None: by BatchNorm on the raw pixels.
        colour: the order of channels, ``rgb`` or ``bgr``, that the teacher itself makes of them first.
        columns: how many of the square's, the centre ones, the teacher itself takes; None: all.
    """

    size: int | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    colour: str = "rgb"
    columns: int | None = None


class TopPrediction(NamedTuple):
    """A soft prediction over k + 1 outcomes: the k most likely classes, and any other.

    Attributes:
        prediction: P_T^τ, float32 [B, k + 1]; the last is Σ P_T^τ of all other classes.
        classes: int64 [B, k].
    """

    prediction: Tensor
    classes: Tensor


class TeacherOutput(NamedTuple):
    """What a teacher says of a batch: the embedding K_T [B, width], and the output layer that makes logits of it.

    ``top``: where a bank has kept no more than that; K_T is then [B, 0].
    """

    embedding: Tensor
    output_layer: Callable[[Tensor], Tensor] | None
    top: TopPrediction | None = None

    @property
    def logits(self) -> Tensor | None:
        """a_T [B, C]; None: this teacher has no classifier."""
        return None if self.output_layer is None else self.output_layer(self.embedding)

    def logits_of(self, embedding: Tensor) -> Tensor:
        """Logits [n, C] of some rows [n, width] of the embedding: of many identities they are never kept whole."""
        assert self.output_layer is not None, "a plan refuses a teacher without logits for a target that needs them"
        return self.output_layer(embedding)


class Teacher(abc.ABC):
    """Pixels → ``TeacherOutput``. What a run, a bank or a target asks of a teacher, whatever it is made of.

    Attributes:
        input: what it takes.
        width: values of its embedding.
        num_identities: of its classifier; 0: it has none.
    """

    input: TeacherInput
    width: int
    num_identities: int = 0

    @abc.abstractmethod
    def __call__(self, images: Tensor) -> TeacherOutput:
        """What it says of images [B, 3, S, S]."""

    @abc.abstractmethod
    def from_embedding(self, embedding: Tensor) -> TeacherOutput:
        """What it says where K_T [B, width] is known already, as from a bank."""

    def recall(self, kept: Tensor) -> TeacherOutput:
        """What it says where a bank has ``kept`` it: K_T [B, width], in whatever precision."""
        return self.from_embedding(kept.float())

    @abc.abstractmethod
    def to(self, device: torch.device) -> None:
        """Move the weights."""

    def keep_classes(self, classes: ClassShare) -> None:
        """Make the logits of this rank's classes alone. Raises ``WeightsError`` where it can't."""
        raise WeightsError("this teacher's classifier can't be split between ranks: trainer.split_classes=false")

    def middle(self, images: Tensor) -> Tensor:
        """The feature map in the middle, [B, C, h, w]. Raises ``WeightsError`` where there is none."""
        raise WeightsError("this teacher has no middle layer to start FitNet from: init=fitnet needs one")


class NetworkTeacher(Teacher):
    """A network of torch.

    Not an ``nn.Module``: as a module inside the student it would be put in train mode with it (its BatchNorm
    statistics would drift), optimized, and written into every checkpoint.
    """

    def __init__(
        self, network: Network, about: Mapping[str, Any] | None = None, contract: ContractConfig | None = None
    ) -> None:
        """``contract``: of a file; its mean and std are the network's own."""
        contract = contract or ContractConfig()
        self.network = network.eval().requires_grad_(False)
        self.about = about or {}
        self.width, self.num_identities = network.backbone.width, network.num_identities
        norm = network.backbone.input
        mean, std = (norm.mean, norm.std) if isinstance(norm, Standardize) else (None, None)
        self.input = TeacherInput(
            contract.size or self.about.get("image", {}).get("crop"),
            None if mean is None else mean.flatten().tolist(),
            None if std is None else std.flatten().tolist(),
            contract.colour,
            contract.columns,
        )
        self._taken = self.input._replace(size=contract.size)  # a network of ours takes any size

    @classmethod
    def load(
        cls,
        path: Path,
        model: Mapping[str, Any],
        rate: int = 1,
        key: str = "model",
        identities: int | None = None,
        contract: ContractConfig | None = None,
    ) -> NetworkTeacher:
        """The teacher in a file of weights, with whatever output layers it has there.

        What was changed or left out of weights from elsewhere is said on stderr.

        Args:
            model: the architecture, a ``conf/model`` node; where it is empty, what a file of ours says of itself.
            key: the key of ``model`` in a configuration, for messages.
            identities: see ``in_our_names``.
            contract: of the file; ``model`` has its mean and std.

        Raises:
            WeightsError: the file is unreadable or of another architecture, or it does not do what it did when it was
                published.
        """
        loaded = load_network(path, model, rate, key, identities)
        for note in loaded.notes:
            say(f"{path}: {note}")
        try:
            teacher = cls(loaded.network, loaded.about, contract)
            if loaded.reference is not None:
                teacher.check(loaded.reference, path)
        except FacedistillError:
            raise
        except Exception as error:  # the images are the file's own, and it may say anything
            raise WeightsError(f"{path} can't be asked about its reference images: {error}") from error
        return teacher

    @torch.no_grad()
    def __call__(self, images: Tensor) -> TeacherOutput:
        return self.from_embedding(self.network.backbone(as_taken(images, self._taken)))

    @torch.no_grad()
    def output(self, images: Tensor) -> NetworkOutput:
        """All that the network says of images [B, 3, S, S], as they come to a teacher."""
        found: NetworkOutput = self.network(as_taken(images, self._taken))
        return found

    def from_embedding(self, embedding: Tensor) -> TeacherOutput:
        return TeacherOutput(embedding, self._classify if self.num_identities else None)

    @torch.no_grad()
    def _classify(self, embedding: Tensor) -> Tensor:
        assert self.network.classifier is not None
        logits: Tensor = self.network.classifier(embedding)
        return logits

    @torch.no_grad()
    def middle(self, images: Tensor) -> Tensor:
        return self.network.backbone.middle(as_taken(images, self._taken))

    def to(self, device: torch.device) -> None:
        self.network.to(device)

    def keep_classes(self, classes: ClassShare) -> None:
        layer = self.network.classifier
        assert layer is not None
        for parameter in layer.parameters():
            parameter.data = parameter.data[classes.rows].clone()

    def check(self, reference: Reference, path: Path) -> None:
        """Raise ``WeightsError`` where it says something else of the reference images than when it was published."""
        if reference.embedding.shape[1] != self.width or differs(self(reference.images).embedding, reference.embedding):
            raise WeightsError(
                f"{path} says something else of the images that it was published with: its weights, or the "
                "normalization or architecture that this run gives it, have changed since"
            )


def as_taken(images: Tensor, taken: TeacherInput) -> Tensor:
    """RGB images [B, 3, S, S] in a teacher's order of channels, the centre columns that it takes.

    A network of 112 × 96 pixels, as SphereFace's, was trained on the centre columns of ArcFace's template.

    Raises ``WeightsError`` where it takes another size.
    """
    height, width = images.shape[2:]
    if taken.size is not None and (height, width) != (taken.size, taken.size):
        raise WeightsError(
            f"the teacher takes images of {taken.size} × {taken.size} pixels, not of {width} × {height}: "
            f"image.resize={taken.size} image.crop={taken.size}"
        )
    if taken.columns is not None:
        left = (width - taken.columns) // 2
        images = images[..., left : left + taken.columns]
    return images.flip(1) if taken.colour == "bgr" else images


def autocast_for(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """As a teacher answers a run of this ``trainer.precision``: live as Lightning has it, and for a bank the same."""
    mixed = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}.get(precision)
    return nullcontext() if mixed is None else torch.autocast(device.type, mixed)


def differs(embedding: Tensor, expected: Tensor) -> bool:
    """Whether an embedding [B, width] is farther from another than rounding on other machines explains."""
    off, length = (part.double().norm(dim=1) for part in (embedding - expected, expected))
    return not bool((off <= TOLERANCE * length).all())  # so, NaN differs


def reference_of(network: Network, images: Tensor) -> Reference:
    """What a network says of a few images uint8 [n, 3, S, S], to be kept with its weights."""
    teacher = NetworkTeacher(network)
    return Reference(images, teacher(images).embedding.float())
