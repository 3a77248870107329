"""What a folder says of itself, by people who changed it: refused in a line, before anything in it is used."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from facedistill.errors import WeightsError
from facedistill.runs.exported import CARD, CONTRACT, LABELS, Exported, ModelFile
from facedistill.system.files import sha256
from hostile_json import HOSTILE
from made_exports import arcface, made_export

LONGEST = 600
VALUES = {**HOSTILE, **{text: text for text in ('"x"', "0", "-1e400", '"NaN"')}}
HERE = "@here@"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_export(tmp_path_factory.mktemp("exports") / "made", "logits", arcface(32, 32))


def refused(folder: Path) -> str:
    """The one line by which it is refused."""
    with pytest.raises(WeightsError) as caught:
        Exported.read(folder)
    line = str(caught.value)
    assert str(folder / CONTRACT) in line
    assert len(line) < LONGEST
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    return line


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


def with_value(value: Any, path: tuple[Any, ...], put: Any) -> Any:
    """A copy with another value at one place; ``...`` takes it out."""
    if not path:
        return put
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1 and put is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = with_value(copy[path[0]], path[1:], put)
    return copy


def is_finite(value: Any) -> bool:
    return all(part not in (float("inf"), float("-inf")) and part == part for part in leaves(value))


def leaves(value: Any) -> Iterator[Any]:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if parts is None:
        yield value
    else:
        for part in parts:
            yield from leaves(part)


def test_it_reads_what_it_writes(folder: Path, tmp_path: Path) -> None:
    exported = Exported.read(folder)
    exported.write(tmp_path)
    assert Exported.read(tmp_path) == exported
    assert exported.checked(folder, "onnx").file == "model.onnx"
    assert exported.names(folder) == ["red", "green", "blue"]


@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_of_its_type_or_refused_wherever_it_stands(folder: Path, tmp_path: Path, name: str) -> None:
    from dataclasses import asdict

    said = json.loads((folder / CONTRACT).read_text())
    everywhere = list(places(said))
    assert len(everywhere) > 60
    counts = {"read": 0, "refused": 0}
    for path in everywhere:
        text = json.dumps(with_value(said, path, HERE)).replace(f'"{HERE}"', VALUES[name])
        (tmp_path / CONTRACT).write_text(text)
        try:
            exported = Exported.read(tmp_path)
        except WeightsError:
            counts["refused"] += 1
            if path[-1:] in ((), ("width",), ("files",)):
                refused(tmp_path)
            continue
        counts["read"] += 1
        assert is_finite(asdict(exported)), path
    assert counts["refused"] > len(everywhere) / 4


def test_a_key_that_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    said = json.loads((folder / CONTRACT).read_text())
    optional = {"calibration", "labels", "teacher", "ancestors", "versions", "limits", "output", "axes", "version"}
    for key in said.keys() - optional:
        (tmp_path / CONTRACT).write_text(json.dumps(with_value(said, (key,), ...)))
        assert f"{key}: " in refused(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["../model.onnx", "/etc/passwd", "a/b", "..", ".", "", "a\0b", "sub/../../x", "model.onnx/"],
)
@pytest.mark.parametrize("beside", [False, True])
def test_no_file_is_looked_for_outside_of_the_folder(folder: Path, tmp_path: Path, name: str, beside: bool) -> None:
    exported = Exported.read(folder)
    model = exported.files[0]
    changed = replace(model, beside={name: "0"}) if beside else replace(model, file=name)
    replace(exported, files=[changed]).write(tmp_path)
    assert "a file outside of its folder" in refused(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 2}, "version 2, this one reads 1"),
        ({"kind": "segmentation"}, "kind segmentation"),
        ({"width": 10**8}, "100000000 values"),
        ({"width": 0}, "0 values"),
        ({"files": []}, "no files"),
        ({"labels": ""}, "logits without names"),
    ],
)
def test_what_no_export_says_is_refused(folder: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    replace(Exported.read(folder), **changes).write(tmp_path)
    assert said in refused(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"height": 10**9}, "an image of 32 × 1000000000 pixels"),
        ({"width": 0}, "an image of 0 × 32"),
        ({"std": [1.0, 0.0, 1.0]}, "mean, std or pixel"),
        ({"mean": [1.0]}, "mean, std or pixel"),
        ({"pixel": "int16"}, "mean, std or pixel"),
    ],
)
def test_an_image_that_no_model_takes_is_refused(
    folder: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    exported = Exported.read(folder)
    replace(exported, input=replace(exported.input, **changes)).write(tmp_path)
    assert said in refused(tmp_path)


@pytest.mark.parametrize("changes", [{"resize": 10**9}, {"resize": 3}, {"template": [[1.0, 2.0]] * 4}])
def test_a_framing_that_no_face_fits_is_refused(folder: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    exported = Exported.read(folder)
    replace(exported, framing=replace(exported.framing, **changes)).write(tmp_path)
    refused(tmp_path)


@pytest.mark.parametrize("name", ["model.onnx", LABELS])
@pytest.mark.parametrize("change", ["a byte", "gone", "a folder"])
def test_a_file_that_is_not_the_one_that_was_proven_is_refused(tmp_path: Path, name: str, change: str) -> None:
    folder = made_export(tmp_path / "made", "logits")
    exported = Exported.read(folder)
    content = bytearray((folder / name).read_bytes())
    content[-2] ^= 1
    (folder / name).unlink()
    if change == "a byte":
        (folder / name).write_bytes(content)
    if change == "a folder":
        (folder / name).mkdir()
    said = "its checksum differs" if change == "a byte" else "is missing or can't be read"
    with pytest.raises(WeightsError, match=rf"{name} .*{said}.*export it again, or copy the folder whole"):
        exported.names(folder) if name == LABELS else exported.checked(folder, "onnx")


def test_labels_of_a_stranger_are_as_many_as_there_are_logits_and_text(tmp_path: Path) -> None:
    folder = made_export(tmp_path / "made", "logits")
    exported = Exported.read(folder)
    for content, said in ((b"red\ngreen\n", "2 names for 3 people"), (b"", "0 names for 3 people")):
        (folder / LABELS).write_bytes(content)
        with pytest.raises(WeightsError, match=rf"has {said}"):
            replace(exported, labels=sha256(folder / LABELS)).names(folder)
    (folder / LABELS).write_bytes(b"r\xffd\ngreen\nblue\n")
    assert replace(exported, labels=sha256(folder / LABELS)).names(folder) == ["r�d", "green", "blue"]


def test_a_format_that_is_not_there_is_named_beside_those_that_are(folder: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds no onnx-int8: it has onnx"):
        Exported.read(folder).checked(folder, "onnx-int8")


def test_what_is_no_export_says_what_makes_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "gone", tmp_path / "file"):
        with pytest.raises(WeightsError, match=r"is no export .*facedistill export run=RUN format=onnx"):
            Exported.read(path)
    os.mkfifo(tmp_path / CONTRACT)
    with pytest.raises(WeightsError, match="can't be read: not a regular file"):
        Exported.read(tmp_path)


def test_thresholds_are_those_of_the_file_that_answers(folder: Path) -> None:
    exported = Exported.read(folder)
    own = ModelFile("int8", "q.onnx", 1, "", False, thresholds={"1e-3": 0.5}, tar={"1e-3": 80.0})
    assert exported.by(own).judged.thresholds == {"1e-3": 0.5}
    assert exported.by(own).judged.tar == {"1e-3": 80.0}
    assert exported.by(exported.files[0]) is exported
    assert CARD == "card.md"
