"""train.lst as InsightFace and MXNet write it, elsewhere and wrongly; property."""

import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from record_writer import LABELS, PEOPLE, faces, images_only, write

from facedistill.data.files.formats.face_lists import Property, read_names, read_property
from facedistill.data.files.formats.face_records import FaceRecords
from facedistill.data.files.formats.recordio import RecordFile
from facedistill.errors import DataError
from fuzz import RUNS, damaged, fuzz

OWNERS = np.repeat(LABELS, PEOPLE).tolist()
NAMES = [f"m.0{owner}/{number}.jpg" for number, owner in enumerate(OWNERS)]
NAMES[2], NAMES[5] = "m.07/Zoë, 2 .jpg", "m.012/顔 5.png"
REMEDY = "Without train.lst, images are named by their keys: move it away"


def insightface(names: list[str], owners: list[int]) -> list[str]:
    return [f"1\t/data/faces/{name}\t{owner}" for name, owner in zip(names, owners, strict=True)]


def mxnet(names: list[str], owners: list[int]) -> list[str]:
    """Shuffled, as im2rec does; the index is the key."""
    lines = [f"{i}\t{owner:f}\t{name}" for i, (name, owner) in enumerate(zip(names, owners, strict=True))]
    return random.Random(0).sample(lines, len(lines))


WAYS: dict[str, Callable[[], str]] = {
    "InsightFace": lambda: "\n".join(insightface(NAMES, OWNERS)) + "\n",
    "InsightFace, boxes and landmarks": lambda: "\n".join(f"{x}\t1\t2\t3.5" for x in insightface(NAMES, OWNERS)),
    "MXNet": lambda: "\n".join(mxnet(NAMES, OWNERS)) + "\n",
    "MXNet, two labels": lambda: "\n".join(re.sub(r"(.*)\t", r"\1\t5\t", x) for x in mxnet(NAMES, OWNERS)),
    "backslashes": lambda: "\n".join(insightface(NAMES, OWNERS)).replace("/", "\\"),
    "no folder above": lambda: "\n".join(insightface(NAMES, OWNERS)).replace("/data/faces/", ""),
    "CRLF, a mark, blank lines": lambda: "\ufeff" + "\r\n".join(insightface(NAMES, OWNERS)) + "\r\n\r\n\n",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "train.rec", faces())
    return tmp_path / "train.rec"


def names_of(path: Path, text: str) -> list[str] | None:
    path.with_suffix(".lst").write_bytes(text.encode("utf-8", "surrogateescape"))
    return FaceRecords(RecordFile(path)).names


@pytest.mark.parametrize("way", WAYS)
def test_names_in_the_order_of_keys(path: Path, way: str) -> None:
    assert names_of(path, WAYS[way]()) == NAMES
    write(path, images_only())
    assert names_of(path, WAYS[way]()) == NAMES


def test_names_of_no_utf_8(path: Path) -> None:
    names = [f"m/{number}\udce9.jpg" for number in range(len(OWNERS))]
    assert names_of(path, "\n".join(insightface(names, OWNERS))) == names


def test_no_list_no_names(path: Path) -> None:
    assert FaceRecords(RecordFile(path)).names is None


LINES = insightface(NAMES, OWNERS)
FAULTS: dict[str, tuple[list[str], int, str]] = {
    "another label": ([*LINES[:4], LINES[4][:-1] + "7", *LINES[5:]], 5, "label 7, but the image of key 5 has label 0"),
    "two in the place of each other": (
        [LINES[4], *LINES[1:4], LINES[0], *LINES[5:]],
        1,
        "label 0, but the image of key",
    ),
    "a line more": ([*LINES, "1\ta/b\t7"], 9, "there are only 8 images"),
    "a line less": (LINES[:-1], 7, "the list ends after 7 of 8 images"),
    "empty": ([], 0, "the list ends after 0 of 8 images"),
    "a name twice": ([*LINES[:-1], LINES[5]], 8, "a second line for m.012/顔 5.png"),
    "another folder, the same name": ([LINES[0], LINES[0].replace("data", "more"), *LINES[2:]], 2, "a second line for"),
    "no folder": ([*LINES[:2], "1\tb.jpg\t7", *LINES[3:]], 3, "with a folder in path"),
    "a folder of no name": ([*LINES[:2], "1\t/b.jpg\t7", *LINES[3:]], 3, "with a folder in path"),
    "a file of no name": ([*LINES[:2], "1\ta/\t7", *LINES[3:]], 3, "with a folder in path"),
    "no label": ([*LINES[:2], "1\ta/b", *LINES[3:]], 3, "separated by tabs"),
    "half a label": ([*LINES[:2], "1\ta/b\t7.5", *LINES[3:]], 3, "separated by tabs"),
    "a label below 0": ([*LINES[:2], "1\ta/b\t-7", *LINES[3:]], 3, "separated by tabs"),
    "digits of another script": ([*LINES[:2], "1\ta/b\t٧", *LINES[3:]], 3, "separated by tabs"),
    "a label of many digits": ([*LINES[:2], "1\ta/b\t" + "7" * 99, *LINES[3:]], 3, "separated by tabs"),
    "a line in the other form": ([*LINES[:2], "3\t7\ta/b", *LINES[3:]], 3, "separated by tabs"),
    "spaces for tabs": ([LINES[0].replace("\t", " ")], 1, "separated by tabs"),
    "an index twice, of one label": (
        [f"{max(n, 1)}\t{OWNERS[n]}\ta/{n}" for n in range(8)],
        2,
        "a second line for index 1",
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_bad_line_is_named(path: Path, kind: str) -> None:
    lines, number, said = FAULTS[kind]
    with pytest.raises(DataError) as refusal:
        names_of(path, "\n".join(lines))
    message = str(refusal.value)
    assert message.startswith(f"{path.with_suffix('.lst')}, line {number}: "), message
    assert said in message
    assert message.endswith(REMEDY)


def test_a_line_without_end(path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.lst, line 2: longer than 2000"):
        names_of(path, LINES[0] + "\n" + "1" * 10**6)


def test_property(tmp_path: Path) -> None:
    for text in (b"85742,112,96", b"\xef\xbb\xbf85742, 112, 96\r\n\r\n"):
        (tmp_path / "property").write_bytes(text)
        assert read_property(tmp_path / "property") == Property(classes=85742, height=112, width=96)


@pytest.mark.parametrize("text", ["", "\n", "1,2", "1,2,3,4", "1,2,x", "0,112,112", "9,-1,1", "1,2,3\n1,2,3", "9" * 20])
def test_an_invalid_property(tmp_path: Path, text: str) -> None:
    (tmp_path / "property").write_text(text)
    with pytest.raises(DataError, match=r"property, line \d: expected one line, `classes,height,width`"):
        read_property(tmp_path / "property")


@pytest.mark.parametrize(("count", "seed"), RUNS)
def test_a_damaged_list_is_refused_or_read_as_it_says(tmp_path: Path, count: int, seed: int) -> None:
    whole = [WAYS[way]().encode() for way in WAYS]
    words = [b"\t", b"\n", b"\r", b"/", b"\\", b"0", b".", b"\xff", b"\0", b"1\ta/b\t7\n", b"3\t7\ta/b\n"]

    def read(path: Path) -> list[str]:
        return read_names(path, np.arange(1, len(OWNERS) + 1), np.array(OWNERS))

    def judge(files: dict[str, bytes], found: DataError | list[str]) -> str:
        text = files[".lst"]
        if isinstance(found, DataError):
            assert text not in whole
            return "refused"
        assert len(set(found)) == len(OWNERS)
        text = re.sub("\r\n?", "\n", text.decode("utf-8-sig", "surrogateescape"))
        rows = [line.strip().split("\t") for line in text.split("\n") if line.strip()]
        if rows[0][1].replace(".", "").isdigit():
            rows = [["1", row[-1], row[1]] for row in sorted(rows, key=lambda row: int(row[0]))]
        assert [int(float(row[2])) for row in rows] == OWNERS
        assert [row[1].replace("\\", "/").split("/")[-2:] for row in rows] == [name.split("/") for name in found]
        return "read"

    tally = fuzz(tmp_path, count, seed, lambda draw: {".lst": damaged(draw.choice(whole), draw, words)}, read, judge)
    assert min(tally["read"], tally["refused"]) > count / 20, tally
