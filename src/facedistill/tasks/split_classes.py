"""An output layer of identities that ranks split between them by classes, as in Partial FC (arXiv 2010.05222).

Each rank keeps a share of its rows, with their gradient and momentum, and makes the logits of these for the whole
batch: embeddings are exchanged, never logits. What is written, loaded, scored and published is the whole layer.
"""

import abc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, distributed, nn

from facedistill.config.schema import Config
from facedistill.data.loading.samplers import rank_and_world_size
from facedistill.distill.parity import scale_gradient
from facedistill.distill.teacher import Teacher
from facedistill.errors import RunError
from facedistill.models.classes import ClassShare
from facedistill.models.network import Network, NetworkOutput

LAYER = "network.classifier"


class ClassifierShare(nn.Linear):
    """The rows of an output layer that this rank keeps.

    Args:
        whole: the layer. Its parameters themselves are cut, so that hooks on them stay.
    """

    def __init__(self, whole: nn.Linear, classes: ClassShare) -> None:
        super().__init__(whole.in_features, classes.count, device="meta")
        for name, parameter in list(whole.named_parameters()):
            parameter.data = parameter.data[classes.rows].clone()
            setattr(self, name, parameter)
        self.classes = classes

    def forward(self, embedding: Tensor) -> Tensor:
        """No logits, [b, 0], of a share of the batch: ``answer`` makes those of all of it."""
        return embedding[:, :0]

    def answer(self, student: NetworkOutput) -> NetworkOutput:
        """What the network says of the whole batch, with the logits [B, count] of this rank's classes.

        Every rank has the whole loss, so gradients come here ``ranks`` times as long as that of one. They stay so for
        embeddings, since DDP divides those of the backbone; these rows are no other rank's, and it leaves them out.
        """
        ranks = student.embedding.new_full((), self.classes.ranks)
        logits = super().forward(scale_gradient(student.embedding, ranks))
        return student._replace(logits=scale_gradient(logits, 1 / ranks), classes=self.classes)


class SplitsClasses(pl.LightningModule, abc.ABC):
    """A module whose output layer of identities is split between ranks with ``trainer.split_classes``."""

    config: Config
    network: Network
    teachers: dict[str, Teacher]

    @abc.abstractmethod
    def build_optimizer(self) -> torch.optim.Optimizer:
        """A new one of all parameters."""

    def setup(self, stage: str) -> None:
        """Once ranks know each other, and before a checkpoint is loaded.

        Raises:
            RunError: there are more ranks than identities.
        """
        rank, ranks = rank_and_world_size()
        layer = self.network.classifier
        if not self.config.trainer.split_classes or ranks == 1 or layer is None:
            return
        if layer.out_features < ranks:
            raise RunError(
                f"trainer.split_classes=true splits {layer.out_features} identities between {ranks} ranks: "
                "trainer.split_classes=false"
            )
        self.split_classes(ClassShare(rank, ranks, layer.out_features))

    def split_classes(self, classes: ClassShare) -> None:
        """Keep a share of the output layer, and of those of its teachers that have the same classes."""
        assert self.network.classifier is not None
        self.network.classifier = share = ClassifierShare(self.network.classifier, classes)
        for teacher in self.teachers.values():
            if teacher.num_identities == classes.whole:
                teacher.keep_classes(classes)
        self._ddp_params_and_buffers_to_ignore = [f"{LAYER}.{name}" for name, _ in share.named_parameters()]

    @contextmanager
    def assembled(self) -> Iterator[None]:
        """Have the network whole for a while, to be scored; all ranks have to enter."""
        share = self.network.classifier
        self.assemble_classes()
        try:
            yield
        finally:
            self.network.classifier = share

    def assemble_classes(self, first_alone: bool = False) -> None:
        """Put the whole layer into the network in the place of its share. All ranks have to call this.

        Where it serves the target alone, it is neither scored nor published, and stays split.

        ``first_alone``: the others keep their share.
        """
        share = self.network.classifier
        if not isinstance(share, ClassifierShare) or not self.config.task.classifies:
            return
        whole = nn.Linear(share.in_features, share.classes.whole, device="meta")
        for name, parameter in share.named_parameters():
            rows = self._whole(parameter.detach(), share.classes, parameter.device, first_alone)
            setattr(whole, name, nn.Parameter(rows, requires_grad=False))
        if not first_alone or share.classes.rank == 0:
            self.network.classifier = whole

    def on_validation_start(self) -> None:
        self._scoring = ExitStack()
        self._scoring.enter_context(self.assembled())

    def on_validation_end(self) -> None:
        self._scoring.close()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint has the whole layer, and what the optimizer remembers of it; the first rank writes it."""
        share = self.network.classifier
        if isinstance(share, ClassifierShare):
            for values, name in self._by_class(checkpoint):
                values[name] = self._whole(values[name], share.classes, torch.device("cpu"), first_alone=True)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Of a checkpoint, of however many ranks, each takes its own rows."""
        share = self.network.classifier
        if isinstance(share, ClassifierShare):
            for values, name in self._by_class(checkpoint):
                values[name] = values[name][share.classes.rows].clone()

    def _by_class(self, checkpoint: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
        """Where a checkpoint has a value or a row of each class: dictionaries, which may be changed, and keys."""
        layer = self.network.classifier
        assert layer is not None
        for name, _ in layer.named_parameters():
            yield checkpoint["state_dict"], f"{LAYER}.{name}"
        own = {id(parameter) for parameter in layer.parameters()}
        groups = self.build_optimizer().param_groups
        states: dict[int, dict[str, Any]] = checkpoint["optimizer_states"][0]["state"]
        for number, parameter in enumerate(parameter for group in groups for parameter in group["params"]):
            if id(parameter) in own and number in states:
                states[number] = dict(states[number])  # what the optimizer itself holds must stay
                for name, value in states[number].items():
                    if isinstance(value, Tensor) and value.ndim:
                        yield states[number], name

    def _whole(self, part: Tensor, classes: ClassShare, device: torch.device, first_alone: bool) -> Tensor:
        """The rows [whole, …] of all ranks on ``device``, from those [count, …] of each, which are sent one by one.

        ``first_alone``: the other ranks only send theirs, and are given them back.
        """
        keeps = not first_alone or classes.rank == 0
        whole = part.new_empty(classes.whole if keeps else 0, *part.shape[1:], device=device)
        exchanged = part.to(self.trainer.strategy.root_device)
        for rank in range(classes.ranks):
            rows = classes.rows_of(rank)
            sent = exchanged.new_empty(rows.stop - rows.start, *part.shape[1:])
            if rank == classes.rank:
                sent = exchanged.contiguous()
            distributed.broadcast(sent, rank)
            if keeps:
                whole[rows] = sent
        return whole if keeps else part
