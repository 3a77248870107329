"""Where the runs in the tables differ from the paper, and what they chose where it is silent, from their records."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from facedistill.report.study import Study, seeds_of
from facedistill.runs.record import Record

SILENT = "not stated"
_DATA_SETS = {"CASIA-WebFace": "casia_webface", "MS-Celeb-1M": "ms_celeb_1m", "CelebA": "celeba"}
_GROUPS = {  # of tasks, with the paper's batch size
    "classification": (("teacher", "classify", "hint"), 256),
    "alignment": (("align",), 64),
    "verification": (("verify",), 128),
}
_MINING = {"hard": "batch-hard", "semihard": "semi-hard", "all": "all"}
_SPLITS = {"official": "the data set's own", "folders": "that of its folders"}
_READINGS = {
    "both_rates": "both rates, one after the other, from random weights",
    "one_rate": "one rate a run",
}


class Deviation(NamedTuple):
    """What is different, how the paper has it, how the runs do, and the words that undo it, if there are any."""

    what: str
    paper: str
    ours: str
    undo: str


class _Rule(NamedTuple):
    """``ours``: of a record that differs; None: it does not, or that is no question for it."""

    what: str
    paper: str
    ours: Callable[[Record], str | None]
    undo: str


def deviations(study: Study) -> list[Deviation]:
    """Those of the runs that stand in the tables."""
    records = list({record.name: record for filled in study.tables for record in filled.records}.values())
    found = [*_data(study)]
    for rule in _RULES:
        texts = Counter(sorted(text for record in records if (text := rule.ours(record)) is not None))
        if texts:
            ours = "; ".join(text for text, _ in texts.most_common())
            found.append(Deviation(rule.what, rule.paper, ours, rule.undo))
    return [*found, *_seeds(records)]


def _data(study: Study) -> Iterator[Deviation]:
    tables = {filled.table.stands_for: filled for filled in study.tables if filled.records}
    for stands_for, filled in tables.items():
        data, published = filled.table.data, _DATA_SETS[stands_for]
        if data != published:
            sizes = Counter((one.data.get("train", 0), one.data.get("test", 0)) for one in filled.records)
            (train, test), _ = sizes.most_common(1)[0]
            ours = f"{data}, {train:,} images to train on and {test:,} to test on"
            yield Deviation("Faces", stands_for, ours, f"data={published} data.root=FOLDER")


def _seeds(records: Sequence[Record]) -> Iterator[Deviation]:
    seeds = seeds_of(records)
    if len(seeds) > 1:
        yield Deviation("Seeds", "one run a cell", f"{len(seeds)}, paired, with intervals", "seed=0")
        teachers = {record.config.teacher.seed for record in records}
        if len(teachers) == 1:
            ours = "one for all seeds: no interval has in it what another teacher would change"
            yield Deviation("Teacher", "one run", ours, "teacher.seed='${seed}'")


def _rates(tasks: Sequence[str]) -> Callable[[Record], str | None]:
    def ours(record: Record) -> str | None:
        rates = record.config.task.learning_rates
        if record.config.task.name not in tasks or (rates.random, rates.initialized) == ([0.1, 0.01], [0.01]):
            return None
        random, initialized = (", ".join(f"{rate:g}" for rate in part) for part in (rates.random, rates.initialized))
        return f"{random} from random weights, {initialized} from an initialization"

    return ours


def _batch(tasks: Sequence[str], paper: int) -> Callable[[Record], str | None]:
    def ours(record: Record) -> str | None:
        task = record.config.task
        return None if task.name not in tasks or task.batch_size == paper else str(task.batch_size)

    return ours


def _networks(record: Record) -> str | None:
    names = record.config.model["name"], record.config.teacher.model["name"]
    return None if names == ("resnet50", "resnet50") else f"students {names[0]}, teacher {names[1]}"


def _parity(record: Record) -> str | None:
    target = record.config.target
    if not target.active() or target.parity is None:
        return None
    return f"the gradient of a term on the backbone is {target.parity:g} × that of the task at the start"


def _reduction(record: Record) -> str | None:
    target = record.config.target
    means = any(term.get("reduction") == "mean" for term in target.active().values())
    return "the mean over values" if means and target.parity is None else None


def _map(record: Record) -> str | None:
    terms = record.config.target.active().values()
    return "a linear map of K_S, trained with it" if any(term["type"] == "hidden" for term in terms) else None


def _ridge(record: Record) -> str | None:
    terms = record.config.target.active().values()
    return "at a ridge regression" if any(term.get("map") == "ridge" for term in terms) else None


def _tau_squared(record: Record) -> str | None:
    target = record.config.target
    squared = any(term.get("tau_squared") for term in target.active().values())
    return "multiplied by τ²" if squared and target.parity is None else None


def _banked(record: Record) -> str | None:
    target = record.config.target
    if not target.active() or target.views == "live":
        return None
    views = "all views" if target.views == "all" else f"{target.views} view{'s' * (target.views != 1)}"
    return f"once for all students, of {views} of every image, kept as {target.bank}"


def _option(name: str, text: Callable[[Any], str | None]) -> Callable[[Record], str | None]:
    """By the value of an option of a task."""

    def ours(record: Record) -> str | None:
        options = record.config.task.options
        return text(options[name]) if name in options else None

    return ours


def _fitnet(record: Record) -> str | None:
    init = record.config.init
    return "those of random weights" if (init.name, init.rates) == ("fitnet", "random") else None


def _recognizer_answers(record: Record) -> str | None:
    config = record.config
    soft = any(term["compares"] == "logits" for term in config.target.active().values())
    return "the recognizer's, W_T^cls" if soft and config.task.own_teacher and not config.task.classifies else None


def _identities_of_batches(record: Record) -> str | None:
    count = record.config.task.images_per_identity
    return f"identities with {count} images each" if count else None


def _from_elsewhere(record: Record) -> str | None:
    teacher = record.config.teacher
    return "a finished network from a file" if teacher.weights else "pretrained elsewhere" if teacher.backbone else None


def _optimizer(record: Record) -> str | None:
    schedule = record.config.schedule
    if (schedule.optimizer, schedule.shape) == ("sgd", "steps"):
        return None
    falling = f", along a cosine after {schedule.warmup:.0%} of warm-up" if schedule.shape == "cosine" else ""
    return {"sgd": "SGD", "adamw": "AdamW"}[schedule.optimizer] + falling


_RULES = [
    _Rule(
        "Images",
        "256 px, crops of 224",
        lambda record: (
            None
            if (record.config.image.resize, record.config.image.crop) == (256, 224)
            else f"{record.config.image.resize} px, crops of {record.config.image.crop}"
        ),
        "image.resize=256 image.crop=224",
    ),
    _Rule(
        "Augmentation",
        "random crops and flips",
        lambda record: None if record.config.augment.name == "paper" else f"augment={record.config.augment.name}",
        "augment=paper",
    ),
    _Rule(
        "Split",
        "80 % to train on, 20 % to test on, at random over images",
        lambda record: _SPLITS.get(record.config.data.get("split", "random")),
        "data.split=random",
    ),
    _Rule("Networks", "ResNet-50", _networks, "model=resnet50 model@teacher.model=resnet50"),
    _Rule("Recognizer", "trained from random weights", _from_elsewhere, "teacher.weights=null teacher.backbone=null"),
    _Rule(
        "Epochs at each learning rate",
        "30",
        lambda record: None if record.config.schedule.epochs == 30 else str(record.config.schedule.epochs),
        "schedule.epochs=30",
    ),
    _Rule(
        "Reading of the learning rates",
        "its words allow either",
        lambda record: _READINGS[record.config.schedule.reading] if record.config.init.rates == "random" else None,
        "schedule.reading=one_rate or both_rates",
    ),
    _Rule("Optimizer", "SGD at constant learning rates", _optimizer, "schedule.optimizer=sgd schedule.shape=steps"),
    *(
        _Rule(
            f"Learning rates of {group}",
            "0.1 from random weights, 0.01 from an initialization",
            _rates(tasks),
            f"learning_rates.{group}.random=[0.1,0.01] learning_rates.{group}.initialized=[0.01]",
        )
        for group, (tasks, _) in _GROUPS.items()
    ),
    *(
        _Rule(f"Batch size of {group}", str(paper), _batch(tasks, paper), f"batch_sizes.{group}={paper}")
        for group, (tasks, paper) in _GROUPS.items()
    ),
    _Rule(
        "Momentum and weight decay",
        SILENT,
        lambda record: f"{record.config.schedule.momentum:g} and {record.config.schedule.weight_decay:g}",
        "schedule.momentum=… schedule.weight_decay=…",
    ),
    _Rule("Weights of the targets", "0 or 1, of sums or means that it does not state", _parity, "target.parity=null"),
    _Rule("‖·‖² of a target", "sum or mean not stated", _reduction, "target.terms.hidden.reduction=sum"),
    _Rule("K_T, wider than K_S, is compared with", SILENT, _map, ""),
    _Rule("That map starts", SILENT, _ridge, "target.terms.hidden.map=random"),
    _Rule("Soft loss", "τ² not stated", _tau_squared, "target.terms.soft.tau_squared=false"),
    _Rule(
        "τ",
        "3",
        lambda record: (
            f"{record.config.target.tau:g}" if record.config.target.alpha and record.config.target.tau != 3 else None
        ),
        "target.tau=3",
    ),
    _Rule("The teacher answers", "in every step", _banked, "target.views=live"),
    _Rule("Soft prediction without a softmax loss", "not stated whose", _recognizer_answers, ""),
    _Rule(
        "Pretrain starts",
        "from a task-specific initialization",
        lambda record: (
            "from the same student, trained on the task's loss alone" if record.config.init.name == "pretrain" else None
        ),
        "",
    ),
    _Rule("Learning rates of FitNet's second stage", "0.01", _fitnet, "init.rates=initialized"),
    _Rule("λ", "0.4", _option("margin", lambda value: None if value == 0.4 else str(value)), "task.options.margin=0.4"),
    _Rule("Batches of verification", SILENT, _identities_of_batches, "task.images_per_identity=…"),
    _Rule(
        "Triplets of a batch",
        SILENT,
        _option("mining", lambda value: _MINING.get(value, value)),
        "task.options.mining=hard, semihard or all",
    ),
    _Rule(
        "Embeddings K in verification",
        SILENT,
        _option("normalize", lambda value: "L2-normalized" if value else None),
        "task.options.normalize=false",
    ),
    _Rule(
        "Errors of landmarks are divided by",
        SILENT,
        _option("normalizer", lambda value: {"eyes": "the distance of the eyes"}.get(value, value)),
        "task.options.normalizer=eyes or box",
    ),
    _Rule(
        "Pairs of strangers",
        "the 6,000 of LFW",
        lambda record: (
            f"of {record.data_name}, people who are not trained on"
            if "pairs" in record.scores and record.data_name != "lfw"
            else None
        ),
        "facedistill evaluate protocol=lfw root=LFW run=RUN_DIR",
    ),
]
