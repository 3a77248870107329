"""The teachers of a run, by role, each once it has shown that it does what its file says."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from facedistill.config.groups import FLOAT32, ImageConfig
from facedistill.config.schema import TEACHER, Config
from facedistill.data.loading.datamodule import FaceData
from facedistill.data.loading.view_schedule import EVAL_VIEW, banked_views
from facedistill.data.loading.views import BankReader
from facedistill.distill.axes import ReaderOnAxes, TeacherOnAxes, leading_axes, on_axes
from facedistill.distill.bank import SIDES, BankMaker, Kept, KeptEmbedding, OwnViewBank
from facedistill.distill.onnx_teacher import OnnxTeacher
from facedistill.distill.teacher import NetworkTeacher, Teacher
from facedistill.distill.top import KeptTop, TopTeacher
from facedistill.errors import WeightsError
from facedistill.evaluation.scoring import Probe, device_for, probe
from facedistill.runs.identity import augment_of, numbers_of
from facedistill.runs.plan import width_of
from facedistill.runs.run import Run, WeightsFile, refuse_bands
from facedistill.system.files import sha256
from facedistill.system.terminal import say
from facedistill.tasks.assemble import build_evaluation
from facedistill.training.contract_check import check_contract
from facedistill.training.rounds import MOST_KEPT, Asked, TaughtRounds

TOLERANCE = 0.5  # points by which a probe may be worse than it was: another device rounds differently


def load_teachers(run: Run, data: FaceData) -> dict[str, Teacher]:
    """The frozen teachers that the run stands on. Where they have banks, its training batches bring their embeddings.

    Raises:
        WeightsError: one does not do what it did when it was published, or has a classifier of other identities.
    """
    config = run.config
    device, cache = device_for(config.trainer.accelerator), Path(config.cache_dir).expanduser()
    logits_from = {
        config.role_of(name) for name, term in config.target.active().items() if term["compares"] == "logits"
    }
    teachers: dict[str, Teacher] = {}
    banks: dict[str, BankReader] = {}
    test_banks: dict[str, BankReader] = {}
    asked: dict[str, Asked] = {}
    for role, parent in run.parents.items():
        if role == "init":
            continue
        identities = len(data.faces_of(config.identities_data).identities)
        teacher = load_teacher(parent, identities, config.trainer.threads)
        if role in logits_from:
            _check_identities(teacher, identities, parent.weights)
        seen = seen_by_teacher(parent, data)
        contents = bank_contents(run, parent, device, own_size=seen is not data)
        form, precision = kept_of(config, teacher), config.trainer.precision
        maker = BankMaker(teacher, seen, device, cache, form, contents, data.faces.train, precision)
        views = banked_views(config) if seen is data else SIDES
        if data.source.epochs_per_round:
            views = None
            about = {key: value for key, value in contents.items() if key != "data"}  # a round says it itself
            asked[role] = Asked(teacher, None if seen is data else pixels_of(parent), about)
        if views is None or not maker.is_there(views):  # a bank was made by a teacher that had shown its score
            check_score(teacher, parent, data, device)
            if isinstance(parent, WeightsFile) and config.teacher.check and not _is_ours(teacher):
                check_contract(parent, seen, config.image, config.trainer.threads, device)
        if views is not None:
            bank = maker.open(views)
            banks[role] = bank if seen is data else OwnViewBank(bank)
            if isinstance(form, KeptTop):
                teacher = TopTeacher(teacher.input)
        if config.task.imitates:
            # scores are those of float32, whatever it was trained in
            test_banks[role] = replace(maker, samples=data.faces.test, precision=FLOAT32).open([EVAL_VIEW])
            if (width := width_of(run)) < teacher.width:
                axes, kept = leading_axes(next(iter(bank.views.values())), width)
                say(
                    f"the student's embedding has {width} values: the teacher's {teacher.width} on the axes "
                    f"where they keep most of their squared length, {kept:.1f} %"
                )
                banks[role], test_banks[role] = (ReaderOnAxes(of[role], axes) for of in (banks, test_banks))
                teacher = TeacherOnAxes(teacher, axes)
        teachers[role] = teacher
    data.use_banks(banks, test_banks)
    if asked:
        keeps = len(data.faces.train) * len(config.epoch_rates) <= MOST_KEPT
        kind, precision = config.target.keeps, config.trainer.precision
        data.use_rounds(TaughtRounds(data, asked, device, cache, config.image.resize, kind, precision, keeps))
    return teachers


def kept_of(config: Config, teacher: Teacher) -> Kept:
    """What the bank of a teacher keeps for its students."""
    target = config.target
    if target.top is None:
        return KeptEmbedding(teacher.width, target.keeps)
    [tau] = {term["tau"] for term in target.active().values()}
    return KeptTop(target.top, tau, teacher.num_identities)


def seen_by_teacher(parent: Run | WeightsFile, data: FaceData) -> FaceData:
    """The faces as a teacher sees them: in its own pixels, or as its students do."""
    own = pixels_of(parent)
    return data if own is None else data.seen_as(own)


def pixels_of(parent: Run | WeightsFile) -> ImageConfig | None:
    """Of a face, as a teacher sees it; None: the student's own."""
    return parent.pixels if isinstance(parent, WeightsFile) else None


def gallery_of(run: Run, teacher: Teacher, data: FaceData) -> NDArray[np.float32] | None:
    """What the teacher that a run imitates says of the images of its pairs, from a bank of these.

    L2-normalized, float32 [M, width]; None: there are no pairs.
    """
    config, parent = run.config, run.parents[TEACHER]
    whole = teacher.whole if isinstance(teacher, TeacherOnAxes) else teacher
    seen = seen_by_teacher(parent, data)
    images = seen.of_pairs
    if images is None:
        return None
    device, cache = device_for(config.trainer.accelerator), Path(config.cache_dir).expanduser()
    contents = bank_contents(run, parent, device, own_size=seen is not data) | {
        "of": "pairs of a teacher that is imitated",
        **({"protocol": run.data["protocol"]} if config.has_protocol else {}),
    }
    samples = images.faces.test
    keeps = KeptEmbedding(whole.width, config.target.keeps)
    bank = BankMaker(whole, images, device, cache, keeps, contents, samples).open([EVAL_VIEW])
    embedding = bank([(int(index), EVAL_VIEW) for index in samples]).astype(np.float32)
    if isinstance(teacher, TeacherOnAxes):
        embedding = on_axes(embedding, teacher.axes)
    normalized: NDArray[np.float32] = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    return normalized


def load_teacher(parent: Run | WeightsFile, identities: int, threads: int) -> Teacher:
    """The network that a run published, or that is in a file; another kind of teacher is chosen here.

    ``identities``: how many the data has; ``threads``: of what does not run in torch.
    """
    if isinstance(parent, Run):
        return NetworkTeacher.load(parent.weights, parent.config.network, parent.config.rate)
    if parent.is_onnx:
        return OnnxTeacher(parent.weights, parent.contract, threads)
    teacher = NetworkTeacher.load(parent.weights, parent.network, 1, parent.key, identities, parent.contract)
    refuse_bands(parent.weights, teacher.about)
    return teacher


def _is_ours(teacher: Teacher) -> bool:
    """Whether its file says itself what it takes, and has shown that it does what it did."""
    return isinstance(teacher, NetworkTeacher) and bool(teacher.about)


def _check_identities(teacher: Teacher, count: int, path: Path) -> None:
    if teacher.num_identities != count:
        has = f"a classifier of {teacher.num_identities}" if teacher.num_identities else "no classifier of this data's"
        raise WeightsError(
            f"{path} has {has} identities, this data has {count}. To start from its backbone alone: teacher.backbone="
        )


def check_score(teacher: Teacher, parent: Run | WeightsFile, beside: FaceData, device: torch.device) -> None:
    """Have a network repeat on the data of its task what it scored there, where it has an output layer for that."""
    if parent.config is None or parent.config.task.intermediate or not isinstance(teacher, NetworkTeacher):
        return
    data = seen_by_teacher(parent, FaceData.of(parent.config, beside))
    if parent.config.task.classifies and teacher.num_identities != len(data.faces.identities):
        return
    teacher.to(device)
    evaluation = build_evaluation(parent.config, teacher.network)
    found = probe(evaluation, lambda batch: evaluation.measure(teacher.output, batch), data, device)
    check_probe(teacher, found, parent.weights)


def check_probe(teacher: NetworkTeacher, found: Probe, path: Path) -> None:
    """Raise ``WeightsError`` where a teacher scores less than when it was published.

    Where its file comes from elsewhere and says nothing, a classifier has to beat chance.
    """
    recorded = teacher.about.get("probe")
    if recorded is None:
        if not teacher.num_identities:
            return
        chance = 1 / teacher.num_identities
        if found.value <= 100 * min(2 * chance, (1 + chance) / 2):
            raise WeightsError(
                f"{path} is right on {found.value:.1f} % of {found.samples} test samples, no more than chance among "
                f"{teacher.num_identities} identities: are its classes in the order of this data's folders, and "
                "model.mean and model.std those it was trained with?"
            )
        return
    worse = recorded["value"] - found.value if found.higher_is_better else found.value - recorded["value"]
    if found.samples != recorded["samples"] or not worse <= TOLERANCE:
        raise WeightsError(
            f"{path} has {found.metric} {found.value:.2f} on {found.samples} test samples; it was published with "
            f"{recorded['value']:.2f} on {recorded['samples']}. The data, its split or its preprocessing has changed "
            "since"
        )


def bank_contents(run: Run, teacher: Run | WeightsFile, device: torch.device, own_size: bool = False) -> dict[str, Any]:
    """Everything that decides what the bank of a run's teacher holds.

    ``own_size``: it sees each face whole, whatever its students draw; its particulars say at which size.
    """
    config = run.config
    return {
        "teacher": sha256(teacher.weights),
        "model": numbers_of(teacher.network) if isinstance(teacher, WeightsFile) else {},
        **({"particulars": found} if (found := getattr(teacher, "particulars", [])) else {}),
        "data": {key: value for key, value in run.data.items() if key != "protocol"},
        **({"of": "a teacher that is imitated"} if config.task.imitates else {}),  # it has no score to show
        **({} if own_size else {"image": asdict(config.image), "seed": config.seed, **augment_of(config)}),
        "device": device.type,
        "threads": config.trainer.threads,
    }
