"""What each claim of the paper, and each control, compares with what."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from facedistill.report.tables import INITS, RATES, TARGETS, Row, Table

Pairs = Iterable[tuple[Row, Row]]  # the row that should be better, and the one it is compared with
FIRST_SET = "CASIA-WebFace"


@dataclass(frozen=True)
class Comparison:
    """That ``better`` is better than ``than`` in a table's metric or, where ``same``, no different."""

    table: Table
    better: Row
    than: Row
    same: bool = False

    @property
    def label(self) -> str:
        labels = [row.label.removesuffix(" (control)") for row in (self.better, self.than)]
        return f" {'=' if self.same else '>'} ".join(labels)

    @property
    def paper(self) -> float | None:
        """The effect that the paper prints, turned so that more is better."""
        numbers = [row.paper.get(self.table.metric) for row in (self.better, self.than)]
        if numbers[0] is None or numbers[1] is None:
            return None
        return numbers[1] - numbers[0] if self.table.lower_is_better else numbers[0] - numbers[1]

    @property
    def paper_share(self) -> float | None:
        """``paper`` in % of the score compared with."""
        return None if self.paper is None else 100 * self.paper / self.than.paper[self.table.metric]


@dataclass(frozen=True)
class Statement:
    """A part of a claim.

    Attributes:
        number: of the table that it is about.
        pairs: what it compares there.
        same: that there is no difference.
        about_targets: it means nothing where the teacher that a target comes from has nothing to teach.
        first_set: it is about the first data set alone.
    """

    text: str
    number: int | str
    pairs: Callable[[Table], Pairs]
    same: bool = False
    about_targets: bool = False
    first_set: bool = False

    def comparisons(self, table: Table) -> list[Comparison]:
        if table.number != self.number or (self.first_set and table.stands_for != FIRST_SET):
            return []
        return [Comparison(table, better, than, self.same) for better, than in self.pairs(table)]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, or a control.

    Attributes:
        across_tables: its parts are one statement in several tables. Their metrics differ, so it speaks of % of the
            score compared with, else of points; and the tables that were run answer it, else every part is needed.
    """

    name: str
    text: str
    statements: Sequence[Statement]
    across_tables: bool = False


def _rates(table: Table) -> Sequence[int]:
    return (8,) if table.number == 3 else RATES


def _rows(rates: Iterable[int], better: tuple[str, str], than: tuple[str, str]) -> Callable[[Table], Pairs]:
    """Rows (init, target) of classification at some rates."""
    return lambda table: [(table.row(rate, *better), table.row(rate, *than)) for rate in rates]


def _targets(better: str, than: str, inits: Sequence[str] = INITS) -> Callable[[Table], Pairs]:
    """Two targets from the same initialization."""
    return lambda table: [
        (table.row(rate, init, better), table.row(rate, init, than)) for rate, init in product(_rates(table), inits)
    ]


def _starts(better: str, than: str, targets: Sequence[str] = TARGETS) -> Callable[[Table], Pairs]:
    """Two initializations with the same target."""
    return lambda table: [
        (table.row(rate, better, target), table.row(rate, than, target))
        for rate, target in product(_rates(table), targets)
    ]


def _by_table(pairs: Callable[[Table], Pairs], about_targets: bool = False) -> list[Statement]:
    names = {3: "alignment", 4: "verification, triplet loss", 5: "verification, triplet and softmax loss"}
    return [Statement(f"{name} (table {n})", n, pairs, about_targets=about_targets) for n, name in names.items()]


CLAIMS = (
    Claim(
        "C1",
        "From scratch, soft is the best target for classification (table 1)",
        [
            Statement(f"soft beats {other}", 1, _rows([8], ("scratch", "soft"), ("scratch", other)), about_targets=True)
            for other in ("hidden", "logits")
        ],
    ),
    Claim(
        "C2",
        "The full initialization beats Scratch and FitNet, at every rate (tables 1 and 2)",
        [
            Statement("full beats Scratch", 2, _rows(RATES, ("full", "soft"), ("scratch", "soft"))),
            Statement("full beats FitNet", 1, _rows([8], ("full", "soft"), ("fitnet", "soft"))),
        ],
    ),
    Claim(
        "C3",
        "A student can beat its teacher: /2 on CASIA-WebFace (table 2)",
        [
            Statement(
                "/2 full beats the teacher",
                2,
                lambda table: [(table.row(2, "full", "soft"), table.teacher)],
                first_set=True,
            )
        ],
    ),
    Claim(
        "C4",
        "For alignment the hidden target helps and the soft target hurts, from both initializations (table 3)",
        [
            Statement("hidden helps", 3, _targets("hidden", "none"), about_targets=True),
            Statement("soft hurts", 3, _targets("none", "soft"), about_targets=True),
        ],
    ),
    Claim(
        "C5",
        "Distill beats Pretrain everywhere (tables 3 to 5)",
        _by_table(_starts("distill", "pretrain"), about_targets=True),
        across_tables=True,
    ),
    Claim(
        "C6",
        "With the triplet loss alone the hidden target hurts, and the soft target changes nothing from Distill and "
        "helps from Pretrain (table 4)",
        [
            Statement("hidden hurts", 4, _targets("none", "hidden"), about_targets=True),
            Statement("soft helps from Pretrain", 4, _targets("soft", "none", ["pretrain"]), about_targets=True),
            Statement(
                "soft changes nothing from Distill",
                4,
                _targets("soft", "none", ["distill"]),
                same=True,
                about_targets=True,
            ),
        ],
    ),
    Claim(
        "C7",
        "With the softmax loss added soft is the best target, and /2 beats its teacher (table 5)",
        [
            Statement("soft beats none", 5, _targets("soft", "none"), about_targets=True),
            Statement("soft beats hidden", 5, _targets("soft", "hidden"), about_targets=True),
            Statement("/2 beats the teacher", 5, lambda table: [(table.row(2, "distill", "soft"), table.teacher)]),
        ],
    ),
    Claim(
        "K1",
        "Control: the full initialization beats Scratch on the same whole schedule (table 2)",
        [
            Statement(
                "full beats Scratch on the whole schedule",
                2,
                _rows(RATES, ("full", "soft"), ("scratch_whole", "soft")),
                first_set=True,
            )
        ],
    ),
    Claim(
        "K2",
        "Control: a distilled student from full beats the student alone, W_S0, that it starts from (table 2)",
        [
            Statement(
                "full, soft beats W_S0",
                2,
                _rows(RATES, ("full", "soft"), ("scratch", "none")),
                about_targets=True,
            )
        ],
    ),
    Claim(
        "K3",
        "Control: the student alone gains from the rest of the whole schedule, without any teacher (table 2)",
        [
            Statement(
                "W_S0 on the whole schedule beats W_S0",
                2,
                _rows(RATES, ("scratch_whole", "none"), ("scratch", "none")),
                first_set=True,
            )
        ],
    ),
    Claim(
        "K4",
        "Control: Distill gains by distillation and its epochs: W_S^cls beats the undistilled W_S0 (tables 3 to 5)",
        _by_table(_starts("distill", "undistilled"), about_targets=True),
        across_tables=True,
    ),
    Claim(
        "K5",
        "Control: Distill gains by pretraining on identities: without a target W_S0 beats Pretrain (tables 3 to 5)",
        _by_table(_starts("undistilled", "pretrain", ["none"])),
        across_tables=True,
    ),
)
