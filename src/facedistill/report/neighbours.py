"""Methods near to the paper that stand on the same base: the cells of their experiments, and what each claims.

Their claims are answered by the same rule as the paper's.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from facedistill.config.schema import Config
from facedistill.report.comparisons import Claim, Statement
from facedistill.report.tables import METRICS, Row, Table
from facedistill.report.variants import leaf
from facedistill.runs.record import Record
from facedistill.system.files import hash_of

SHARED = ("version", "image", "augment", "optimizer", "precision", "threads", "rate", "model", "teacher_model")


@dataclass(frozen=True)
class Arm(Row):
    """A cell of an experiment, by the keys of the configuration that make it what it is."""

    keys: Mapping[str, Any] = field(default_factory=dict)

    def holds(self, record: Record) -> bool:
        config = record.config
        own = (config.task.name, config.init.name, config.target.name) == (self.task, self.init, self.target)
        return own and all(leaf(config, key) == value for key, value in self.keys.items())

    @property
    def is_teacher(self) -> bool:
        return False


@dataclass(frozen=True)
class Experiment(Table):
    """What an experiment trains, as a table.

    Attributes:
        groups: of its runs: the names of its sweeps.
        claims: of its paper, and controls.
    """

    groups: Sequence[str] = ()
    claims: Sequence[Claim] = ()

    @property
    def heading(self) -> str:
        return f"{self.title} ({self.stands_for})"

    @property
    def file_name(self) -> str:
        return self.groups[0]

    @property
    def printed(self) -> dict[str, str]:
        return {self.metric: METRICS[self.metric]}

    @property
    def command(self) -> str:
        return f"facedistill train -m experiments={self.groups[0]}"

    def one_setting(self, records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
        """The records of its arms in the setting that most of them have, and those in others.

        Of equally many, the setting whose hash is smaller.
        """
        ours = [one for one in records if one.group in self.groups and any(row.holds(one) for row in self.rows)]
        by_setting: dict[str, list[Record]] = {}
        for record in ours:
            by_setting.setdefault(_setting(record.config, record.recipe), []).append(record)
        kept = by_setting[min(by_setting, key=lambda key: (-len(by_setting[key]), key))] if by_setting else []
        chosen = {(self._row(one), one.seed): one for one in sorted(kept, key=lambda one: one.name)}
        names = {one.name for one in chosen.values()}
        return list(chosen.values()), [one for one in ours if one.name not in names]

    def _row(self, record: Record) -> int:
        return next(number for number, row in enumerate(self.rows) if row.holds(record))


def _setting(config: Config, recipe: Mapping[str, Any]) -> str:
    """What all arms have in common: images, schedule, networks and pairs; not their data and targets."""
    return hash_of([*(recipe.get(part) for part in SHARED), config.schedule.epochs, config.protocol.get("name")])


def _pairs(*of: tuple[str, str]) -> Callable[[Table], Iterable[tuple[Row, Row]]]:
    """Comparisons of arms by their labels: the one that should be better, and than which."""

    def find(table: Table) -> Iterable[tuple[Row, Row]]:
        named = {row.label: row for row in table.rows}
        return [(named[better], named[than]) for better, than in of]

    return find


def _claim(name: str, text: str, number: str, **statements: Callable[[Table], Iterable[tuple[Row, Row]]]) -> Claim:
    return Claim(name, text, [Statement(said.replace("_", " "), number, pairs) for said, pairs in statements.items()])


def _latent(label: str, sampling: str) -> Arm:
    return Arm(label, 0, "scratch", "raw", "embed", keys={"data.name": "latent", "data.sampling": sampling})


_SYNTHDISTILL, _PHOTOGRAPHS = "SynthDistill", "real photographs (experiments=synthdistill_real)"
SYNTHDISTILL = Experiment(
    _SYNTHDISTILL,
    "SynthDistill: a student of rendered faces alone",
    "arXiv 2308.14852",
    "rendered faces by latents",
    [
        _latent("dynamic", "dynamic"),
        _latent("static", "static"),
        _latent("fixed set", "fixed"),
        Arm(_PHOTOGRAPHS, 0, "scratch", "raw", "embed", keys={"data.name": "photos"}),
    ],
    metric="pairs",
    groups=("synthdistill", "synthdistill_real"),
    claims=[
        _claim(
            "S1",
            "Dynamic sampling beats static sampling",
            _SYNTHDISTILL,
            dynamic_beats_static=_pairs(("dynamic", "static")),
        ),
        _claim(
            "S2",
            "It beats training on a fixed synthetic set",
            _SYNTHDISTILL,
            dynamic_beats_a_fixed_set=_pairs(("dynamic", "fixed set")),
        ),
        _claim(
            "KS",
            "Control: it beats as many real faces without labels",
            _SYNTHDISTILL,
            dynamic_beats_photographs=_pairs(("dynamic", _PHOTOGRAPHS)),
        ),
    ],
)
EXPERIMENTS = (SYNTHDISTILL,)
