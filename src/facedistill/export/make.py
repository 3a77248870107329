"""An export: every model file written aside, proven in its own runtime, and the folder renamed once all are there."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from facedistill import __version__
from facedistill.config.schema import Config
from facedistill.data.loading.datamodule import FaceData
from facedistill.distill.teacher import Teacher
from facedistill.errors import ConfigError, DataError, WeightsError
from facedistill.evaluation.trial_pairs import spread
from facedistill.export.card import card
from facedistill.export.format import Format, Images, Session, named
from facedistill.export.licences import licence_notes, notes_on
from facedistill.export.network import Deployed
from facedistill.export.proof import Answer, Judge, LikenessJudge, PairJudge, Scored, TaskJudge, latency
from facedistill.export.subject import NOWHERE, Subject
from facedistill.models.cost import multiply_adds
from facedistill.runs.exported import CARD, CONTRACT, LABELS, LICENCES, Exported, Judged, ModelFile
from facedistill.system.files import disk_of, hash_of, held, read_json_object, sha256, write_aside, write_json
from facedistill.system.terminal import say
from facedistill.system.text import shown
from facedistill.tasks.assemble import build_evaluation
from facedistill.training.publish import processor
from facedistill.training.published import imitated
from facedistill.training.teachers import load_teacher

PARITY, PARITY_IMAGES = 1e-4, 256  # of the largest value, between a float file and torch
LOSS = {True: 0.1, False: 0.5}  # points that a file may lose, by whether it is exact
FACES = 256  # to calibrate by
HOPELESS = 0.9  # mean cosine with the network on the faces of calibration: what is below is not scored


@dataclass(frozen=True)
class Wish:
    """What is asked of an export.

    Attributes:
        formats: by name, in this order.
        folder: that it becomes.
        pixel: ``float32`` or ``uint8``, see ``ImageInput``; ``normalized``: the embedding has length 1.
        pairs: the configuration of pairs to judge by; None: what the task measures.
        calibrate: how many faces to calibrate by.
        tolerance: points that a file may lose, instead of ``LOSS``.
        threads: of latency.
        licence: of the result, for the card.
        teacher_score: on the pairs, where it is known.
    """

    formats: Sequence[str]
    folder: Path
    command: str
    pixel: str = "float32"
    normalized: bool = False
    pairs: Config | None = None
    calibrate: int = FACES
    tolerance: float | None = None
    threads: int = 1
    licence: str = "other"
    teacher_score: float | None = None


def export(subject: Subject, wish: Wish) -> Exported:
    """Make and prove all files; the folder is there whole, or not at all.

    Killed, the same call goes on with the formats that are proven already.

    Raises:
        ConfigError: a format that is unknown or not installed; the folder is another than of an export.
        DataError: there are no faces to judge or to calibrate by.
        WeightsError: a file does not score as the network does.
    """
    formats = {name: named(name) for name in wish.formats}
    folder = wish.folder
    aside = folder.with_name(f".{folder.name}.part")
    with (
        disk_of("the export", "out=FOLDER", folder.parent),
        held(folder.with_name(f".{folder.name}.lock"), "exporting the same"),
    ):
        if folder.exists() and not (folder / CONTRACT).is_file():
            raise ConfigError(f"{folder} is there and is no export: name another, name=NAME or out=FOLDER")
        aside.mkdir(exist_ok=True)
        exported = _made(subject, wish, formats, aside)
        for leftover in aside.glob("proof-*.json"):
            leftover.unlink()
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        aside.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    return exported


def _made(subject: Subject, wish: Wish, formats: Mapping[str, Format], aside: Path) -> Exported:
    network = Deployed.of(subject.network, subject.kind, subject.image(wish.pixel), wish.normalized)
    data = _data(subject, wish)
    faces = _faces(data, network, wish)  # first: a judge of imitation has its teacher answer the test split alone
    judge = _judge(subject, wish, data)
    answer = _through(network, lambda images: network(torch.from_numpy(images)).numpy())
    say(f"scoring the network on {judge.of}")
    reference = judge.score(answer)
    cuts = judge.cuts(answer, reference)
    judged = replace(judge.judged(reference), thresholds=cuts.thresholds, tar=cuts.tar, of_thresholds=cuts.of)
    files = []
    for name, kind in formats.items():
        asked = [name, wish.pixel, wish.normalized, wish.calibrate, wish.tolerance, wish.threads]
        key = hash_of([subject.identity, *asked, judged.of, judged.score])
        files.append(_proven(name, kind, network, faces, judge, judged, reference, wish, aside, key))
    labels = ""
    if subject.kind == "logits":
        assert data is not None
        with write_aside(aside / LABELS) as part:
            names = [shown(" ".join(name.split())) for name in data.faces.identities]
            part.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        labels = sha256(aside / LABELS)
    backbone = subject.network.network.backbone
    config = subject.config
    exported = Exported(
        name=wish.folder.name,
        kind=subject.kind,
        input=network.taken,
        framing=subject.framing(),
        output=subject.kind,
        width=network.width,
        normalized=subject.kind == "embedding" and wish.normalized,
        files=files,
        judged=judged,
        identity=subject.identity,
        title=subject.name,
        command=wish.command,
        processor=processor(),
        threads=wish.threads,
        params=sum(part.numel() for part in network.parameters()),
        macs=multiply_adds(backbone, *config.student_size),
        data=config.data["name"] if data is not None else "",
        licences=notes_on(config.data, subject.recognizers),
        calibration="" if faces is None else f"{len(faces):,} faces of {config.data['name']} that are not scored",
        labels=labels,
        teacher=_teacher(subject, judge, wish),
        ancestors=subject.ancestors,
        versions=_versions(formats),
        axes=subject.has_axes,
    )
    for name, text in ((CARD, card(exported, subject, network, wish.licence)), (LICENCES, licence_notes(exported))):
        with write_aside(aside / name) as part:
            part.write_text(text, encoding="utf-8")
    exported.write(aside)
    parts = (part for model in files for part in (model.file, *model.beside))
    kept = {CARD, LICENCES, CONTRACT, *parts, *([LABELS] if labels else [])}
    for other in aside.iterdir():
        if other.is_dir():
            shutil.rmtree(other)  # where a format was being made when the process was killed
        elif other.name not in kept and not other.name.startswith("proof-"):
            other.unlink()
    return exported


def _data(subject: Subject, wish: Wish) -> FaceData | None:
    """The faces of a subject; None where a file from elsewhere came without any, and pairs are enough to judge it."""
    if subject.config.data.get("root") == NOWHERE:
        if wish.pairs is None or any(named(name).calibrates for name in wish.formats):
            raise DataError(
                "there are no faces to judge by, or to calibrate int8 by: faces=FOLDER data.alignment=detect names "
                "photographs (data.alignment=none: of aligned faces) that are not among the pairs"
            )
        return None
    data = subject.data()
    train, test = len(data.faces.train), len(data.faces.test)
    if not train or not (test or wish.pairs):
        raise DataError(
            f"data={subject.config.data['name']} has {train} faces to calibrate by and {test} to judge by: an export "
            "takes some of both"
        )
    return data


def _judge(subject: Subject, wish: Wish, data: FaceData | None) -> Judge:
    config = subject.config
    if wish.pairs is not None:
        if config.task.bands:
            raise ConfigError("pairs= are of whole faces, this model sees the band about the eyes: leave pairs= out")
        if subject.kind != "embedding":
            raise ConfigError(f"pairs= are for embeddings, this model gives {subject.kind}: leave pairs= out")
        pairs = replace(wish.pairs, image=config.image, cache_dir=config.cache_dir, trainer=config.trainer)
        return PairJudge(pairs, set(data.faces.identities) if data is not None else set())
    assert data is not None
    if subject.record is None:
        batches = [batch.to(torch.device("cpu")) for batch in data.val_dataloader()]
        return LikenessJudge(batches, f"faces of {config.data['name']} held out")
    if config.task.imitates:
        imitated(subject.file.parent, subject.record, config, data, torch.device("cpu"))
    return TaskJudge(config, build_evaluation(config, subject.network.network), data, subject.kind)


def _through(network: Deployed, session: Session) -> Answer:
    """RGB pixels to answers, by a session that takes images as the network does."""

    def answer(pixels: Tensor) -> Tensor:
        return torch.from_numpy(session(network.as_taken(pixels).contiguous().numpy()))

    return answer


def _faces(data: FaceData | None, network: Deployed, wish: Wish) -> Images | None:
    """Training faces as the network takes them, upright and in the middle."""
    if data is None:
        return None
    chosen = np.sort(np.unique(spread(data.faces.train, min(wish.calibrate, len(data.faces.train)))))
    pixels = data.centre_crops(chosen).student_images
    return network.as_taken(pixels).contiguous().numpy()


def _proven(
    name: str,
    kind: Format,
    network: Deployed,
    faces: Images | None,
    judge: Judge,
    judged: Judged,
    reference: Scored,
    wish: Wish,
    aside: Path,
    key: str,
) -> ModelFile:
    """A file of one format that scores as the network does, made now or by a call that was interrupted."""
    path, proof = aside / kind.file, aside / f"proof-{name}.json"
    known = read_json_object(proof) or {}
    said = known.get("model")
    if said and known.get("key") == hash_of([key, said]) and (model := ModelFile(**said)).is_whole(aside):
        say(f"{name} is proven already")
        return model
    images = network.example(PARITY_IMAGES).numpy() if faces is None else faces
    expected = network(torch.from_numpy(images)).numpy()
    allowed = LOSS[kind.exact] if wish.tolerance is None else wish.tolerance
    tried: list[str] = []
    for variant in kind.variants:
        say(f"making {kind.file}{f': {variant}' if variant else ''}")
        _write(kind, network, aside, images, variant)
        size = sum((aside / part).stat().st_size for part in (kind.file, *kind.beside))
        digests = {part: sha256(aside / part) for part in kind.beside}
        model = ModelFile(name, kind.file, size, sha256(path), kind.exact, beside=digests, note=variant)
        if not kind.is_run:
            return replace(model, note="made here, and not run: there is no runtime for it on this system")
        session = kind.load(path, wish.threads)
        answers = session(images)
        difference = float(np.abs(answers - expected).max() / max(1e-12, float(np.abs(expected).max())))
        likeness = Scored(0, answers.reshape(len(images), -1)).cosine(Scored(0, expected.reshape(len(images), -1)))
        if kind.exact and not difference <= PARITY:
            raise WeightsError(
                f"{kind.file} answers {len(images)} faces otherwise than the network, by up to {difference:.2g} of its "
                f"largest value (at most {PARITY:g}): this format is none for it; leave format={name} out"
            )
        if not kind.exact and not likeness >= HOPELESS:  # so, NaN is none
            tried.append(f"{variant}: mean cosine {likeness:.3f} on {len(images)} training faces")
            continue
        say(f"scoring {kind.file} on {judge.of}")
        through = _through(network, session)
        scored = judge.score(through)
        loss = judged.loss(scored.score)
        if not loss <= allowed + 1e-9:
            tried.append(f"{variant or name}: {scored.score:.2f}, {loss:.2f} points worse")
            continue
        median, p95 = latency(lambda: session(images[:1]))  # noqa: B023 – it is called here
        note = "; ".join([variant, *(["tried before: " + " · ".join(tried)] if tried else [])]) if variant else ""
        cuts = judge.cuts(through, scored)
        found = replace(
            model,
            thresholds=cuts.thresholds,
            tar=cuts.tar,
            score=scored.score,
            cosine=scored.cosine(reference),
            difference=difference,
            median_ms=median,
            p95_ms=p95,
            note=note,
        )
        write_json(proof, {"key": hash_of([key, asdict(found)]), "model": asdict(found)})
        return found
    path.unlink(missing_ok=True)
    raise WeightsError(
        f"{kind.file} loses more than {allowed:g} points of {judged.metric} ({judged.score:.2f} by the network): "
        f"{' · '.join(tried)}. What may help: calibrate=1024 faces; tolerance=POINTS accepts it"
    )


def _write(kind: Format, network: Deployed, aside: Path, faces: Images, variant: str) -> None:
    """A file, and what belongs to it, each under its own name: some formats name one in the other."""
    with TemporaryDirectory(dir=aside) as folder:
        kind.write(network, Path(folder) / kind.file, faces, variant)
        for name in (*kind.beside, kind.file):
            with write_aside(aside / name) as part:
                (Path(folder) / name).replace(part)


def _teacher(subject: Subject, judge: Judge, wish: Wish) -> list[ModelFile]:
    """The recognizer that a student imitates, in the same table: scored on the same pairs, alone and warm."""
    file = subject.teacher
    if file is None:
        return []
    teacher: Teacher = load_teacher(file, 0, wish.threads)
    image = file.pixels or subject.config.image
    score = wish.teacher_score
    if score is None and isinstance(judge, PairJudge):
        say(f"scoring {file.weights} on {judge.of}")
        score = judge.seen_by(image).score(lambda pixels: teacher(pixels).embedding).score
    face = torch.zeros(1, 3, image.crop, image.crop, dtype=torch.uint8)
    torch.set_num_threads(wish.threads)
    median, p95 = latency(lambda: teacher(face))
    size = sum(part.stat().st_size for part in (file.weights, *(file.graph.files if file.is_onnx else ())))
    of, digest = "onnx" if file.is_onnx else "torch", sha256(file.weights)
    return [ModelFile(of, file.weights.name, size, digest, True, score, median_ms=median, p95_ms=p95)]


def _versions(formats: Mapping[str, Format]) -> dict[str, str]:
    packages = dict.fromkeys(["torch", *(module.split(".")[0] for kind in formats.values() for module in kind.modules)])
    found = {"facedistill": __version__}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
