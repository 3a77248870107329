"""CelebA's lists, written here in all their forms, and damaged in many ways."""

import math
import random
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from facedistill.data.files.formats.celeba_lists import CelebaList, read_list
from facedistill.errors import DataError
from fuzz import RUNS, damaged, fuzz

Rows = dict[str, list[int]]

POINTS = ["lefteye", "righteye", "nose", "leftmouth", "rightmouth"]
COLUMNS = {
    "landmarks": [f"{point}_{axis}" for point in POINTS for axis in "xy"],
    "identity": ["identity"],
    "partition": ["partition"],
    "bbox": ["x_1", "y_1", "width", "height"],
    "attr": ["5_o_Clock_Shadow", *(f"Attribute_{letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklm")],
}


def rows_of(kind: str, count: int = 9) -> Rows:
    draw = np.random.default_rng(len(COLUMNS[kind]))
    return {f"{n:06d}": draw.integers(-200, 3000, len(COLUMNS[kind])).tolist() for n in range(1, count + 1)}


def spaced(name: str, values: list[int]) -> str:
    return f"{name}.jpg " + " ".join(f"{value:4d}" for value in values)


def commas(name: str, values: list[int]) -> str:
    return ",".join([f"{name}.jpg", *map(str, values)])


# lines before the rows, and a row
FORMS: dict[str, tuple[Callable[[Rows, list[str]], list[str]], Callable[[str, list[int]], str]]] = {
    "rows alone": (lambda rows, names: [], spaced),
    "number": (lambda rows, names: [str(len(rows))], spaced),
    "number and names": (lambda rows, names: [str(len(rows)), f"image_id {' '.join(names)} "], spaced),
    "names": (lambda rows, names: [f"image_id {' '.join(names)}"], spaced),
    "csv": (lambda rows, names: [f"image_id,{','.join(names)}"], commas),
    "csv, rows alone": (lambda rows, names: [], commas),
    "csv, number and names": (lambda rows, names: [str(len(rows)), f",{','.join(names)}"], commas),
}


def text_of(kind: str, form: str) -> str:
    opening, row = FORMS[form]
    rows = rows_of(kind)
    return "".join(f"{line}\n" for line in [*opening(rows, COLUMNS[kind]), *(row(*item) for item in rows.items())])


def read(path: Path, content: str | bytes, columns: int) -> CelebaList:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_list(path, columns)


def holds(found: CelebaList, rows: Rows) -> None:
    assert list(found.rows) == list(rows)
    assert found.values.dtype == np.float64
    np.testing.assert_array_equal(found.values, np.array(list(rows.values())))
    for name, values in rows.items():
        assert found.of(name).tolist() == values


@pytest.mark.parametrize("kind", COLUMNS)
def test_every_list_in_every_layout(tmp_path: Path, kind: str) -> None:
    for form in FORMS:
        text = text_of(kind, form)
        found = read(tmp_path / "list.txt", text, len(COLUMNS[kind]))
        holds(found, rows_of(kind))
        lines = text.splitlines()
        for name in rows_of(kind):
            number = int(found.lines[found.rows[name]])
            assert lines[number - 1].startswith(f"{name}.jpg")
            assert found.location(name) == f"{tmp_path / 'list.txt'}, line {number}"


@pytest.mark.parametrize("kind", ["landmarks", "attr"])
def test_as_published_names_of_columns_without_one_for_the_images(tmp_path: Path, kind: str) -> None:
    opening = f"9\n{' '.join(COLUMNS[kind])} \n"
    holds(read(tmp_path / "list.txt", opening + text_of(kind, "rows alone"), len(COLUMNS[kind])), rows_of(kind))


def test_the_first_published_rows(tmp_path: Path) -> None:
    """As the list of the aligned images begins, which is where left is known from."""
    text = (
        "2\nlefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y\n"
        "000001.jpg 69  109  106  113   77  142   73  152  108  154\n"
        "000002.jpg 69  110  107  112   81  135   70  151  108  153\n"
    )
    found = read(tmp_path / "list_landmarks_align_celeba.txt", text, 10)
    assert found.of("000001").tolist() == [69, 109, 106, 113, 77, 142, 73, 152, 108, 154]
    assert found.lines.tolist() == [3, 4]


# of the landmarks in the form "number and names"
WAYS: dict[str, Callable[[str], str]] = {
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "CR": lambda text: text.replace("\n", "\r"),
    "byte-order mark": lambda text: "\ufeff" + text,
    "blank lines at the end": lambda text: text + "\n\r\n  \n\n",
    "blank lines between": lambda text: "\n" + text.replace("\n", "\n \n"),
    "no newline at the end": lambda text: text.rstrip(),
    "tabs": lambda text: text.replace(" ", "\t"),
    "spaces about": lambda text: re.sub("(?m)^(.*)$", r"  \1  ", text),
    "upper case": lambda text: text.replace(".jpg", ".JPG"),
    "png": lambda text: text.replace(".jpg", ".png"),
    "decimals": lambda text: re.sub(r" (-?\d+)(?= |\n)", r" \1.0", text),
    "commas and spaces": lambda text: re.sub("(?<=[0-9a-z]) +(?=[-0-9a-z])", " , ", text),
}


@pytest.mark.parametrize("way", WAYS)
def test_other_ways_to_write(tmp_path: Path, way: str) -> None:
    text = WAYS[way](text_of("landmarks", "number and names"))
    assert text != text_of("landmarks", "number and names")
    holds(read(tmp_path / "list.txt", text, 10), rows_of("landmarks"))


def test_rows_may_stand_in_any_order(tmp_path: Path) -> None:
    lines = text_of("bbox", "rows alone").splitlines()[::-1]
    holds(read(tmp_path / "list.txt", "\n".join(lines), 4), dict(reversed(rows_of("bbox").items())))


# of boxes: what the file is, the line that is named, what is said
ROWS = text_of("bbox", "rows alone").splitlines()
OPENING = ["9", "image_id x_1 y_1 width height"]
BAD: dict[str, tuple[list[str], int, str]] = {
    "an image twice": ([*OPENING, *ROWS[:8], "000002.jpg 1 2 3 4"], 11, "a second row for 000002"),
    "an image twice, another suffix": ([*ROWS, "000003.PNG 1 2 3 4"], 10, "a second row for 000003"),
    "a value less": ([*OPENING, *ROWS[:4], "000005.jpg 1 2 3", *ROWS[5:]], 7, "3 values for 4 columns"),
    "a value more": ([*OPENING, *ROWS[:4], "000005.jpg 1 2 3 4 5", *ROWS[5:]], 7, "5 values for 4 columns"),
    "a name alone": ([*ROWS[:4], "000005.jpg", *ROWS[5:]], 5, "0 values for 4 columns"),
    "a comma and spaces": ([ROWS[0].replace(".jpg", ".jpg,"), *ROWS[1:]], 1, "1 values for 4 columns"),
    "letters": ([*ROWS[:4], "000005.jpg 1 2 x 4"], 5, "'x' is not a number"),
    "an empty value": (["a.jpg,1,2,3,4", "b.jpg,1,,3,4"], 2, "'' is not a number"),
    "the first row": (["000001.jpg 1 2 3 x", *ROWS[1:]], 1, "'x' is not a number"),
    "NaN": ([*ROWS[:4], "000005.jpg 1 2 nan 4"], 5, "'nan' is not a finite decimal number"),
    "infinite": ([*ROWS[:4], "000005.jpg 1 2 3 1e999"], 5, "'1e999' is not a finite decimal number"),
    "underscores": ([*ROWS[:4], "000005.jpg 1_0 2 3 4"], 5, "'1_0' is not a finite decimal number"),
    "digits of another script": ([*ROWS[:4], "000005.jpg 1 2 3 ٤"], 5, "'٤' is not a finite decimal number"),
    "no name": ([*ROWS[:4], "1 2 3 4"], 5, "'1' is not the name of an image"),
    "no suffix": ([*ROWS[:4], "000005 1 2 3 4"], 5, "'000005' is not the name of an image"),
    "a suffix alone": ([*ROWS[:4], ".jpg 1 2 3 4"], 5, "'.jpg' is not the name of an image"),
    "names of columns twice": ([*OPENING, OPENING[1], *ROWS], 3, "'image_id' is not the name of an image"),
    "too few names of columns": (["image_id x_1 y_1", *ROWS], 1, "'image_id' is not the name of an image"),
    "a row too few": ([*OPENING, *ROWS[:8]], 1, "expected 9 rows, but the file has 8"),
    "a row too many": ([*OPENING, *ROWS, "9.jpg 1 2 3 4"], 1, "expected 9 rows, but the file has 10"),
    "empty": ([], 1, "expected a row per image, but the file has 0"),
    "blank": ([" ", ""], 1, "expected a row per image, but the file has 0"),
    "a number alone": (["9"], 1, "expected 9 rows, but the file has 0"),
    "names alone": (OPENING, 1, "expected 9 rows, but the file has 0"),
    "a number of letters": (["9x", OPENING[1], *ROWS], 1, "'9x' is not the name of an image"),
    "a number below 0": (["-9", OPENING[1], *ROWS], 1, "'-9' is not the name of an image"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_line_is_named(tmp_path: Path, kind: str) -> None:
    lines, number, said = BAD[kind]
    with pytest.raises(DataError) as refusal:
        read(tmp_path / "list_bbox_celeba.txt", "\n".join(lines), 4)
    message = str(refusal.value)
    assert message.startswith(f"{tmp_path / 'list_bbox_celeba.txt'}, line {number}: "), message
    assert said in message
    assert message.endswith("; copy the file again")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"000001.jpg " + b"1 " * 2000, "line 1: longer than"),
        (b"000001.jpg 1\n000002.jpg " + b" " * 5000 + b"1", "line 2: longer than"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0\n" * 50, "is not the name of an image"),
        ("000001.jpg 1\n".encode("utf-16-le"), "line [12]: "),
        (b"PK\x03\x04\n\0\0", "line 1: "),
    ],
    ids=["a long row", "a long gap", "an image", "UTF-16 without its mark", "an archive"],
)
def test_a_file_that_is_not_a_list(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said) as refusal:
        read(tmp_path / "identity_CelebA.txt", content, 1)
    assert str(refusal.value).startswith(str(tmp_path / "identity_CelebA.txt"))


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.txt: No such file"):
        read_list(tmp_path / "nowhere.txt", 1)
    with pytest.raises(DataError, match=re.escape(str(tmp_path))):
        read_list(tmp_path, 1)


def test_what_a_source_checks_is_named_with_its_line(tmp_path: Path) -> None:
    found = read(tmp_path / "list.txt", text_of("identity", "number and names"), 1)
    found.check(found.values[:, 0] > -1000, "too small")
    with pytest.raises(DataError, match=r"list\.txt, line 6: too small"):
        found.check(np.array([True] * 3 + [False] * 6), "too small")


NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
SUFFIX = r"\.(?:jpg|jpeg|jpe|jfif|mpo|png|bmp|webp|gif|tiff?|p[bgpn]m|jp[2fxc]|j2[kc]|avif)"


def is_float(word: str) -> bool:
    with suppress(ValueError):
        return isinstance(float(word), float)
    return False


def by_pattern(content: bytes, columns: int) -> dict[str, list[float]] | None:
    """What a file holds, read in another way; None where it holds nothing that can be relied on."""
    text = content.decode("utf-8-sig", "surrogateescape")
    lines = re.split("(?<=\n)", re.sub("\r\n|\r", "\n", text))
    if max(map(len, lines)) > 2000:
        return None
    lines = [line for line in lines if line.strip()]
    promised = int(lines.pop(0)) if lines and re.fullmatch("[0-9]+", lines[0].strip()) else None
    comma = bool(lines) and "," in lines[0]
    if comma:  # a separator of Unicode is no space about a number
        form = rf"\s*([^,]+?){SUFFIX}\s*" + rf",[ \t\v\f]*({NUMBER})[ \t\v\f\n]*" * columns
    else:
        form = rf"\s*(\S+?){SUFFIX}" + rf"\s+({NUMBER})" * columns + r"\s*"
    row = re.compile(form, re.IGNORECASE)
    if lines and not row.fullmatch(lines[0]):
        words = lines[0].split(",") if comma else lines[0].split()
        if len(words) == columns + 1 or len(words) == columns > 1:
            if any(
                re.fullmatch(f".+{SUFFIX}", word.strip(), re.IGNORECASE | re.DOTALL) or is_float(word) for word in words
            ):
                return None
            lines.pop(0)
    found: dict[str, list[float]] = {}
    for line in lines:
        match = row.fullmatch(line)
        if match is None:
            return None
        image, *words = match.groups()
        values = [float(word) for word in words]
        if image.lower() in found or not all(map(math.isfinite, values)):
            return None
        found[image.lower()] = values
    return None if not found or promised not in (None, len(found)) else found


WORDS = [bytes([letter]) for letter in b'0123456789 .,-+eEnaifx_\n\r\t"\0\xff\xc3\xa9jpg'] + [b"000001.jpg ", b"9\n"]


def judge(files: dict[str, bytes], found: CelebaList | DataError) -> str:
    [(suffix, content)] = files.items()
    expected = by_pattern(content, int(suffix.split(".")[1]))
    if expected is None:
        assert isinstance(found, DataError)
        assert re.match(rf"\S+{re.escape(suffix)}, line ", str(found))
        return "refused"
    assert isinstance(found, CelebaList), found
    assert list(found.rows) == list(expected)
    np.testing.assert_array_equal(found.values, np.array(list(expected.values())))
    return "read"


@pytest.mark.parametrize(("count", "seed"), RUNS)
def test_a_damaged_list_is_read_as_it_says_or_refused(tmp_path: Path, count: int, seed: int) -> None:
    originals = [(text_of(kind, form).encode(), len(COLUMNS[kind])) for kind in COLUMNS for form in FORMS]

    def damage(draw: random.Random) -> dict[str, bytes]:
        content, columns = draw.choice(originals)
        return {f".{columns}.txt": damaged(content, draw, WORDS, range(60))}

    def read(path: Path) -> CelebaList:
        return read_list(path, int(path.suffixes[0][1:]))

    tally = fuzz(tmp_path, count, seed, damage, read, judge)
    assert min(tally["read"], tally["refused"]) > count / 20  # or nothing was tested
