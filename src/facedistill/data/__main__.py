"""Examines a data source: what is there, what is missing, what is broken, and what to do next.

facedistill data [data=synthetic] [data.root=…] [check=all] [pack=true] [sheet=contact_sheet.png, or .jpg]

It decodes all images of a small set, or 5,000 of a large one, evenly spaced; check=all decodes every one. A contact
sheet shows what a network will see: ten identities with eight images each. pack=true decodes everything now and writes
a self-contained folder, which can be copied to another machine. Other settings of a run may follow: image.resize=112, …

Exit status 0: it can be trained on; 1: it can't, for the reason in the last lines; 2: it can't be examined at all.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facedistill.cli import run_command, split_words
from facedistill.config.compose import compose_config
from facedistill.config.schema import Config
from facedistill.data import doctor
from facedistill.data.faces import Samples
from facedistill.data.judgement import complaints_of_any_task
from facedistill.data.sources.packed import Packed, check_pixels, pack_folder, write_pack
from facedistill.data.sources.photo_source import PhotoSource
from facedistill.data.sources.source import Source, build_source
from facedistill.data.sources.verification_set import VerificationSet, protocol_source
from facedistill.errors import ConfigError, DataError, FacedistillError
from facedistill.runs.plan import check_data, plan
from facedistill.system.files import disk_of, write_aside
from facedistill.system.text import command_line, shown

_CLASSIFY = ["rate=4", "init=full", "target=soft"]
_ALIGN = ["task=align", "rate=8", "init=scratch", "target=none"]
_SPOOF = ["task=spoof"]
_OF_DATA = ("data=", "data.", "image.resize=", "cache_dir=")
_CHOICES = {"check": ("all",), "pack": ("true", "false")}


def main(words: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    return run_command(words, __doc__, _examine)


def _examine(words: list[str]) -> int:
    own, others = split_words(words, ("sheet", *_CHOICES))
    for key, choices in _CHOICES.items():
        if own.get(key, choices[0]) not in choices:
            raise ConfigError(f"{key}={own[key]}: choices are {', '.join(choices)}")
    config = compose_config(others, trains=False)
    sheet = Path(own.get("sheet", "contact_sheet.png"))
    source = protocol_source(config.data)
    if isinstance(source, PhotoSource | VerificationSet) and not any(word.startswith("scale=") for word in others):
        others = [*others, "scale=photos"]
        config = compose_config(others, trains=False)
    if isinstance(source, VerificationSet):
        return _examine_pairs(source, config, sheet)
    return _examine_faces(config, others, sheet, check_all="check" in own, pack=own.get("pack") == "true")


def _examine_faces(config: Config, words: list[str], sheet: Path, check_all: bool, pack: bool) -> int:
    cache, size = Path(config.cache_dir).expanduser(), config.image.resize
    source = build_source(config.data)
    tolerant = build_source({**config.data, "on_error": "skip"}) if isinstance(source, PhotoSource) else None
    if isinstance(tolerant, PhotoSource):
        survey = doctor.survey_photos(tolerant, size, cache, check_all)
    else:
        survey = _survey_prepared(source, size, cache, check_all)
    print(shown(f"data={config.data['name']}: {survey.title}"))
    print(*map(shown, doctor.described(survey, config.data.get("published", {}))), sep="\n")
    if survey.thumbnails:
        _save(sheet, doctor.sheet_rows(survey), size)
        alignment = config.data.get("alignment", [])
        named = ", ".join(alignment) if isinstance(alignment, list) else alignment
        how = f"{size} px" + (f", alignment {named}" if named else "")
        cut = f", before task={config.task.name} cuts the bands about the eyes out of them" if config.task.bands else ""
        print(f"  {shown(sheet)} shows {len(survey.thumbnails)} of them as a network sees them: {how}{cut}")
    faults = survey.broken_count + survey.unusable_names
    leaves_out = isinstance(source, PhotoSource) and source.on_error == "raise" and faults > 0
    skipping = [*(word for word in words if not word.startswith("data.on_error=")), "data.on_error=skip"]
    try:
        if isinstance(tolerant, PhotoSource) and tolerant.has_pairs:
            print(_pairs_line(tolerant, survey, size, cache))
        if isinstance(tolerant, PhotoSource) and _is_unlabelled(survey.samples):
            print(doctor.alignment_line(tolerant, survey))
        run_words = _trainable_words(skipping if leaves_out else words, config, survey.samples)
    except FacedistillError as error:
        print(f"\nIt can't be trained on: {shown(error)}")
        return 1
    if leaves_out:
        print("\nIt can't be trained on as it is: mend what is named above, or get it again. Or leave it out:")
        print(f"  facedistill data {command_line(skipping)}")
        return 1
    if run_words:
        print(f"\nIt can be trained on. Next:\n  facedistill train {command_line(run_words)}")
    else:
        print("\nIts faces have no labels, and a recognizer can be imitated on them.", end="")
        if config.data["name"] == "photos":  # a pack has one size, and a recognizer wants its own
            of_data = [
                word for word in words if word.startswith(("data.alignment=", "data.landmarks=", "data.on_error="))
            ]
            compress = ["teacher=recognizer.onnx", "contract=arcface", f"faces={_given(words, 'data.root')}", *of_data]
            print(f" With the file of yours:\n  facedistill compress {command_line(compress)}", end="")
        print()
    if pack:
        folder = pack_folder(source, size, cache)
        write_pack(source.faces(size, cache), source.identity(), folder)
        print(f"\nIts packed form is {shown(folder)}")
        if run_words:
            of_run = (word for word in run_words if not word.startswith(_OF_DATA))
            packed = ["data=packed", f"data.root={folder}", f"image.resize={size}", *of_run]
            print(f"Copied to another machine:\n  facedistill train {command_line(packed)}")
    return 0


def _trainable_words(words: list[str], config: Config, samples: Samples) -> list[str]:
    """The words of a run that these samples are fit for, itself and what it stands on: it has been planned.

    There are none where the samples have no labels and the words name no run: who is imitated is not known here.
    Raises ``FacedistillError`` where the samples are fit for no run, with what speaks against the first.
    """
    crop = [] if config.image.crop <= config.image.resize else [f"image.crop={max(1, config.image.resize * 7 // 8)}"]
    names_a_run = any(word.startswith(("task=", "init=", "target=")) for word in words)
    if _is_unlabelled(samples) and not names_a_run:
        for complaint in complaints_of_any_task(samples):
            raise DataError(complaint)
        return []
    possible = [_CLASSIFY] * samples.has_identities + [_ALIGN] * samples.has_landmarks + [_SPOOF] * samples.has_liveness
    errors = []
    for ending in [[]] if names_a_run else possible or [_CLASSIFY]:
        run_words = [*words, *crop, *ending]
        try:
            check_data(plan(run_words), samples)
        except FacedistillError as error:
            errors.append(error)
        else:
            return run_words
    raise errors[0]


def _is_unlabelled(samples: Samples) -> bool:
    """Whether they are good for imitation alone."""
    return not (samples.has_identities or samples.has_landmarks or samples.has_liveness)


def _given(words: Sequence[str], key: str) -> str:
    """The value of the last word with a key."""
    return next((word.partition("=")[2] for word in reversed(words) if word.partition("=")[0] == key), "")


def _pairs_line(source: PhotoSource, survey: doctor.Survey, size: int, cache: Path) -> str:
    """The pairs of a source, all of whose images are decoded for that. Raises ``DataError`` if one can't be used."""
    samples = survey.samples
    trained_on = {survey.inventory.identities[label] for label in np.unique(samples.labels[~samples.is_test])}
    pairs = source.protocol(size, cache, trained_on)
    return doctor.pairs_line(pairs)


def _survey_prepared(source: Source, size: int, cache: Path, check_all: bool) -> doctor.Survey:
    """The survey of rendered or packed faces."""
    faces = source.faces(size, cache)
    checked = "all of them rendered here"
    if isinstance(source, Packed):
        checked = "compared with their checksums once on this machine; check=all compares them again"
        if check_all:
            check_pixels(faces)
            checked = "all checksums agree"
    return doctor.survey_faces(faces, f"{source.identity()['source']} faces", checked)


def _examine_pairs(source: VerificationSet, config: Config, sheet: Path) -> int:
    """A verification set has nothing to train on."""
    size = config.image.resize
    pairs = source.protocol(size, Path(config.cache_dir).expanduser(), set())
    print(f"data={source.name}: {len(pairs.same):,} pairs, {int(pairs.same.sum()):,} of them of one person")
    _save(sheet, doctor.pair_rows(pairs), size)
    print(f"  {shown(sheet)} shows some: first of one person, then of two")
    print("\nIt has pairs only, to score a network with:")
    words = command_line([f"protocol={source.name}", f"root={source.root}"])
    print(f"  facedistill evaluate {words} run=runs/NAME")
    return 1


def _save(sheet: Path, rows: Sequence[doctor.Images], size: int) -> None:
    with disk_of("contact sheets", "sheet=FILE", sheet.parent), write_aside(sheet) as part:
        doctor.contact_sheet(rows, size).save(part, format="jpeg" if sheet.suffix == ".jpg" else "png", quality=90)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
