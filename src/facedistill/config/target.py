"""What is learnt from the teachers: the keys of a target, and the rules about them."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

FLOAT16 = "float16"
BANK_TYPES = (FLOAT16, "float32")  # of K_T
TOP = re.compile(r"top([1-9][0-9]*)")  # classes of a soft prediction
COMPARED = ("embedding", "relations", "logits")
REDUCTIONS = ("mean", "sum")
MAPS = ("ridge", "random")


@dataclass
class TargetConfig:
    """What is learnt from the teachers: the terms of the loss and their weights.

    Attributes:
        parity: c: the gradient of every term on the student is multiplied by what makes it, on the backbone and before
            the first step, c times as long as that of the task's loss; null: weights are as they stand.
        views: of every training image that a teacher answers once for all students, and its bank keeps as ``bank``: a
            number, ``all`` (one an epoch), or ``live``: it answers in every step.
        bank: ``float16`` or ``float32``, K_T; ``topN``, of the soft prediction the N most likely classes and the rest.
        terms: by name. A term has the ``type`` of a registered target, its ``weight``, what it ``compares``
            (``embedding``; its ``relations``, of the samples of a batch to each other; or ``logits``), the role of the
            teacher that it comes ``from`` (``auto``: the recognizer where logits are compared and the task's own
            teacher has none, else the task's own), and the arguments of its type. With ``needs: labels`` it is given
            those of the batch as well.
    """

    name: str = MISSING
    alpha: float = 0.0
    beta: float = 0.0
    tau: float = MISSING
    parity: float | None = None
    views: int | str = MISSING
    bank: str = MISSING
    terms: dict[str, dict[str, Any]] = field(default_factory=dict)

    def active(self) -> dict[str, dict[str, Any]]:
        """The terms that count, i.e. whose weight is not zero."""
        return {name: term for name, term in self.terms.items() if term["weight"] != 0}

    @property
    def keeps(self) -> str:
        """What its banks keep: ``bank``; of a frozen backbone, which no term learns from, always an embedding."""
        return self.bank if self.bank in BANK_TYPES or self.active() else FLOAT16

    @property
    def top(self) -> int | None:
        """Of how many classes its banks keep the soft prediction; None: they keep embeddings."""
        found = TOP.fullmatch(self.keeps)
        return int(found[1]) if found else None

    @property
    def leaves_embedding_free(self) -> bool:
        """Whether K_S may differ from K_T where every term is 0: they meet behind a map, or in their relations."""
        active = self.active().values()
        return all(term["type"] == "hidden" or term["compares"] == "relations" for term in active)

    def needs_labels(self, name: str) -> bool:
        """Whether a term is told who is shown."""
        return "needs" in self.terms[name]

    def complaints(self) -> Iterator[str]:
        if not (self.views in ("all", "live") or (isinstance(self.views, int) and self.views >= 1)):
            yield f"target.views={self.views}: choices are live, all, or a number of views, at least 1"
        if self.bank not in BANK_TYPES and not TOP.fullmatch(self.bank):
            yield f"target.bank={self.bank}: choices are {', '.join(BANK_TYPES)}, or topN, as top64"
        for name, term in self.terms.items():
            if missing := {"type", "weight", "compares"} - term.keys():
                yield f"target.terms.{name} has no {min(missing)}"
                return
            if term["compares"] not in COMPARED:
                yield f"target.terms.{name}.compares={term['compares']}: choices are {', '.join(COMPARED)}"
            if term.get("needs", "labels") != "labels":
                yield f"target.terms.{name}.needs={term['needs']}: the one choice is labels"
            if not isinstance(term["weight"], int | float) or not 0 <= term["weight"] < math.inf:
                yield f"target.terms.{name}.weight={term['weight']} must be a number that is not negative"
            if term.get("reduction", "mean") not in REDUCTIONS:
                yield f"target.terms.{name}.reduction={term['reduction']}: choices are {', '.join(REDUCTIONS)}"
            if term["type"] == "hidden" and term.get("map", "ridge") not in MAPS:
                yield f"target.terms.{name}.map={term['map']}: choices are {', '.join(MAPS)}"
        if self.top is not None:
            yield from self._complaints_of_top()
        if self.parity is not None and not 0 < self.parity < math.inf:
            yield f"target.parity={self.parity} must be a number above 0, or null: weights as they stand"
        if self.name == "none" and self.active():
            yield "target=none has no weights. Use target=soft for alpha, target=hidden for beta"
        if self.name != "none" and not self.active():
            yield f"target={self.name} with every weight 0 learns nothing from the teacher. Use target=none"
        if not 0 < self.tau < math.inf:
            yield "target.tau must be a number above 0"

    def _complaints_of_top(self) -> Iterator[str]:
        kept = f"target.bank={self.bank} keeps soft predictions"
        for name, term in self.active().items():
            if term["type"] != "soft":
                yield f"{kept} alone, and target.terms.{name} learns more of the teacher: target.bank={FLOAT16}"
        if len({term.get("tau") for term in self.active().values()}) > 1:
            yield f"{kept} at one temperature, and the terms of the target have several: target.bank={FLOAT16}"
        if self.views == "live":
            yield f"{kept}, and with target.views=live there is no bank: target.views=all, or a number of views"
