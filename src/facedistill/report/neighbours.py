"""Methods near to the paper that stand on the same base: the cells of their experiments, and what each claims.

Their claims are answered by the same rule as the paper's.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from facedistill.config.schema import Config
from facedistill.report.comparisons import Claim, Statement
from facedistill.report.tables import METRICS, Row, Table
from facedistill.report.variants import leaf
from facedistill.runs.record import Record
from facedistill.system.files import hash_of

SHARED = ("version", "image", "augment", "optimizer", "precision", "threads", "rate", "model")
OF_ARMS = ("held_out", "sampling", "step", "epochs_a_round")  # keys of data by which arms differ


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
        beside: metrics that are shown, and judge nothing.
    """

    groups: Sequence[str] = ()
    claims: Sequence[Claim] = ()
    beside: Sequence[str] = ()

    @property
    def heading(self) -> str:
        return f"{self.title} ({self.stands_for})"

    @property
    def file_name(self) -> str:
        return self.groups[0]

    @property
    def printed(self) -> dict[str, str]:
        return {metric: METRICS[metric] for metric in (self.metric, *self.beside)}

    @property
    def command(self) -> str:
        return f"facedistill train -m experiments={self.groups[0]}"

    def one_setting(self, records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
        """The records of its arms, of each sweep in the setting that most of them have, and those in others.

        Of equally many, the setting whose hash is smaller.
        """
        ours = [one for one in records if one.group in self.groups and any(row.holds(one) for row in self.rows)]
        by_setting: dict[tuple[str | None, str], list[Record]] = {}
        for record in ours:
            by_setting.setdefault((record.group, _setting(record.config, record.recipe)), []).append(record)
        kept: dict[tuple[int, int], Record] = {}
        for group in self.groups:
            own = [key for key in by_setting if key[0] == group]
            usual = min(own, key=lambda key: (-len(by_setting[key]), key), default=None)
            # of two runs of an arm and seed that with fewer words: the experiment's own
            for record in sorted(by_setting[usual] if usual else [], key=lambda one: (-len(one.overrides), one.name)):
                kept[self._row(record), record.seed] = record
        names = {one.name for one in kept.values()}
        return list(kept.values()), [one for one in ours if one.name not in names]

    def _row(self, record: Record) -> int:
        return next(number for number, row in enumerate(self.rows) if row.holds(record))


def _setting(config: Config, recipe: Mapping[str, Any]) -> str:
    """What all arms have in common: images, faces, schedule, networks and pairs; not what they are named by."""
    shared = [recipe.get(part) for part in SHARED]
    faces = {key: value for key, value in recipe["data"].items() if key not in OF_ARMS}
    task = config.task
    schedule = [asdict(task.learning_rates), task.batch_size, config.schedule.epochs]
    return hash_of([*shared, faces, *schedule, config.teacher.model, config.protocol.get("name")])


def _arms(*of: tuple[str, str]) -> Callable[[Table], Iterable[tuple[Row, Row]]]:
    """Comparisons of arms by their labels: the one that should be better, and than which."""

    def find(table: Table) -> Iterable[tuple[Row, Row]]:
        named = {row.label: row for row in table.rows}
        return [(named[better], named[than]) for better, than in of]

    return find


def _latent(label: str, sampling: str) -> Arm:
    return Arm(label, 0, "scratch", "raw", "embed", keys={"data.name": "latent", "data.sampling": sampling})


_S, _PHOTOGRAPHS = "SynthDistill", "real photographs (experiments=synthdistill_real)"
SYNTHDISTILL = Experiment(
    _S,
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
        Claim(
            "S1",
            "Dynamic sampling beats static sampling",
            [Statement("dynamic beats static", _S, _arms(("dynamic", "static")))],
        ),
        Claim(
            "S2",
            "Dynamic sampling beats training on a fixed synthetic set",
            [Statement("dynamic beats a fixed set", _S, _arms(("dynamic", "fixed set")))],
        ),
        Claim(
            "KS",
            "Control: dynamic sampling beats as many real faces without labels",
            [Statement("dynamic beats photographs", _S, _arms(("dynamic", _PHOTOGRAPHS)))],
        ),
    ],
)


def _two_branches(label: str, consistency: str, batchnorm: str = "shared", target: str = "none") -> Arm:
    options = {"consistency": consistency, "batchnorm": batchnorm, "face": True}
    keys = {f"task.options.{key}": value for key, value in options.items()}
    return Arm(label, 0, "scratch", target, "periocular", keys=keys)


def _bands(label: str, target: str) -> Arm:
    return Arm(label, 0, "scratch", target, "periocular", keys={"task.options.face": False})


_P, _JOINT = "Periocular", "both directions, one BatchNorm"
PERIOCULAR = Experiment(
    _P,
    "Periocular recognition beside the face",
    "arXiv 2012.06746",
    "bands about the eyes of rendered faces",
    [
        _two_branches(_JOINT, "both"),
        _two_branches("to the periocular branch", "to_periocular"),
        _two_branches("to the face branch", "to_face"),
        _two_branches("no consistency", "none"),
        _two_branches("separate BatchNorms", "both", "separate"),
        _bands("bands alone", "none"),
        _bands("frozen recognizer of faces", "soft"),
    ],
    metric="rank1",
    groups=("periocular",),
    beside=("eer",),
    claims=[
        Claim(
            "P1",
            "Consistency in both directions beats consistency in one",
            [
                Statement(
                    "both beat one",
                    _P,
                    _arms((_JOINT, "to the periocular branch"), (_JOINT, "to the face branch")),
                )
            ],
        ),
        Claim(
            "P2",
            "One BatchNorm for both branches beats separate ones",
            [Statement("one BatchNorm beats two", _P, _arms((_JOINT, "separate BatchNorms")))],
        ),
        Claim(
            "P3",
            "Learning jointly beats distilling from a frozen recognizer of faces",
            [Statement("joint beats frozen", _P, _arms((_JOINT, "frozen recognizer of faces")))],
        ),
        Claim(
            "PK",
            "Control: learning jointly beats the bands alone",
            [Statement("joint beats alone", _P, _arms((_JOINT, "bands alone")))],
        ),
    ],
)
DOMAINS = ("office", "window", "evening", "webcam")  # of data=synthetic_spoof


def _held_out(domain: str) -> list[Arm]:
    def arm(label: str, target: str, **keys: float) -> Arm:
        given = {"data.held_out": domain, **{key.replace("__", "."): value for key, value in keys.items()}}
        return Arm(f"{domain}: {label}", 0, "scratch", target, "spoof", keys=given)

    perceptual, generative, moved = (
        *("target__terms__perceptual__weight", "target__terms__generative__weight"),
        "task__options__alignment",
    )
    return [
        arm("alone", "none"),
        arm("perceptual teacher", "two_teachers", **{generative: 0}),
        arm("generative teacher", "two_teachers", **{perceptual: 0}),
        arm("two teachers", "two_teachers", **{perceptual: 1, generative: 1, moved: 0}),
        arm("two teachers, domains aligned", "two_teachers", **{moved: 4}),
    ]


def _in_every_domain(better: str, than: str) -> Callable[[Table], Iterable[tuple[Row, Row]]]:
    return _arms(*((f"{domain}: {better}", f"{domain}: {than}") for domain in DOMAINS))


_A = "Anti-spoofing"
SPOOF = Experiment(
    _A,
    "Anti-spoofing with two teachers, each domain held out in turn",
    "arXiv 2401.01102",
    "rendered faces, prints and replays",
    [arm for domain in DOMAINS for arm in _held_out(domain)],
    metric="hter",
    groups=("spoof",),
    beside=("auc",),
    claims=[
        Claim(
            "A1",
            "Two teachers beat the student alone in a domain that was held out",
            [Statement("two beat none", _A, _in_every_domain("two teachers", "alone"))],
        ),
        Claim(
            "A2",
            "Two teachers beat each one",
            [
                Statement("two beat the perceptual one", _A, _in_every_domain("two teachers", "perceptual teacher")),
                Statement("two beat the generative one", _A, _in_every_domain("two teachers", "generative teacher")),
            ],
        ),
        Claim(
            "A3",
            "Aligned domains help two teachers",
            [Statement("aligned beats not", _A, _in_every_domain("two teachers, domains aligned", "two teachers"))],
        ),
    ],
)
EXPERIMENTS = (SYNTHDISTILL, PERIOCULAR, SPOOF)
